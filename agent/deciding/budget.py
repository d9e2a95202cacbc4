"""The compute budget: which encoders are worth their time in a window.

The budget is encoder time per decision, on average. It is kept as a debt: each decision is granted the budget, each
encoder that runs is charged what it took. What fits into the grant always runs, so that a budget above all costs leaves
nothing out. What does not fit runs on credit, and how much credit it gets is what it is expected to tell: the surer the
belief already is, and the worse a bargain (expected information per millisecond) against the best that is at hand, the
less. So dear encoders run less often while nothing happens, the debt falls, and is taken up again when it matters.

Letting a debt be the price of a resource is the drift-plus-penalty method (Neely 2010, "Stochastic Network Optimization
with Application to Communication and Queueing Systems"); paying for an observation by what it is expected to tell is
the value of information (Howard 1966, "Information Value Theory"; Lindley 1956). Costs and gains are forgetting means
of what was measured when an encoder ran; one that did not run for long may have become worth it, so its gain is taken
to grow towards the most it could be, and none is left out beyond a limit.

Pure: no clock, no I/O. The same calls give the same plans.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from weakref import WeakSet

import numpy as np

from agent.clock import MS, SECOND
from agent.fusion import TINY, Floats
from agent.types import Modality, Sample, Window

LINE = 4
"""How many budgets may be owed at most (or one run of one encoder, where that is more)."""
HOLD = 2.0
"""Hysteresis: what ran the last time counts as worth so many times more."""
MEMORY = 8
"""Runs after which a measured cost or gain counts 1/e, about."""
REGAIN_NS = 30 * SECOND
"""An encoder that did not run for so long is expected to tell what it told, and 63 % of all that this leaves open."""
PICTURES_LIMIT_NS = 3 * SECOND
"""A camera is looked at once in that time at least, if the budget can pay for it."""


@dataclass(slots=True)
class _Mean:
    """Of what was added, of which the older counts less."""

    value: float = 0.0
    count: int = 0

    def add(self, x: float) -> None:
        self.count = min(self.count + 1, MEMORY)
        self.value += (x - self.value) / self.count


@dataclass(slots=True)
class _Record:
    """What is known of an encoder."""

    cost_ns: _Mean = field(default_factory=_Mean)
    """Of a run with something new in it."""
    gain: _Mean = field(default_factory=_Mean)
    open: _Mean = field(default_factory=_Mean)
    """The uncertainty that there was before each of these gains."""
    ran_ns: int = 0
    """End of the last window in which it ran."""
    keeps: bool = False
    """Whether it ran the last time that there was something new."""

    def share(self, end_ns: int) -> float:
        """The share of the uncertainty that it is expected to take away, 0..1."""
        measured = min(1.0, self.gain.value / max(self.open.value, TINY))
        return 1 - (1 - measured) * exp((self.ran_ns - end_ns) / REGAIN_NS)


class Planner:
    """Says window by window who runs.

    Over any N windows the costs sum up to N budgets and `LINE` more at most; or to N budgets and one run of each
    encoder, if that is more; and by as much more as a run turns out dearer than those before it, which is paid off only
    up to the one and the other together.
    """

    def __init__(self, budget_ns: int, limits_ns: Mapping[Modality, int]) -> None:
        """``limits_ns``: how far apart runs of a modality may lie, as long as the budget pays for it."""
        self._budget_ns = budget_ns
        self._limits_ns = limits_ns
        self._records: dict[Modality, _Record] = {}
        self._debt_ns = 0.0
        """Above 0: owed; below: what is left of the window's grant."""
        self._uncertainty = 1.0
        self._end_ns: int | None = None

    @property
    def owed_ns(self) -> float:
        """What was spent beyond what was granted, at least 0."""
        return max(0.0, self._debt_ns)

    def cost_ns(self, modality: Modality) -> float:
        """What a run costs, by the last ones; 0 before the first."""
        return self._records[modality].cost_ns.value if modality in self._records else 0.0

    def plan(self, fresh: Collection[Modality], end_ns: int, uncertainty: float) -> frozenset[Modality]:
        """Who runs in the window that ends at ``end_ns``, of those who have something new to look at.

        ``uncertainty`` of the belief before it, 0..1. What never ran does: its cost is not known.
        """
        step_ns = 0 if self._end_ns is None else end_ns - self._end_ns
        self._end_ns, self._uncertainty = end_ns, uncertainty
        self._debt_ns = min(self.owed_ns, self._most_ns()) - self._budget_ns
        new = {m for m in fresh if m not in self._records}
        known = {m: self._records[m] for m in Modality if m in fresh and m not in new}
        late = {m: (end_ns - record.ran_ns + step_ns) / self._limits_ns[m] for m, record in known.items()}
        worth = self._worth(known, end_ns)
        chosen, debt_ns = set(new), self._debt_ns
        for m in sorted(known, key=lambda m: (-late[m] if late[m] > 1 else 0, -worth[m])):
            after_ns = debt_ns + known[m].cost_ns.value
            credit_ns = LINE * self._budget_ns * (1.0 if late[m] > 1 else min(1.0, worth[m]))
            overdue = late[m] > 1 and debt_ns <= -self._budget_ns  # nothing is owed, so that even the dearest may run
            if after_ns <= credit_ns or overdue:
                chosen.add(m)
                debt_ns = after_ns
            elif late[m] > 1:  # save up for it, or what is cheap would keep it waiting for ever
                break
        for m in fresh:
            record = self._records.setdefault(m, _Record())
            record.keeps = m in chosen
            record.ran_ns = end_ns if m in chosen else record.ran_ns
        return frozenset(chosen)

    def charge(self, cost_ns: int) -> None:
        """Encoder time was spent."""
        self._debt_ns += cost_ns

    def learn(self, modality: Modality, cost_ns: int, gain: float) -> None:
        """A run with something new in it cost so much, and told so much (in units of the greatest uncertainty)."""
        record = self._records[modality]
        record.cost_ns.add(cost_ns)
        record.gain.add(gain)
        record.open.add(self._uncertainty)

    def _most_ns(self) -> float:
        """The most that is paid off: one run that hangs must not blind the agent for half a minute after it."""
        return LINE * self._budget_ns + sum(record.cost_ns.value for record in self._records.values())

    def _worth(self, known: Mapping[Modality, _Record], end_ns: int) -> dict[Modality, float]:
        """0..1: how unsure we are, times how good a bargain it is against the best one, with hysteresis.

        The best bargain is more than worth its time, where the budget pays for it.
        """
        rates = {m: record.share(end_ns) / max(record.cost_ns.value, 1.0) for m, record in known.items()}
        best = max([TINY, *rates.values()])
        held = {m: HOLD if record.keeps else 1.0 for m, record in known.items()}
        worth = {m: min(1.0, held[m] * self._uncertainty * rate / best) for m, rate in rates.items()}
        first = max(known, key=lambda m: rates[m], default=None)
        if first and self.cost_ns(first) <= self._budget_ns:
            worth[first] = 2.0  # before all others, and no debt grows by it: something is looked at in every window
        return worth


