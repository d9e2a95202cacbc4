"""The values that stand in ``config.toml``: what a person writes, and what the program gets.

Durations, sizes and rates are strings with a number and a unit; secrets stand somewhere else and are only pointed to.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

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


def _positive(ns: int) -> int:
    if ns <= 0:
        raise ValueError("must be above 0")
    return ns


def _topic_level(text: str) -> str:
    if not text or re.search(r"[/+#\0\s]", text):
        raise ValueError(f"must be one level of an MQTT topic: no /, +, #, white space; found {text!r}")
    return text


def _secret(text: object) -> object:
    """``${NAME}`` from the environment, or the content of a file; never the secret itself."""
    if not isinstance(text, str):
        return text
    if match := re.fullmatch(r"\$\{(\w+)\}", text):
        if match[1] not in os.environ:
            raise ValueError(f"the environment has no variable {match[1]}; set it before the start")
        return os.environ[match[1]]
    path = Path(text).expanduser()
    if not path.is_absolute() or not path.is_file():
        raise ValueError("a secret is not written here: give ${NAME} (from the environment) or a file's absolute path")
    return path.read_text(encoding="utf-8").rstrip("\n")


Duration = Annotated[int, BeforeValidator(parse_duration), AfterValidator(_positive)]
DurationOrZero = Annotated[int, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size), AfterValidator(_positive)]
Count = Annotated[int, Field(gt=0)]
Rate = Annotated[float, BeforeValidator(parse_rate), Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[str, AfterValidator(_topic_level)]
Secret = Annotated[SecretStr, BeforeValidator(_secret)]
