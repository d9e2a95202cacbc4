"""The compute budget, from its definition: encoders of known costs and gains, on the virtual clock."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import MS, SECOND, VirtualClock
from agent.config import Config
from agent.deciding import budget as module
from agent.deciding.budget import LINE, Planner, uncertainty
from agent.deciding.build import build_pipeline
from agent.deciding.pipeline import Pipeline
from agent.health.standing import PATIENCE_NS, StandingBoard
from agent.playback import play
from agent.types import Absence, Decision, Evidence, Modality, Reading, Sample, Watermark
from tests.samples import audio, frame, text
from tests.scripted import HAPPY, HOP_NS, LABELS, PRIOR, SOURCES, ScriptedEncoder, silent

VISION, AUDIO, TEXT = Modality
LIMITS_NS = {VISION: 3 * SECOND, AUDIO: 3 * SECOND, TEXT: 6 * SECOND}
STEP_NS = 500 * MS
Costs = dict[Modality, int]
Gains = dict[Modality, float]


def planned(
    budget_ns: int, costs_ns: Costs, gains: Gains, uncertain: Sequence[float], fresh: Sequence[set[Modality]] = ()
) -> list[frozenset[Modality]]:
    """Who ran in windows before which the belief was so uncertain; all have something new unless `fresh` says less.

    An encoder takes away the share `gains` of the uncertainty that there is.
    """
    planner, plans = Planner(budget_ns, LIMITS_NS), []
    for i, open_ in enumerate(uncertain):
        plan = planner.plan(fresh[i] if fresh else set(costs_ns), (i + 1) * STEP_NS, open_)
        for m in plan:
            planner.charge(costs_ns[m])
            planner.learn(m, costs_ns[m], gains[m] * open_)
        plans.append(plan)
    return plans


def runs(plans: Sequence[frozenset[Modality]], modality: Modality) -> list[int]:
    return [i for i, plan in enumerate(plans) if modality in plan]


costs = st.fixed_dictionaries({m: st.integers(1, 200) for m in Modality})
gains = st.fixed_dictionaries({m: st.floats(0, 1) for m in Modality})
uncertain = st.lists(st.floats(0, 1), min_size=1, max_size=80)


@settings(deadline=None)
@given(costs, gains, uncertain, st.integers(0, 100))
def test_a_budget_above_all_costs_leaves_nothing_out(cost: Costs, gain: Gains, open_: list[float], more: int) -> None:
    assert all(plan == set(Modality) for plan in planned(sum(cost.values()) + more, cost, gain, open_))


@settings(deadline=None)
@given(st.integers(1, 300), costs, gains, uncertain, st.data())
def test_over_any_stretch_the_budget_is_kept_but_for_a_line_of_credit_or_one_run_of_each(
    budget: int, cost: Costs, gain: Gains, open_: list[float], data: st.DataObject
) -> None:
    fresh = data.draw(st.lists(st.sets(st.sampled_from(Modality)), min_size=len(open_), max_size=len(open_)))
    fresh[0] = set(Modality)  # from then on all costs are known
    spent = [sum(cost[m] for m in plan) for plan in planned(budget, cost, gain, open_, fresh)]
    beyond = list(accumulate((s - budget for s in spent), initial=0))
    highest = max(b - min(beyond[: i + 1]) for i, b in enumerate(beyond))
    assert highest <= max(LINE * budget, sum(cost.values()))


@settings(deadline=None)
@given(st.integers(10, 300), costs, gains, st.floats(0, 1))
def test_nobody_is_left_out_longer_than_the_limit_and_what_the_budget_needs_to_pay_for_it(
    budget: int, cost: Costs, gain: Gains, open_: float
) -> None:
    every = sum(cost.values())
    pays = (max(LINE * budget, every) + every) // budget + len(cost) + 1
    plans = planned(budget, cost, gain, [open_] * 3 * (pays + 12))
    for m in Modality:
        ran = runs(plans, m)
        gaps = [b - a for a, b in pairwise([*ran, len(plans)])]
        assert max(gaps) <= LIMITS_NS[m] // STEP_NS + pays


def test_within_the_limit_where_the_budget_pays_for_that() -> None:
    plans = planned(15, {VISION: 20, AUDIO: 20, TEXT: 10}, {VISION: 0.0, AUDIO: 0.0, TEXT: 0.9}, [0.02] * 200)
    for m in (VISION, AUDIO):
        assert max(b - a for a, b in pairwise(runs(plans, m))) <= 1 + LIMITS_NS[m] // STEP_NS


def test_the_surer_the_belief_the_less_is_spent() -> None:
    cost, gain = {VISION: 20, AUDIO: 18, TEXT: 4}, {VISION: 0.1, AUDIO: 0.1, TEXT: 0.1}
    spent = [sum(cost[m] for plan in planned(20, cost, gain, [u] * 300) for m in plan) for u in (0.02, 0.3, 0.9)]
    assert spent[0] < 0.8 * spent[2]
    assert spent == sorted(spent)
    assert spent[2] >= 0.95 * 300 * 20


def test_what_a_sure_time_saved_is_there_when_the_belief_is_shaken() -> None:
    cost, gain = {VISION: 30}, {VISION: 0.3}
    plans = planned(10, cost, gain, [0.02] * 60 + [0.95] * 4)
    assert len(runs(plans[:60], VISION)) <= 11
    assert len(runs(plans[60:], VISION)) >= 2


def test_of_equally_dear_encoders_the_one_that_tells_more_runs_more_often() -> None:
    plans = planned(20, {VISION: 20, AUDIO: 20}, {VISION: 0.4, AUDIO: 0.1}, [0.5] * 200)
    assert len(runs(plans, VISION)) > 2 * len(runs(plans, AUDIO))


def test_after_a_run_that_hung_it_sees_again_within_seconds() -> None:
    """Of 5 s that one run took, 20 ms a decision would pay for 250 decisions."""
    planner, seen = Planner(20, LIMITS_NS), []
    for i in range(200):
        plan = planner.plan({VISION, AUDIO}, (i + 1) * STEP_NS, 0.5)
        for m in plan:
            cost = 5_000 if i == 50 and m is VISION else 15
            planner.charge(cost)
            planner.learn(m, cost, 0.1)
        seen.append(bool(plan))
    assert seen[50]
    assert not seen[51]
    assert any(seen[52:100])


def test_of_equally_telling_encoders_the_cheaper_stays() -> None:
    plans = planned(20, {VISION: 30, AUDIO: 5}, {VISION: 0.2, AUDIO: 0.2}, [0.8] * 200)
    assert len(runs(plans, AUDIO)) == 200
    assert len(runs(plans, VISION)) < 130


@settings(deadline=None)
@given(st.integers(2, 100), st.floats(0.3, 1), uncertain)
def test_the_best_bargain_stays_if_the_budget_pays_for_it(budget: int, gain: float, open_: list[float]) -> None:
    """Where it tells next to nothing, a dearer one that has not run for long may be the better bargain."""
    cost = {VISION: 2 * budget, TEXT: budget // 2}
    assert all(TEXT in plan for plan in planned(budget, cost, {VISION: gain, TEXT: gain}, open_))


def test_what_tells_nothing_does_not_stay_because_it_is_cheap() -> None:
    plans = planned(15, {VISION: 7, AUDIO: 16}, {VISION: 0.0, AUDIO: 0.3}, [0.8] * 200)
    assert len(runs(plans, AUDIO)) > 150
    assert len(runs(plans, VISION)) < 70


def test_what_does_not_change_is_treated_alike_in_each_round() -> None:
    """A dear encoder beside a cheap one comes back at even distances."""
    plans = planned(20, {VISION: 50, AUDIO: 5}, {VISION: 0.2, AUDIO: 0.3}, [0.6] * 300)
    gaps = {b - a for a, b in pairwise(runs(plans, VISION)[5:])}
    assert max(gaps) - min(gaps) <= 1


def test_hysteresis_makes_an_encoder_stay_and_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).uniform(0.25, 0.35, 400).tolist()

    def turns() -> int:
        plans = planned(20, {VISION: 12, AUDIO: 10}, {VISION: 0.2, AUDIO: 0.2}, noise)
        return sum((VISION in a) != (VISION in b) for a, b in pairwise(plans))

    held = turns()
    monkeypatch.setattr(module, "HOLD", 1.0)
    assert held < 0.7 * turns()


def test_what_has_nothing_new_is_not_asked_for_and_what_comes_after_a_pause_runs_at_once() -> None:
    fresh = [{VISION, AUDIO} | ({TEXT} if i % 20 == 19 else set()) for i in range(100)]
    plans = planned(10, {VISION: 20, AUDIO: 20, TEXT: 8}, {VISION: 0.3, AUDIO: 0.3, TEXT: 0.0}, [0.5] * 100, fresh)
    assert runs(plans, TEXT) == [19, 39, 59, 79, 99]


@pytest.mark.parametrize(("belief", "found"), [([1 / 3] * 3, 1.0), ([1.0, 0.0, 0.0], 0.0), ([0.5, 0.5, 0.0], 0.631)])
def test_uncertainty_is_the_entropy_over_the_greatest_there_is(belief: list[float], found: float) -> None:
    assert uncertainty(np.array(belief)) == pytest.approx(found, abs=1e-3)


class Stopwatch(VirtualClock):
    """A virtual clock on which work takes time only in the thread that does it."""

    def __init__(self) -> None:
        super().__init__()
        self._own = threading.local()

    def now_ns(self) -> int:
        spent: int = getattr(self._own, "spent_ns", 0)
        return super().now_ns() + spent

    def work(self, ns: int) -> None:
        self._own.spent_ns = getattr(self._own, "spent_ns", 0) + ns


def costly(clock: Stopwatch, cost_ns: int, answer: Callable[[Sequence[Sample]], Reading]) -> Any:
    """An answer that takes so long where there is a sample that was not there before."""
    seen: set[int] = set()

    def encode(samples: Sequence[Sample]) -> Reading:
        if any(id(sample) not in seen for sample in samples):
            clock.work(cost_ns)
        seen.update(map(id, samples))
        return answer(samples)

    return encode


def sure(samples: Sequence[Sample]) -> Reading:
    newest = samples[-1]
    return Reading(Evidence(newest.modality, newest.source, HAPPY, PRIOR, 1.0, newest.end_ns, "scripted"))


EVENTS: list[Sample | Watermark] = sorted(
    [
        *(frame(t) for t in range(HOP_NS // 4, 60 * HOP_NS, HOP_NS // 4)),
        *(audio(t - HOP_NS // 5, t) for t in range(HOP_NS // 5, 60 * HOP_NS, HOP_NS // 5)),
        *(text(t, f"message {t}") for t in range(3 * HOP_NS + 1, 60 * HOP_NS, 11 * HOP_NS)),
        *(Watermark("text", t) for t in range(0, 60 * HOP_NS + 1, HOP_NS // 2)),
    ],
    key=lambda event: event.arrival_ns if isinstance(event, Sample) else event.t_ns,
)


def build(clock: VirtualClock, *encoders: ScriptedEncoder, budget: str, dwell: str = "3 s") -> Pipeline:
    config = Config.model_validate({
        "agent": {"labels": list(LABELS), "hop": "100 ms", "lateness": "50 ms", "budget": budget},
        "encoders": {"vision": {"span": "200 ms"}, "audio": {"span": "500 ms"}, "text": {"span": "1 s"}},
        "fusion": {"dwell": dwell},
    })  # fmt: skip
    return build_pipeline(
        config,
        sources=SOURCES,
        encoders={encoder.modality: encoder for encoder in encoders},
        transcriber=None,
        clock=clock,
        session="test",
    )


async def decided(pipeline: Pipeline, clock: VirtualClock) -> list[Decision]:
    try:
        return [decided.decision async for decided in play(EVENTS, pipeline, clock)]
    finally:
        pipeline.close()


def staff(clock: Stopwatch) -> list[ScriptedEncoder]:
    return [
        ScriptedEncoder(VISION, costly(clock, 20 * MS, sure)),
        ScriptedEncoder(AUDIO, costly(clock, 4 * MS, silent)),
        ScriptedEncoder(TEXT, costly(clock, 2 * MS, sure)),
    ]


async def test_in_the_pipeline_dear_encoders_run_less_often_and_their_modality_is_skipped() -> None:
    clock = Stopwatch()
    eyes, ears, reader = staff(clock)
    pipeline = build(clock, eyes, ears, reader, budget="8 ms")
    found = await decided(pipeline, clock)
    looked = [decision for decision in found if VISION in decision.modalities]
    spared = [decision for decision in found if decision.missing.get(VISION) is Absence.SKIPPED]
    assert len(looked) + len(spared) == len(found)
    assert len(spared) > len(found) / 2
    assert pipeline.metrics.counts["encode.vision.spared"] == len(spared)
    assert all(decision.modalities[VISION].encode_ns == 20 * MS for decision in looked)
    assert 20 * len(looked) + 4 * pipeline.metrics.counts["decisions"] / 5 <= 8 * (len(found) + LINE)
    reading = pipeline.metrics.snapshot({})["budget"]
    assert isinstance(reading, dict)
    assert (reading["vision_ms"], reading["audio_ms"], reading["text_ms"]) == (20.0, 4.0, 2.0)
    assert reading["ms_per_decision"] <= 8 + LINE
    assert 0 < reading["spared_share"] < 1


async def test_pictures_that_were_passed_over_are_not_looked_at_later_but_sound_and_texts_are_all_heard() -> None:
    clock = Stopwatch()
    eyes, ears, reader = staff(clock)
    found = await decided(build(clock, eyes, ears, reader, budget="8 ms"), clock)
    over_ns = found[-1].end_ns - 10 * HOP_NS  # what came later may still be waiting
    for encoder in (ears, reader):
        came_ns = {e.end_ns for e in EVENTS if isinstance(e, Sample) and e.modality is encoder.modality}
        heard_ns = {end_ns for shown in encoder.shown for end_ns in shown}
        assert {t for t in came_ns if t <= over_ns} <= heard_ns
    passed_ns = {d.end_ns for d in found if d.missing.get(VISION) is Absence.SKIPPED}
    looked_ns = {end_ns for shown in eyes.shown for end_ns in shown}
    assert not any(end_ns - HOP_NS < t <= end_ns for t in looked_ns for end_ns in passed_ns)


async def test_while_something_is_owed_only_the_newest_picture_of_each_camera_is_looked_at() -> None:
    clock = Stopwatch()
    seen: set[int] = set()

    def a_picture_at_a_time(samples: Sequence[Sample]) -> Reading:
        clock.work(2 * MS * sum(id(sample) not in seen for sample in samples))
        seen.update(map(id, samples))
        return sure(samples)

    eyes, ears = ScriptedEncoder(VISION, a_picture_at_a_time), ScriptedEncoder(AUDIO, costly(clock, 4 * MS, silent))
    found = await decided(build(clock, eyes, ears, budget="10 ms"), clock)
    new = [len(set(shown) - set(before)) for before, shown in pairwise(eyes.shown)]
    assert set(new) == {1, 4}  # 4 + 8 ms are beyond the budget, 4 + 2 ms are not
    assert all(VISION in decision.modalities for decision in found)


async def test_what_is_remembered_names_the_label_while_nothing_is_looked_at() -> None:
    clock = Stopwatch()
    eyes = ScriptedEncoder(VISION, costly(clock, 30 * MS, sure))
    found = await decided(build(clock, eyes, ScriptedEncoder(AUDIO, silent), budget="10 ms"), clock)
    blind = [decision for decision in found[3:] if not decision.modalities]
    assert blind
    assert {decision.label for decision in blind} == {"happy"}
    clock = Stopwatch()
    eyes = ScriptedEncoder(VISION, costly(clock, 30 * MS, sure))
    found = await decided(build(clock, eyes, budget="10 ms", dwell="0 s"), clock)
    assert {d.abstained for d in found if not d.modalities} == {True}  # without smoothing nothing is remembered


async def test_a_budget_that_pays_for_all_changes_nothing() -> None:
    decisions = []
    for budget in ("none", "26 ms"):
        clock = Stopwatch()
        decisions.append(await decided(build(clock, *staff(clock), budget=budget), clock))
    assert decisions[0] == decisions[1]


async def test_the_same_costs_give_the_same_decisions() -> None:
    decisions = []
    for _ in range(2):
        clock = Stopwatch()
        decisions.append(await decided(build(clock, *staff(clock), budget="8 ms"), clock))
    assert decisions[0] == decisions[1]


async def test_on_the_virtual_clock_encoders_take_no_time_and_nobody_is_spared() -> None:
    clock = VirtualClock()
    encoders = [ScriptedEncoder(m, sure) for m in Modality]
    found = await decided(build(clock, *encoders, budget="1 ns"), clock)
    assert not any(Absence.SKIPPED in decision.missing.values() for decision in found)


async def test_the_standing_of_a_modality_does_not_change_with_each_window_that_leaves_it_out() -> None:
    clock = Stopwatch()
    found = await decided(build(clock, *staff(clock), budget="8 ms"), clock)
    told: list[tuple[Modality, object]] = []
    board = StandingBoard(lambda modality, state: told.append((modality, state["state"])))
    for decision in found:
        board.update(decision)
    assert [state for modality, state in told if modality is VISION] == ["active"]
    hung = next(decision for decision in found if decision.missing.get(VISION) is Absence.SKIPPED)
    board.update(replace(hung, end_ns=found[-1].end_ns + PATIENCE_NS))
    assert [state for modality, state in told if modality is VISION] == ["active", "missing"]


async def test_a_deadline_that_was_missed_is_paid_for() -> None:
    clock, release = Stopwatch(), threading.Event()
    first = True

    def hangs(samples: Sequence[Sample]) -> Reading:
        nonlocal first
        if first:
            first = False
            release.wait()
            clock.work(500 * MS)
        return sure(samples)

    eyes, ears = ScriptedEncoder(VISION, hangs), ScriptedEncoder(AUDIO, costly(clock, MS, sure))
    pipeline = build(clock, eyes, ears, budget="10 ms")
    pipeline._encoding._patience_s = 0.05
    skipped = []
    for i in range(1, 4):
        pipeline.feed(frame(i * HOP_NS))
        pipeline.feed(audio((i - 1) * HOP_NS, i * HOP_NS))
        pipeline.feed(Watermark("text", i * HOP_NS))
        (window,) = pipeline.window.cut(i * HOP_NS)
        decision = (await pipeline.decide(window)).decision
        skipped.append(decision.missing.get(VISION))
        if i == 1:
            task = pipeline._encoding._slow[VISION]
            release.set()
            await task
    pipeline.close()
    assert skipped == [Absence.SKIPPED] * 3
    assert pipeline.metrics.counts["encode.vision.skipped"] == 1
    assert pipeline.metrics.counts["encode.vision.spared"] == 2
    assert len(eyes.shown) == 1
