"""English texts with the words that a lexicon knows in Chinese."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from engines.training.chinese import SENTENCES, WORDS, sentences
from engines.training.comments import LABELS
from engines.training.switching import Lexicon
from engines.wording import is_chinese
from tests.test_language_chinese import SENTENCES as TESTED


@pytest.fixture
def lexicon() -> Lexicon:
    return Lexicon(
        {
            ("i",): ["我"],
            ("i", "can't", "believe"): ["我不敢相信"],
            ("the",): [],
            ("news",): ["消息", "新闻"],
            ("love",): ["爱"],
        }
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("I can't believe the cat", "我不敢相信 cat"),  # the longest phrase, articles left out
        ("I can’t believe", "我不敢相信"),
        ("I love [NAME]!", "我爱[NAME]！"),
        ("so I love dogs.", "so 我爱 dogs 。"),
        ("the", ""),
        ("", ""),
        ("我爱你", "我爱你"),
    ],
)
def test_what_is_known_is_switched(lexicon: Lexicon, text: str, wanted: str) -> None:
    assert lexicon.switch(text, random.Random(0)) == wanted


def test_alternatives_are_drawn_alike(lexicon: Lexicon) -> None:
    chance = random.Random(1)
    drawn = Counter(lexicon.switch("news", chance) for _ in range(400))
    assert drawn.keys() == {"消息", "新闻"}
    assert min(drawn.values()) > 150


def test_the_lexicon_that_comes_with_it_turns_plain_english_into_chinese() -> None:
    switched = Lexicon.read(WORDS).switch("I am so happy for you, thank you!", random.Random(0))
    assert is_chinese(switched)
    assert not any("a" <= character <= "z" for character in switched.lower())


@pytest.mark.parametrize("line", ["love", "\t爱", "love\t爱/", "love\t"])
def test_a_lexicon_with_a_hole_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "words.tsv"
    path.write_text(f"english\tchinese\nnews\t消息\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"words.tsv, line 3: wanted a new phrase"):
        Lexicon.read(path)


def test_a_phrase_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("english\tchinese\nlove\t爱\nlove\t喜欢\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 3"):
        Lexicon.read(path)


def test_sentences_that_choose_are_none_that_test() -> None:
    texts, y = sentences(SENTENCES)
    assert Counter(y.tolist()) == dict.fromkeys(range(len(LABELS)), 20)
    assert all(is_chinese(text) for text in texts)
    assert not {*texts} & {text for several in TESTED.values() for text in several}
