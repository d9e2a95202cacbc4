"""Texts through one language model: word pieces, then whatever the model gives for a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Encoding, Tokenizer

from agent.types import F32
from engines import Backend, Engine, open_engine
from engines.models import ModelStore

PIECES = 128
"""Word pieces that are read of one text."""


class SentenceReader:
    """A tokenizer and the model that was trained with it.

    The model takes ``input_ids`` and ``attention_mask``, int64 (N, T), and gives ``features`` (N, F), which a head
    reads; it may give more for each text, such as ``embedding`` (N, D).
    """

    def __init__(self, tokenizer: Tokenizer, engine: Engine) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(PIECES)
        self.engine = engine

    @classmethod
    def open(
        cls, store: ModelStore, name: str = "language", *, backend: Backend = "auto", threads: int = 1
    ) -> SentenceReader:
        """With the models ``NAME-tokenizer`` and ``NAME-encoder``; raises `ModelError`, `EngineError`."""
        tokenizer = Tokenizer.from_file(str(store.path(f"{name}-tokenizer")))
        return cls(tokenizer, open_engine(store.path(f"{name}-encoder"), backend, threads=threads))

    def tokenize(self, text: str) -> Encoding:
        """Its word pieces, first and last marks included, at most `PIECES`."""
        return self._tokenizer.encode(text)  # one by one: encode_batch starts threads on every core

    def features(self, pieces: Sequence[Sequence[int]]) -> F32:
        """(N, F) for the ids of the word pieces of N texts."""
        return self.read(pieces)["features"]

    def read(self, pieces: Sequence[Sequence[int]]) -> dict[str, F32]:
        """All that the model gives, each (N, …), for the ids of the word pieces of N texts."""
        read = [self._read(text) for text in pieces]
        return {name: np.concatenate([one[name] for one in read]) for name in read[0]}

    def _read(self, pieces: Sequence[int]) -> dict[str, F32]:
        # Each alone: what a text says must not depend on its neighbours, whom 8-bit arithmetic would round it with.
        ids = np.array([pieces], np.int64)
        return self.engine.infer({"input_ids": ids, "attention_mask": np.ones_like(ids)})
