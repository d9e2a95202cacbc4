"""What lasts is told once: laws that hold whatever the decisions are, and what a person would expect."""

import json
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import MS, SECOND, WallClock
from agent.config import LABELS
from agent.config.events import rules
from agent.events import STEP, Event, Events, Kind, Rule, Why
from agent.payload import event_payload
from agent.types import Decision, Latency, Modality
from tests.outside import launch

HOP_NS = 500 * MS
JOY = Rule("joy", ("happy",), enter=0.6, leave=0.4, hold_ns=SECOND, cooldown_ns=2 * SECOND, grace_ns=SECOND)
MOOD = Rule("mood", ("happy", "sad"), enter=0.7, leave=0.5, hold_ns=0, cooldown_ns=0, grace_ns=0)
Shares = tuple[float, float] | None
"""How probable happy and sad are; None for an abstention."""


def decision(seq: int, end_ns: int, shares: Shares) -> Decision:
    happy, sad = shares or (0.0, 0.0)
    return Decision(
        session="s",
        seq=seq,
        start_ns=end_ns - HOP_NS,
        end_ns=end_ns,
        label="happy" if shares else None,
        confidence=happy,
        conflict=0.0,
        rule="bayes",
        probabilities={"happy": happy, "sad": sad, "neutral": 1 - happy - sad},
        dimensions={},
        modalities={},
        missing=dict.fromkeys(Modality),  # type: ignore[arg-type]
        latency=Latency(0, 0, 0, 0),
    )


def told(rule: Rule, *shares: Shares) -> list[list[Event]]:
    """What is told with each of these decisions, one a hop."""
    events = Events([rule], HOP_NS)
    return [events.update(decision(seq, (seq + 1) * HOP_NS, share)) for seq, share in enumerate(shares)]


def kinds(found: Sequence[Sequence[Event]]) -> list[str]:
    return ["".join(event.kind.value[0] for event in events) or "." for events in found]


def sure(happy: float) -> Shares:
    return happy, 0.0


def test_it_begins_when_it_has_lasted_and_ends_when_it_has_been_gone_for_as_long() -> None:
    found = told(JOY, *map(sure, [0.1, 0.7, 0.7, 0.7, 0.5, 0.3, 0.3, 0.3, 0.3]))
    assert kinds(found) == [".", ".", ".", "n", ".", ".", ".", "e", "."]
    (new,), (end,) = found[3], found[7]
    assert (new.since_ns, new.at_ns) == (2 * HOP_NS, 4 * HOP_NS)
    assert (end.id, end.since_ns, end.why, end.peak) == (new.id, new.since_ns, Why.GONE, 0.7)


def test_a_flicker_neither_begins_nor_ends_it() -> None:
    flickering = [0.9, 0.1, 0.9, 0.1, 0.9, 0.9, 0.9, 0.1, 0.9, 0.1, 0.9, 0.1]
    assert kinds(told(JOY, *map(sure, flickering))) == ["."] * 6 + ["n"] + ["."] * 5


def test_between_the_thresholds_nothing_changes() -> None:
    assert kinds(told(JOY, *map(sure, [0.5] * 6))) == ["."] * 6
    assert kinds(told(JOY, *map(sure, [0.65] * 3 + [0.41] * 6)))[3:].count("e") == 0


def test_after_its_end_it_rests_and_then_has_to_hold_again() -> None:
    found = told(JOY, *map(sure, [0.9] * 3 + [0.0] * 3 + [0.9] * 8))
    said = [(i, event.kind) for i, events in enumerate(found) for event in events]
    assert said == [(2, Kind.NEW), (5, Kind.END), (5 + 4 + 2, Kind.NEW)]


def test_silence_ends_it_after_the_grace_and_not_before() -> None:
    silent = told(JOY, *map(sure, [0.9] * 3), None, None, None, None)
    assert kinds(silent) == [".", ".", "n", ".", ".", "e", "."]
    assert silent[5][0].why is Why.UNHEARD
    assert silent[5][0].confidence == 0.9
    assert kinds(told(JOY, *map(sure, [0.9] * 3), None, None, sure(0.9), None, None))[3:] == ["."] * 5


def test_a_gap_without_windows_ends_it_as_silence_does() -> None:
    for gap, ends in ((3, False), (4, True)):  # a grace of two hops: two windows may fail to come
        events = Events([JOY], HOP_NS)
        for seq in range(3):
            events.update(decision(seq, (seq + 1) * HOP_NS, sure(0.9)))
        found = events.update(decision(3, (3 + gap) * HOP_NS, sure(0.9)))
        assert [event.why for event in found] == ([Why.UNHEARD] if ends else [])


def test_labels_of_one_rule_count_together_and_a_change_among_them_is_an_update() -> None:
    found = told(MOOD, (0.5, 0.3), (0.3, 0.5), (0.3, 0.5), (0.3, 0.65), (0.1, 0.1))
    assert kinds(found) == ["n", "u", ".", "u", "e"]
    assert [events[0].label for events in found if events] == ["happy", "sad", "sad", "happy"]
    assert abs(found[0][0].confidence - 0.8) < 1e-9


def test_by_default_there_is_an_event_for_each_label_but_neutral() -> None:
    assert [rule.name for rule in rules(None, LABELS)] == list(LABELS[1:])
    assert all(rule.leave < rule.enter for rule in rules(None, LABELS))
    assert rules({}, LABELS) == []


