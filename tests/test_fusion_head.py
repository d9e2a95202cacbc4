"""What the fusion head adds to a rule: the agent's prior, recalibration and memory; and how the config sets it."""

from pathlib import Path

import numpy as np
import pytest

from agent.clock import SECOND
from agent.config import Config, ConfigError, load
from agent.config.fusion import FITTED
from agent.deciding.build import build_head
from agent.deciding.head import FusionHead, Trust, Verdict
from agent.deciding.smoothing import StickyFilter
from agent.fusion import RULES, Bayes, Floats, LearnedHead, Mean, Recalibration, Rule, fit_temperature
from agent.types import Evidence, Modality

LABELS = ("a", "b", "c")
UNIFORM = np.full(3, 1 / 3)
SKEWED = np.array([0.8, 0.15, 0.05])


ONE = np.array([True])


def head(
    rule: Rule, *, prior: Floats = UNIFORM, recalibration: Recalibration | None = None, leak: float = 0.0
) -> FusionHead:
    return FusionHead(
        rule,
        labels=LABELS,
        prior=prior,
        trust={modality: Trust(reliability=1.0, tau_ns=SECOND) for modality in Modality},
        smoothing=None,
        abstain_below=0.0,
        recalibration=recalibration,
        leak=leak,
    )


def said(modality: Modality, probs: Floats, prior: Floats = UNIFORM, quality: float = 1.0) -> Evidence:
    return Evidence(modality, "source", np.asarray(probs), prior, quality, t_ns=0, engine="none")


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
class TestWithEveryRule:
    def judge(self, rule: type[Rule], *evidence: Evidence, prior: Floats = UNIFORM) -> Verdict:
        return head(rule(), prior=prior).judge(evidence, 0)

    def test_a_training_sets_favourite_is_no_evidence(self, rule: type[Rule]) -> None:
        verdict = self.judge(rule, said(Modality.AUDIO, SKEWED, SKEWED), said(Modality.TEXT, UNIFORM))
        assert verdict.probs == pytest.approx(UNIFORM)
        assert verdict.conflict == pytest.approx(0, abs=1e-12)

    def test_the_order_of_the_evidence_does_not_matter(self, rule: type[Rule]) -> None:
        evidence = [said(Modality.TEXT, np.array([0.5, 0.4, 0.1])), said(Modality.VISION, SKEWED, quality=0.6)]
        verdict, turned = self.judge(rule, *evidence), self.judge(rule, *reversed(evidence))
        assert verdict.probs.tolist() == turned.probs.tolist()
        assert verdict.shares == turned.shares
        assert verdict.weights == {Modality.TEXT: 1.0, Modality.VISION: 0.6}

    def test_nothing_sensed_is_the_prior_and_no_label(self, rule: type[Rule]) -> None:
        verdict = self.judge(rule, prior=SKEWED)
        assert verdict.probs == pytest.approx(SKEWED)
        assert verdict.label is None
        assert verdict.weights == verdict.shares == {}


def test_the_result_is_recalibrated_by_how_many_were_there() -> None:
    vision, text = said(Modality.VISION, SKEWED), said(Modality.TEXT, SKEWED)
    cooled = head(Bayes(), recalibration=Recalibration([1.0, 2.0]))
    assert cooled.judge([vision], 0).probs == pytest.approx(SKEWED)
    # twice the log ratios over a temperature of 2
    assert cooled.judge([vision, text], 0).probs == pytest.approx(SKEWED)
    assert cooled.judge([vision, said(Modality.TEXT, SKEWED, quality=0.0)], 0).probs == pytest.approx(SKEWED)


def test_the_result_is_recalibrated_by_which_were_there() -> None:
    temperatures = np.linspace(0.5, 2, 7)
    judged = head(Bayes(), recalibration=Recalibration(temperatures.tolist()))
    for number, temperature in enumerate(temperatures.tolist(), 1):
        there = [m for bit, m in enumerate(Modality) if number >> bit & 1]
        odds = (SKEWED * 3) ** (len(there) / temperature)
        assert judged.judge([said(m, SKEWED) for m in there], 0).probs == pytest.approx(odds / odds.sum())
    assert judged.judge([], 0).probs == pytest.approx(UNIFORM)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_with_a_leak_nobody_rules_a_label_out(rule: type[Rule]) -> None:
    sure = said(Modality.AUDIO, np.array([1 - 2e-9, 1e-9, 1e-9]))
    verdict = head(rule(), leak=0.1).judge([sure], 0)
    believed = np.array([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])
    if rule.name != "vote":  # which asks for the label alone
        assert verdict.probs == pytest.approx(believed)
    unsure = head(rule(), prior=SKEWED, leak=0.1).judge([said(Modality.AUDIO, UNIFORM, UNIFORM)], 0)
    if rule.name != "vote":
        assert unsure.probs == pytest.approx(SKEWED), "what says nothing still says nothing"


def test_a_leak_ends_the_veto_of_one_against_two() -> None:
    torn = [
        said(Modality.VISION, np.array([0.9, 0.05, 0.05])),
        said(Modality.TEXT, np.array([0.9, 0.05, 0.05])),
        said(Modality.AUDIO, np.array([1e-4, 0.3, 0.7 - 1e-4])),
    ]
    assert head(Bayes()).judge(torn, 0).label == "c"
    assert head(Bayes(), leak=0.05).judge(torn, 0).label == "a"


