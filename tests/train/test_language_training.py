"""The fine-tune of the text encoder, on a model of toy size. Needs torch."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from agent.types import F32
from engines import open_engine
from engines.sentences import SentenceReader
from engines.training.bert import Reader
from engines.training.comments import LABELS, Classes, Split, read
from engines.training.export_text import export
from engines.training.finetune_text import Plan, batches, collate, fine_tune, grouped

_SEEN = "i am so happy sad angry scared you it is that was not very today friend dog cat ! ."
WORDS = _SEEN.split()
FEELINGS = {"happy": "happy", "sad": "sad", "angry": "angry", "scared": "fearful"}
WIDTH, LAYERS, INNER = 64, 2, 96


def tokenizer_json() -> str:
    vocabulary = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "高", *WORDS]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    piece = {token: {"id": token, "ids": [vocabulary.index(token)], "tokens": [token]} for token in ("[CLS]", "[SEP]")}
    ends = [{"SpecialToken": {"id": token, "type_id": 0}} for token in ("[CLS]", "[SEP]")]
    table = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocabulary.index(mark), "content": mark, **special} for mark in marks],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [ends[0], {"Sequence": {"id": "A", "type_id": 0}}, ends[1]],
            "pair": [
                ends[0],
                {"Sequence": {"id": "A", "type_id": 0}},
                ends[1],
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": piece,
        },
        "decoder": None,
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {token: i for i, token in enumerate(vocabulary)},
        },
    }
    return json.dumps(table)


def base() -> dict[str, F32]:
    """A BERT of toy size, drawn by chance."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> F32:
        return rng.normal(scale=0.1, size=shape).astype(np.float32)

    tensors = {
        "embeddings.word_embeddings.weight": draw(7 + len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": draw(40, WIDTH),
        "embeddings.token_type_embeddings.weight": draw(2, WIDTH),
        "embeddings.LayerNorm.weight": 1 + draw(WIDTH),
        "embeddings.LayerNorm.bias": draw(WIDTH),
    }
    shapes = {f"attention.self.{part}": (WIDTH, WIDTH) for part in ("query", "key", "value")}
    shapes |= {"attention.output.dense": (WIDTH, WIDTH), "intermediate.dense": (INNER, WIDTH)}
    shapes |= {"output.dense": (WIDTH, INNER)}
    for i in range(LAYERS):
        at = f"encoder.layer.{i}."
        for name, shape in shapes.items():
            tensors |= {f"{at}{name}.weight": draw(*shape), f"{at}{name}.bias": draw(shape[0])}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            tensors |= {f"{at}{name}.weight": 1 + draw(WIDTH), f"{at}{name}.bias": draw(WIDTH)}
    return tensors


def sentences(folder: Path) -> tuple[Classes, dict[str, Split]]:
    """50 sentences to learn, as many of each other split, in a person's own table."""
    rng = random.Random(0)
    lines = ["text,label,split"]
    for split in ("train", "dev", "test"):
        for _ in range(50):
            word, label = rng.choice(list(FEELINGS.items()))
            lines.append(
                f"{rng.choice(['i am so', 'you was very', 'that dog is'])} {word} {rng.choice('.!')},{label},{split}"
            )
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return read(folder)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    (tmp_path / "tokenizer.json").write_text(tokenizer_json())
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.no_padding()
    return tokenizer


def trained(folder: Path, tokenizer: Tokenizer, classes: Classes, splits: dict[str, Split], epochs: float) -> Reader:
    torch.manual_seed(0)
    reader = Reader(base(), classes=len(classes.names), positions=32)
    folder.mkdir(exist_ok=True)
    fine_tune(
        reader,
        splits["train"],
        splits["dev"],
        classes,
        tokenize=lambda text: list(tokenizer.encode(text).ids),
        folder=folder,
        plan=Plan(epochs, batch=10, rate=3e-3),
    )
    return reader


def test_it_learns_and_what_is_exported_says_the_same(tmp_path: Path, tokenizer: Tokenizer) -> None:
    classes, splits = sentences(tmp_path)
    reader = trained(tmp_path / "work", tokenizer, classes, splits, epochs=8)
    history = json.loads((tmp_path / "work" / "history.json").read_text())
    assert history[-1]["loss"] < history[0]["loss"] * 0.8
    assert history[-1]["dev_nll"] < history[0]["dev_nll"]

    to = tmp_path / "encoder.onnx", tmp_path / "pruned.json"
    export(reader, classes, tmp_path / "tokenizer.json", encoder_to=to[0], tokenizer_to=to[1])
    deployed = SentenceReader(Tokenizer.from_file(str(to[1])), open_engine(to[0], "onnxruntime"))
    assert deployed.tokenize("I am 高 happy!").tokens == ["[CLS]", "i", "am", "[UNK]", "happy", "!", "[SEP]"]
    texts = splits["test"].texts
    ids, mask = collate([tokenizer.encode(text).ids for text in texts], "cpu")
    with torch.no_grad():
        wanted = grouped(reader(ids, mask), torch.from_numpy(classes.sums)).numpy()
    found = deployed.features([deployed.tokenize(text).ids for text in texts])
    assert found.shape == (50, len(LABELS))
    np.testing.assert_allclose(found[:, [1, 2, 3, 4]], wanted[:, [1, 2, 3, 4]], atol=0.05)
    assert float(np.mean(found.argmax(axis=1) == wanted.argmax(axis=1))) > 0.95


def test_it_goes_on_where_it_was_stopped(tmp_path: Path, tokenizer: Tokenizer) -> None:
    classes, splits = sentences(tmp_path)
    trained(tmp_path / "work", tokenizer, classes, splits, epochs=0.6)
    saved = torch.load(tmp_path / "work" / "checkpoint.pt", weights_only=True)
    assert saved["epoch"] == 0
    assert saved["step"] > 0
    again = trained(tmp_path / "work", tokenizer, classes, splits, epochs=2)
    assert [entry["epoch"] for entry in json.loads((tmp_path / "work" / "history.json").read_text())] == [1, 1, 2]
    after = torch.load(tmp_path / "work" / "checkpoint.pt", weights_only=True)
    assert (after["epoch"], after["step"]) == (2, 0)
    torch.testing.assert_close(after["reader"], again.state_dict())


def test_layers_that_are_frozen_stay(tmp_path: Path, tokenizer: Tokenizer) -> None:
    classes, splits = sentences(tmp_path)
    reader = Reader(base(), classes=len(classes.names), positions=32)
    before = {name: value.clone() for name, value in reader.state_dict().items()}
    fine_tune(
        reader,
        splits["train"],
        splits["dev"],
        classes,
        tokenize=lambda text: list(tokenizer.encode(text).ids),
        folder=tmp_path,
        plan=Plan(1, batch=10, rate=3e-3, frozen=1),
    )
    changed = {
        name.rpartition(".")[0] for name, value in reader.state_dict().items() if not torch.equal(value, before[name])
    }
    assert all(name.startswith(("layers.1.", "dense", "classes")) for name in changed)
    assert "layers.1.up" in changed


def test_batches_hold_every_text_once() -> None:
    lengths = [random.Random(i).randrange(3, 60) for i in range(333)]
    found = batches(lengths, 16, random.Random(0))
    assert sorted(i for batch in found for i in batch) == list(range(333))
    spread = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in found]
    assert np.median(spread) < 10
