"""``launch.py eval vision|audio|text``: how good an encoder is as deployed, on labelled data.

Detector, voice activity detection, quality gate and calibration are those of the running agent (see
`engines.evaluation.present`). An item about which the encoder says nothing is wrong in accuracy, recall, uar and
macro-F1; likelihood, calibration error and the arousal's AUC are over the items that are answered. Means over labels
are over those that the items have, also where the encoder cannot say one of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agent.config import Config
from agent.seams import Encoder
from agent.types import Modality
from engines.encoders import open_encoders
from engines.evaluation.dataset import DataError
from engines.evaluation.metrics import NONE, area_under_risk, auc, confusion, report
from engines.evaluation.present import Answer, Items, answers
from engines.models import ModelStore

UNSAID = "none"
"""Stands in the confusion for no evidence."""
AROUSED = frozenset({"happy", "angry", "fearful", "surprised"})
"""Labels of high arousal (Russell 1980, "A circumplex model of affect")."""
CALM = frozenset({"neutral", "sad", "disgusted"})
"""Labels of low arousal, by the same."""


def open_encoder(config: Config, modality: Modality) -> Encoder:
    """The encoder that the config deploys. Raises as `open_encoders`, and `DataError` where it is switched off."""
    if not dict(config.encoders.items())[modality].enabled:
        raise DataError(f"encoders.{modality} is switched off; add --set encoders.{modality}.enabled=true")
    silent = config.model_copy(update={"agent": config.agent.model_copy(update={"transcribe": False})})
    encoders, _ = open_encoders(silent, ModelStore.configured(config.models), {modality})
    return encoders[modality]


def gather(config: Config, modality: Modality, data: Items) -> list[Answer]:
    """What the deployed encoder says about each item, with a bar on a terminal's standard error."""
    encoder = open_encoder(config, modality)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    span_ns = dict(config.encoders.items())[modality].span
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            found = answers(encoder, data, span_ns=span_ns, hop_ns=config.agent.hop)
            return list(bar.track(found, total=len(data.items), description=str(modality)))
    finally:
        encoder.close()


def summary(found: Sequence[Answer], *, modality: Modality, labels: Sequence[str]) -> dict[str, Any]:
    """The figures, as they stand in the JSON; None where there is nothing to measure one on."""
    y = np.array([labels.index(answer.item.label) for answer in found], dtype=np.intp)
    answered = np.array([answer.probs is not None for answer in found])
    unsaid = np.full(len(labels), 1 / len(labels))
    probs = np.array([unsaid if answer.probs is None else answer.probs for answer in found])
    predicted = np.where(answered, probs.argmax(axis=1), NONE)
    correct = predicted == y
    quality = np.array([answer.quality for answer in found])
    confidence = np.where(answered, probs.max(axis=1), 0.0)
    measured = report(y, probs, answered)
    table = confusion(y, predicted, len(labels))
    figures: dict[str, Any] = {
        "modality": str(modality),
        "n": measured.n,
        "answered": measured.answered,
        "accuracy": measured.accuracy,
        "uar": measured.uar,
        "recall": {labels[k]: recall for k, recall in measured.recall.items()},
        "macro_f1": measured.macro_f1,
        "nll": measured.nll,
        "ece": measured.ece,
        "brier": measured.brier,
        "area_under_risk": area_under_risk(correct, confidence),
        "quality_auc": auc(correct[answered], quality[answered]),
        "confusion": {
            labels[k]: dict(zip([*labels, UNSAID], row, strict=True)) for k, row in enumerate(table.tolist())
        },
        **_times(found),
    }
    if modality is Modality.AUDIO:
        figures["arousal_auc"] = _arousal_auc(found)
    return {name: None if isinstance(x, float) and math.isnan(x) else x for name, x in figures.items()}


def _times(found: Iterable[Answer]) -> dict[str, float]:
    """Of encoding: median ms per item, and of sound also per second."""
    times = [(answer.encode_ns, answer.stream_ns) for answer in found if answer.encode_ns]
    per_item = float(np.median([ns / 1e6 for ns, _ in times])) if times else math.nan
    per_second = [1e3 * ns / stream_ns for ns, stream_ns in times if stream_ns]
    return {"ms_median": per_item, **({"ms_per_second": float(np.median(per_second))} if per_second else {})}


def _arousal_auc(found: Sequence[Answer]) -> float:
    """Of high against low arousal by label; items without a reading, or with a label of neither kind, are left out."""
    read = [
        (answer.item.label in AROUSED, answer.arousal)
        for answer in found
        if answer.arousal is not None and answer.item.label in AROUSED | CALM
    ]
    return auc(np.array([high for high, _ in read], bool), np.array([arousal for _, arousal in read]))
