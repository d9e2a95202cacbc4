"""`launch.py eval fusion`: triples of one label, spoilt items, and what is drawn of them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import soundfile

import launch as program
from agent.config import Config, load
from agent.fusion import EMBEDDED, RULES, Bayes, Mean
from agent.process import DONE, WRONG
from agent.types import AUDIO_RATE_HZ, Modality
from engines.evaluation.chart import COLOURS, Panel, svg, ticks
from engines.evaluation.dataset import DataError, Dataset, read
from engines.evaluation.pool import Pool, collect, graded
from engines.evaluation.spoil import GRADES, LOST, SNR_DB, Spoilt, pink
from engines.evaluation.triples import MODALITIES, Triples, draw, figures, judge, shuffling
from tests.faces import portrait, scene
from tests.outside import ROOT
from tests.speech import say

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
K = len(LABELS)
PRIOR = np.full(K, 1 / K)
RELIABILITY = {Modality.VISION: 0.7, Modality.AUDIO: 0.6, Modality.TEXT: 0.6}


def pool(labels: Sequence[int], *, seed: int, strength: float = 2.0, quality: float | None = None) -> Pool:
    """Twenty items of each label, with posteriors that lean to it the more the higher their quality is."""
    rng = np.random.default_rng(seed)
    y = np.repeat(labels, 20).astype(np.intp)
    found = rng.random(len(y)) if quality is None else np.full(len(y), quality)
    logits = rng.normal(size=(len(y), K))
    logits[np.arange(len(y)), y] += strength * found
    odds = np.exp(logits)
    answered = rng.random(len(y)) < 0.9
    return Pool(y, odds / odds.sum(axis=1, keepdims=True), np.tile(PRIOR, (len(y), 1)), found * answered, answered)


def drawn(*, strength: float = 2.0, quality: float | None = None, per_label: int = 100) -> Triples:
    pools = {m: [pool([0, 1, 2, i + 3], seed=i, strength=strength, quality=quality)] for i, m in enumerate(MODALITIES)}
    return draw(pools, per_label=per_label, reliability=RELIABILITY, prior=PRIOR, seed=1)


def test_triples_are_of_the_labels_that_all_have_and_equally_often() -> None:
    triples = drawn()
    assert np.bincount(triples.y).tolist() == [100, 100, 100]
    assert triples.probs.shape == (300, 3, K)
    assert (triples.weights <= triples.reliability).all()
    assert not triples.weights[~triples.there].any()
    np.testing.assert_array_equal(drawn().probs, triples.probs)


def test_no_common_label_is_said() -> None:
    pools = {m: [pool([i], seed=i)] for i, m in enumerate(MODALITIES)}
    with pytest.raises(DataError, match="no label that faces, voices and texts all have"):
        draw(pools, per_label=1, reliability=RELIABILITY, prior=PRIOR, seed=1)


def test_the_same_items_are_drawn_however_they_are_spoilt() -> None:
    clean = {m: pool([0, 1], seed=i) for i, m in enumerate(MODALITIES)}
    spoilt = {m: Pool(p.y, p.probs[:, ::-1], p.priors, p.quality / 2, p.answered) for m, p in clean.items()}

    def of(*pools: dict[Modality, Pool]) -> Triples:
        several = {m: [p[m] for p in pools] for m in MODALITIES}
        return draw(several, per_label=50, reliability=RELIABILITY, prior=PRIOR, seed=3)

    np.testing.assert_allclose(of(spoilt).quality, of(clean).quality / 2)
    np.testing.assert_allclose(of(spoilt).probs, of(clean).probs[..., ::-1])
    halved = (of(clean, spoilt).quality < of(clean).quality)[of(clean).there]
    assert 0.4 < halved.mean() < 0.6, "of two pools each gives half"


def test_what_is_missing_counts_for_nothing_and_nothing_at_all_is_wrong() -> None:
    triples = drawn()
    alone = triples.only([1])
    expected = np.mean((triples.probs[:, 1].argmax(axis=1) == triples.y) & (triples.weights[:, 1] > 0))
    for rule in (Bayes(), Mean()):
        assert judge(rule, alone).accuracy == pytest.approx(expected)
    gone = judge(Bayes(), triples.thinned(1.0, np.random.default_rng(0)))
    assert (gone.answered, gone.accuracy) == (0, 0)
    some = triples.thinned(0.5, np.random.default_rng(0))
    assert some.there.mean() == pytest.approx(triples.there.mean() / 2, abs=0.05)


def test_shuffling_costs_where_quality_says_something_and_nothing_where_it_does_not() -> None:
    telling, alike = drawn(strength=4), drawn(strength=6, quality=0.5)
    assert shuffling(Bayes(), telling)["cost"] > 0.02
    assert shuffling(Bayes(), alike)["cost"] == pytest.approx(0)
    for triples in (telling, alike):
        assert shuffling(Bayes(), triples.control(np.random.default_rng(0)))["cost"] > 0.1


def test_figures_of_every_rule_and_subset() -> None:
    rules = {name: rule() for name, rule in RULES.items()}
    clean = drawn(strength=3, per_label=15)
    found = figures(rules, clean, [], clean)
    assert found["labels"] == [0, 1, 2]
    for name in RULES:
        subsets = found["subsets"][name]
        assert len(subsets) == 7
        every = dict(subsets["vision+audio+text"])
        drawn_ece, chance = every.pop("ece_drawn"), every.pop("ece_by_chance")
        assert every == found["rules"][name]
        assert 0 < chance < 0.5
        assert drawn_ece >= 0
        assert found["noise"][name][0] == {"grade": 0, **found["rules"][name]}
        best = max(subsets[m]["accuracy"] for m in MODALITIES)
        assert found["error_against_best"][name] == pytest.approx((1 - found["rules"][name]["accuracy"]) / (1 - best))
        assert found["worst_subset"][name] <= 0
        assert [point["rate"] for point in found["missing"][name]] == [k / 10 for k in range(10)]
        assert found["missing"][name][9]["uar"] < found["missing"][name][0]["uar"]
    json.dumps(found, allow_nan=False)


@pytest.fixture
def shown(tmp_path: Path) -> Dataset:
    """A portrait, an utterance and silence under one table, whose lines are texts too."""
    (tmp_path / "labels.csv").write_text(
        "file,text,label\n"
        "face.png,I am so very happy to see all of you here today my friends,happy\n"
        "voice.wav,...,happy\nsilence.wav,,happy\nempty.wav,,happy\n"
    )
    cv2.imwrite(str(tmp_path / "face.png"), portrait())
    soundfile.write(tmp_path / "voice.wav", say("This is a long day."), AUDIO_RATE_HZ)
    soundfile.write(tmp_path / "silence.wav", np.zeros(AUDIO_RATE_HZ), AUDIO_RATE_HZ)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), AUDIO_RATE_HZ)
    return read(tmp_path, Modality.VISION, labels=LABELS)


def test_spoilt_sound_has_the_ratio_that_is_said(shown: Dataset) -> None:
    _, voice, silence, empty = shown.items
    clean = shown.sound(voice)
    for grade in range(1, GRADES + 1):
        noise = Spoilt(shown, grade).sound(voice) - clean
        assert 20 * np.log10(clean.std() / noise.std()) == pytest.approx(SNR_DB[grade - 1], abs=0.1)
        assert not Spoilt(shown, grade).sound(silence).any(), "in proportion to nothing"
        assert not len(Spoilt(shown, grade).sound(empty))
    np.testing.assert_array_equal(Spoilt(shown, 1).sound(voice), Spoilt(shown, 1).sound(voice))
    powers = np.square(np.abs(np.fft.rfft(pink(1 << 16, np.random.default_rng(0)))))
    assert powers[100:200].mean() / powers[10_000:20_000].mean() == pytest.approx(100, rel=0.3)


def test_spoilt_pictures_are_darker_and_softer_by_grade(shown: Dataset) -> None:
    face = shown.items[0]
    pictures = [shown.picture(face)] + [Spoilt(shown, grade).picture(face) for grade in range(1, GRADES + 1)]
    brightness = [float(picture.mean()) for picture in pictures]
    assert brightness == sorted(brightness, reverse=True)
    assert {picture.shape for picture in pictures} == {(512, 512, 3)}
    contrasts = [float(cv2.GaussianBlur(picture, None, 3).std()) for picture in pictures]
    assert contrasts == sorted(contrasts, reverse=True)


def test_spoilt_texts_lose_letters_by_grade(shown: Dataset) -> None:
    shown = read(shown.folder, Modality.TEXT, labels=LABELS)
    words, dots, nothing = shown.items[:3]
    assert shown.text(words) == words.what
    for grade in range(1, GRADES + 1):
        spoilt = Spoilt(shown, grade)
        left = sum(a == b for a, b in zip(words.what, spoilt.text(words), strict=False))
        assert 0 < left < len(words.what)
        assert len(words.what) * (1 - LOST[grade - 1]) < len(spoilt.text(words)) <= len(words.what)
        assert (spoilt.text(dots), spoilt.text(nothing)) == (dots.what, nothing.what)


@pytest.fixture
def config() -> Config:
    return load(ROOT / "config.toml", [])


def test_evidence_is_kept_for_the_same_items_only(config: Config, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("text,label\nhow lovely,happy\n...,sad\nthis is awful,sad\n")
    data = read(tmp_path, Modality.TEXT, labels=LABELS)
    first = collect(config, Modality.TEXT, data, work=tmp_path / "work")
    assert first.answered.tolist() == [True, False, True]
    assert first.quality[1] == 0
    np.testing.assert_allclose(first.probs[1], 1 / K)
    (file,) = (tmp_path / "work").iterdir()
    altered = replace(first, quality=first.quality + 1)
    altered.save(file)
    again = collect(config, Modality.TEXT, data, work=tmp_path / "work")
    np.testing.assert_array_equal(again.quality, altered.quality)  # taken from the file
    assert again.embeddings is not None
    assert np.isnan(again.embeddings).any(axis=1).tolist() == [False, True, False]
    fewer = collect(config, Modality.TEXT, data.few(1, seed=0), work=tmp_path / "work")
    assert len(fewer.y) == 2
    assert (fewer.quality <= 1).all()
    assert len(list((tmp_path / "work").iterdir())) == 2


def test_what_noise_does_to_one_modality_alone() -> None:
    clean = Pool(
        np.array([0, 1, 1]), np.eye(K)[:3], np.tile(PRIOR, (3, 1)), np.array([0.9, 0.8, 0.2]), np.full(3, True)
    )
    noisy = Pool(clean.y, clean.probs[[1, 1, 1]], clean.priors, clean.quality / 2, np.array([True, True, False]))
    found = graded([clean, noisy], PRIOR)
    assert found["accuracy"] == pytest.approx([2 / 3, 1 / 3])
    assert found["uar"] == pytest.approx([0.75, 0.25])
    assert found["quality"] == pytest.approx([1.9 / 3, 0.95 / 3])
    assert found["quality_auc"] == pytest.approx(5 / 6), "right: .9, .8, .4; wrong: .2, .45"
    assert graded([noisy], PRIOR)["quality_auc"] == 0, "right: .4; wrong: .45"


def test_few_items_of_each_label_are_the_same_every_time(tmp_path: Path) -> None:
    lines = [f"number {i},{label}" for i in range(30) for label in ("happy", "sad")] + ["alone,angry"]
    (tmp_path / "labels.csv").write_text("\n".join(["text,label", *lines]))
    data = read(tmp_path, Modality.TEXT, labels=LABELS)
    few = data.few(7, seed=1)
    assert [sum(item.label == label for item in few.items) for label in ("happy", "sad", "angry")] == [7, 7, 1]
    assert few == data.few(7, seed=1)
    assert few != data.few(7, seed=2)
    assert [item.line for item in few.items] == sorted(item.line for item in few.items)


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "eval",
        "fusion",
        "--log-level",
        "ERROR",
        "--items",
        "1",
        "--triples",
        "2",
        "--work",
        str(tmp_path / "work"),
    ]
    tables = {
        "vision": ["file,label,split", "smile.png,happy,a", "small.png,sad,a", "gone.png,sad,b"],
        "audio": ["file,label", "voice.wav,happy", "voice.wav,sad"],
        "text": ["text,label", "how lovely,happy", "this is awful,sad"],
    }
    for modality, lines in tables.items():
        folder = tmp_path / modality
        folder.mkdir()
        (folder / "labels.csv").write_text("\n".join(lines))
        words += ["--data", f"{modality}={folder}"]
    cv2.imwrite(str(tmp_path / "vision" / "smile.png"), portrait())
    cv2.imwrite(str(tmp_path / "vision" / "small.png"), scene(face_px=80))
    (tmp_path / "vision" / "gone.png").touch()
    soundfile.write(tmp_path / "audio" / "voice.wav", say("This is a long day."), AUDIO_RATE_HZ)
    out = {"--json": tmp_path / "out.json", "--chart": tmp_path / "out.svg"}
    words += ["--split", "vision=a", *(str(part) for pair in out.items() for part in pair)]

    assert program.main(words) == DONE
    found = json.loads(out["--json"].read_text())
    assert (found["n"], found["labels"], found["items"]) == (4, ["happy", "sad"], dict.fromkeys(tables, 2))
    assert found["rules"].keys() == {*RULES, "learned", *EMBEDDED}
    assert len(found["noise"]["bayes"]) == len(found["alone"]["audio"]["uar"]) == 1 + GRADES
    assert len(list((tmp_path / "work").iterdir())) == 3 * (1 + GRADES)
    said = capsys.readouterr().out
    assert re.search(r"^\| dempster +\| [01]\.\d{3} ", said, re.M)
    assert "| vision+audio+text " in said
    assert ElementTree.parse(out["--chart"]).getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "vision=x"], "wants --data audio=DIR --data text=DIR"),
        (["--data", "x"], "wants --data vision=DIR, --data audio=DIR, --data text=DIR; found x"),
        (["--data", "smell=x"], "found smell"),
        (["--split", "a"], "wants --split vision=NAME, --split audio=NAME, --split text=NAME; found a"),
    ],
)
def test_folders_that_are_not_given_are_asked_for(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["eval", "fusion", *words]) == WRONG
    assert said in capsys.readouterr().err


def test_one_encoder_takes_one_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["eval", "text"]) == WRONG
    assert "wants one --data DIR; found none" in capsys.readouterr().err
    assert program.main(["eval", "text", "--data", "a", "--data", "b"]) == WRONG
    assert "found a b" in capsys.readouterr().err


def test_chart_draws_every_series_within_its_panel() -> None:
    panel = Panel("a < b", "x", "y", {"one": [(0, 0.0), (1, 1.0)], "two & three": [(0, 0.5), (0.5, 0.25)]})
    root = ElementTree.fromstring(svg([panel, panel]))
    lines = [line.attrib["points"] for line in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert len(lines) == 4
    assert lines[0] == "50.0,256.0 310.0,36.0"
    assert lines[:2] == lines[2:]
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a < b" in words
    assert "two & three" in words


def test_chart_tells_more_series_apart_than_it_has_colours() -> None:
    points = [(0.0, 0.2), (1.0, 0.4)]
    panel = Panel("many", "x", "y", {f"rule {n}": points for n in range(len(COLOURS) + 2)})
    lines = ElementTree.fromstring(svg([panel])).iter("{http://www.w3.org/2000/svg}polyline")
    looks = [(line.attrib["stroke"], line.attrib.get("stroke-dasharray")) for line in lines]
    assert len(set(looks)) == len(COLOURS) + 2


@pytest.mark.parametrize(
    ("least", "most", "marked"),
    [
        (0, 0.9, [0, 0.2, 0.4, 0.6, 0.8]),
        (0, 3, [0, 1, 2, 3]),
        (-7, 123, [0, 50, 100]),
        (0.01, 0.013, [0.01, 0.011, 0.012, 0.013]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round_numbers(least: float, most: float, marked: list[float]) -> None:
    assert ticks(least, most) == pytest.approx(marked)
