"""Durations, sizes and rates as a person writes them: a number and its unit."""

from __future__ import annotations

import re

_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_HZ = {"Hz": 1.0, "kHz": 1e3}


def parse_duration(text: object) -> int:
    """``"250 ms"`` as nanoseconds. Raises `ValueError` that says how to write it."""
    return round(_parse(text, _NS, "a duration", "250 ms"))


def parse_size(text: object) -> int:
    """``"256 MiB"`` as bytes. Raises `ValueError` that says how to write it."""
    return round(_parse(text, _BYTES, "a size", "256 MiB"))


def parse_rate(text: object) -> float:
    """``"5 Hz"`` as a number a second. Raises `ValueError` that says how to write it."""
    return _parse(text, _HZ, "a rate", "5 Hz")


def _parse(text: object, units: dict[str, float] | dict[str, int], what: str, example: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-zµ]+)\s*", text) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        known = ", ".join(units)
        raise ValueError(
            f'{what} is a string with a number and a unit, such as "{example}" (units: {known}); found {text!r}'
        )
    return float(match[1]) * units[match[2]]
