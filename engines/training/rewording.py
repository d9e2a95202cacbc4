"""New sentences from those of the training set: with names in them, and with their feeling denied.

GoEmotions hides names behind ``[NAME]``, which nobody writes; and it has few plain denials ("I am not happy"), which
everybody writes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

_FIRST_NAMES = """
Anna Tom Maria John Sarah Mike Lucy David Emma James Nina Peter Kate Alex Sam Olivia Ben Julia Max Laura Chris Grace
Daniel Sophie Adam Rachel Leo Hannah Mark Ella Ravi Mei Omar Fatima Diego Yuki
"""
NAMES = _FIRST_NAMES.split()
NAMED = 0.4
"""Share of the texts with ``[NAME]`` that get a name, anew in each epoch."""
LONGEST = 14
"""Words of a text that is denied; in a longer one the rest still feels what it felt."""
LONGEST_LIKING = 8
"""The same where a verb is denied: it rules over the whole of the sentence."""

_PLEASANT_WORDS = """
happy glad excited proud grateful thankful pleased optimistic hopeful relieved good great nice fun awesome amazing
wonderful fantastic beautiful funny cute cool impressed lucky interesting perfect
"""
_UNPLEASANT_WORDS = """
sad angry mad afraid scared worried nervous upset disappointed disgusted annoyed ashamed depressed shocked surprised
terrified anxious embarrassed disgusting gross scary annoying awful terrible bad
"""
_PLEASANT, _UNPLEASANT = _PLEASANT_WORDS.split(), _UNPLEASANT_WORDS.split()
_IS = r"I['’]m|I am|(?:he|she|it|that)(?:['’]s| is)|this is|(?:you|we|they)(?:['’]re| are)|I was|it was|that was"
_STATE = re.compile(
    rf"\b({_IS})((?: so| very| really| pretty| just| super| too| a)?) ({'|'.join(_PLEASANT + _UNPLEASANT)})\b", re.I
)
_LIKING = re.compile(r"\b(I|we) (?:(?:really|absolutely|just|also) )?(love|like|enjoy|appreciate|want)\b", re.I)
_DENIED = re.compile(r"\b(not|never)\b|n['’]t\b", re.I)

_NOT_PLEASED = {"disappointment": 0.35, "disapproval": 0.3, "sadness": 0.2, "neutral": 0.15}
_NOT_MOVED = {"neutral": 0.6, "approval": 0.2, "relief": 0.1, "disapproval": 0.1}
_NOT_LIKING = {"disapproval": 0.5, "annoyance": 0.2, "disappointment": 0.2, "neutral": 0.1}
"""What a denial means, as shares of GoEmotions' classes; set by hand."""


def rename(text: str, rng: random.Random) -> str:
    """The text, or in `NAMED` of the cases the text with a name for ``[NAME]``."""
    if "[NAME]" in text:
        name = rng.choice(NAMES)
        return text.replace("[NAME]", name) if rng.random() < NAMED else text
    return text


def deny(text: str, label: str, rng: random.Random) -> tuple[str, Mapping[str, float]] | None:
    """A denial of what the text says it feels, and what that means; None where there is nothing to deny.

    Only where the word and the text's label agree: "I'm glad" that was called sad is not what it seems.
    """
    if len(text.split()) > LONGEST or _DENIED.search(text):
        return None
    if state := _STATE.search(text):
        subject, degree, word = state.groups()
        pleasant = word.lower() in _PLEASANT
        if label == "neutral" or pleasant != (label == "happy"):
            return None
        keep = degree if degree == " a" or rng.random() < 0.5 else ""
        said = f"{subject} not{keep} {word}"
        if rng.random() < 0.5:
            said = text[: state.start()] + said + text[state.end() :]
        return said, _NOT_PLEASED if pleasant else _NOT_MOVED
    liking = _LIKING.match(text)
    if liking and label == "happy" and len(text.split()) <= LONGEST_LIKING and rng.random() < 0.5:
        return f"{liking.group(1)} don't {liking.group(2)}{text[liking.end() :]}", _NOT_LIKING
    return None
