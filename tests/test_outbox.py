"""Events on disk: numbered, in order, within bounds, and what happens when the disk fails."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import SECOND
from agent.health.metrics import Metrics
from agent.mqtt.outbox import BATCH, PENDING
from agent.mqtt.shelf import Bounds, Shelf
from tests.outboxes import WALL_NS, open_outbox

WIDE = Bounds(events=1000, age_ns=3600 * SECOND)


def shelf(path: Path, bounds: Bounds = WIDE) -> tuple[Shelf, Metrics]:
    metrics = Metrics()
    found = Shelf(path, bounds, metrics=metrics)
    found.look()
    return found, metrics


def add(where: Shelf, *names: str, wall_ns: int = WALL_NS) -> None:
    for name in names:
        where.add([(json.dumps({"name": name}).encode(), wall_ns)])


def waiting(where: Shelf) -> list[tuple[int, str]]:
    return [(row.seq, json.loads(row.body)["name"]) for row in where.oldest(100)]


def test_numbers_go_on_over_restarts_also_of_events_that_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "events.db"
    first, _ = shelf(path)
    assert not path.exists()
    add(first, "a", "b", "c")
    first.done(3)
    first.close()
    second, _ = shelf(path)
    add(second, "d")
    assert waiting(second) == [(4, "d")]
    second.close()
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_what_was_not_acknowledged_is_there_after_a_restart_in_order(tmp_path: Path) -> None:
    first, _ = shelf(tmp_path / "e.db")
    add(first, *"abcde")
    first.done(2)
    first.close()
    second, _ = shelf(tmp_path / "e.db")
    assert second.count == 3
    assert waiting(second) == [(3, "c"), (4, "d"), (5, "e")]
    second.close()


def test_of_too_many_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    found, metrics = shelf(tmp_path / "e.db", Bounds(events=3, age_ns=3600 * SECOND))
    add(found, *"abcde")
    assert waiting(found) == [(3, "c"), (4, "d"), (5, "e")]
    assert metrics.counts["outbox.overflow"] == 2
    found.close()


def test_what_is_too_old_goes_and_is_counted(tmp_path: Path) -> None:
    found, metrics = shelf(tmp_path / "e.db", Bounds(events=10, age_ns=60 * SECOND))
    add(found, "a", wall_ns=WALL_NS)
    add(found, "b", wall_ns=WALL_NS + 30 * SECOND)
    add(found, "c", wall_ns=WALL_NS + 61 * SECOND)
    assert waiting(found) == [(2, "b"), (3, "c")]
    assert metrics.counts["outbox.aged"] == 1
    found.close()


def test_while_the_folder_cannot_be_written_events_wait_in_memory_and_go_to_disk_after_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    earlier, _ = shelf(tmp_path / "state" / "e.db")
    add(earlier, "a", "b")
    earlier.close()
    (tmp_path / "state").rename(tmp_path / "elsewhere")
    (tmp_path / "state").write_text("in the way")
    found, metrics = shelf(tmp_path / "state" / "e.db")
    add(found, "c", "d")
    assert [name for _, name in waiting(found)] == ["c", "d"]
    assert metrics.counts["outbox.unwritten"] == 2
    assert caplog.text.count("cannot be written") == 1, "once, not with every event"
    (tmp_path / "state").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "state")
    add(found, "e")
    assert waiting(found) == [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")]
    found.close()
    again, _ = shelf(tmp_path / "state" / "e.db")
    assert len(waiting(again)) == 5
    again.close()


@pytest.mark.parametrize("first", ["acknowledged", "there"])
def test_what_an_earlier_run_left_is_not_taken_for_what_was_sent_before_its_file_was_there(
    first: str, tmp_path: Path
) -> None:
    """As on a disk that is mounted late, or beside another agent of the same name."""
    place, elsewhere = tmp_path / "place", tmp_path / "elsewhere"
    earlier, _ = shelf(place / "e.db")
    add(earlier, *"abcde")
    earlier.close()
    place.rename(elsewhere)
    place.write_text("in the way")
    found, metrics = shelf(place / "e.db")
    add(found, *"xyz")
    assert waiting(found) == [(1, "x"), (2, "y"), (3, "z")]
    if first == "acknowledged":
        found.done(3)
        assert not waiting(found)
    place.unlink()
    elsewhere.rename(place)
    add(found, "last")
    if first == "there":
        found.done(3)
    names = [name for _, name in waiting(found)]
    assert names == [*"abcde", *("xyz" if first == "there" else ""), "last"]
    found.done(waiting(found)[-1][0])
    assert not waiting(found)
    assert metrics.counts["outbox.lost"] == 0
    found.close()


def test_memory_is_bounded_as_well_and_what_ends_there_is_lost_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("in the way")
    found, metrics = shelf(tmp_path / "state" / "e.db", Bounds(events=2, age_ns=3600 * SECOND))
    add(found, *"abc")
    assert [name for _, name in waiting(found)] == ["b", "c"]
    assert metrics.counts["outbox.overflow"] == 1
    found.close()
    assert metrics.counts["outbox.lost"] == 2
    assert "2 events could not be written, and are lost" in caplog.text


def test_two_agents_of_one_name_do_not_share_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, _ = shelf(tmp_path / "e.db")
    add(one, "a")
    other, metrics = shelf(tmp_path / "e.db")
    add(other, "x")
    assert metrics.counts["outbox.unwritten"] == 1
    assert [name for _, name in waiting(other)] == ["x"]
    assert "another agent of this name runs here" in caplog.text
    assert "Free the disk" not in caplog.text
    add(one, "b")
    one.close()
    add(other, "y")
    assert waiting(other) == [(1, "a"), (2, "b"), (3, "x"), (4, "y")]
    other.close()


def scribbled(path: Path, at: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(b"\xa5" * 4096)


@pytest.mark.parametrize("at", [0, 4096], ids=["header", "page"])
def test_a_corrupt_file_is_set_aside_and_a_new_one_begins(
    at: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "e.db"
    first, _ = shelf(path)
    add(first, *(f"event {n} {'x' * 200}" for n in range(100)))
    first.close()
    scribbled(path, at)
    second, metrics = shelf(path)
    add(second, "after")
    assert [name for _, name in waiting(second)] == ["after"]
    assert metrics.counts["outbox.corrupt"] == 1
    assert f"it is kept as {path}.corrupt" in caplog.text
    assert (tmp_path / "e.db.corrupt").stat().st_size > 4096
    second.close()
    third, _ = shelf(path)
    assert [name for _, name in waiting(third)] == ["after"]
    third.close()


FULL = """
import json, resource, signal, sys
from pathlib import Path
from agent.health.metrics import Metrics
from agent.mqtt.shelf import Bounds, Shelf
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
metrics = Metrics()
shelf = Shelf(Path(sys.argv[1]), Bounds(events=10_000, age_ns=10**18), metrics=metrics)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
n = 0
def add():
    global n
    n += 1
    shelf.add([(json.dumps({"name": n, "filling": "x" * 500}).encode(), 10**18)])
