"""How each modality stands: active, degraded, missing or disabled, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.clock import SECOND
from agent.types import Absence, Decision, Modality

DEGRADED_BELOW = 0.3
"""Evidence of a lower quality hardly counts."""
PATIENCE_NS = 6 * SECOND
"""How long a modality may be skipped before that counts as missing."""


def standing(decision: Decision, modality: Modality) -> tuple[str, str | None]:
    """State and reason of one modality in one decision."""
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
    _last: dict[Modality, tuple[str, str | None]] = field(default_factory=dict)
    _heard_ns: dict[Modality, int] = field(default_factory=dict)
    """End of the last window in which it was not skipped."""

    def update(self, decision: Decision) -> None:
        """Take in a decision."""
        for modality in Modality:
            now = standing(decision, modality)
            if decision.missing.get(modality) is not Absence.SKIPPED:
                self._heard_ns[modality] = decision.end_ns
            elif decision.end_ns - self._heard_ns.get(modality, -PATIENCE_NS) < PATIENCE_NS:
                continue
            if self._last.get(modality) != now:
                self._last[modality] = now
                self.tell(modality, {"state": now[0], "reason": now[1]})
