"""Samples of a recording that its windows name: by their numbers they become windows again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent.recording.format import Told
from agent.types import Absence, Course, Modality, Sample, Window


class Held:
    """Samples that a window may still name."""

    def __init__(self, spans_ns: Mapping[Modality, int]) -> None:
        self._spans_ns = spans_ns
        self._samples: dict[Modality, dict[tuple[str, int], Sample]] = {m: {} for m in Modality}

    def add(self, n: int, sample: Sample) -> None:
        self._samples[sample.modality][sample.source, n] = sample

    def told(self, row: dict[str, Any]) -> Told:
        """The window of a row; samples that no later one can hold are forgotten."""
        end_ns = int(row["end_ns"])
        for modality, samples in self._samples.items():
            since_ns = end_ns - self._spans_ns[modality]
            self._samples[modality] = {key: sample for key, sample in samples.items() if sample.end_ns > since_ns}
        named = sum(last - first + 1 for runs in row["parts"].values() for _, first, last in runs)
        parts, given = self._found(row["parts"]), self._found(row["given"])
        missing = {Modality(m): Absence(reason) for m, reason in row["missing"].items()}
        window = Window(
            start_ns=int(row["start_ns"]),
            end_ns=end_ns,
            cut_ns=int(row["cut_ns"]),
            settled=bool(row["settled"]),
            parts=parts,
            missing=missing | {Modality(m): Absence.LATE for m in row["parts"] if Modality(m) not in parts},
        )
        return Told(
            session=str(row["session"]),
            seq=int(row["seq"]),
            window=window,
            course=Course(given, *(frozenset(map(Modality, row[key])) for key in ("spared", "late", "failed"))),
            wall_start_ns=int(row["wall"]["start_ns"]),
            wall_end_ns=int(row["wall"]["end_ns"]),
            steps_back=int(row["steps_back"]),
            lost=int(row["lost"]) + named - sum(map(len, parts.values())),
        )

    def _found(self, runs: Mapping[str, list[Any]]) -> dict[Modality, tuple[Sample, ...]]:
        """The samples of runs, as far as they are there; modalities of which there are none are left out."""
        found = {}
        for name, pieces in runs.items():
            samples = self._samples[Modality(name)]
            if part := tuple(sample for piece in pieces for sample in _run(samples, *piece)):
                found[Modality(name)] = part
        return found


def _run(samples: Mapping[tuple[str, int], Sample], source: str, first: int, last: int) -> Iterable[Sample]:
    """Those of a run that are there; a row that was damaged may name more than there can be."""
    if last - first > len(samples):
        return [sample for (name, n), sample in samples.items() if name == source and first <= n <= last]
    return [samples[source, n] for n in range(first, last + 1) if (source, n) in samples]
