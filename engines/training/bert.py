"""A BERT in torch, to be trained; `Reader.deployed` gives what `engines.convert.bert` draws as an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from agent.types import F32
from engines.convert.bert import EPSILON, HEAD, Bert, Words

DROPOUT = 0.1
"""BERT's own."""


class Layer(nn.Module):  # type: ignore[misc]  # torch is not seen by mypy
    """One transformer layer, the norms after the sums."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm, self.norm2 = nn.LayerNorm(width, EPSILON), nn.LayerNorm(width, EPSILON)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(N, T, D) and the bias (N, 1, 1, T) of the scores to (N, T, D)."""
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, d // HEAD, HEAD).permute(2, 0, 3, 1, 4)  # each (N, H, T, 32)
        # Written out: the backward pass of torch's fused attention takes half the time of a step on a CPU.
        shares = (q @ k.transpose(-1, -2) * HEAD**-0.5 + bias).softmax(-1)
        seen = self._drop(shares).to(v.dtype) @ v
        x = self.norm(x + self._drop(self.out(seen.transpose(1, 2).reshape(n, t, d))))
        return self.norm2(x + self._drop(self.down(functional.gelu(self.up(x)))))

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, DROPOUT, self.training)


class Reader(nn.Module):  # type: ignore[misc]  # as above
    """Word pieces to logits of classes: the mean of the last layer, one hidden layer, one output to each class."""

    def __init__(self, base: Mapping[str, F32], *, classes: int, positions: int) -> None:
        """`base` are the tensors of a BERT as transformers names them; the head is drawn from torch's seed.

        Word vectors are rounded to what the deployed graph keeps of them, and stay as they are: words that training
        does not show keep their place among those that it shows.
        """
        super().__init__()
        words = base["embeddings.word_embeddings.weight"]
        width = words.shape[1]
        depth = sum(name.endswith("intermediate.dense.weight") for name in base)
        inner = base["encoder.layer.0.intermediate.dense.weight"].shape[0]
        self.words = nn.Embedding(len(words), width)
        self.positions = nn.Embedding(positions, width)
        self.norm = nn.LayerNorm(width, EPSILON)
        self.layers = nn.ModuleList(Layer(width, inner) for _ in range(depth))
        self.dense, self.classes = nn.Linear(width, width), nn.Linear(width, classes)
        state = self.state_dict()
        for name, value in _start(base, depth=depth, positions=positions).items():
            state[name] = torch.from_numpy(value)
        self.load_state_dict(state)
        self.words.weight.requires_grad_(False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(N, T) ids and bools to (N, C) logits."""
        x = self.words(ids) + self.positions.weight[: ids.shape[1]]
        x = functional.dropout(self.norm(x), DROPOUT, self.training)
        bias = torch.where(mask, 0.0, -1e9)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, bias)
        seen = mask[:, :, None].to(x.dtype)
        pooled = functional.dropout((x * seen).sum(1) / seen.sum(1), DROPOUT, self.training)
        return self.classes(functional.dropout(torch.tanh(self.dense(pooled)), DROPOUT, self.training))

    def freeze(self, layers: int) -> None:
        """Let the lowest `layers` stay as they are, and what is below them."""
        if layers:
            for part in (self.positions, self.norm, *self.layers[:layers]):
                part.requires_grad_(False)

    def deployed(self) -> tuple[Bert, dict[str, F32]]:
        """The encoder, and ``dense`` and ``classes`` (inputs, outputs) with their biases."""
        rest: dict[str, F32] = {}
        for name, value in self.state_dict().items():
            array = np.ascontiguousarray(value.numpy().T if value.ndim == 2 else value.numpy())
            rest[name.removeprefix("layers.")] = array
        words, positions = rest.pop("words.weight").T, rest.pop("positions.weight").T
        head = {name: rest.pop(name) for name in list(rest) if name.startswith(("dense.", "classes."))}
        rest["positions"] = np.ascontiguousarray(positions)
        return Bert(Words.pack(np.ascontiguousarray(words)), rest, len(self.layers)), head


def _start(base: Mapping[str, F32], *, depth: int, positions: int) -> dict[str, F32]:
    """The weights of a published BERT under the names of `Reader`."""
    start = {
        "words.weight": Words.pack(base["embeddings.word_embeddings.weight"]).unpack(),
        "positions.weight": base["embeddings.position_embeddings.weight"][:positions]
        + base["embeddings.token_type_embeddings.weight"][0],
    }
    for kind in ("weight", "bias"):
        start[f"norm.{kind}"] = base[f"embeddings.LayerNorm.{kind}"]
        for i in range(depth):
            at, to = f"encoder.layer.{i}.", f"layers.{i}."
            parts = [base[f"{at}attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            start[f"{to}qkv.{kind}"] = np.concatenate(parts)
            start[f"{to}out.{kind}"] = base[f"{at}attention.output.dense.{kind}"]
            start[f"{to}norm.{kind}"] = base[f"{at}attention.output.LayerNorm.{kind}"]
            start[f"{to}up.{kind}"] = base[f"{at}intermediate.dense.{kind}"]
            start[f"{to}down.{kind}"] = base[f"{at}output.dense.{kind}"]
            start[f"{to}norm2.{kind}"] = base[f"{at}output.LayerNorm.{kind}"]
    return start
