"""The fine-tune of the text encoder: batches, steps, and a checkpoint from which it goes on where it was stopped."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn import functional

from agent.types import F32
from engines.evaluation.metrics import report
from engines.training.bert import Reader
from engines.training.comments import LABELS, Classes, Split
from engines.training.rewording import deny, rename

Tokenize = Callable[[str], list[int]]
"""A spelled-out text to the ids of its word pieces."""
POOL = 50
"""Batches out of which texts are sorted by length, so that little is padded."""
SAVE_EVERY = 100
"""Steps between checkpoints."""
WARM_UP = 0.06
"""Share of the steps in which the learning rate rises; it falls linearly from there to 0."""
FINE_SHARE = 0.5
"""Weight of the likelihood of the classes beside that of the labels, which are sums of them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is decided beforehand."""

    epochs: float = 2
    """Passes over the texts; half of one is half of its batches."""
    batch: int = 32
    rate: float = 1e-4
    """Of the last layer; each layer below learns 0.9 times as fast as the one above, the head twice as fast."""
    frozen: int = 0
    """Layers from the bottom that stay as they are, and the embeddings with them: quicker, a little less good."""
    seed: int = 0


def fine_tune(
    reader: Reader,
    train: Split,
    dev: Split,
    classes: Classes,
    *,
    tokenize: Tokenize,
    folder: Path,
    plan: Plan,
) -> list[dict[str, float]]:
    """Train `reader` in place; returns what was seen after each epoch, also written to ``history.json``.

    Goes on from ``checkpoint.pt`` in `folder` where there is one. Under one seed the texts and their order are the
    same in every run, however often it was stopped.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reader.to(device)
    reader.freeze(plan.frozen)
    optimizer = _optimizer(reader, plan)
    state = _resume(folder / "checkpoint.pt", reader, optimizer)
    sums = torch.from_numpy(classes.sums).to(device)
    history: list[dict[str, float]] = state["history"]
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} of {task.total} steps"),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        console=Console(stderr=True),
    ) as progress:
        for epoch in range(state["epoch"], math.ceil(plan.epochs)):
            texts, targets, order = _epoch(train, classes, tokenize, plan, epoch)
            steps = min(len(order), round((plan.epochs - epoch) * len(order)))
            bar = progress.add_task(f"epoch {epoch + 1}", total=steps, completed=state["step"], loss=state["loss"])
            reader.train()
            for step in range(state["step"], steps):
                _set_rate(optimizer, plan.rate, (epoch + step / len(order)) / plan.epochs)
                loss = _step(reader, optimizer, texts, targets, order[step], sums, device)
                state["loss"] = loss if not state["loss"] else 0.99 * state["loss"] + 0.01 * loss
                progress.update(bar, advance=1, loss=state["loss"])
                if (step + 1) % SAVE_EVERY == 0:
                    state |= {"step": step + 1}
                    _save(folder / "checkpoint.pt", reader, optimizer, state)
            seen = report(dev.y, logits_of(reader, dev.texts, tokenize, classes).softmax(1).double().numpy())
            history.append(
                {"epoch": epoch + 1, "loss": state["loss"], "dev_macro_f1": seen.macro_f1, "dev_nll": seen.nll}
            )
            whole = steps == len(order)
            state |= {"epoch": epoch + whole, "step": 0 if whole else steps, "history": history}
            _save(folder / "checkpoint.pt", reader, optimizer, state)
            torch.save(reader.state_dict(), folder / f"epoch-{epoch + 1}.pt")
            (folder / "history.json").write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
            progress.console.print(f"after epoch {epoch + 1}: loss {state['loss']:.3f}, dev {seen}")
    reader.to("cpu").eval()
    return history


def logits_of(reader: Reader, texts: Sequence[str], tokenize: Tokenize, classes: Classes) -> Tensor:
    """(N, K) logits of the labels: of a label the logarithm of the sum over its classes; in bfloat16, on the CPU."""
    device = next(reader.parameters()).device
    pieces = [tokenize(text) for text in texts]
    sums = torch.from_numpy(classes.sums).to(device)
    out = torch.zeros(len(texts), len(classes.labels))
    reader.eval()
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        for batch in batches([len(ids) for ids in pieces], 64):
            out[batch] = grouped(reader(*collate([pieces[i] for i in batch], device.type)).float(), sums).cpu()
    return out


