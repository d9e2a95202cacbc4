"""The training of the text encoder as a person runs it: his own folder, an interrupt, weights that the agent loads.

All of it runs in a copy of the program in which MiniLM is a model of toy size. Needs torch.
"""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import numpy as np
import pytest

from engines.models import ROOT, sha256_of
from engines.sentences import PIECES
from tests.train.test_language_training import FEELINGS, WIDTH, base, tokenizer_json

EPOCHS = 12
OWN = FEELINGS | {"scared": "worried"}
"""Words and what they are labelled; the last label is none of the program's."""
WRONG = 0.15
"""Share of the texts that are labelled by chance: nobody who is calibrated is surer than that."""
FILES = {
    "language-encoder": "language-encoder.onnx",
    "language-tokenizer": "language-tokenizer.json",
    "language-head": "language.npz",
}
WANTED = re.compile(r"wrote (\S+), sha256 ([0-9a-f]{64})")


def relocked(program: Path, name: str, *, source: str, sha256: str) -> None:
    """Let the lock file of `program` name another file for a model."""
    lock = program / "engines" / "models.toml"
    before, head, table = lock.read_text(encoding="utf-8").partition(f"\n[{name}]\n")
    table, gap, after = table.partition("\n\n")
    kept = [line for line in table.splitlines() if not line.startswith(("source", "sha256", "file"))]
    table = "\n".join([f'source = "file:{source}"', f'sha256 = "{sha256}"', *kept])
    lock.write_text(before + head + table + gap + after, encoding="utf-8")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """All of it, in which the training of texts begins at a toy."""
    program = tmp_path / "program"
    program.mkdir()
    for entry in ("agent", "sensors", "config.toml"):
        (program / entry).symlink_to(ROOT / entry)
    copy(ROOT / "launch.py", program)  # of a link Python would look for the rest where the link leads
    copytree(ROOT / "engines", program / "engines", copy_function=lambda file, to: Path(to).symlink_to(file))
    lock = program / "engines" / "models.toml"
    text = lock.read_text(encoding="utf-8")
    lock.unlink()
    lock.write_text(text, encoding="utf-8")
    (program / "toy.json").write_text(tokenizer_json())
    places = np.random.default_rng(0).normal(scale=0.1, size=(PIECES, WIDTH)).astype(np.float32)
    write_safetensors(program / "toy.safetensors", base() | {"embeddings.position_embeddings.weight": places})
    for name, file in (("language-base", "toy.safetensors"), ("language-base-tokenizer", "toy.json")):
        relocked(program, name, source=file, sha256=sha256_of(program / file))
    return program


def write_safetensors(path: Path, tensors: dict[str, Any]) -> None:
    header, at = {}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": "F32", "shape": value.shape, "data_offsets": [at, at + value.nbytes]}
        at += value.nbytes
    told = json.dumps(header).encode()
    path.write_bytes(len(told).to_bytes(8, "little") + told + b"".join(value.tobytes() for value in tensors.values()))


def own_folder(path: Path, *, n: int, seed: int) -> Path:
    """A table of `n` texts, of which `WRONG` have any label."""
    rng = random.Random(seed)
    lines = ["text,label"]
    for _ in range(n):
        word, label = rng.choice(list(OWN.items()))
        label = rng.choice(list(OWN.values())) if rng.random() < WRONG else label
        lines.append(f"{rng.choice(['i am so', 'you was very', 'that dog is'])} {word} {rng.choice('.!')},{label}")
    path.mkdir()
    (path / "labels.csv").write_text("\n".join(lines) + "\n")
    return path


def train(program: Path, data: Path) -> subprocess.Popen[str]:
    words = ["--data", str(data), "--out", str(program / "own"), "--work", str(program / "work")]
    numbers = ["--epochs", str(EPOCHS), "--batch", "10", "--rate", "3e-3", "--threads", "1"]
    return subprocess.Popen(
        [sys.executable, "-m", "engines.training", "language", *words, *numbers],
        cwd=program,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background of a shell, interrupts are ignored, and that would be handed down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_from_a_folder_through_an_interrupt_to_the_agent(program: Path, tmp_path: Path) -> None:
    data = own_folder(tmp_path / "data", n=400, seed=0)
    with train(program, data) as training:
        assert training.stderr
        said = [next(training.stderr, "")]
        while said[-1] and "after epoch 2" not in said[-1]:
            said.append(next(training.stderr, ""))
        training.send_signal(signal.SIGINT)
        rest = "".join([*said, training.stderr.read()])
    assert training.returncode == 1, rest
    assert "the same command goes on from what it kept" in rest
    assert "Traceback" not in rest
    seen = json.loads((program / "work" / "history.json").read_text())
    assert 2 <= len(seen) < EPOCHS

    training = train(program, data)
    out, err = training.communicate()
    assert training.returncode == 0, err
    assert "after epoch 1:" not in err, "it goes on where it was"
    report = json.loads((program / "work" / "report.json").read_text())
    assert [entry["epoch"] for entry in report["history"]] == list(range(1, EPOCHS + 1))
    assert report["history"][: len(seen)] == seen
    assert (program / "work" / "dev.png").read_bytes().startswith(b"\x89PNG")
    written = dict(WANTED.findall(out))
    assert {Path(file).name for file in written} == set(FILES.values())

    for name, file in FILES.items():
        relocked(program, name, source=f"own/{file}", sha256=written[str(program / "own" / file)])
    fresh = own_folder(tmp_path / "fresh", n=300, seed=1)
    labels = f"agent.labels={json.dumps([*OWN.values()])}"
    asked = ("eval", "text", "--data", str(fresh), "--json", str(tmp_path / "eval.json"), "--set", labels)
    done = subprocess.run(
        [sys.executable, "launch.py", *asked], cwd=program, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "eval.json").read_text())
    right = 1 - WRONG * (1 - 1 / len(OWN))
    assert set(figures["recall"]) == set(OWN.values())
    assert figures["answered"] == 1
    assert figures["accuracy"] == pytest.approx(right, abs=0.06)
    assert figures["ece"] < 0.08
    assert np.array([*figures["recall"].values()]).min() > 0.7
