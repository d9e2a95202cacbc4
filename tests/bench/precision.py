"""What each precision of TensorRT's plans changes in what the encoders say, on ONNX Runtime's CPU kernels.

    python -m tests.bench.precision --data vision=DIR --data audio=DIR --data text=DIR [--split vision=val]

Of the labelled items drawn from each folder the first `FITTED` calibrate int8 and the others are measured; both are
real recordings. A face, an utterance or a comment goes through the encoder as deployed, with only the networks that
TensorRT would run exchanged for those of the precision. Compared with the same encoder in 32 bits: the share of items
with the same label, and how far the posteriors are apart (the greatest difference of any label's probability: mean,
99th percentile, most). "as it is" stands for the files as they are shipped, some in 8 bits. On standard error: what of
each network is in 8 bits.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from agent.config import Config
from agent.types import F64, Modality
from engines import Array, Engine, Precision
from engines.encoders import open_encoders
from engines.evaluation.dataset import Dataset, read
from engines.evaluation.present import answers
from engines.models import ModelStore
from engines.ort import OrtEngine
from engines.plan_builder import PLACED, Kept, RecordingEngine
from engines.precision import prepare, write_calibration

FITTED = 60
NONE = 7
"""Stands for no evidence."""
Opener = Callable[[Path, int], Engine]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", action="append", default=[], required=True)
    arguments.add_argument("--split", action="append", default=[])
    arguments.add_argument("--items", type=int, default=50, help="of each label")
    asked = arguments.parse_args()
    logging.disable(logging.WARNING)
    splits = dict(pair.split("=") for pair in asked.split)
    print("| encoder | precision | items | same label | mean | p99 | most |\n|---|---|---|---|---|---|---|")
    for pair in asked.data:
        name, _, folder = pair.partition("=")
        modality = Modality(name)
        data = read(Path(folder), modality, labels=Config().agent.labels, split=splits.get(name))
        compare(modality, data.few(asked.items, seed=0))


def compare(modality: Modality, data: Dataset) -> None:
    """Print the lines of one modality."""
    items = np.random.default_rng(0).permutation(len(data.items)).tolist()
    fitted = Dataset(data.folder, tuple(data.items[i] for i in items[:FITTED]), 0)
    measured = Dataset(data.folder, tuple(data.items[i] for i in items[FITTED:]), 0)
    with tempfile.TemporaryDirectory() as folder:
        kept: dict[str, Kept] = {}
        posteriors(modality, fitted, recording(kept))
        for name, each in kept.items():
            if each.feeds:  # a far detector may never have been asked
                write_calibration(Path(folder) / f"{name}.npz", each.feeds)
        placed = {ModelStore().path(name) for name in PLACED[modality]}
        wide = posteriors(modality, measured, exchanged(placed, "fp32", Path(folder)))
        say(modality, "as it is", wide, posteriors(modality, measured, lambda path, threads: OrtEngine(path)))
        for precision in ("fp16", "int8"):
            say(modality, precision, wide, posteriors(modality, measured, exchanged(placed, precision, Path(folder))))
        if modality is not Modality.TEXT:
            products = exchanged(placed, "int8", Path(folder), convolutions=False)
            say(modality, "int8 in products only", wide, posteriors(modality, measured, products))


def say(modality: Modality, precision: str, wide: F64, narrow: F64) -> None:
    same = (labels(wide) == labels(narrow)).mean()
    apart = np.abs(wide - narrow).max(axis=1)
    figures = f"{apart.mean():.4f} | {np.quantile(apart, 0.99):.4f} | {apart.max():.4f}"
    print(f"| {modality} | {precision} | {len(wide)} | {same:.3f} | {figures} |", flush=True)


def labels(posterior: F64) -> Array:
    return np.where(posterior.any(axis=1), posterior.argmax(axis=1), NONE)


def posteriors(modality: Modality, data: Dataset, opener: Opener) -> F64:
    """(n, K); a row of zeros where there was no evidence."""
    config = Config.model_validate({"agent": {"transcribe": False}})
    encoders, _ = open_encoders(config, ModelStore(), {modality}, opener=opener)
    span_ns = dict(config.encoders.items())[modality].span
    found = answers(encoders[modality], data, span_ns=span_ns, hop_ns=config.agent.hop)
    return np.array([np.zeros(7) if each.probs is None else each.probs for each in found])


def recording(kept: dict[str, Kept]) -> Opener:
    return lambda path, threads: RecordingEngine(OrtEngine(path), kept.setdefault(path.name, Kept([])))


def tell(network: str, step: str) -> None:
    print(f"{network}: {step}", file=sys.stderr, flush=True)


def exchanged(placed: set[Path], precision: Precision, folder: Path, *, convolutions: bool = True) -> Opener:
    """Opens the models of `placed` in that precision, and the others as they are."""
    made: Mapping[Path, bytes] = {
        path: prepare(
            path, precision, folder / f"{path.name}.npz", convolutions=convolutions, step=partial(tell, path.stem)
        ).model
        for path in placed
        if precision != "int8" or (folder / f"{path.name}.npz").exists()
    }
    return lambda path, threads: OrtEngine(path, content=made.get(path))


if __name__ == "__main__":
    main()
