"""Writing recordings: parts and how long they stay, a disk that is full or slow, a power cut, and being asked to."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from agent.clock import MS, SECOND, VirtualClock, WallClock
from agent.config import Config
from agent.control.handler import Control
from agent.recording.about import about_agent, shown
from agent.recording.format import ORDER, Mark
from agent.recording.line import Item, Line
from agent.recording.recorder import Recorder
from agent.recording.rows import order_row
from agent.recording.scribe import Scribe
from agent.recording.shelf import Shelf
from agent.types import Frame, Sample
from agent.window import SourceState
from sensors.session_mcap import McapSession
from tests.outside import ROOT, launch
from tests.recordings import SOURCES, START_NS, WALL_NS, folders, opened, recorded_live, recorder_of, sensed, settings
from tests.test_control import Senses

PATIENCE_S = 30.0


def shelf(config: Config, **seams: Any) -> Shelf:
    clock, wall = VirtualClock(START_NS), WallClock()
    wall.calibrate(START_NS, WALL_NS)
    about = about_agent(config, session="s", sources=SOURCES, clock=clock, wall=wall, whole=True)
    return Shelf(config.record, about, **seams)


def pictures(count: int, side: int = 64) -> list[Item]:
    """Ten a second, of noise."""
    rng, items = np.random.default_rng(2), []
    for n in range(count):
        t_ns = START_NS + n * 100 * MS
        sample = Sample("camera", Frame(rng.integers(0, 256, (side, side, 3), np.uint8)), t_ns, t_ns, t_ns)
        at_ns = WALL_NS + n * 100 * MS
        items.append(Item(ORDER, order_row(sample, n, t_ns), at_ns, at_ns, sample))
    return items


def written(config: Config, items: list[Item], **seams: Any) -> Scribe:
    """What the thread made of these items; it has ended."""
    line = Line(config.record.buffer)
    scribe = Scribe(line, shelf(config, **seams), config.record)
    for item in items:
        line.put(item)
    line.close()
    scribe.begin()
    assert scribe.ended(PATIENCE_S)
    return scribe


def test_a_new_part_begins_with_size_and_with_age_and_all_play_as_one(tmp_path: Path) -> None:
    config = settings(tmp_path, frames="raw", part_size="256 KiB", part_age="8 s")
    scribe = written(config, pictures(200))
    assert scribe.folder
    parts = sorted(scribe.folder.iterdir())
    assert [part.name for part in parts] == [f"{n:04}.mcap" for n in range(1, len(parts) + 1)]
    assert len(parts) >= 3
    session = McapSession.open(scribe.folder)
    assert [event.t_ns - START_NS for event in session.events()] == [n * 100 * MS for n in range(200)]
    alone = McapSession.open(parts[-1])
    first = next(alone.events())
    assert abs(first.t_ns - alone.start_ns) < SECOND


def test_old_parts_go_by_size_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    config = settings(tmp_path, frames="raw", part_age="1 s", keep_size="400 KiB")
    note = tmp_path / "mine" / "0001.mcap"
    note.parent.mkdir()
    note.write_bytes(b"not ours" * 100_000)
    scribe = written(config, pictures(120))
    assert scribe.folder
    kept = sorted(scribe.folder.iterdir())
    assert kept[0].name != "0001.mcap"
    assert sum(part.stat().st_size for part in kept[:-1]) <= 400 << 10
    assert note.exists()


def test_old_parts_go_by_age(tmp_path: Path) -> None:
    config = settings(tmp_path, frames="raw", keep_age="1 h")
    old = tmp_path / "test-20200101T000000Z"
    old.mkdir()
    (old / "0001.mcap").write_bytes(b"old")
    os.utime(old / "0001.mcap", ns=(0, WALL_NS - 3601 * SECOND))
    young = tmp_path / "test-20200101T000001Z"
    young.mkdir()
    (young / "0001.mcap").write_bytes(b"young")
    os.utime(young / "0001.mcap", ns=(0, WALL_NS - 3599 * SECOND))
    written(config, pictures(1))
    assert not old.exists()
    assert (young / "0001.mcap").exists()


def test_a_full_disk_stops_it_loudly_and_room_lets_it_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.recording.scribe.RETRY_S", 0.0)
    room = iter([True, True, False, False, False, *[True] * 10_000])
    config = settings(tmp_path, frames="raw", part_age="1 s", keep_free="1 MiB")
    scribe = written(config, pictures(100), free=lambda folder: (2 if next(room) else 0) << 20)
    assert "nothing is recorded" in caplog.text
    assert "recording goes on" in caplog.text
    assert scribe.halted is None
    assert scribe.dropped["unwritten"] == 3
    assert scribe.folder
    assert sum(1 for _ in McapSession.open(scribe.folder).events()) == 97


def test_a_disk_that_is_full_to_the_last_byte_does_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The device /dev/full refuses every write with ENOSPC, as a full disk does."""

    def full(path: Path) -> IO[bytes]:
        return path.open("xb") if path.name == "0001.mcap" else Path("/dev/full").open("wb")

    scribe = written(settings(tmp_path, part_age="1 s"), pictures(20), opened=full)
    assert scribe.halted
    assert "No space left" in scribe.halted
    assert scribe.written["camera"] + scribe.dropped["unwritten"] == 20
    assert scribe.dropped["unwritten"] > 5
    assert caplog.text.count("nothing is recorded") == 1
    assert scribe.folder
    assert [path.name for path in scribe.folder.iterdir()] == ["0001.mcap"]


FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
from agent.clock import VirtualClock, WallClock
from agent.recording.recorder import Recorder
from tests.test_control import Senses
from tests.recordings import SOURCES, settings

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

async def main():
    wall = WallClock()
    wall.calibrate(0, 10**18)
    recorder = Recorder(settings(Path(sys.argv[1])), session="s", sources=SOURCES, clock=VirtualClock(), wall=wall)
    for limit in (1000, hard):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        reply = await recorder.start()
        print(int(reply.ok), int(recorder.recording), len(list(Path(sys.argv[1]).parents[1].rglob("*"))), reply.said)
    await recorder.stop()

asyncio.run(main())
"""


def test_asked_to_record_to_a_full_disk_it_says_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: writes fail beyond it, as on one that is full."""
    out = tmp_path / "deep" / "out"
    done = subprocess.run([sys.executable, "-c", FULL, out], cwd=ROOT, capture_output=True, text=True, check=True)
    refused, begun = done.stdout.splitlines()
    assert refused.startswith(f"0 0 0 cannot record: {out}/")
    assert "File too large" in refused
    assert "MiB free" in refused
    assert begun.startswith(f"1 1 4 recording to {out}/")


async def test_asked_to_record_where_too_little_is_left_it_names_what_is_needed_and_found(tmp_path: Path) -> None:
    out, senses = tmp_path / "deep" / "out", Senses()
    wall = WallClock()
    wall.calibrate(0, WALL_NS)
    config = settings(out, keep_free="1000000 GiB")
    control = Control(senses, changed=lambda: None)
    control.recorder = Recorder(config, session="s", sources=SOURCES, clock=VirtualClock(), wall=wall)
    free = shutil.disk_usage(tmp_path).free >> 20
    reply = await control.handle("record", b"start")
    assert not reply.ok
    assert not control.recording
    found = re.search(r"(\d+) MiB are free, and \[record\] keep_free = (\d+) MiB", reply.said)
    assert found
    assert f"cannot record: {out}: " in reply.said
    assert abs(int(found[1]) - free) < free / 2
    assert int(found[2]) == 1_000_000 << 10
    assert not folders(tmp_path)


async def due(clock: VirtualClock) -> int:
    """When the next sleeper wakes, once there is one: a thread looks at the disk meanwhile, and tells no clock."""
    while (at_ns := clock.next_ns()) is None:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    return at_ns


