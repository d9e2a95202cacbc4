"""Train the text encoder: ``python -m engines.training language --data DIR``.

DIR holds GoEmotions (Demszky et al. 2020, Apache-2.0): ``train.tsv``, ``dev.tsv``, ``test.tsv`` and ``labels.txt``; or
a ``labels.csv`` with the columns ``text``, ``label``, which may be a person's own, and perhaps ``split``. MiniLM is
fine-tuned on train, written as a graph with small weights, and calibrated on what that graph says of dev. Stopped, it
goes on where it was. Test is measured only with ``--test``: once, when nothing is left to decide.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from agent.types import F32, F64
from engines import open_engine
from engines.convert import safetensors
from engines.evaluation.metrics import Ints, report
from engines.head import Head
from engines.models import ROOT, ModelError, ModelStore, default_cache, sha256_of
from engines.sentences import PIECES, SentenceReader
from engines.training import comments
from engines.training.calibrate import calibrate
from engines.training.comments import LABELS, Split

BASE, BASE_TOKENIZER = "language-base", "language-base-tokenizer"
WEIGHTS = ROOT / "engines" / "weights"
POWERS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Of the prior under which the head speaks: 1 leaves the labels as frequent as they are, 0 would make them equal."""
MOST_ECE = 0.03
"""Of dev, beyond which a power of the prior is not taken however well it finds the rare labels."""
MOST_F1 = 0.005
"""What finding the rare labels more often may cost."""
NEEDS = "pip install -e '.[train]' (of torch the CPU build is enough)"


def features(reader: SentenceReader, texts: Sequence[str]) -> F32:
    """(N, F), as the running encoder reads them."""
    found = []
    for start in range(0, len(texts), 512):
        found.append(reader.features([reader.tokenize(text).ids for text in texts[start : start + 512]]))
        print(f"\r{start + len(found[-1]):,} of {len(texts):,} texts read", end="", file=sys.stderr)
    print(file=sys.stderr)
    return np.concatenate(found)


def prior_of(y: Ints, k: int) -> F64:
    """(K,) shares of the labels, each counted once more than it occurs."""
    counts = np.bincount(y, minlength=k) + 1.0
    return np.asarray(counts / counts.sum())


def main(argv: Sequence[str]) -> int:
    """Train, write, measure; 2 where what was given is wrong or something is missing."""
    parser = argparse.ArgumentParser(prog="python -m engines.training language", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with GoEmotions, or with a labels.csv")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for the encoder, its tokenizer and head")
    parser.add_argument("--work", type=Path, default=default_cache().parent / "training" / "language")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate of the last layer")
    parser.add_argument("--frozen", type=int, default=0, help="layers from the bottom that stay as they are")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--chinese", action="store_true", help="train the head that reads Chinese, and nothing else")
    parser.add_argument("--test", action="store_true", help="measure on test as well")
    asked = parser.parse_args(argv)
    try:
        classes, splits = comments.read(asked.data)
        if asked.chinese:
            return _chinese(asked, classes, splits)
        importlib.import_module("torch")  # before anything is fetched
        store = ModelStore()
        store.fetch([BASE, BASE_TOKENIZER])
        history = _fine_tune(asked, classes, splits, store)
    except (OSError, ValueError, ModelError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"training: the package {error.name} is missing; run: {NEEDS}", file=sys.stderr)
        return 2
    _measure(asked, classes.labels, splits, history)
    return 0


def _chinese(asked: argparse.Namespace, classes: comments.Classes, splits: dict[str, Split]) -> int:
    from engines.training.chinese import MODELS, train

    if classes.labels != LABELS:
        raise ValueError(f"{asked.data}: the head that reads Chinese has the labels {', '.join(LABELS)} alone")
    store = ModelStore()
    store.fetch(MODELS)
    train(splits, store, out=asked.out, threads=asked.threads)
    return 0


