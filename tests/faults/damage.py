"""Files that were cut short, overwritten, or torn: what Hypothesis makes of a sound one."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import strategies as st

ODD = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x00\x00\x00\x00", b"\x01\x00\x00\x00")
"""Numbers at the ends of their range, which lengths and offsets seldom are."""
SPARE = 1 << 30
"""Bytes of address space that reading a small file may take beyond what is taken already."""

Change = tuple[str, int, bytes]


EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))
"""How many files and messages each test makes up; `make soak` asks for many more."""


def changes() -> st.SearchStrategy[list[Change]]:
    """One to a few changes of a file of any size."""
    places = st.integers(0, 1 << 20)
    pieces = st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(ODD))
    kinds = st.sampled_from(("overwrite", "overwrite", "insert", "remove", "cut"))
    return st.lists(st.tuples(kinds, places, pieces), min_size=1, max_size=6)


def damaged(sound: bytes, changed: list[Change]) -> bytes:
    """The file after these changes."""
    data = bytearray(sound)
    for kind, place, piece in changed:
        at = place % (len(data) + 1)
        match kind:
            case "overwrite":
                data[at : at + len(piece)] = piece
            case "insert":
                data[at:at] = piece
            case "remove":
                del data[at : at + len(piece)]
            case _:
                del data[at:]
    return bytes(data)


@contextmanager
def bounded_memory() -> Iterator[None]:
    """What wants more than `SPARE` in the block fails with a `MemoryError`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
        taken = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + SPARE, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
