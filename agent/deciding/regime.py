"""What windows are decided by: the fusion head, and the budget that says which encoders it can afford."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.deciding.account import Timed
from agent.deciding.budget import Budget
from agent.deciding.head import FusionHead, Verdict
from agent.health.metrics import Metrics
from agent.types import Modality, Sample, Window


class Regime:
    """A head and a budget. Another pair that is adopted rules from the next window on, never within one.

    Without a budget all encoders run in every window.
    """

    def __init__(self, head: FusionHead, budget: Budget | None, metrics: Metrics) -> None:
        self.head = head
        self._budget: Budget | None = None
        self._next: tuple[FusionHead, Budget | None] | None = (head, budget)
        self._metrics = metrics
        self.change_over()

    @property
    def budget(self) -> Budget | None:
        """What it goes by, now or from the next window on."""
        return self._next[1] if self._next else self._budget

    def adopt(self, head: FusionHead, budget: Budget | None) -> None:
        """Go by these from the next `change_over` on; what the head believes goes on."""
        self._next = (head, budget)

    def change_over(self) -> None:
        """To the pair that is next, if any is."""
        if not self._next:
            return
        head, budget = self._next
        self._next = None
        head.succeed(self.head)
        self.head = head
        if budget is not self._budget:
            self._budget = budget
            self._metrics.gauges.pop("budget", None)
            if budget:
                self._metrics.gauges["budget"] = budget.reading

    def missed(self, modality: Modality, encode_ns: int) -> None:
        """An encoder took so long that its window went without it."""
        if self._budget:
            self._budget.missed(modality, encode_ns)

    def allot(
        self, present: Sequence[Modality], window: Window
    ) -> tuple[dict[Modality, Sequence[Sample]], frozenset[Modality]]:
        """What each encoder that is to run is given of those ``present``; and whom the budget leaves out."""
        budget = self._budget
        if not budget:
            return {m: window.parts[m] for m in present}, frozenset()
        spared = budget.spare(present, window, self.head.foresee(window.end_ns))
        for modality in spared:
            self._metrics.count(f"encode.{modality}.spared")
        return {m: budget.part(m) for m in present if m not in spared}, spared

    def judge(self, timed: Mapping[Modality, Timed | None], end_ns: int, *, spared: bool) -> Verdict:
        """The head's verdict, from whose gains and costs the budget learns; ``spared`` as `FusionHead.judge`."""
        evidence = [t.reading.evidence for t in timed.values() if t and t.reading.evidence]
        if self._budget:
            costs_ns = {m: t.encode_ns for m, t in timed.items() if t and t.encode_ns}
            self._budget.learn(costs_ns, self.head.gains(evidence, end_ns), len(self.head.labels))
        return self.head.judge(evidence, end_ns, spared=spared)
