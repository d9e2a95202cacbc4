"""Decisions on the screen: a live table on a terminal, one plain line each where there is none."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from queue import Full, Queue
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from agent.clock import MS, WallClock, rfc3339
from agent.types import Decision, Modality

ROWS = 12
WIDE = 110
"""Columns from which the table shows all; below, it leaves out numbers."""


class Screen:
    """``with`` opens the table; call it with each decision.

    A thread of its own prints: a terminal that is held, or a pipe that nobody reads, must not stop the agent. What does
    not fit into the queue meanwhile is not shown.
    """

    QUEUE = 32
    GOODBYE_S = 0.5

    def __init__(self, console: Console, *, wall: WallClock, title: str) -> None:
        self._console = console
        self._wall = wall
        self._title = title
        self._rows: deque[Decision] = deque(maxlen=ROWS)
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._queue: Queue[Decision | None] = Queue(self.QUEUE)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._print, name="screen", daemon=True)

    def __enter__(self) -> Screen:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(Full):
            self._queue.put_nowait(None)
        self._over.set()
        self._thread.join(self.GOODBYE_S)

    def __call__(self, decision: Decision) -> None:
        """Show a decision; never waits."""
        with suppress(Full):
            self._queue.put_nowait(decision)

    def _print(self) -> None:
        with suppress(BrokenPipeError, SystemExit):  # rich makes one of the other: whoever read has gone, we go on
            if self._live:
                self._live.start()
            while not (self._over.is_set() and self._queue.empty()) and (decision := self._queue.get()):
                self._show(decision)
            if self._live:
                self._live.stop()

    def _show(self, decision: Decision) -> None:
        if self._live is None:
            self._console.print(line(decision, self._wall), markup=False, highlight=False, soft_wrap=True)
            return
        self._rows.append(decision)
        self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        wide = self._console.width >= WIDE
        columns = ("time", "decision", "sure", *(("conflict",) if wide else ()), *Modality, "ms")
        table = Table(*(Column(name, no_wrap=True) for name in columns), title=self._title, title_justify="left")
        for d in self._rows:
            table.add_row(
                _time(d, self._wall) if wide else _time(d, self._wall)[:8],
                Text(d.label or "–", style="bold" if d.label else "dim"),
                f"{d.confidence:.2f}",
                *((f"{d.conflict:.2f}",) if wide else ()),
                *(Text(_part(d, m, wide=wide), style="" if m in d.modalities else "dim") for m in Modality),
                f"{d.latency.total / MS:.0f}",
            )
        return table


def line(decision: Decision, wall: WallClock) -> str:
    """One line that says all that matters of a decision."""
    parts = "  ".join(f"{m}: {_part(decision, m)}" for m in Modality)
    label = decision.label or "abstained"
    return (
        f"{_time(decision, wall)}  #{decision.seq} {label} {decision.confidence:.2f}"
        f"  conflict {decision.conflict:.2f}  {parts}  ({decision.latency.total / MS:.0f} ms)"
    )


def _time(decision: Decision, wall: WallClock) -> str:
    return rfc3339(wall.wall_ns(decision.end_ns))[11:-1]


def _part(decision: Decision, modality: Modality, *, wide: bool = True) -> str:
    if c := decision.modalities.get(modality):
        return f"{c.label} {c.confidence:.2f} × {c.weight:.2f}" if wide else c.label
    return decision.missing[modality].value
