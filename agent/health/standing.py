"""How things stand: each modality (active, degraded, missing or disabled, and why), and the agent as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.clock import SECOND, Clock, WallClock, rfc3339
from agent.config import Privacy
from agent.types import Absence, Decision, Modality

DEGRADED_BELOW = 0.3
"""Evidence of a lower quality hardly counts."""
PATIENCE_NS = 6 * SECOND
"""How long a modality may be skipped before that counts as missing."""


def standing(decision: Decision, modality: Modality, ailment: str | None = None) -> tuple[str, str | None]:
    """State and reason of one modality in one decision; ``ailment`` says what is wrong with what it rests on."""
    if ailment and decision.missing.get(modality, Absence.SILENT) is Absence.SILENT:
        return "degraded", ailment
    if contribution := decision.modalities.get(modality):
        return ("active", None) if contribution.quality >= DEGRADED_BELOW else ("degraded", "quality")
    reason = decision.missing[modality]
    return ("disabled" if reason is Absence.DISABLED else "missing", reason.value)


@dataclass(slots=True)
class StandingBoard:
    """Tells of each change, and of the first standing.

    A modality that was skipped keeps its standing for `PATIENCE_NS`: a budget leaves it out now and then, which is no
    news; an encoder that hangs stays out.
    """

    tell: Callable[[Modality, Mapping[str, object]], None]
    ailing: Callable[[Decision, Modality], str | None] = lambda decision, modality: None
    """What is wrong with the sources of a modality, as `agent.deciding.pipeline.Pipeline.ailment`."""
    _last: dict[Modality, tuple[str, str | None]] = field(default_factory=dict)
    _tried_ns: dict[Modality, int] = field(default_factory=dict)
    """End of the last window in which it was not skipped."""

    def update(self, decision: Decision) -> None:
        """Take in a decision."""
        for modality in Modality:
            now = standing(decision, modality, self.ailing(decision, modality))
            if decision.missing.get(modality) is not Absence.SKIPPED:
                self._tried_ns[modality] = decision.end_ns
            elif decision.end_ns - self._tried_ns.get(modality, -PATIENCE_NS) < PATIENCE_NS:
                continue
            if self._last.get(modality) != now:
                self._last[modality] = now
                self.tell(modality, {"state": now[0], "reason": now[1]})


@dataclass(slots=True)
class StatusBoard:
    """Tells whether the agent is paused, whether it records, since when that is so, and what it infers emotions for.

    Tells of the first status and of each change.
    """

    tell: Callable[[Mapping[str, object]], None]
    privacy: Privacy
    clock: Clock
    wall: WallClock
    _last: tuple[bool, bool] | None = None
    _since: str = ""
    _told: Mapping[str, object] = field(default_factory=dict)

    def update(self, *, paused: bool, recording: bool, closing: Sequence[str]) -> None:
        """Say how things stand; ``closing`` names the sensors that have not let go of their device since a pause."""
        if self._last != (paused, recording):
            self._last = paused, recording
            self._since = rfc3339(self.wall.wall_ns(self.clock.now_ns()))
        privacy = self.privacy
        status: dict[str, object] = {
            "schema": 1,
            "paused": paused,
            "recording": recording,
            "since": self._since,
            "purpose": privacy.purpose,
            "place": privacy.place,
            **({"exemption": privacy.exemption} if privacy.exemption else {}),
            **({"closing": list(closing)} if closing else {}),
        }
        if status != self._told:
            self._told = status
            self.tell(status)
