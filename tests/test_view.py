"""What Rerun is shown: by the real library, into a file that its own tool verifies and prints."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.clock import MS, SECOND, VirtualClock, WallClock
from agent.config.view import View
from agent.health.metrics import Metrics
from agent.playback import play
from agent.showing.view import FLOOR_DBFS, WAITING, RerunView, ViewError, dbfs
from agent.types import Frame, Modality, Reading, Region, Sample, Watermark
from tests.samples import audio, frame, text
from tests.scripted import ScriptedEncoder, happy, pipeline

RERUN = str(Path(sys.executable).with_name("rerun"))
EVENTS: list[Sample | Watermark] = [
    *(frame(i * 100 * MS) for i in range(1, 21)),
    *(audio((i - 1) * 100 * MS, i * 100 * MS) for i in range(1, 21)),
    text(SECOND, "so glad to see you"),
]


def view(settings: View, metrics: Metrics, *, pictures: bool = True) -> RerunView:
    wall = WallClock()
    wall.calibrate(0, 1_790_000_000 * SECOND)
    return RerunView(settings, node="kiosk", wall=wall, metrics=metrics, pictures=pictures)


def with_a_face(samples: Sequence[Sample]) -> Reading:
    newest = samples[-1]
    face = Region(newest.source, newest.end_ns, (0.25, 0.25, 0.75, 0.75))
    return Reading(happy(samples).evidence, regions=(face,))


async def shown(looking: RerunView) -> None:
    """Play two seconds to the view, and let it work until nothing waits."""
    clock = VirtualClock()
    p = pipeline(clock, *(ScriptedEncoder(m, with_a_face if m is Modality.VISION else happy) for m in Modality))
    events = sorted(EVENTS, key=lambda event: event.end_ns if isinstance(event, Sample) else event.t_ns)
    for event in events:
        looking.fed(event)
    async for decided in play(events, p, clock):
        looking.decided(decided)
    p.close()
    task = asyncio.create_task(looking.run())
    async with asyncio.timeout(60):
        await asyncio.wait([task, asyncio.ensure_future(looking.flushed())], return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def printed(file: Path) -> str:
    """What Rerun's own tool makes of the file."""
    subprocess.run([RERUN, "rrd", "verify", file], check=True, capture_output=True)
    return subprocess.run([RERUN, "rrd", "print", "-vvv", file], check=True, capture_output=True, text=True).stdout


def test_rerun_reads_what_it_was_shown(tmp_path: Path) -> None:
    file, metrics = tmp_path / "run.rrd", Metrics()
    asyncio.run(shown(view(View(rerun=str(file), fps=5.0), metrics)))
    said = printed(file)
    for entity in (
        *("/sensors/camera", "/sensors/camera/faces", "/sensors/microphone/dbfs", "/sensors/text"),
        *("/decision/happy", "/conflict", "/weights/vision", "/answer"),
    ):
        assert f"{entity}`" in said or f"{entity} " in said or f'"{entity}"' in said, entity
    assert "so glad to see you" in said
    assert metrics.counts["view.dropped"] == 0


@pytest.mark.parametrize("shape", [(0, 4, 3), (5,)])
async def test_what_is_no_picture_is_counted_and_what_follows_is_shown(tmp_path: Path, shape: tuple[int, ...]) -> None:
    file, metrics = tmp_path / "run.rrd", Metrics()
    looking = view(View(rerun=str(file)), metrics)
    looking.fed(replace(frame(SECOND), payload=Frame(np.zeros(shape, np.uint8))))
    await shown(looking)
    assert metrics.counts["view.dropped"] == 1
    assert "EncodedImage" in printed(file)


def test_pictures_that_may_not_leave_do_not(tmp_path: Path) -> None:
    file = tmp_path / "run.rrd"
    asyncio.run(shown(view(View(rerun=str(file)), Metrics(), pictures=False)))
    said = printed(file)
    assert "EncodedImage" not in said
    assert "Scalars" in said


def test_where_nobody_takes_it_in_the_oldest_gives_way_and_is_counted() -> None:
    metrics = Metrics()
    looking = view(View(rerun=True), metrics)
    for i in range(1, WAITING + 11):
        looking.fed(text(i * MS, f"words {i}"))
    assert looking.waiting == WAITING
    assert metrics.counts["view.dropped"] == 10


async def test_a_file_that_cannot_be_written_is_told_of(tmp_path: Path) -> None:
    looking = view(View(rerun=str(tmp_path / "no" / "such" / "run.rrd")), Metrics())
    with pytest.raises(ViewError, match=r"no/such/run\.rrd"):
        await looking.run()


def test_levels() -> None:
    sine = np.sin(np.arange(1_600) * 2 * np.pi * 440 / 16_000).astype(np.float32)
    assert dbfs(sine) == pytest.approx(-3.01, abs=0.01)
    assert dbfs(np.zeros(160, np.float32)) == FLOOR_DBFS