add()
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
while metrics.counts["outbox.unwritten"] < 5:
    add()
assert [json.loads(row.body)["name"] for row in shelf.oldest(10**6)][0] == 1, "what is there can be read"
shelf.done(3)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
add()
rows = [(row.seq, json.loads(row.body)["name"]) for row in shelf.oldest(10**6)]
shelf.close()
print(json.dumps({"n": n, "rows": rows, "lost": metrics.counts["outbox.lost"]}))
"""


def test_a_full_disk_loses_nothing_while_the_agent_lives(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: writes fail beyond it, as on one that is full."""
    run = [sys.executable, "-c", FULL, str(tmp_path / "e.db")]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["n"] > 100
    assert found["rows"] == [[n, n] for n in range(4, found["n"] + 1)]
    assert found["lost"] == 0
    assert "cannot be written" in done.stderr
    again, _ = shelf(tmp_path / "e.db")
    assert again.count == found["n"] - 3
    again.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.just("add"), st.just("restart"), st.integers(1, 5)), max_size=40))
def test_whatever_happens_numbers_have_no_gaps_and_nothing_goes_that_is_not_done(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str | int]
) -> None:
    path = tmp_path_factory.mktemp("outbox") / "e.db"
    found, _ = shelf(path)
    given_, done = 0, 0
    for step in steps:
        match step:
            case "add":
                given_ += 1
                add(found, str(given_))
            case "restart":
                found.close()
                found, _ = shelf(path)
            case int():
                done = min(given_, done + step)
                found.done(done)
        assert waiting(found) == [(n, str(n)) for n in range(done + 1, given_ + 1)]
    found.close()


async def test_what_is_put_down_right_before_the_end_is_written(tmp_path: Path) -> None:
    async with open_outbox(tmp_path / "e.db", WIDE) as (outbox, _):
        outbox.put(b'{"name":"last words"}', 0)
    async with open_outbox(tmp_path / "e.db", WIDE) as (outbox, _):
        (row,) = await outbox.oldest()
    assert row.body == b'{"seq":1,"name":"last words"}'


async def test_it_comes_in_batches_and_says_when_nothing_waits(tmp_path: Path) -> None:
    async with open_outbox(tmp_path / "e.db", WIDE) as (outbox, _), asyncio.timeout(20):
        for n in range(BATCH + 3):
            outbox.put(b'{"n":%d}' % n, n)
        assert not outbox.drained.is_set()
        seqs: list[int] = []
        while len(seqs) < BATCH + 3:
            batch = [row.seq for row in await outbox.oldest()]
            assert len(batch) <= BATCH
            outbox.acknowledge(batch[-1])
            seqs += batch
        assert seqs == list(range(1, BATCH + 4))
        more = asyncio.create_task(outbox.oldest())
        await outbox.drained.wait()
        assert outbox.waiting == 0
        outbox.put(b'{"n":0}', 0)
        assert [row.seq for row in await more] == [BATCH + 4]


async def test_a_flood_of_events_is_bounded_before_the_disk(tmp_path: Path) -> None:
    async with open_outbox(tmp_path / "e.db", WIDE) as (outbox, metrics):
        for n in range(PENDING + 7):  # in one turn of the loop: nobody could write meanwhile
            outbox.put(b'{"n":%d}' % n, n)
        assert metrics.counts["outbox.flooded"] == 7
        first = (await outbox.oldest())[0]
        assert json.loads(first.body)["n"] >= 7
