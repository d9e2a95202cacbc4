"""How each modality stands: active, degraded, missing or disabled, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.types import Absence, Decision, Modality

DEGRADED_BELOW = 0.3
"""Evidence of a lower quality hardly counts."""


def standing(decision: Decision, modality: Modality) -> tuple[str, str | None]:
    """State and reason of one modality in one decision."""
    if contribution := decision.modalities.get(modality):
        return ("active", None) if contribution.quality >= DEGRADED_BELOW else ("degraded", "quality")
    reason = decision.missing[modality]
    return ("disabled" if reason is Absence.DISABLED else "missing", reason.value)


@dataclass(slots=True)
class StandingBoard:
    """Tells of each change, and of the first standing."""

    tell: Callable[[Modality, Mapping[str, object]], None]
    _last: dict[Modality, tuple[str, str | None]] = field(default_factory=dict)

    def update(self, decision: Decision) -> None:
        """Take in a decision."""
        for modality in Modality:
            now = standing(decision, modality)
            if self._last.get(modality) != now:
                self._last[modality] = now
                self.tell(modality, {"state": now[0], "reason": now[1]})