def obstructed(out: Path) -> tuple[VirtualClock, Recorder]:
    """A recorder whose config wants a recording, and where its folder would be there is a file."""
    out.write_text("in the way")
    clock, wall = VirtualClock(START_NS), WallClock()
    wall.calibrate(START_NS, WALL_NS)
    return clock, Recorder(settings(out, enabled=True), session="s", sources=SOURCES, clock=clock, wall=wall)


async def test_what_the_config_wants_recorded_begins_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, recorder = obstructed(tmp_path / "out")
    running = asyncio.create_task(recorder.run())
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(3):
            again_ns = await due(clock)
            assert not recorder.recording
            assert recorder.reading() == {"halted": 1.0}
            clock.advance_to(again_ns)
        await due(clock)
        (tmp_path / "out").unlink()
        clock.advance_to(await due(clock))
        await due(clock)
        assert recorder.recording
        recorder.fed(sensed(1)[0])
        running.cancel()
        await asyncio.wait([running])
    assert caplog.text.count("cannot record") == 1
    assert sum(1 for _ in opened(tmp_path / "out").events()) == 1


async def test_who_stops_a_recording_that_is_about_to_fail_is_heeded(tmp_path: Path) -> None:
    clock, recorder = obstructed(tmp_path / "out")
    running = asyncio.create_task(recorder.run())
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.sleep(0)
        assert recorder.recording
        await recorder.stop()
        await due(clock)
        assert recorder.reading() == {}
        (tmp_path / "out").unlink()
        for _ in range(3):
            clock.advance_to(await due(clock))
            await due(clock)
            assert not recorder.recording
        running.cancel()
        await asyncio.wait([running])


def test_a_slow_disk_costs_pictures_first_and_all_is_counted() -> None:
    """Nobody takes anything out: pictures go on as rows without their pixels, and at last the rows stay away too."""
    items = pictures(10)
    line = Line(3 * items[0].nbytes)
    assert [line.put(item) for item in items] == [True] * 3 + [False] * 7
    assert line.dropped == {"payloads": 7}
    found = [line.take(0) for _ in items]
    assert [bool(item and item.sample) for item in found] == [True] * 3 + [False] * 7
    assert [item.row.get("lost") for item in found if item] == [None] * 3 + [True] * 7
    small = Item(ORDER, {}, 0, 0)
    assert sum(line.put(small) for _ in range(Line.COUNT + 5)) == Line.COUNT
    assert line.dropped == {"payloads": 7, "items": 5}


async def test_windows_that_lack_samples_say_so(tmp_path: Path) -> None:
    """A buffer that holds no picture at all: windows are recorded, and tell how many samples they lost."""
    await recorded_live(settings(tmp_path, buffer="1 KiB"), seconds=2)
    session = opened(tmp_path)
    told = [entry.what for entry in session.entries() if hasattr(entry.what, "lost")]
    assert sum(t.lost for t in told) > 0
    lost = sum(part.lost for part in session.survey())
    assert lost > 0
    _, output = await launch("sessions", "info", str(session.parts[0]))
    assert f"left out while recording: {lost} samples, for want of room in [record] buffer" in output


def test_a_picture_that_is_none_is_left_out_and_counted(tmp_path: Path) -> None:
    odd = Sample("camera", Frame(np.zeros((4, 4), np.uint8)), START_NS, START_NS, START_NS)
    item = Item(ORDER, order_row(odd, 0, START_NS), WALL_NS, WALL_NS, odd)
    scribe = written(settings(tmp_path), [item, *pictures(2)])
    assert scribe.dropped == {"odd": 1}
    assert scribe.folder
    assert sum(1 for _ in McapSession.open(scribe.folder).events()) == 2