class Budget:
    """Keeps a `Planner` informed: what is new in a window, what an encoder is shown, what a run cost and told.

    An encoder remembers what it has seen (`agent.seams.Encoder`), so that only new samples cost. Sound and texts that
    were passed over are caught up on in the next run, and their limit is their span, so that nothing is lost as long
    as the budget pays for a run in each span. Pictures show much the same for a while: those that were passed over are
    not looked at later, and as long as anything is owed only the newest of each camera is.
    """

    def __init__(self, budget_ns: int, spans_ns: Mapping[Modality, int]) -> None:
        """``budget_ns`` of encoder time per decision; ``spans_ns`` of the windows."""
        pictures = {Modality.VISION: max(PICTURES_LIMIT_NS, spans_ns.get(Modality.VISION, 0))}
        self._planner = Planner(budget_ns, {**spans_ns, **pictures})
        self._seen: dict[Modality, WeakSet[Sample]] = {m: WeakSet() for m in Modality}
        self._passed_ns = -(1 << 62)
        """Pictures up to here were looked at, or never will be."""
        self._shown: dict[Modality, Sequence[Sample]] = {}
        self._fresh: frozenset[Modality] = frozenset()
        self._spent_ns, self._spared_ns = _Mean(), _Mean()
        """A decision, over the last ones."""

    def spare(self, present: Iterable[Modality], window: Window, belief: Floats) -> frozenset[Modality]:
        """Who is left out of the window, of the modalities present; ``belief`` (K,) is what is known before it."""
        self._shown = {m: window.parts[m] if m is not Modality.VISION else self._pictures(window) for m in present}
        unseen = {m: [s for s in samples if s not in self._seen[m]] for m, samples in self._shown.items()}
        self._fresh = frozenset(m for m, samples in unseen.items() if samples)
        spared = self._fresh - self._planner.plan(self._fresh, window.end_ns, uncertainty(belief))
        for m in self._fresh - spared:
            self._seen[m].update(unseen[m])
        self._passed_ns = window.end_ns
        self._spared_ns.add(sum(map(self._planner.cost_ns, spared)))
        return spared

    def part(self, modality: Modality) -> Sequence[Sample]:
        """What the encoder of a modality that is present is shown of that window."""
        return self._shown[modality]

    def _pictures(self, window: Window) -> Sequence[Sample]:
        """Those that were looked at before, and the new ones; or all, rather than none."""
        samples, seen = window.parts[Modality.VISION], self._seen[Modality.VISION]
        new = [s for s in samples if s.end_ns > self._passed_ns]
        if self._planner.owed_ns:
            new = list({s.source: s for s in new}.values())
        chosen = {*new, *(s for s in samples if s in seen)}
        return tuple(s for s in samples if s in chosen) or samples

    def learn(self, costs_ns: Mapping[Modality, int], gains: Mapping[Modality, float], labels: int) -> None:
        """What the window's runs cost, and what each told, in nats; who told nothing need not be named.

        Runs that failed are not named at all: they say nothing about those to come.
        """
        for m, cost_ns in costs_ns.items():
            self._planner.charge(cost_ns)
            if m in self._fresh:
                self._planner.learn(m, cost_ns, gains.get(m, 0.0) / np.log(labels))
        self._spent_ns.add(sum(costs_ns.values()))

    def missed(self, modality: Modality, cost_ns: int) -> None:
        """A run ended too late for its window: it cost that, and told nothing."""
        self._planner.charge(cost_ns)
        self._planner.learn(modality, cost_ns, 0.0)

    def reading(self) -> dict[str, float]:
        """For the metrics: ms a decision and owed; the share that runs left out would have taken; ms of a run."""
        spent, spared = self._spent_ns.value, self._spared_ns.value
        return {
            "ms_per_decision": round(spent / MS, 3),
            "owed_ms": round(self._planner.owed_ns / MS, 3),
            "spared_share": round(spared / (spent + spared), 3) if spared else 0.0,
            **{f"{m}_ms": round(cost / MS, 3) for m in Modality if (cost := self._planner.cost_ns(m))},
        }


def uncertainty(belief: Floats) -> float:
    """Entropy of a belief (K,), 0 (sure of one label) .. 1 (any of the K is as likely)."""
    p = np.maximum(belief, TINY)
    return min(1.0, max(0.0, float(-(p @ np.log(p)) / np.log(len(p)))))
