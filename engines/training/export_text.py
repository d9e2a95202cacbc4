"""From the trained text encoder to the files that the agent runs: a graph with small weights, and its tokenizer."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

from agent.types import F32
from engines.convert.bert import Bert, Words, draw, floats, whole
from engines.convert.graph import Graph
from engines.training.bert import Reader
from engines.training.comments import Classes

LEAST = 1e-30
"""Added before a logarithm."""


def export(reader: Reader, classes: Classes, tokenizer: Path, *, encoder_to: Path, tokenizer_to: Path) -> None:
    """Write the graph of `reader` and its tokenizer, both without word pieces that no English text has.

    The graph gives ``features`` (N, K), logits of the labels, and ``embedding`` (N, D), what the head saw.
    """
    table = json.loads(tokenizer.read_text(encoding="utf-8"))
    kept = prune(table)
    tokenizer_to.write_text(json.dumps(table, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    bert, head = reader.deployed()
    write(_without(bert, kept), head, classes.sums, encoder_to)


def write(bert: Bert, head: dict[str, F32], sums: F32, path: Path) -> None:
    """Write the graph of an encoder and its head, whose classes are summed (C, K) into labels."""
    graph = draw(bert)
    hidden = _layer(graph, "dense", "pooled", head["dense.weight"], head["dense.bias"])
    graph.node("Tanh", [hidden], "embedding")
    logits = _layer(graph, "classes", "embedding", head["classes.weight"], head["classes.bias"])
    graph.constant("axis.last", whole(-1))
    most = graph.node("ReduceMax", [logits], "classes.most", axes=[-1], keepdims=1)
    odds = graph.node("Exp", [graph.node("Sub", [logits, most], "classes.below")], "classes.odds")
    summed = graph.node("MatMul", [odds, graph.constant("sums", sums)], "labels.odds")
    summed = graph.node("Add", [summed, graph.constant("least", floats(LEAST))], "labels.some")
    graph.node("Add", [graph.node("Log", [summed], "labels.below"), most], "features")
    graph.output("features", [sums.shape[1]])
    graph.output("embedding", [head["dense.bias"].size])
    graph.save(path, name="language")


def _layer(graph: Graph, name: str, x: str, weight: F32, bias: F32) -> str:
    """Add ``x @ weight + bias`` in 32 bits: the head is small, and what it rounds nothing evens out."""
    product = graph.node("MatMul", [x, graph.constant(f"{name}.weight", weight)], f"{name}.product")
    return graph.node("Add", [product, graph.constant(f"{name}.bias", bias)], name)


def prune(table: dict[str, Any]) -> list[int]:
    """Take out of a WordPiece tokenizer's JSON what is in no Latin script; returns the old ids of those that stay.

    Special pieces stay and so do digits and signs; ``[unused…]`` goes. Words with other letters become [UNK].
    """
    vocabulary: dict[str, int] = table["model"]["vocab"]
    special = {entry["content"] for entry in table["added_tokens"]}
    kept = [piece for piece, _ in sorted(vocabulary.items(), key=lambda item: item[1]) if _stays(piece, special)]
    table["model"]["vocab"] = {piece: i for i, piece in enumerate(kept)}
    for entry in table["added_tokens"]:
        entry["id"] = table["model"]["vocab"][entry["content"]]
    for entry in table.get("post_processor", {}).get("special_tokens", {}).values():
        entry["ids"] = [table["model"]["vocab"][token] for token in entry["tokens"]]
    return [vocabulary[piece] for piece in kept]


def _stays(piece: str, special: set[str]) -> bool:
    if piece in special:
        return True
    letters = [character for character in piece.removeprefix("##") if character.isalpha()]
    latin = all(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    return latin and not re.fullmatch(r"\[unused\d+\]", piece)


def _without(bert: Bert, kept: list[int]) -> Bert:
    return Bert(Words(bert.words.packed[kept], bert.words.scales[kept]), bert.rest, bert.layers)
