"""Does quality tell errors? ``python -m engines.training quality vision|audio|text --data DIR [--items N] [--fit]``.

DIR is what the encoder is trained on: pictures or speech with a ``labels.csv``, GoEmotions for texts. With ``--fit`` it
is first worked out which inputs are familiar (`engines.familiarity`) to the face or voice encoder, from those of the
training as they are; no harm is shown in it.

Then items that nothing was trained on (faces of ``val``, speakers `HELD_OUT`, comments of ``test``) are spoilt, each
kind of harm by itself and in three grades, and read by what is deployed. For each kind is printed how many are still
answered, how many of these rightly, their mean quality, and the AUC of quality against being right among them and the
same items as they were; beside it the AUC of the posterior's own confidence. Quality leaves that to the posterior:
fusion multiplies the two, and would count it twice.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar
from zlib import crc32

import numpy as np

from agent.types import Modality
from engines.evaluation.metrics import auc
from engines.models import default_cache, sha256_of
from engines.training import harms, quality_readers
from engines.training.face_data import DataError
from engines.training.harms import GRADES, Rng
from engines.training.quality_readers import Read

T = TypeVar("T")
WEIGHTS = Path(__file__).parent.parent / "weights"


@dataclass(frozen=True, slots=True, eq=False)
class Trial(Generic[T]):
    """Items, what may come to them, and who reads them."""

    items: Sequence[tuple[T, str]]
    """Each with its label."""
    read: Callable[[T], Read | None]
    harms: Mapping[str, Callable[[T, int, Rng], T]]

    def run(self) -> Iterator[tuple[str, int, list[tuple[bool, Read]]]]:
        """Of each kind of harm, none at first: how many were shown, and what was answered, and whether rightly."""
        yield "as they are", len(self.items), self._read(lambda item, place: item)
        for name, harm in self.harms.items():
            found: list[tuple[bool, Read]] = []
            for grade in GRADES:

                def spoilt(item: T, place: int, harm: Callable[[T, int, Rng], T] = harm, grade: int = grade) -> T:
                    return harm(item, grade, np.random.default_rng([crc32(harm.__name__.encode()), grade, place]))

                found += self._read(spoilt)
            yield name, len(self.items) * len(GRADES), found

    def _read(self, spoil: Callable[[T, int], T]) -> list[tuple[bool, Read]]:
        answers = [(self.read(spoil(item, place)), label) for place, (item, label) in enumerate(self.items)]
        return [(answer.label == label, answer) for answer, label in answers if answer is not None]


def main(argv: Sequence[str]) -> int:
    """Fit if asked, measure, print; 0, or 2 where the folder is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m engines.training quality", description=__doc__)
    parser.add_argument("modality", type=Modality, choices=list(Modality))
    parser.add_argument("--data", type=Path, required=True, help="folder that the encoder is trained on")
    parser.add_argument("--items", type=int, default=200, help="that are looked at; 0 for none")
    parser.add_argument("--fit", action="store_true", help="work out what is familiar, and write it")
    parser.add_argument("--cache", type=Path, default=default_cache().parent / "training", help="as the trainings have")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="of what --fit writes")
    asked = parser.parse_args(argv)
    try:
        if asked.fit:
            file = asked.out / f"{quality_readers.NAMES[asked.modality]}.npz"
            quality_readers.familiar(asked.modality, asked.data, asked.cache).save(file)
            print(f"wrote {file}, sha256 {sha256_of(file)}: the lock file engines/models.toml has to say the same")
        if asked.items:
            _measure(asked.modality, asked.data, asked.items)
    except (DataError, OSError, ValueError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(modality: Modality, folder: Path, items: int) -> None:
    match modality:
        case Modality.VISION:
            _say(Trial(*quality_readers.pictures(folder, items), harms.PICTURES).run())
        case Modality.AUDIO:
            _say(Trial(*quality_readers.sounds(folder, items), harms.SOUNDS).run())
        case Modality.TEXT:
            _say(Trial(*quality_readers.texts(folder, items), harms.TEXTS).run())


def _say(kinds: Iterator[tuple[str, int, list[tuple[bool, Read]]]]) -> None:
    plain: list[tuple[bool, Read]] = []
    everything: list[tuple[bool, Read]] = []
    shown = 0
    for name, n, found in kinds:
        plain = plain or found
        everything += found
        shown += n
        _line(name, found, n, found if found is plain else [*plain, *found])
    _line("all together", everything, shown, everything)


def _line(name: str, found: Sequence[tuple[bool, Read]], shown: int, pool: Sequence[tuple[bool, Read]]) -> None:
    right = np.array([each for each, _ in pool])
    areas = [auc(right, np.array([getattr(read, what) for _, read in pool])) for what in ("quality", "confidence")]
    print(
        f"{name:20} answered {len(found) / shown:.2f}, right of these {np.mean([each for each, _ in found]):.2f},"
        f" quality {np.mean([read.quality for _, read in found]):.2f}, AUC {areas[0]:.2f} (confidence {areas[1]:.2f})",
        flush=True,
    )
