"""Decisions on the screen: a live table on a terminal, one plain line each where there is none."""

from __future__ import annotations

from collections import deque
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agent.clock import MS, WallClock, rfc3339
from agent.types import Decision, Modality

ROWS = 12


class Screen:
    """``with`` opens the table; call it with each decision."""

    def __init__(self, console: Console, *, wall: WallClock, title: str) -> None:
        self._console = console
        self._wall = wall
        self._title = title
        self._rows: deque[Decision] = deque(maxlen=ROWS)
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Screen:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, decision: Decision) -> None:
        """Show a decision."""
        if self._live is None:
            self._console.print(line(decision, self._wall), markup=False, highlight=False, soft_wrap=True)
            return
        self._rows.append(decision)
        self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        columns = ("time", "decision", "sure", "conflict", *Modality, "latency")
        table = Table(*columns, title=self._title, title_justify="left")
        for d in self._rows:
            table.add_row(
                _time(d, self._wall),
                Text(d.label or "–", style="bold" if d.label else "dim"),
                f"{d.confidence:.2f}",
                f"{d.conflict:.2f}",
                *(Text(_part(d, m), style="" if m in d.modalities else "dim") for m in Modality),
                f"{d.latency.total / MS:.0f} ms",
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


def _part(decision: Decision, modality: Modality) -> str:
    if c := decision.modalities.get(modality):
        return f"{c.label} {c.confidence:.2f} × {c.weight:.2f}"
    return decision.missing[modality].value