def _fine_tune(
    asked: argparse.Namespace, classes: comments.Classes, splits: dict[str, Split], store: ModelStore
) -> list[dict[str, float]]:
    """Fine-tune and export; what was seen on the way."""
    import torch  # only who trains has it

    from engines.training.bert import Reader
    from engines.training.export_text import export
    from engines.training.finetune_text import Plan, fine_tune, logits_of

    torch.manual_seed(asked.seed)
    torch.set_num_threads(asked.threads)
    tokenizer = Tokenizer.from_file(str(store.path(BASE_TOKENIZER)))
    tokenizer.no_padding()
    tokenizer.enable_truncation(PIECES)

    def tokenize(text: str) -> list[int]:
        return list(tokenizer.encode(text).ids)

    base = safetensors.read(store.path(BASE))
    print(f"labels: {', '.join(classes.labels)}")
    reader = Reader(base, classes=len(classes.names), positions=PIECES)
    asked.work.mkdir(parents=True, exist_ok=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    dev, plan = splits["dev"].single(), Plan(asked.epochs, asked.batch, asked.rate, asked.frozen, asked.seed)
    history = fine_tune(reader, splits["train"], dev, classes, tokenize=tokenize, folder=asked.work, plan=plan)
    to = asked.out / "language-encoder.onnx", asked.out / "language-tokenizer.json"
    export(reader, classes, store.path(BASE_TOKENIZER), encoder_to=to[0], tokenizer_to=to[1])
    trained = logits_of(reader, dev.texts, tokenize, classes).argmax(1).numpy()
    np.save(asked.work / "trained-dev.npy", trained)
    return history


def _measure(
    asked: argparse.Namespace, labels: Sequence[str], splits: dict[str, Split], history: list[dict[str, float]]
) -> None:
    """Calibrate what was exported, write its head, and say and draw how good it is."""
    engine = open_engine(asked.out / "language-encoder.onnx", "onnxruntime", threads=asked.threads)
    reader = SentenceReader(Tokenizer.from_file(str(asked.out / "language-tokenizer.json")), engine)
    dev = splits["dev"].single()
    logits = features(reader, dev.texts)
    natural = prior_of(splits["train"].single().y, len(labels))
    halves = _in_halves(logits, dev.y, labels, natural)
    prior = _flatter(natural, _power(halves, dev.y, natural))
    head = calibrate(logits, dev.y, labels=labels, prior=natural).under(prior)
    head.save(asked.out / "language.npz")
    agree = float(np.mean(logits.argmax(axis=1) == np.load(asked.work / "trained-dev.npy")))
    print(f"the exported graph agrees with the trained one on {agree:.4f} of dev")
    halves = _under(halves, natural, prior)
    print(f"dev, each half by a head that the other half calibrated: {report(dev.y, halves)}")
    measured = {"dev": (dev, halves)}
    if asked.test:
        test = splits["test"].single()
        measured["test"] = test, head.posterior(features(reader, test.texts))
        print(f"test: {report(test.y, measured['test'][1])}")
    _write(asked.work, labels, measured, history)
    for name in ("language-encoder.onnx", "language-tokenizer.json", "language.npz"):
        print(f"wrote {asked.out / name}, sha256 {sha256_of(asked.out / name)}")


def _power(probs: F64, y: Ints, natural: F64) -> float:
    """The least power of the prior that leaves dev calibrated and costs at most `MOST_F1` of its macro-F1.

    So rare labels are found more often where that is free.
    """
    seen = {power: report(y, _under(probs, natural, _flatter(natural, power))) for power in POWERS}
    for power, figures in seen.items():
        print(f"dev under the prior to the power of {power}: {figures}")
    calibrated = [power for power in POWERS if seen[power].ece <= MOST_ECE]
    best = max((seen[power].macro_f1 for power in calibrated), default=0.0)
    return min((power for power in calibrated if seen[power].macro_f1 >= best - MOST_F1), default=1.0)


def _flatter(prior: F64, power: float) -> F64:
    return np.asarray(prior**power / (prior**power).sum())


def _under(probs: F64, old: F64, new: F64) -> F64:
    """Posteriors (N, K) that hold under the prior `old`, as they are under `new`."""
    odds = probs * (new / old)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _in_halves(logits: F32, y: Ints, labels: Sequence[str], prior: F64) -> F64:
    """(N, K) posteriors of dev by heads that did not see the item."""
    probs = np.zeros(logits.shape)
    for part in (0, 1):
        seen = np.arange(len(y)) % 2 != part
        head: Head = calibrate(logits[seen], y[seen], labels=labels, prior=prior)
        probs[~seen] = head.posterior(logits[~seen])
    return probs


def _write(
    folder: Path, labels: Sequence[str], measured: dict[str, tuple[Split, F64]], history: list[dict[str, float]]
) -> None:
    """``report.json``, and a picture for each split that was measured."""
    from engines.training.sheet import draw

    said: dict[str, object] = {"history": history}
    for name, (split, probs) in measured.items():
        seen = report(split.y, probs)
        recall = {labels[k]: value for k, value in seen.recall.items()}
        figures = ("n", "accuracy", "uar", "macro_f1", "nll", "ece", "brier")
        said[name] = {figure: getattr(seen, figure) for figure in figures} | {"recall": recall}
        draw(folder / f"{name}.png", split.y, probs, labels=labels, title=f"language, {name}: {seen}", history=history)
    (folder / "report.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {folder / 'report.json'} and {', '.join(f'{name}.png' for name in measured)} beside it")