def test_recalibration_tempers_the_evidence_and_not_the_prior() -> None:
    hot = Recalibration([20.0])
    assert hot.apply(SKEWED, SKEWED, ONE) == pytest.approx(SKEWED)
    odds = SKEWED * (np.array([0.2, 0.3, 0.5]) / SKEWED) ** (1 / 20)
    assert hot.apply(np.array([0.2, 0.3, 0.5]), SKEWED, ONE) == pytest.approx(odds / odds.sum())
    with pytest.raises(ValueError, match=r"temperatures must be from 0\.05 to 20; found \[0\]"):
        Recalibration([0])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found_again(temperature: float) -> None:
    rng = np.random.default_rng(1)
    right = 0.97 * rng.dirichlet(np.full(3, 0.7), 20_000) + 0.01
    labels = (rng.random((len(right), 1)) > right.cumsum(axis=1)).sum(axis=1)
    overdone = np.stack([Recalibration([1 / temperature]).apply(p, SKEWED, ONE) for p in right])
    assert fit_temperature(overdone, labels, SKEWED) == pytest.approx(temperature, rel=0.05)


def test_a_temperature_has_bounds_whatever_the_labels() -> None:
    probs = np.tile(SKEWED, (5, 1))
    assert fit_temperature(probs, np.zeros(5, np.int64), UNIFORM) == pytest.approx(0.05)
    assert fit_temperature(probs, np.full(5, 2), UNIFORM) == pytest.approx(20)
    with pytest.raises(ValueError, match="do not fit"):
        fit_temperature(np.empty((0, 3)), np.empty(0, np.int64), UNIFORM)


def configured(tmp_path: Path, *overrides: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_text('[agent]\nlabels = ["a", "b", "c"]\n[fusion]\ndwell = "0 s"\nabstain_below = 0.0\nleak = 0.0\n')
    return load(path, [*overrides, *(f"encoders.{m}.reliability=1" for m in ("vision", "audio", "text"))])


TORN = [said(Modality.VISION, np.array([0.98, 0.01, 0.01])), said(Modality.TEXT, np.array([0.01, 0.97, 0.02]))]


@pytest.mark.parametrize("name", RULES)
def test_the_config_names_the_rule(name: str, tmp_path: Path) -> None:
    built = build_head(configured(tmp_path, f"fusion.rule={name}"))
    assert built.rule == name
    fitted = head(RULES[name](), recalibration=Recalibration(FITTED.get(name, (1.0,))))
    assert built.judge(TORN, 0).probs == pytest.approx(fitted.judge(TORN, 0).probs)


def test_the_config_sets_the_rules(tmp_path: Path) -> None:
    def probs(*overrides: str) -> Floats:
        return build_head(configured(tmp_path, "fusion.temperature=1", *overrides)).judge(TORN, 0).probs

    assert probs("fusion.handover=0.5") == pytest.approx(head(Mean()).judge(TORN, 0).probs)
    never = probs("fusion.rule=dempster", "fusion.yager_above=1")
    assert never.max() > 0.45 > probs("fusion.rule=dempster").max()
    cooled = head(Bayes(), recalibration=Recalibration([3.0])).judge(TORN, 0).probs
    assert probs("fusion.temperature=3") == pytest.approx(cooled)
    assert probs("fusion.temperature=[1, 3]") == pytest.approx(cooled)
    assert probs("fusion.temperature=[1, 1, 1, 1, 3, 1, 1]") == pytest.approx(cooled)
    leaky = head(Bayes(), leak=0.3).judge(TORN, 0).probs
    assert probs("fusion.leak=0.3") == pytest.approx(leaky)


@pytest.mark.parametrize("temperature", ["0", "[]", "[1, true]", "hot", "[1, nan]", "100"])
def test_a_temperature_that_makes_no_sense_is_named(temperature: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, f"fusion.temperature={temperature}")
    (line,) = caught.value.lines
    assert line.startswith(
        "fusion.temperature: must be a number from 0.05 to 20, or a list: with one modality, with two"
    )


def test_the_trained_rule_wants_its_head(tmp_path: Path) -> None:
    config = configured(tmp_path, "fusion.rule=learned")
    with pytest.raises(ConfigError, match="rule: learned needs a trained head, and there is none; take one of bayes, "):
        build_head(config)
    with pytest.raises(ConfigError, match="the trained head knows the labels a, b; here they are a, b, c; take one of"):
        build_head(config, LearnedHead.bayes(tuple(Modality), ("a", "b")))
    with pytest.raises(ConfigError, match="knows the modalities text, audio; here they are vision, audio, text"):
        build_head(config, LearnedHead.bayes(("text", "audio"), LABELS))
    built = build_head(config, LearnedHead.bayes(tuple(Modality), LABELS))
    assert built.rule == "learned"
    assert built.judge(TORN, 0).probs == pytest.approx(head(Bayes()).judge(TORN, 0).probs)


def test_the_filter_believes_repeated_evidence_and_forgets_without_it() -> None:
    smooth = StickyFilter(UNIFORM, dwell_ns=2 * SECOND, trust=0.5)
    happy = np.array([0.8, 0.1, 0.1])
    first, *_, last = (float(smooth.update(happy, t * SECOND // 2)[0]) for t in range(6))
    assert first == pytest.approx(0.8)
    assert last > 0.8
    faded = [float(smooth.update(UNIFORM, t * SECOND)[0]) for t in range(3, 40)]
    assert faded == sorted(faded, reverse=True)
    assert faded[-1] == pytest.approx(1 / 3, abs=1e-3)


def test_one_odd_window_does_not_overturn_a_steady_belief() -> None:
    smooth = StickyFilter(UNIFORM, dwell_ns=3 * SECOND, trust=0.5)
    for t in range(8):
        smooth.update(np.array([0.8, 0.1, 0.1]), t * SECOND // 2)
    assert smooth.update(np.array([0.2, 0.7, 0.1]), 4 * SECOND).argmax() == 0
