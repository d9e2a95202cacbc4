"""Figures as a file and on the screen."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from engines.evaluation.chart import Panel, svg
from engines.evaluation.dataset import DataError


class OutputError(Exception):
    """A file could not be written. The message names it and says why."""


def check_writable(file: Path) -> None:
    """Raises `DataError` where `write` could not, before an hour is spent on what it would."""
    if file.is_dir() or not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        why = "it is a folder" if file.is_dir() else f"{file.parent} is no folder that can be written to"
        raise DataError(f"{file} cannot be written: {why}")


def write_json(figures: Mapping[str, Any], file: Path) -> None:
    """As `write`."""
    write(json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False) + "\n", file)


def write(text: str, file: Path) -> None:
    """All of it or nothing: what is at `file` is replaced once the new is whole. Raises `OutputError`."""
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        raise OutputError(f"{file}: cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            draft.unlink()


def show(figures: Mapping[str, Any], console: Console) -> None:
    """The figures and the confusion as tables."""
    facts = Table(show_header=False, box=None, title=figures["modality"], title_justify="left")
    for name, value in figures.items():
        if not isinstance(value, Mapping | str):
            facts.add_row(name, _figure(value))
    console.print(facts)
    rows: Mapping[str, Mapping[str, int]] = figures["confusion"]
    table = Table(
        "label", "recall", *next(iter(rows.values())), title="named as", title_justify="left", box=box.MARKDOWN
    )
    for label, row in rows.items():
        if label in figures["recall"]:
            table.add_row(label, _figure(figures["recall"][label]), *map(str, row.values()))
    console.print(table)


def show_fusion(figures: Mapping[str, Any], console: Console) -> None:
    """By rule: the figures of all modalities, mean recall of each subset, over missing rates and over noise."""
    console.print(f"{figures['n']} triples of {', '.join(figures['labels'])}")
    names = ("accuracy", "uar", "macro_f1", "nll", "ece")
    table = Table("rule", *names, "error / best", "worst subset", "shuffled", "control", box=box.MARKDOWN)
    for rule, facts in figures["rules"].items():
        judged = (figures["error_against_best"][rule], figures["worst_subset"][rule])
        costs = (figures["shuffled"][rule][test]["cost"] for test in ("noisy", "control"))
        table.add_row(rule, *map(_figure, (*(facts[name] for name in names), *judged, *costs)))
    console.print(table)
    subsets = figures["subsets"]
    table = Table("uar of", *subsets, box=box.MARKDOWN)
    for subset in next(iter(subsets.values())):
        table.add_row(subset, *(_figure(by_subset[subset]["uar"]) for by_subset in subsets.values()))
    console.print(table)
    for what, key in (("missing", "rate"), ("noise", "grade")):
        curves: Mapping[str, Sequence[Mapping[str, Any]]] = figures[what]
        table = Table(f"uar, {what}", *curves, box=box.MARKDOWN)
        for points in zip(*curves.values(), strict=True):
            table.add_row(f"{key} {points[0][key]}", *(_figure(point["uar"]) for point in points))
        console.print(table)
    _show_alone(figures["alone"], console)


def _show_alone(alone: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """Each modality by itself, by grade of noise."""
    grades = [f"grade {grade}" for grade in range(len(next(iter(alone.values()))["uar"]))]
    table = Table("alone", *grades, box=box.MARKDOWN)
    for modality, facts in alone.items():
        for name in ("uar", "quality"):
            table.add_row(f"{modality}, {name}", *map(_figure, facts[name]))
        table.add_row(f"{modality}, quality's AUC", _figure(facts["quality_auc"]))
    console.print(table)


def fusion_chart(figures: Mapping[str, Any]) -> str:
    """SVG: mean recall by rule over missing rates and over noise."""

    def series(what: str, key: str) -> dict[str, list[tuple[float, float]]]:
        return {rule: [(point[key], point["uar"]) for point in points] for rule, points in figures[what].items()}

    missing = Panel("Modalities missing", "share missing", "mean recall", series("missing", "rate"))
    return svg([missing, Panel("Noise", "grade", "mean recall", series("noise", "grade"))])


def _figure(value: object) -> str:
    match value:
        case None:
            return "–"
        case float():
            return f"{value:.3f}"
        case _:
            return str(value)
