"""Labelled items in a folder: what ``launch.py eval`` measures on.

The folder holds a ``labels.csv`` in UTF-8 with the columns ``label``, and ``file`` (relative to the folder: pictures;
WAV, FLAC or Opus) or ``text``; ``split`` and ``speaker`` are optional, others are passed over. Items of one speaker
are taken for one person at one microphone, in the order of the file.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import soundfile
import soxr

from agent.types import AUDIO_RATE_HZ, F32, U8, Modality

TABLE = "labels.csv"
MOST_SAID = 10
"""Faults that are named; of more the number."""
USUAL = {
    "happy": ("happiness", "joy", "joyful"),
    "sad": ("sadness",),
    "angry": ("anger",),
    "fearful": ("fear", "afraid", "scared"),
    "disgusted": ("disgust",),
    "surprised": ("surprise", "astonished"),
    "neutral": ("calm",),
}
"""What corpora call the labels, for a ``--map`` to be suggested; nothing is renamed unasked."""


class DataError(Exception):
    """What is to be measured on is faulty. The message names each place, what was wanted and what was found."""


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the table."""

    line: int
    """In the file, the header being 1; of a text over several lines the last."""
    what: str
    """The text, or the path of the file as the table gives it."""
    label: str
    """One of the agent's."""
    speaker: str | None


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is measured on, read item by item."""

    folder: Path
    items: tuple[Item, ...]
    """At least one."""
    left_out: int
    """Items of the split whose label was mapped to nothing."""

    def few(self, most: int, *, seed: int) -> Dataset:
        """At most so many items of each label, drawn at random; in the order in which they are."""
        rng = np.random.default_rng(seed)
        taken: Counter[str] = Counter()
        chosen = set()
        for place in rng.permutation(len(self.items)).tolist():
            label = self.items[place].label
            taken[label] += 1
            if taken[label] <= most:
                chosen.add(place)
        return replace(self, items=tuple(item for place, item in enumerate(self.items) if place in chosen))

    def picture(self, item: Item) -> U8:
        """(H, W, 3) BGR. Raises `DataError`."""
        try:  # not imread, which takes no path beyond ASCII on some systems and says nothing about why it failed
            read = cv2.imdecode(np.fromfile(self.folder / item.what, np.uint8), cv2.IMREAD_COLOR)
        except (OSError, cv2.error) as error:
            raise self._unread(item, str(error)) from error
        if read is None:
            raise self._unread(item, "no picture that OpenCV can read")
        return np.asarray(read, np.uint8)

    def sound(self, item: Item) -> F32:
        """(T,) mono at `AUDIO_RATE_HZ`; the mean of the channels. Raises `DataError`."""
        try:
            pcm, rate = soundfile.read(self.folder / item.what, dtype="float32", always_2d=True)
        except (OSError, soundfile.SoundFileError) as error:
            raise self._unread(item, str(error)) from error
        mono = pcm.mean(axis=1)
        return np.asarray(soxr.resample(mono, rate, AUDIO_RATE_HZ) if len(mono) else mono, np.float32)

    def text(self, item: Item) -> str:
        """The text, maybe empty."""
        return item.what

    def _unread(self, item: Item, why: str) -> DataError:
        return DataError(f"{self.folder / TABLE}, line {item.line}: {item.what} cannot be read: {why}")


def read(
    folder: Path,
    modality: Modality,
    *,
    labels: Sequence[str],
    split: str | None = None,
    renamed: Mapping[str, str] | None = None,
) -> Dataset:
    """The items of `split`, or all, for the agent's `labels`.

    `renamed` gives the agent's name for a label of the table, or "" to leave its items out. Raises `DataError` with
    every fault of the table.
    """
    renamed = renamed or {}
    path = folder / TABLE
    column = "text" if modality is Modality.TEXT else "file"
    unknown = sorted({to for to in renamed.values() if to and to not in labels})
    if unknown:
        raise DataError(f"--map: {', '.join(unknown)}: no label of the agent's, which are {', '.join(labels)}")
    lines = _chosen(path, list(_lines(path, ["label", column])), split)
    faults = []
    for number, line in lines:
        if not line["label"]:
            faults.append(f"line {number}: no label")
        if column == "file" and not (line["file"] and (folder / line["file"]).is_file()):
            faults.append(
                f"line {number}: there is no file {folder / line['file']}"
                if line["file"]
                else f"line {number}: no file"
            )
    _raise(path, faults)
    named = [(number, line, renamed.get(line["label"], line["label"])) for number, line in lines]
    _known(path, [(number, name) for number, _, name in named if name], labels)
    items = [Item(number, line[column], name, line.get("speaker") or None) for number, line, name in named if name]
    if not items:
        raise DataError(f"{path}: all {len(lines)} items are left out by --map")
    return Dataset(folder, tuple(items), len(named) - len(items))


def _lines(path: Path, wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Each line as a mapping from column to cell, with its number. Raises `DataError`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in wanted if name not in header]
            if missing:
                found = ", ".join(header) or "nothing"
                raise DataError(f"{path}, line 1: needs the columns {' and '.join(wanted)}; found {found}")
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells under {len(header)} columns; a cell with a"
                        ' comma, a quote or a new line in it stands in quotes: "…"'
                    )
                yield reader.line_num, dict(zip(header, map(str.strip, cells), strict=True))
    except FileNotFoundError:
        raise DataError(f"{path}: there is none; it names the items and their labels") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV in UTF-8: {error}") from error


def _chosen(
    path: Path, lines: Sequence[tuple[int, dict[str, str]]], split: str | None
) -> Sequence[tuple[int, dict[str, str]]]:
    """Those of the split. Raises `DataError` where there are none."""
    if not lines:
        raise DataError(f"{path}: has a header and no items")
    if split is None:
        return lines
    if "split" not in lines[0][1]:
        raise DataError(f"{path}: --split {split}: it has no column split; found {', '.join(lines[0][1])}")
    chosen = [(number, line) for number, line in lines if line["split"] == split]
    if not chosen:
        there = Counter(line["split"] for _, line in lines)
        raise DataError(f"{path}: --split {split}: no item is in it; there are {_counted(there)}")
    return chosen


def _known(path: Path, names: Sequence[tuple[int, str]], labels: Sequence[str]) -> None:
    unknown = Counter(name for _, name in names if name not in labels)
    if not unknown:
        return
    first = next(number for number, name in names if name in unknown)
    suggested = ",".join(f"{name}={_usual(name, labels)}" for name in unknown)
    raise DataError(
        f"{path}, line {first}: labels that are not the agent's ({', '.join(labels)}): {_counted(unknown)}; say what"
        f" they mean, nothing after the = leaving them out: --map {suggested}"
    )


def _usual(name: str, labels: Sequence[str]) -> str:
    """The agent's label that a corpus's label probably is, or dots to be filled in."""
    lower = name.lower()
    return next((label for label in labels if lower == label.lower() or lower in USUAL.get(label, ())), "…")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name or '(empty)'} ({n})" for name, n in counts.items())


def _raise(path: Path, faults: Sequence[str]) -> None:
    if not faults:
        return
    more = [f"and {len(faults) - MOST_SAID} more"] if len(faults) > MOST_SAID else []
    raise DataError("\n  ".join([f"{path}: {len(faults)} faults", *faults[:MOST_SAID], *more]))
