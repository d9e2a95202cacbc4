"""The screen, on a terminal of either width, in a pipe, and in a pipe that nobody reads."""

import contextlib
import io
import os

from rich.console import Console

from agent.clock import SECOND, WallClock
from agent.showing.screen import Screen, line
from agent.types import Modality
from tests.publishing import decision


def wall() -> WallClock:
    clock = WallClock()
    clock.calibrate(0, 1_795_255_200 * SECOND)
    return clock


def shown(console: Console) -> str:
    with Screen(console, wall=wall(), title="demo") as screen:
        screen(decision(7))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_line_says_all_that_matters() -> None:
    text = line(decision(7), wall())
    assert text.startswith(
        "10:00:01.000  #7 happy 0.83  conflict 0.07  vision: happy 0.90 × 0.80  audio: late  text: silent"
    )


def test_without_a_terminal_each_decision_is_a_line() -> None:
    assert shown(Console(file=io.StringIO(), width=160)) == line(decision(7), wall()) + "\n"


def test_the_table_fits_a_small_terminal() -> None:
    small = shown(Console(file=io.StringIO(), force_terminal=True, width=80, height=24, color_system=None))
    wide = shown(Console(file=io.StringIO(), force_terminal=True, width=140, height=40, color_system=None))
    assert "10:00:01 │ happy" in small
    assert "…" not in small
    assert "happy 0.90 × 0.80" in wide
    for modality in Modality:
        assert modality in small


def test_a_pipe_that_nobody_reads_stops_nobody() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 1024)
    os.set_blocking(writer, True)
    with os.fdopen(writer, "w") as stream:
        screen = Screen(Console(file=stream, width=160), wall=wall(), title="demo")
        with screen:
            for seq in range(200):
                screen(decision(seq))
        assert screen._thread.is_alive(), "it should hang in the full pipe"
        os.set_blocking(reader, False)
        while screen._thread.is_alive():  # somebody reads after all
            with contextlib.suppress(BlockingIOError):
                os.read(reader, 1 << 16)
    os.close(reader)
