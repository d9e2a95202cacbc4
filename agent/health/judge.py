"""Whether the agent lives, and whether it does what it is there for.

*Alive* is what a restart would mend: the event loop comes round in time, and windows are decided. *Ready* is the rest:
an encoder that answers, a broker, a source. A camera that is unplugged is no reason to restart anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.clock import MS, SECOND, Clock
from agent.deciding.pipeline import Pipeline
from agent.health.metrics import LAGS
from agent.types import Decided, Sample, Watermark
from agent.window import SourceState

LAG_NS = 500 * MS
"""An event loop that is later than that, in each of the newest readings, is held up by something."""
UNDECIDED_NS = 10 * SECOND
"""After that long, and four hops, without a decision, nothing decides any more: an encoder that hangs costs 2 s."""


@dataclass(slots=True)
class Health:
    """An `agent.seams.Observer` of a running agent."""

    pipeline: Pipeline
    clock: Clock
    hop_ns: int
    broker: str
    """As messages name it."""
    states: dict[str, SourceState] = field(default_factory=dict)
    """How the sources stand; one of which nothing was heard yet is absent."""
    _decided_ns: int | None = field(default=None, init=False)
    _since_ns: int = field(default=0, init=False)

    def begin(self) -> None:
        """From now on there should be decisions."""
        self._since_ns = self.clock.now_ns()

    def fed(self, item: Sample | Watermark) -> None:
        """Nothing: `agent.health.vitals` looks at what comes."""

    def marked(self, source: str, state: SourceState) -> None:
        """Take in how a source stands."""
        self.states[source] = state

    def decided(self, decided: Decided) -> None:
        """Take in that a window was decided."""
        self._decided_ns = self.clock.now_ns()

    def ill(self) -> list[str]:
        """Why a restart would help; empty when it would not."""
        reasons = []
        lags_ns = self.pipeline.metrics.lags_ns
        if len(lags_ns) == LAGS and min(lags_ns) > LAG_NS:
            reasons.append(f"the event loop is {min(lags_ns) / MS:.0f} ms late or more, over and over again")
        silent_ns = self.clock.now_ns() - max(self._since_ns, self._decided_ns or 0)
        if silent_ns > UNDECIDED_NS + 4 * self.hop_ns:
            reasons.append(f"no window has been decided for {silent_ns / SECOND:.0f} s")
        return reasons

    def unready(self) -> list[str]:
        """Why it does not do what it is there for; empty when it does."""
        reasons = self.ill()
        if self._decided_ns is None:
            reasons.append("no window has been decided yet")
        encoders, hanging = self.pipeline.encoders, self.pipeline.hanging
        if not encoders:
            reasons.append("no encoder is open: no source has a modality that one reads")
        elif len(hanging) == len(encoders):
            reasons.append(f"encoders that do not answer: {', '.join(hanging)}")
        if not self.pipeline.metrics.connected:
            reasons.append(f"not connected to the broker {self.broker}")
        if SourceState.LIVE not in self.states.values():
            found = ", ".join(f"{source} {state.name.lower()}" for source, state in self.states.items())
            reasons.append(f"no source is live: {found or 'none has been heard of'}")
        return reasons

    def sources(self) -> dict[str, dict[str, object]]:
        """Of each source how it stands, what ails it, and how old its newest sample is, in s."""
        now_ns = self.clock.now_ns()
        return {
            source: {
                "state": self.states[source].name.lower() if source in self.states else "starting",
                "ailments": [*vital.ailments(now_ns)] if self.states.get(source) is SourceState.LIVE else [],
                "age_s": None if vital.newest_ns is None else round(max(0, now_ns - vital.newest_ns) / SECOND, 3),
            }
            for source, vital in self.pipeline.vitals.of.items()
        }

    def line(self) -> str:
        """How it stands, in one line."""
        if reasons := self.unready():
            return "not ready: " + "; ".join(reasons)
        counts = self.pipeline.metrics.counts
        now_ns = self.clock.now_ns()
        troubles = {
            source: state.name.lower() for source, state in self.states.items() if state is not SourceState.LIVE
        }
        vitals = self.pipeline.vitals.of.items()
        troubles |= {s: ", ".join(found) for s, v in vitals if s not in troubles and (found := v.ailments(now_ns))}
        trouble = "".join(f"; {source}: {said}" for source, said in troubles.items())
        return f"{counts['decisions']} decisions{trouble}"
