"""The models on the screen: a table of what there is, bars for what is being fetched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from engines.models import ModelStore
from engines.models import Progress as Told

if TYPE_CHECKING:
    from engines.benchmark import Figures


def fetch_with_bars(store: ModelStore, names: Sequence[str], console: Console) -> None:
    """Fetch, with a line a model that says what is being done; raises `engines.models.ModelError`."""
    with bars(console) as progress:
        store.fetch(names, progress)


@contextmanager
def bars(console: Console) -> Iterator[Told]:
    """A line a model, which says what is being done for it."""
    columns = (SpinnerColumn(), TextColumn("{task.fields[name]:20} {task.description}"), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as shown:

        def progress(name: str, step: str) -> None:
            if not console.is_terminal:
                console.print(f"{name}: {step}", markup=False)
            elif name in tasks:
                shown.update(tasks[name], description=step)
            else:
                tasks[name] = shown.add_task(step, name=name, total=None)

        yield progress


def figures_table(found: Sequence[Figures]) -> Table:
    """What each network costs on each back end."""
    table = Table("model", "back end", "batch", "p50", "p99", "items/s", "floor", "times the floor")
    for f in found:
        times = (f"{f.p50_ms:.2f} ms", f"{f.p99_ms:.2f} ms", f"{f.per_s:.0f}", f"{f.floor_ms:.2f} ms", f"{f.ratio:.1f}")
        table.add_row(f.model, f.way, str(f.batch), *times)
    return table


def models_table(store: ModelStore) -> Table:
    """Every model of the lock file, and how its file stands."""
    table = Table("model", "state", "size", "licence", "commercial use", "brought by")
    for listing in store.list():
        model = listing.model
        size = f"{listing.size / 1e6:.1f} MB" if listing.size else "–"
        brought = "models fetch" if model.default else f"models fetch {model.name}"
        brought = "the repository" if model.in_place else brought
        table.add_row(model.name, listing.state, size, model.licence, "yes" if model.commercial else "no", brought)
    return table
