"""What ``launch.py`` can be asked for that concerns engines alone: ``models`` and ``eval``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Protocol

from rich.console import Console

from agent.config import Config
from agent.process import DONE, FAILED, WRONG
from agent.types import Sample, Watermark
from engines.models import ModelStore


class Recorded(Protocol):
    """A recorded session."""

    def events(self) -> Iterable[Sample | Watermark]:
        """Everything in it, in ns from its start."""


def models(config: Config, args: argparse.Namespace, out: Console, *, session: Callable[[str], Recorded]) -> int:
    """List the models, fetch what is not here yet, or build TensorRT's plans of them."""
    from engines.screen import fetch_with_bars, models_table

    store = ModelStore.configured(config.models)
    match args.action:
        case "fetch":
            fetch_with_bars(store, args.names, out)
        case "build":
            _build(config, args, out, store=store, session=session)
        case _:
            out.print(models_table(store))
            _say_standings(config, out, store)
    return DONE


def _say_standings(config: Config, out: Console, store: ModelStore) -> None:
    """On what each encoder's models are to run."""
    from rich.markup import escape

    from engines.models import ModelError
    from engines.standing import findings, standings

    try:
        found = findings(standings(config, store))
    except ModelError:
        return  # which the table shows
    for finding in found:
        out.print(f"{finding.mark} [bold]{escape(finding.what)}[/]: {escape(finding.said)}", soft_wrap=True)


def _build(
    config: Config,
    args: argparse.Namespace,
    out: Console,
    *,
    store: ModelStore,
    session: Callable[[str], Recorded],
) -> None:
    from engines.plan_builder import build_plans, calibrate
    from engines.platforms import find_platform
    from engines.screen import bars

    if args.calibrate:
        for name, n in calibrate(config, store, session(args.calibrate).events()).items():
            out.print(f"{name}: {n} inputs kept for int8", markup=False)
    platform = find_platform()
    out.print(f"plans for {platform}", markup=False)
    with bars(out) as progress:
        build_plans(config, store, platform, names=args.names, progress=progress)


def bench(config: Config, args: argparse.Namespace, out: Console) -> int:
    """Time each network on each back end of this machine."""
    import json
    import platform

    import onnxruntime

    from engines import EngineError
    from engines.benchmark import as_json, measure
    from engines.platforms import find_platform
    from engines.screen import figures_table

    try:
        found = find_platform()
    except EngineError as error:
        found = None
        out.print(f"no TensorRT: {error}", markup=False)
    device = str(found) if found else "no GPU"
    out.print(f"onnxruntime {onnxruntime.__version__}, {platform.machine()}, {device}", markup=False)
    store = ModelStore.configured(config.models)
    figures = measure(
        store, found, names=args.names, threads=args.threads, said=lambda line: out.print(line, markup=False)
    )
    out.print(figures_table(figures))
    if args.json:
        args.json.write_text(json.dumps({"device": device, "figures": as_json(figures)}, indent=1), encoding="utf-8")
    return DONE


def evaluate(config: Config, args: argparse.Namespace, out: Console) -> int:
    """Measure an encoder as deployed on labelled data."""
    from engines.evaluation.dataset import DataError
    from engines.evaluation.verb import measure

    try:
        measure(config, args, out)
    except DataError as error:
        print(error, file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("eval: interrupted; nothing is written", file=sys.stderr)
        return FAILED
    return DONE
