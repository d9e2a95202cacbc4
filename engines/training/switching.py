"""English texts with the words that a lexicon knows put into another language (code switching).

A text so changed keeps its label and shows an encoder of several languages what the other language looks like, without
a single sentence of it (Qin et al. 2020, "CoSDA-ML: Multi-Lingual Code-Switching Data Augmentation for Zero-Shot
Cross-Lingual NLP"). It keeps the order of English, and the words that the lexicon does not know.
"""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

NOTHING = "-"
"""Stands in a lexicon for a word that the other language does without, such as an article."""
_TOKEN = re.compile(r"\[NAME\]|[A-Za-z]+(?:['’][A-Za-z]+)*|[^A-Za-z\s\[]+|\[")
_STOPS = str.maketrans({".": "。", ",": "，", "?": "？", "!": "！"})


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Words and phrases of English, and what stands for them in a language that is written without spaces."""

    entries: Mapping[tuple[str, ...], Sequence[str]]
    """By the words of the phrase in lower case; several are as good as one another, none is `NOTHING`."""

    @classmethod
    def read(cls, path: Path) -> Lexicon:
        """A table of the columns ``english`` and ``chinese``, split by a tab; alternatives are split by ``/``.

        Raises OSError, and ValueError by file name and line.
        """
        entries: dict[tuple[str, ...], tuple[str, ...]] = {}
        with path.open(encoding="utf-8", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE), start=2):
                phrase, others = tuple((row.get("english") or "").split()), row.get("chinese") or ""
                if not phrase or not all(others.split("/")) or phrase in entries:
                    raise ValueError(
                        f"{path}, line {number}: wanted a new phrase, a tab, its translations; found {row}"
                    )
                entries[phrase] = () if others == NOTHING else tuple(others.split("/"))
        return cls(entries)

    def switch(self, text: str, chance: random.Random) -> str:
        """`text` with every phrase that is known in the other language, the longest first."""
        tokens = _TOKEN.findall(text)
        lowered = [token.lower().replace("’", "'") for token in tokens]
        longest, found, at = max(map(len, self.entries), default=0), list[str](), 0
        while at < len(tokens):
            for n in range(min(longest, len(tokens) - at), 0, -1):
                others = self.entries.get(tuple(lowered[at : at + n]))
                if others is not None:
                    found += [chance.choice(others)] if others else []
                    at += n
                    break
            else:
                found.append(tokens[at].translate(_STOPS))
                at += 1
        return _joined(found)


def _joined(parts: Sequence[str]) -> str:
    """One after the other, with spaces around what is in Latin letters only."""
    spaced = [f" {right}" if _latin(left[-1]) or _latin(right[0]) else right for left, right in pairwise(parts)]
    return "".join([*parts[:1], *spaced])


def _latin(character: str) -> bool:
    return character.isascii() and character.isalpha()
