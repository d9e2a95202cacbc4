"""The three networks that describe a face, and what each of them makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.types import F32, U8
from engines import Backend, Engine, open_engine
from engines.models import ModelStore
from engines.portrait import Portrait


@dataclass(frozen=True, slots=True)
class Networks:
    """What describes a face."""

    close: Engine
    """``face-encoder``: grey, close."""
    wide: Engine
    """``face-embedding``: in colour, with hair and chin."""
    general: Engine
    """``face-general``: the same cut-out, by a network that was trained on pictures of anything."""

    @classmethod
    def open(cls, store: ModelStore, *, backend: Backend = "auto") -> Networks:
        """Raises `engines.models.ModelError` and `EngineError`."""
        names = ("face-encoder", "face-embedding", "face-general")
        return cls(*(open_engine(store.path(name), backend) for name in names))

    def close_all(self) -> None:
        for engine in (self.close, self.wide, self.general):
            engine.close()


def views(portraits: Sequence[Portrait], networks: Networks) -> tuple[F32, F32, F32]:
    """What each network makes of N faces: the wide one's embedding, and what `in_general` and `described` give."""
    close = described([shown.grey for shown in portraits], networks.close)
    pictures = both_ways(colours([shown.wide for shown in portraits]))
    wide = networks.wide.infer({networks.wide.inputs[0].name: pictures})
    return mirrored_mean(wide["embedding"]), in_general(pictures[: len(portraits)], networks.general), close


def in_general(pictures: F32, network: Engine) -> F32:
    """N of `colours` as a network for pictures of anything sees them, (N, D): means over its maps at several depths.

    Not both ways round: their mean told labels apart no better, and would take twice the time.
    """
    return np.asarray(network.infer({network.inputs[0].name: pictures})["features"], dtype=np.float32)


def described(greys: Sequence[U8], expression: Engine) -> F32:
    """N close cut-outs (SIDE, SIDE) as a mini-Xception sees them, (N, D): the network run once for all.

    Its last feature maps, then its own opinion as logits less their mean.
    """
    faces = np.stack(greys)[:, np.newaxis].astype(np.float32) / np.float32(127.5) - 1  # (N, 1, SIDE, SIDE)
    outputs = expression.infer({expression.inputs[0].name: both_ways(faces)})
    logits = np.log(np.maximum(outputs["probs"], 1e-9))
    logits -= logits.mean(axis=1, keepdims=True)
    return mirrored_mean(np.concatenate([outputs["features"], logits], axis=1))


def colours(wide: Sequence[U8]) -> F32:
    """N wide cut-outs (S, S, 3) BGR as the network takes them: (N, 3, S, S) RGB, 0..255."""
    return np.stack(wide)[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32)


def both_ways(faces: F32) -> F32:
    """(N, …, W) to (2 N, …, W): the faces, then their mirror images.

    Which side of a face is which says nothing about its expression, so that the mean over both is what is read.
    """
    return np.concatenate([faces, faces[..., ::-1]])


def mirrored_mean(rows: F32) -> F32:
    """(2 N, D) of `both_ways` to (N, D)."""
    half = len(rows) // 2
    return np.asarray((rows[:half] + rows[half:]) / 2, dtype=np.float32)
