"""Figures as a file and on the screen."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from engines.evaluation.dataset import DataError


class OutputError(Exception):
    """A file could not be written. The message names it and says why."""


def check_writable(file: Path) -> None:
    """Raises `DataError` where `write_json` could not write, before an hour is spent on what it would."""
    if file.is_dir() or not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        why = "it is a folder" if file.is_dir() else f"{file.parent} is no folder that can be written to"
        raise DataError(f"--json {file}: {why}")


def write_json(figures: Mapping[str, Any], file: Path) -> None:
    """All of it or nothing: what is at `file` is replaced once the new is whole. Raises `OutputError`."""
    text = json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        raise OutputError(f"--json {file}: cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            draft.unlink()


def show(figures: Mapping[str, Any], console: Console) -> None:
    """The figures and the confusion as tables."""
    names = [name for name, value in figures.items() if not isinstance(value, Mapping | str)]
    facts = Table(*names, title=figures["modality"], title_justify="left")
    facts.add_row(*(_figure(figures[name]) for name in names))
    console.print(facts)
    rows: Mapping[str, Mapping[str, int]] = figures["confusion"]
    table = Table("label", "recall", *next(iter(rows.values())), title="named as", title_justify="left")
    for label, row in rows.items():
        if label in figures["recall"]:
            table.add_row(label, _figure(figures["recall"][label]), *map(str, row.values()))
    console.print(table)


def _figure(value: object) -> str:
    match value:
        case None:
            return "–"
        case float():
            return f"{value:.3f}"
        case _:
            return str(value)
