"""`plot`: decisions as a picture, looked at pixel by pixel."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import launch as program
from agent.clock import MS, SECOND
from agent.process import DONE, FAILED, WRONG
from agent.showing.chart import REASONS, colours_of

LABELS = ("neutral", "happy", "sad")
START_NS = 1_790_000_000 * SECOND


def decision(seq: int, label: str | None) -> dict[str, Any]:
    probabilities = {name: 0.8 if name == label else 0.1 for name in LABELS}
    said = {"label": label or "neutral", "confidence": 0.8, "weight": 0.7}
    end_ns = START_NS + seq * 500 * MS
    return {
        "window": {"end": "2026-11-21T10:00:00.000Z", "end_ns": str(end_ns)},
        "label": label,
        "confidence": 0.8,
        "conflict": 0.0,
        "probabilities": probabilities,
        "modalities": {"vision": said},
        "missing": {"audio": "failed", "text": "silent"},
    }


@pytest.fixture
def happy(tmp_path: Path) -> Path:
    """The decisions of five seconds in which all is well."""
    file = tmp_path / "decisions.jsonl"
    file.write_text("".join(json.dumps(decision(i, "happy")) + "\n" for i in range(10)))
    return file


def share(picture: np.ndarray[Any, Any], colour: str) -> float:
    """Of the pixels (H, W, 3), those of exactly that colour."""
    bgr = [int(colour[i : i + 2], 16) for i in (5, 3, 1)]
    return float((picture == bgr).all(axis=2).mean())


def test_what_was_decided_has_its_colour_and_what_was_missing_its_reason(happy: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.png"
    assert program.main(["plot", str(happy), "--out", str(out)]) == DONE
    picture = cv2.imread(str(out))
    assert picture is not None
    colours = colours_of([decision(0, "happy")])
    assert 0 < share(picture, colours["sad"]) < 0.01  # in the legend alone
    assert share(picture, colours["happy"]) > 0.2
    assert share(picture, REASONS["failed"]) > 0.05
    assert share(picture, REASONS["silent"]) > 0.05
    assert share(picture, REASONS["late"]) < 0.01


@pytest.mark.parametrize(("suffix", "head"), [(".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_other_kinds_of_picture(happy: Path, tmp_path: Path, suffix: str, head: bytes) -> None:
    out = tmp_path / f"report{suffix}"
    assert program.main(["plot", str(happy), "--out", str(out)]) == DONE
    assert out.read_bytes().startswith(head)


def test_what_cannot_be_drawn_is_told_of(happy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["plot", str(happy), "--out", str(tmp_path / "report.tune")]) == FAILED
    assert "report.tune" in capsys.readouterr().err
    happy.write_text("")
    assert program.main(["plot", str(happy)]) == FAILED
    assert "no decision" in capsys.readouterr().err
    happy.write_text("{}\n")
    assert program.main(["plot", str(happy)]) == WRONG
    assert "line 1" in capsys.readouterr().err
    assert program.main(["plot", str(tmp_path / "gone")]) == WRONG
    assert "gone" in capsys.readouterr().err
