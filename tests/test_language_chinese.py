"""Chinese texts, with the real models: 42 easy sentences that were written for this and for nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.fusion.base import rebased
from agent.types import Evidence, Sample, Text
from engines.evaluation.metrics import report
from engines.head import Head
from engines.language import CHINESE, LanguageEncoder, Tongue
from engines.models import ModelStore
from engines.ort import OrtEngine
from engines.sentences import SentenceReader
from engines.training.chinese import train
from engines.training.comments import LABELS, Split
from engines.wording import language, quality_chinese

SENTENCES = {
    "neutral": [
        "会议十点在四号房间开始。",
        "火车从三号站台出发。",
        "超市在银行旁边。",
        "他住在北京，在一家公司上班。",
        "这本书有三百页。",
        "明天是星期三。",
    ],
    "happy": [
        "我今天太高兴了！",
        "谢谢你，我好爱你！",
        "太棒了，我们赢了！",
        "哈哈，这个笑话真好笑。",
        "我为你感到骄傲，恭喜！",
        "能见到你真是太开心了。",
    ],
    "sad": [
        "我好难过，一直在哭。",
        "奶奶去世了，我非常想念她。",
        "我觉得很孤独，没有人在乎我。",
        "对不起，我真的很后悔。",
        "太让我失望了。",
        "她离开我了，我的心都碎了。",
    ],
    "angry": [
        "你给我滚出去，我受够你了！",
        "我非常生气，这太不公平了！",
        "你怎么敢这样对我！",
        "别再骗我了，你这个混蛋！",
        "这服务太差了，气死我了。",
        "我讨厌你，你总是撒谎。",
    ],
    "fearful": [
        "我好害怕，救救我！",
        "明天的手术让我很紧张。",
        "有人在跟踪我，我很恐惧。",
        "我担心会发生可怕的事情。",
        "那个声音吓死我了。",
        "我不敢一个人在黑暗里睡觉。",
    ],
    "disgusted": [
        "这太恶心了，我想吐。",
        "汤里有一只蟑螂，真恶心。",
        "那股臭味令人作呕。",
        "他吃东西的样子让我反胃。",
        "垃圾发臭了，好恶心。",
        "这种行为真令人厌恶。",
    ],
    "surprised": [
        "哇，真没想到！",
        "什么？你说的是真的吗？",
        "天哪，太让人惊讶了！",
        "我不敢相信你会来！",
        "真奇怪，这是怎么回事？",
        "居然是他赢了，太意外了！",
    ],
}


@pytest.fixture(scope="module")
def encoder() -> Iterator[LanguageEncoder]:
    store = ModelStore()
    store.fetch(CHINESE)
    encoder = LanguageEncoder.open(store, labels=LABELS, backend="onnxruntime")
    yield encoder
    encoder.close()


def read(encoder: LanguageEncoder, words: str) -> Evidence:
    found = encoder.encode([Sample("text", Text(words), 0, 0, 0)], 0).evidence
    assert found is not None
    return found


def test_easy_sentences(encoder: LanguageEncoder) -> None:
    items = [(words, k) for k, label in enumerate(LABELS) for words in SENTENCES[label]]
    probs = np.array([read(encoder, words).probs for words, _ in items])
    found = report(np.array([k for _, k in items]), probs)
    print(found, {LABELS[k]: round(recall, 2) for k, recall in found.recall.items()})
    assert found.uar > 3 / 7, "three times what guessing would find"


def test_chinese_has_the_quality_of_its_length(encoder: LanguageEncoder) -> None:
    assert read(encoder, "我今天太高兴了，谢谢你！").quality > 0.7
    assert read(encoder, "好").quality < 0.5


def test_each_language_speaks_under_its_own_prior(encoder: LanguageEncoder) -> None:
    chinese, english = (read(encoder, words) for words in ("我今天太高兴了", "I am so happy today"))
    np.testing.assert_allclose(
        chinese.prior, 1 / len(LABELS), err_msg="how frequent labels are in Chinese is not known"
    )
    assert english.prior.max() > 2 * english.prior.min()


def test_a_text_names_the_engine_that_read_it_and_several_that_of_the_one_that_counts_most(
    encoder: LanguageEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(encoder, "我今天太高兴了")
    other = encoder._chinese
    assert other is not None

    class Elsewhere(OrtEngine):
        backend = "elsewhere"

    store = ModelStore()
    reader = SentenceReader.open(store, "chinese", backend="onnxruntime")
    reader.engine.close()
    reader.engine = Elsewhere(store.path("chinese-encoder"))
    monkeypatch.setattr(encoder, "_chinese", Tongue(reader, other.head))
    english, chinese = "I am so happy for you, this is wonderful", "我今天太高兴了，谢谢你！"
    assert [read(encoder, words).engine for words in (english, chinese)] == ["onnxruntime", "elsewhere"]
    for words, engine in (([english, "好"], "onnxruntime"), (["ok", chinese], "elsewhere")):
        both = encoder.encode([Sample("text", Text(text), 0, 0, 0) for text in words], 0).evidence
        assert both is not None
        assert both.engine == engine
    reader.engine.close()


def test_a_head_trained_on_english_reads_chinese_under_equal_priors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comments = {
        "neutral": ["The meeting is on Monday at ten.", "The shop is next to the station."],
        "happy": ["I am so happy, thank you!", "This is wonderful, I love it."],
        "sad": ["I miss my mother, I cry every night.", "So sad, my dog died."],
        "angry": ["Shut up, I am furious!", "How dare they, I hate this idiot."],
        "fearful": ["I am scared of the dark.", "I am terrified, help!"],
        "disgusted": ["The smell makes me vomit.", "This food is disgusting."],
        "surprised": ["Wow, I did not expect that!", "What? No way, really?"],
    }
    y = np.repeat(np.arange(len(LABELS)), 2)
    texts = tuple(text for label in LABELS for text in comments[label])
    split = Split(texts, np.eye(len(LABELS), dtype=np.float32)[y], y)
    train({"train": split, "dev": split}, ModelStore(), out=tmp_path, threads=1)
    assert "Chinese sentences of ours, which chose penalty and temperature: n 140" in capsys.readouterr().out
    head = Head.load(tmp_path / "language-chinese.npz")
    np.testing.assert_allclose(head.prior, 1 / len(LABELS))
    reader = SentenceReader.open(ModelStore(), "chinese", backend="onnxruntime")
    found = head.posterior(reader.features([reader.tokenize(words).ids for words in ("我很害怕", "太恶心了")]))
    assert [LABELS[k] for k in found.argmax(axis=1)] == ["fearful", "disgusted"]
    reader.engine.close()


def test_texts_in_both_languages_are_pooled_as_under_one_prior(encoder: LanguageEncoder) -> None:
    words = ("我今天太高兴了，谢谢你！", "I am so surprised, I did not expect that")
    alone = [read(encoder, text) for text in words]
    both = encoder.encode([Sample("text", Text(text), 0, 0, 0) for text in words], 0).evidence
    assert both is not None
    shares = np.array([one.quality for one in alone])
    odds = np.exp(shares / shares.sum() @ np.log([one.probs / one.prior for one in alone]))
    np.testing.assert_allclose(
        rebased(both.probs, both.prior, np.full(len(LABELS), 1 / len(LABELS))), odds / odds.sum(), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("words", "lang", "wanted"),
    [
        ("我今天很高兴", None, "zh"),
        ("我今天 very happy", None, "zh"),
        ("今 today I am very happy", None, "en"),
        ("私はとても嬉しいです", None, "en"),
        ("나는 행복하다", None, "en"),
        ("I am so happy", None, "en"),
        ("I am so happy", "zh-Hans", "zh"),
        ("我今天很高兴", "ja", "ja"),
        ("我今天很高兴", "und", "zh"),
        ("I am so happy", "EN_gb", "en"),
        ("!?", None, "en"),
    ],
)
def test_what_language_a_text_is_taken_for(words: str, lang: str | None, wanted: str) -> None:
    assert language(words, lang) == wanted


def test_only_the_languages_that_are_asked_for_are_read(encoder: LanguageEncoder) -> None:
    assert encoder.languages == ("en", "zh")
    english = LanguageEncoder.open(ModelStore(), labels=LABELS, languages=["en"], backend="onnxruntime")
    texts = [Sample("text", Text(words), 0, 0, 0) for words in ("我今天太高兴了！", "I am so angry about this")]
    found = english.encode(texts, 0)
    assert found.unread == 1
    assert found.evidence is not None
    assert LABELS[int(found.evidence.probs.argmax())] == "angry"
    again = english.encode(texts[:1], 0)
    assert (again.evidence, again.unread) == (None, 0), "what was left out is reported once"
    english.close()
    assert "Chinese" not in str(english)


def test_quality_falls_with_foreign_words() -> None:
    assert (
        quality_chinese("我今天很高兴很高兴")
        > quality_chinese("我今天很高兴 very happy")
        > quality_chinese("高 very happy")
    )


def test_word_pieces_and_their_prefix(encoder: LanguageEncoder) -> None:
    reader = SentenceReader.open(ModelStore(), "chinese", backend="onnxruntime")
    assert reader.tokenize("我今天很高兴！").tokens == ["<s>", "▁que", "ry", ":", "▁我", "今天", "很高兴", "!", "</s>"]
    vectors = reader.features([reader.tokenize(words).ids for words in ("我今天很高兴", "I am happy today", "三百页")])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[2] @ vectors[1], "what means the same is near in both languages"
    reader.engine.close()
