"""What ``launch.py`` can be asked for that concerns engines alone: ``models`` and ``eval``."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from agent.config import Config
from agent.process import DONE, FAILED, WRONG
from engines.models import ModelStore


def models(config: Config, args: argparse.Namespace, out: Console) -> int:
    """List the models, or fetch what is not here yet."""
    from engines.screen import fetch_with_bars, models_table

    store = ModelStore.configured(config.models)
    if args.action == "fetch":
        fetch_with_bars(store, args.names, out)
    else:
        out.print(models_table(store))
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