KILLED = """
import asyncio, sys
from pathlib import Path
from agent.clock import VirtualClock
from tests.test_control import Senses
from tests.recordings import START_NS, recorder_of, sensed, settings

async def main():
    clock = VirtualClock(START_NS)
    async with recorder_of(settings(Path(sys.argv[1]), frames="raw"), clock) as recorder:
        for item in sensed(3):
            recorder.fed(item)
        while not (recorder._scribe._flushed_s and not len(recorder._line)):
            await asyncio.sleep(0.01)
        seen = recorder._scribe._flushed_s
        while recorder._scribe._flushed_s == seen:
            await asyncio.sleep(0.01)
        print("flushed", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_what_was_flushed_survives_a_kill(tmp_path: Path) -> None:
    """SIGKILL lets nothing be tidied up, as a power cut: all that was flushed can be read and is said to be cut off."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout
    with process:
        assert process.stdout.readline() == b"flushed\n"
        process.send_signal(signal.SIGKILL)
    (folder,) = tmp_path.iterdir()
    session = McapSession.open(folder)
    assert sum(1 for _ in session.events()) == len(sensed(3))
    (survey,) = session.survey()
    assert survey.cut_off_at is not None


async def test_it_is_started_and_stopped_on_demand(tmp_path: Path) -> None:
    clock = VirtualClock(START_NS)
    async with recorder_of(settings(tmp_path), clock) as recorder:
        recorder.marked("camera", SourceState.FAILED)
        for item in sensed(1):
            recorder.fed(item)
        assert recorder.recording
        assert (await recorder.start()).said.startswith("is recording")
        assert recorder.reading()["halted"] == 0
        stopped = await recorder.stop()
        assert "left out: nothing" in stopped.said
        recorder.fed(sensed(1)[0])
        assert (await recorder.start()).ok
    first, second = folders(tmp_path)
    assert McapSession.open(first).about.whole
    assert not McapSession.open(second).about.whole
    marks = [entry.what for entry in McapSession.open(second).entries()]
    assert [(m.source, m.state) for m in marks if isinstance(m, Mark)] == [("camera", SourceState.FAILED)]


async def test_privacy_forbids_it(tmp_path: Path) -> None:
    config = Config.model_validate({"privacy": {"raw_media": "never"}, "record": {"out": str(tmp_path / "out")}})
    wall = WallClock()
    wall.calibrate(0, WALL_NS)
    recorder = Recorder(config, session="s", sources=SOURCES, clock=VirtualClock(), wall=wall)
    reply = await recorder.start()
    assert not reply.ok
    assert "raw_media" in reply.said
    assert not (tmp_path / "out").exists()
    code, output = await launch("record", "--set", "privacy.raw_media=never", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "raw_media" in output


async def test_where_no_folder_can_be_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, output = await launch("record", "--out", str(tmp_path / "file" / "out"))
    assert code == 2
    assert f"record.out: {tmp_path / 'file' / 'out'} cannot be a folder" in output


def test_off_unless_asked_for() -> None:
    assert not Config().record.enabled


def test_no_secret_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    config = Config.model_validate(
        {
            "mqtt": {"broker": "mqtts://broker.example", "user": "somebody", "password": "${SECRET}"},
            "sensors": {"door": {"kind": "camera", "device": "rtsp://user:hunter2@host/1"}},
        }
    )
    told = json.dumps(shown(config))
    assert "hunter2" not in told
    assert "somebody" not in told
    assert "rtsp" not in told


def test_who_feeds_it_never_waits_for_the_disk(tmp_path: Path) -> None:
    """The file cannot be opened before all was fed: the feeding goes on, and nothing is lost."""
    gate = threading.Event()

    def late(path: Path) -> IO[bytes]:
        assert gate.wait(PATIENCE_S)
        return path.open("xb")

    config = settings(tmp_path, frames="raw")
    line = Line(config.record.buffer)
    scribe = Scribe(line, shelf(config, opened=late), config.record)
    scribe.begin()
    assert all(line.put(item) for item in pictures(50))
    gate.set()
    line.close()
    assert scribe.ended(PATIENCE_S)
    assert not scribe.dropped
    assert scribe.written["camera"] == 50
