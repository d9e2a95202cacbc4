"""``launch.py eval``: from what was asked to tables on the screen and files of figures."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from agent.config import Config, prior_of
from agent.fusion import EMBEDDED, RULES, Learned, LearnedHead, Recalibration, Rule, TrainedHead
from agent.types import Modality
from engines.encoders import open_fusion
from engines.evaluation import triples
from engines.evaluation.dataset import DataError, Dataset, read
from engines.evaluation.output import check_writable, fusion_chart, show, show_fusion, write, write_json
from engines.evaluation.pool import collect, graded
from engines.evaluation.run import gather, summary
from engines.evaluation.spoil import GRADES
from engines.models import LicenceError, ModelStore

log = logging.getLogger(__name__)

FUSION = "fusion"
SEED = 0


def measure(config: Config, args: argparse.Namespace, console: Console) -> None:
    """Do what `agent.cli` read.

    Raises `DataError` where that is faulty, `OutputError` where a file cannot be written, and what the encoders do.
    """
    for file in filter(None, (args.json, args.chart)):
        check_writable(file)
    if args.what == FUSION:
        _measure_fusion(config, args, console)
    else:
        _measure_encoder(config, args, console)


def _measure_encoder(config: Config, args: argparse.Namespace, console: Console) -> None:
    modality = Modality(args.what)
    folder, split = _one(args.data, "--data", "DIR"), _one(args.split, "--split", "NAME") if args.split else None
    data = _read(config, modality, folder, split, args.map)
    figures = summary(gather(config, modality, data), modality=modality, labels=config.agent.labels)
    if args.json:
        write_json(figures | {"data": folder, "split": split, "left_out": data.left_out}, args.json)
    show(figures, console)


def _measure_fusion(config: Config, args: argparse.Namespace, console: Console) -> None:
    folders, splits = _each(args.data, "--data", "DIR"), _each(args.split, "--split", "NAME")
    if lacking := [m for m in Modality if m not in folders]:
        raise DataError("eval fusion: wants " + " ".join(f"--data {m}=DIR" for m in lacking))
    data = {m: _read(config, m, folders[m], splits.get(m), args.map).few(args.items, seed=SEED) for m in Modality}
    pools = {m: [collect(config, m, data[m], grade=g, work=args.work) for g in range(GRADES + 1)] for m in Modality}
    prior = np.array(list(prior_of(config.agent).values()))
    reliability = {m: encoder.reliability for m, encoder in config.encoders.items()}

    def drawn(*grades: int) -> triples.Triples:
        some = {m: [pools[m][grade] for grade in grades] for m in Modality}
        return triples.draw(
            some, per_label=args.triples, reliability=reliability, prior=prior, seed=SEED, leak=config.fusion.leak
        )

    rules = deployed(config, {name: head for name in (Learned.name, *EMBEDDED) if (head := _trained(config, name))})
    grades = range(1, GRADES + 1)
    figures = triples.figures(rules, drawn(0), [drawn(grade) for grade in grades], drawn(0, *grades))
    labels = [config.agent.labels[k] for k in figures["labels"]]
    figures |= {"labels": labels, "items": {str(m): len(data[m].items) for m in Modality}, "data": folders}
    figures["alone"] = {str(m): graded(pools[m], prior) for m in Modality}
    if args.json:
        write_json(figures, args.json)
    if args.chart:
        write(fusion_chart(figures), args.chart)
    show_fusion(figures, console)


def deployed(config: Config, trained: Mapping[str, TrainedHead]) -> dict[str, triples.Recalibrated]:
    """Every rule by name as the config sets it, with the recalibration behind it; of the trained ones those given."""
    rules: dict[str, Rule] = {name: rule.of(config.fusion) for name, rule in RULES.items()}
    for name, head in trained.items():
        rules[name] = Learned(head) if isinstance(head, LearnedHead) else EMBEDDED[name](head)
    behind = {name: config.fusion.model_copy(update={"rule": name}).temperatures for name in rules}
    return {name: triples.Recalibrated(rule, Recalibration(behind[name])) for name, rule in rules.items()}


def _trained(config: Config, rule: str) -> TrainedHead | None:
    """The head of a trained rule; None, which is logged, where it must not be used or knows other labels."""
    named = config.model_copy(update={"fusion": config.fusion.model_copy(update={"rule": rule})})
    try:
        head = open_fusion(named, ModelStore.configured(config.models))
    except LicenceError as error:
        log.warning("%s; it is left out", error)
        return None
    if head and head.labels != config.agent.labels:
        log.warning("%s: the trained head is left out: it knows the labels %s", rule, ", ".join(head.labels))
        return None
    return head


def _read(config: Config, modality: Modality, folder: str, split: str | None, renamed: Mapping[str, str]) -> Dataset:
    data = read(Path(folder), modality, labels=config.agent.labels, split=split, renamed=renamed)
    log.info("%s: %d items, %d left out", folder, len(data.items), data.left_out)
    return data


def _one(given: list[str], option: str, metavar: str) -> str:
    if len(given) != 1:
        raise DataError(f"eval: wants one {option} {metavar}; found {' '.join(given) or 'none'}")
    return given[0]


def _each(given: list[str], option: str, metavar: str) -> dict[Any, str]:
    """What is given for each modality."""
    pairs = [value.partition("=") for value in given]
    if wrong := [name for name, sign, _ in pairs if not sign or name not in tuple(Modality)]:
        forms = ", ".join(f"{option} {m}={metavar}" for m in Modality)
        raise DataError(f"eval fusion: wants {forms}; found {wrong[0]}")
    return {Modality(name): value for name, _, value in pairs}