def test_other_rules_end_what_they_no_longer_know_and_leave_the_rest_alone() -> None:
    events = Events([JOY, MOOD], HOP_NS)
    for seq in range(3):
        events.update(decision(seq, (seq + 1) * HOP_NS, sure(0.9)))
    (ended,) = events.adopt([JOY])
    assert (ended.rule, ended.kind, ended.why, ended.decision) == ("mood", Kind.END, Why.RULE, "s-2")
    assert events.update(decision(3, 4 * HOP_NS, sure(0.9))) == []  # joy goes on
    (stopped,) = events.stop()
    assert (stopped.rule, stopped.why) == ("joy", Why.STOPPED)
    assert events.stop() == []


def test_the_payload_is_as_the_contract_says() -> None:
    wall = WallClock()
    wall.calibrate(0, 1_795_255_200 * SECOND)
    (new,) = told(JOY, *map(sure, [0.9] * 3))[2]
    assert event_payload(new, node="kiosk-1", wall=wall) == {
        "schema": 1, "node": "kiosk-1", "type": "new", "id": "s-joy-2", "rule": "joy", "label": "happy",
        "confidence": 0.9, "peak": 0.9, "since": "2026-11-21T10:00:00.500Z", "time": "2026-11-21T10:00:01.500Z",
        "since_ns": "1795255200500000000", "time_ns": "1795255201500000000", "decision": "s-2",
    }  # fmt: skip


share = st.one_of(
    st.none(), st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)), st.sampled_from([(0.95, 0.0), (0.0, 0.95)])
)
steps = st.lists(st.tuples(st.integers(1, 6), share), min_size=1, max_size=60)
durations = st.integers(0, 6).map(lambda hops: hops * HOP_NS)


@st.composite
def ruled(draw: st.DrawFn, name: str) -> Rule:
    enter = draw(st.floats(0, 1))
    return Rule(
        name,
        draw(st.sampled_from([("happy",), ("sad",), ("happy", "sad")])),
        enter=enter,
        leave=draw(st.floats(0, enter)),
        hold_ns=draw(durations),
        cooldown_ns=draw(durations),
        grace_ns=draw(durations),
    )


def decisions(steps: list[tuple[int, Shares]]) -> list[Decision]:
    ends = accumulate(hops * HOP_NS for hops, _ in steps)
    return [decision(seq, end, share) for seq, (end, (_, share)) in enumerate(zip(ends, steps, strict=True))]


@settings(deadline=None)
@given(steps, ruled("a"), ruled("b"))
def test_laws(steps: list[tuple[int, Shares]], one: Rule, other: Rule) -> None:
    events = Events([one, other], HOP_NS)
    whole = [event for d in decisions(steps) for event in events.update(d)]
    for rule in (one, other):
        said = [event for event in whole if event.rule == rule.name]
        lives: dict[str, list[Event]] = {}
        for event in said:
            lives.setdefault(event.id, []).append(event)
        for life in lives.values():
            shape = "".join(event.kind.value[0] for event in life)
            assert shape == "n" + "u" * shape.count("u") + "e" * shape.count("e")
            assert shape.count("e") <= 1
            assert len({event.since_ns for event in life}) == 1
            assert life[0].at_ns - life[0].since_ns >= rule.hold_ns
            assert life[0].confidence >= rule.enter
            assert all(b.at_ns - a.at_ns >= rule.hold_ns for a, b in pairwise(life) if b.kind is Kind.UPDATE)
            assert all(
                a.label != b.label or abs(a.confidence - b.confidence) >= STEP
                for a, b in pairwise(life)
                if b.kind is Kind.UPDATE
            )
            assert all(event.confidence <= event.peak + 1e-12 for event in life)
            assert [event.peak for event in life] == sorted(event.peak for event in life)
            assert (life[-1].why is not None) == (life[-1].kind is Kind.END)
        # One after the other: the next begins only after the end, the rest and the time for which it has to hold.
        for life, following in pairwise(lives.values()):
            assert life[-1].kind is Kind.END
            assert following[0].at_ns - life[-1].at_ns >= rule.cooldown_ns + rule.hold_ns
    assert len({(event.id, event.decision) for event in whole}) == len(whole)


@settings(deadline=None)
@given(steps, ruled("a"))
def test_the_same_decisions_give_the_same_events_and_a_rule_does_not_see_the_others(
    steps: list[tuple[int, Shares]], rule: Rule
) -> None:
    alone, among = Events([rule], HOP_NS), Events([JOY, rule, MOOD], HOP_NS)
    for d in decisions(steps):
        assert alone.update(d) == [event for event in among.update(d) if event.rule == rule.name]


@settings(deadline=None)
@given(steps, ruled("a"))
def test_nothing_outlasts_its_grace(steps: list[tuple[int, Shares]], rule: Rule) -> None:
    """Whoever is told of every window in which nothing was sensed knows of the end one hop after the grace."""
    events = Events([rule], HOP_NS)
    found = decisions(steps)
    for d in found:
        events.update(d)
    heard = max((d.end_ns for d in found if not d.abstained), default=found[-1].end_ns)
    begin, hops = max(heard, found[-1].end_ns), rule.grace_ns // HOP_NS + 1
    for n in range(1, hops + 1):
        events.update(decision(len(found) + n, begin + n * HOP_NS, None))
    assert events.stop() == []


async def test_a_replay_tells_the_story_of_the_session(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    code, _ = await launch("replay", "demo", "--events", str(file), "--log-level", "ERROR")
    assert code == 0
    events = [json.loads(line) for line in file.read_text().splitlines()]
    told = [(event["id"], event["type"]) for event in events if event["type"] != "update"]
    begun = [who for who, what in told if what == "new"]
    assert sorted(told) == sorted((who, what) for who in begun for what in ("new", "end"))
    assert all(told.index((who, "new")) < told.index((who, "end")) for who in begun)
    assert {event["rule"] for event in events} >= {"happy", "sad"}
    assert all(event["id"].startswith(f"demo-{event['rule']}-") for event in events)
