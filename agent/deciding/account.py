"""What a decision says about each modality: what it contributed, or why it is missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.deciding.head import Verdict
from agent.health.vitals import Vitals
from agent.types import Absence, Contribution, Modality, Reading, Window


@dataclass(frozen=True, slots=True)
class Timed:
    """A reading, and how long it took."""

    reading: Reading
    encode_ns: int


def believed(timed: Mapping[Modality, Timed | None], vitals: Vitals, end_ns: int) -> dict[Modality, Timed | None]:
    """The readings, None where an encoder failed, with the quality lowered by what ails the source at ``end_ns``."""
    return {m: t and _believed(t, vitals, end_ns) for m, t in timed.items()}


def _believed(timed: Timed, vitals: Vitals, end_ns: int) -> Timed:
    e = timed.reading.evidence
    if e is None or (factor := vitals.factor(e.source, end_ns)) == 1:
        return timed
    return replace(timed, reading=replace(timed.reading, evidence=replace(e, quality=e.quality * factor)))


def contributions(
    timed: Mapping[Modality, Timed | None], verdict: Verdict, window: Window, labels: Sequence[str]
) -> dict[Modality, Contribution]:
    """Of the modalities with evidence."""
    found = {}
    for modality, ran in timed.items():
        if ran is None or (e := ran.reading.evidence) is None:
            continue
        top = int(e.probs.argmax())
        found[modality] = Contribution(
            label=labels[top],
            confidence=float(e.probs[top]),
            weight=verdict.weights[modality],
            quality=e.quality,
            age_ns=max(0, window.end_ns - e.t_ns),
            contribution=verdict.shares[modality],
            source=e.source,
            engine=e.engine,
            encode_ns=ran.encode_ns,
            rivals=e.rivals,
        )
    return found


def absences(
    timed: Mapping[Modality, Timed | None], window: Window, read: Collection[Modality]
) -> dict[Modality, Absence]:
    """Of the others. ``timed`` are those whose encoder ran, None where it failed; ``read`` those that have one."""
    return {m: reason for m in Modality if (reason := _absence(m, timed, window, read))}


def _absence(
    modality: Modality, timed: Mapping[Modality, Timed | None], window: Window, read: Collection[Modality]
) -> Absence | None:
    if modality not in read:
        return Absence.DISABLED
    if modality in window.missing:
        return window.missing[modality]
    if modality not in timed:
        return Absence.SKIPPED
    ran = timed[modality]
    if ran is None:
        return Absence.FAILED
    return None if ran.reading.evidence else Absence.SILENT
