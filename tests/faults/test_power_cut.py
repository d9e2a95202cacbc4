"""The power goes while events are written: what was said to be on disk is there, in order and without gaps.

The writes of a real outbox are recorded, and the disk is made up as it may be after a cut at any of them.
"""

import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.damage import EXAMPLES
from tests.faults.holding import LIVES, WIDE, body
from tests.faults.powercut import Call, Disk, content, record
from tests.outboxes import open_outbox

CHANCES = 2
"""Ways by chance in which a disk is made up, besides all and nothing of what was not synced."""


def recorded(root: Path, scratch: Path, runs: int) -> tuple[Disk, list[Call]]:
    """What `tests.faults.holding` did below ``root``, and a disk as it was before."""
    disk = Disk(root)
    argv = [sys.executable, "-m", "tests.faults.holding", str(root / "state" / "attune" / "e.db"), str(runs)]
    return disk, record(argv, root, scratch)


def cuts(calls: list[Call]) -> set[int]:
    """The calls before which the power goes: those at which something else than a page is written, and some others."""
    rare = {i for i, call in enumerate(calls) if call.name != "pwrite64" and not call.said}
    pages = [i for i, call in enumerate(calls) if call.name == "pwrite64"]
    return rare | {i + 1 for i in rare} | set(random.Random(1).sample(pages, min(len(pages), EXAMPLES)))


class Said:
    """What the process had said until the cut."""

    def __init__(self) -> None:
        self.held = self.done = self.put = 0

    def hear(self, line: bytes) -> None:
        what, _, n = line.decode().partition(" ")
        setattr(self, what, int(n))


async def left_over(path: Path) -> tuple[list[tuple[int, int]], int, int]:
    """What the outbox finds there and would send, numbers and names; the next event's number; corrupt files."""
    async with open_outbox(path, WIDE) as (outbox, metrics):
        outbox.put(body(-1, 1), 0)
        found: list[tuple[int, int]] = []
        while not found or found[-1][1] != -1:
            rows = [json.loads(row.body) for row in await outbox.oldest()]
            found += [(row["seq"], row["n"]) for row in rows]
            outbox.acknowledge(found[-1][0])
    assert not metrics.counts["outbox.unwritten"]
    return found[:-1], found[-1][0], metrics.counts["outbox.corrupt"]


def wrong(said: Said, found: list[tuple[int, int]], following: int) -> str:
    """What of it must not be; empty where it is as promised."""
    seqs = [seq for seq, _ in found]
    if seqs != list(range(following - len(seqs), following)):
        return "gaps, or out of order"
    if seqs != [n for _, n in found]:
        return "events and numbers are mixed up"
    if following - len(seqs) > said.done + 1:
        return "some are gone that nobody was to have"
    if not said.held < following <= said.put + 1:
        return "the last are gone"
    return ""


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory: where so much is synced, a real disk would take minutes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.parametrize(("before", "runs"), [("nothing", len(LIVES)), ("corrupt", 1)])
async def test_what_was_held_is_there_after_the_power_went(before: str, runs: int, memory: Path) -> None:
    root = memory / "disk"
    root.mkdir()
    if before == "corrupt":
        (root / "state" / "attune").mkdir(parents=True)
        for companion in ("", "-wal"):
            (root / "state" / "attune" / f"e.db{companion}").write_bytes(b"\xa5" * 8192)
    disk, calls = recorded(root, memory / "trace", runs)
    said, chance = Said(), random.Random(before)
    at = cuts(calls)
    for i, call in enumerate(calls):
        if i in at:
            ways: list[random.Random | str] = ["synced", "all", *(chance,) * CHANCES]
            for how in ways:
                disk.after_a_cut(memory / "found", how)
                path = memory / "found" / "state" / "attune" / "e.db"
                found, following, corrupt = await left_over(path)
                assert not corrupt or (before == "corrupt" and not said.held), f"cut before call {i}"
                assert not wrong(said, found, following), f"cut before call {i} of {len(calls)}, {call.name}"
                shutil.rmtree(memory / "found")
        if call.said:
            said.hear(call.said)
        else:
            disk.do(call)
    assert said.held == said.put > 20
    disk.after_a_cut(memory / "found", "all")
    assert content(memory / "found") == content(root), "something changed the files that was not recorded"
