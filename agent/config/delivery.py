"""``delivery`` of ``[sensors.<name>]``: a policy of `agent.delivery.policy` as a person writes it.

A name, and in brackets what it needs: ``latest``, ``queue(8)``, ``max_age(200 ms)``, ``throttle(10 Hz)`` or
``throttle(100 ms)``, ``never_drop``. A last number in the brackets of the latter three is how many items may wait.
"""

from __future__ import annotations

import difflib
import re
from typing import Annotated, assert_never

from pydantic import BeforeValidator

from agent.clock import SECOND
from agent.config.scalars import parse_duration, parse_rate
from agent.delivery.policy import MAX_SIZE, Delivery, Latest, MaxAge, NeverDrop, Queue, Throttle

_EXAMPLES = {
    "latest": "latest",
    "queue": "queue(8)",
    "max_age": "max_age(200 ms)",
    "throttle": "throttle(10 Hz)",
    "never_drop": "never_drop",
}
_ASIDES = {
    "queue": " (the number says how many may wait)",
    "throttle": r" (where the producer is to wait for us, as with \psi's Throttle, write never_drop)",
}


def parse_delivery(text: object) -> Delivery:
    """``"queue(8)"`` as ``Queue(8)``. Raises `ValueError` that says how to write it."""
    match = re.fullmatch(r"\s*(\w+)\s*(?:\(([^()]*)\)\s*)?", text) if isinstance(text, str) else None
    name = match[1] if match else ""
    if match is None or name not in _EXAMPLES:
        near = difflib.get_close_matches(name, _EXAMPLES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"must be one of {', '.join(_EXAMPLES.values())}; found {text!r}{hint}")
    words = [word.strip() for word in match[2].split(",")] if match[2] and match[2].strip() else []
    match name, words:
        case "latest", []:
            return Latest()
        case "queue", [size]:
            return Queue(_size(size))
        case "max_age", [age, *size] if len(size) <= 1:
            return MaxAge(_time_ns(age, parse_duration(age)), *map(_size, size))
        case "throttle", [pace, *size] if len(size) <= 1:
            return Throttle(_interval_ns(pace), *map(_size, size))
        case "never_drop", [*size] if len(size) <= 1:
            return NeverDrop(*map(_size, size))
    raise ValueError(f'{name} is written "{_EXAMPLES[name]}"; found {text!r}{_ASIDES.get(name, "")}')


def _size(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_SIZE:
        raise ValueError(f"how many may wait is a number from 1 to {MAX_SIZE}; found {text!r}")
    return int(text)


def _interval_ns(text: str) -> int:
    """Of a duration or a rate."""
    if not text.endswith("Hz"):
        return _time_ns(text, parse_duration(text))
    rate_hz = parse_rate(text)
    return _time_ns(text, round(SECOND / rate_hz) if rate_hz else 0)


def _time_ns(text: str, ns: int) -> int:
    if ns <= 0:
        raise ValueError(f"a time or rate must be above 0, and a rate at most 1000000 kHz; found {text!r}")
    return ns


def _of_sound(text: object) -> Queue | MaxAge:
    delivery = parse_delivery(text)
    match delivery:
        case Queue() | MaxAge():
            return delivery
        case Latest() | Throttle():
            why = "would cut pieces out of the sound, and what reads it needs it whole"
        case NeverDrop():
            why = "can not be promised: the sound card goes on while we are behind, and what it loses nobody counts"
        case _ as never:
            assert_never(never)
    raise ValueError(f'{text!r} {why}; for a microphone write "queue(50)" or "max_age(1 s)"')


AnyDelivery = Annotated[Delivery, BeforeValidator(parse_delivery)]
"""Any of the policies."""
SoundDelivery = Annotated[Queue | MaxAge, BeforeValidator(_of_sound)]
"""Those under which sound stays whole while the reader keeps up."""