def grouped(logits: Tensor, sums: Tensor) -> Tensor:
    """(N, C) logits of classes to (N, K) of labels; `sums` is `Classes.sums`."""
    return torch.logsumexp(logits[:, :, None].masked_fill(sums[None] == 0, -1e9), 1)


def batches(lengths: Sequence[int], size: int, rng: random.Random | None = None) -> list[list[int]]:
    """Indices in batches of texts about equally long; shuffled where there is a source of chance."""
    order = list(range(len(lengths)))
    if rng is not None:
        rng.shuffle(order)
    found = []
    for start in range(0, len(order), size * POOL):
        pool = sorted(order[start : start + size * POOL], key=lambda i: lengths[i])
        found += [pool[at : at + size] for at in range(0, len(pool), size)]
    if rng is not None:
        rng.shuffle(found)
    return found


def collate(pieces: Sequence[Sequence[int]], device: str) -> tuple[Tensor, Tensor]:
    """Ids (N, T), padded with 0, and their mask (N, T)."""
    ids = np.zeros((len(pieces), max(map(len, pieces))), np.int64)
    for row, text in enumerate(pieces):
        ids[row, : len(text)] = text
    found = torch.from_numpy(ids).to(device)
    return found, found != 0


def _epoch(
    train: Split, classes: Classes, tokenize: Tokenize, plan: Plan, epoch: int
) -> tuple[list[list[int]], F32, list[list[int]]]:
    """Word pieces, targets and batches of one epoch: every text, some with names, and denials of some."""
    rng = random.Random(1000 * plan.seed + epoch)
    texts, targets = list(train.texts), [*train.targets]
    # What a denial means is known of our labels alone.
    for text, label in zip(train.texts, train.y, strict=True) if classes.labels == LABELS else ():
        if label >= 0 and (denial := deny(text, LABELS[label], rng)):
            texts.append(denial[0])
            targets.append(classes.target(dict(denial[1])))
    pieces = [tokenize(rename(text, rng)) for text in texts]
    return pieces, np.array(targets), batches([len(ids) for ids in pieces], plan.batch, rng)


def _step(
    reader: Reader,
    optimizer: torch.optim.Optimizer,
    pieces: Sequence[Sequence[int]],
    targets: F32,
    batch: Sequence[int],
    sums: Tensor,
    device: str,
) -> float:
    """One step down the gradient; the loss before it."""
    wanted = torch.from_numpy(targets[batch]).to(device)
    with torch.autocast(device, torch.bfloat16):
        logits = reader(*collate([pieces[i] for i in batch], device))
    logits = logits.float()
    loss = functional.cross_entropy(grouped(logits, sums), wanted @ sums)
    loss = loss + FINE_SHARE * functional.cross_entropy(logits, wanted)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
    optimizer.step()
    return float(loss.item())


def _optimizer(reader: Reader, plan: Plan) -> torch.optim.Optimizer:
    """AdamW with a rate that falls from the head to the embeddings, and no decay of norms and biases."""
    depth = len(reader.layers)
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in reader.named_parameters():
        if parameter.requires_grad:
            below = depth - 1 - int(name.split(".")[1]) if name.startswith("layers.") else depth
            share = 2.0 if name.startswith(("dense.", "classes.")) else 0.9**below
            groups.setdefault((share, 0.01 if parameter.ndim > 1 else 0.0), []).append(parameter)
    tables = [{"params": ps, "share": share, "weight_decay": decay} for (share, decay), ps in groups.items()]
    return torch.optim.AdamW(tables, lr=plan.rate, betas=(0.9, 0.98), fused=True)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float, done: float) -> None:
    """The learning rate when a share `done` of all steps is behind."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"] * min((done + 1e-4) / WARM_UP, 1.0) * (1 - done)


def _save(path: Path, reader: Reader, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Write at once and whole."""
    draft = path.with_suffix(f".{time.monotonic_ns()}.part")
    chance = torch.get_rng_state()
    torch.save({**state, "reader": reader.state_dict(), "optimizer": optimizer.state_dict(), "chance": chance}, draft)
    draft.replace(path)


def _resume(path: Path, reader: Reader, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Where to begin: what the checkpoint says, or the beginning."""
    if not path.exists():
        return {"epoch": 0, "step": 0, "loss": 0.0, "history": []}
    saved = torch.load(path, weights_only=True)
    reader.load_state_dict(saved.pop("reader"))
    optimizer.load_state_dict(saved.pop("optimizer"))
    torch.set_rng_state(saved.pop("chance"))
    return dict(saved)
