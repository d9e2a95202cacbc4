"""The part of the wide network that is trained: face-api's last block, as torch has it. Needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from agent.types import F32
from engines.training.face_data import Ints, Shown

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ModuleNotFoundError as error:
    raise SystemExit(
        f"training: the face encoder needs the package {error.name} for this; run: pip install -e '.[train]'"
        " (PyTorch's build for the CPU will do)"
    ) from error

__all__ = ["BATCH", "TRAINED", "Top", "Weights", "embed", "functional", "nn", "read_weights", "torch"]

Weights = Mapping[str, npt.NDArray[Any]]

TRAINED = ("dense3",)
"""Blocks of face-api's net that are trained, with seven in ten of its weights; those before are the stem."""
BATCH = 64


class Top(nn.Module):  # type: ignore[misc]  # torch is not seen by mypy
    """The blocks `TRAINED` of face-api's expression net, and the mean over the last maps."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.names = [name for name in weights if name.startswith(TRAINED)]
        self.values = nn.ParameterList([nn.Parameter(torch.tensor(weights[name])) for name in self.names])

    def forward(self, stem: torch.Tensor) -> torch.Tensor:
        """(N, 128, 14, 14) -> (N, 256)."""
        w = dict(zip(self.names, self.values, strict=True))
        for block in TRAINED:
            # "same" as TensorFlow has it: a stride of 2 on an even side pads below and on the right alone
            total = functional.relu(_separable(functional.pad(stem, (0, 1, 0, 1)), w, f"{block}/conv0", 2, 0))
            for step in (1, 2, 3):
                total = total + _separable(
                    total if step == 1 else functional.relu(total), w, f"{block}/conv{step}", 1, 1
                )
            stem = functional.relu(total)
        return stem.mean((2, 3))

    def trained(self) -> dict[str, npt.NDArray[Any]]:
        """The weights by name."""
        return {name: value.detach().cpu().numpy() for name, value in zip(self.names, self.values, strict=True)}


def _separable(x: torch.Tensor, w: Mapping[str, torch.Tensor], name: str, stride: int, pad: int) -> torch.Tensor:
    x = functional.conv2d(x, w[f"{name}/depthwise_filter"], None, stride, pad, 1, x.shape[1])
    return functional.conv2d(x, w[f"{name}/pointwise_filter"], w[f"{name}/bias"])


def read_weights(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The constants of an ONNX file by name."""
    return {one.name: numpy_helper.to_array(one).copy() for one in onnx.load(path).graph.initializer}


def embed(top: Top, shown: Shown, which: Ints, *, way: int) -> F32:
    """(M, 256) of the faces `which` (M,) in one way, the mean of each and its mirror image."""
    device = next(top.parameters()).device
    rows = []
    with torch.inference_mode():
        for start in range(0, len(which), BATCH):
            stems = torch.tensor(shown.stems[which[start : start + BATCH], way].astype(np.float32), device=device)
            rows.append(top(stems.flatten(0, 1)).reshape(len(stems), 2, -1).mean(1).cpu().numpy())
    return np.concatenate(rows)
