"""``launch.py eval``: from what was asked to a table on the screen and a file of figures."""

from __future__ import annotations

import argparse
import logging

from rich.console import Console

from agent.config import Config
from agent.types import Modality
from engines.evaluation import dataset
from engines.evaluation.output import check_writable, show, write_json
from engines.evaluation.run import gather, summary

log = logging.getLogger(__name__)


def measure(config: Config, args: argparse.Namespace, console: Console) -> None:
    """Do what `agent.cli` read. Raises `DataError` where that is faulty, `OutputError` where nothing can be written."""
    if args.json:
        check_writable(args.json)
    modality = Modality(args.what)
    labels = config.agent.labels
    data = dataset.read(args.data, modality, labels=labels, split=args.split, renamed=args.map)
    log.info("%s: %d items, %d left out", args.data, len(data.items), data.left_out)
    figures = summary(gather(config, modality, data), modality=modality, labels=labels)
    if args.json:
        write_json(figures | {"data": str(args.data), "split": args.split, "left_out": data.left_out}, args.json)
    show(figures, console)
