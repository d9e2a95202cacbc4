import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.types import Absence, Modality, Sample, Source, Window
from agent.window import Bounds, SlidingWindow, SourceState
from tests.samples import audio, frame, text

VISION, AUDIO, TEXT = Modality
SPANS = {VISION: 100, AUDIO: 200, TEXT: 1_000}
CAMERA = Source("camera", VISION)
MICROPHONE = Source("microphone", AUDIO)
MESSAGES = Source("text", TEXT, late_by_ns=500)
BOUNDS = Bounds()
SPEECH = Source("speech", TEXT, awaited=False, late_by_ns=500)


def window(*sources: Source, start_ns: int = 0, bounds: Bounds = BOUNDS) -> SlidingWindow:
    sources = sources or (CAMERA, MICROPHONE)
    return SlidingWindow(sources, spans_ns=SPANS, hop_ns=100, lateness_ns=50, start_ns=start_ns, bounds=bounds)


def stamps(cut: Window, modality: Modality) -> list[int]:
    return [sample.end_ns for sample in cut.parts.get(modality, ())]


def test_windows_end_at_the_multiples_of_the_hop_after_the_start() -> None:
    w = window(start_ns=250)
    assert w.next_end_ns == 300
    assert [cut.end_ns for cut in w.cut(560)] == [300, 400, 500]


def test_a_window_is_cut_at_once_when_every_live_source_has_reached_its_end() -> None:
    w = window()
    w.add(frame(100))
    assert w.cut(101) == []
    w.add(audio(80, 100))
    (cut,) = w.cut(101)
    assert (cut.end_ns, cut.cut_ns, cut.settled, dict(cut.missing)) == (100, 101, True, {TEXT: Absence.DISABLED})


def test_a_window_is_never_cut_before_its_end_even_when_nobody_is_awaited() -> None:
    w = window(SPEECH)
    assert w.cut(99) == []
    assert len(w.cut(100)) == 1


def test_a_modality_contributes_what_ends_within_its_span_left_open_right_closed() -> None:
    w = window()
    for end in (1, 100, 101, 150, 200, 201):
        w.add(frame(end))
    w.watermark("microphone", 200)
    first, second = w.cut(201)
    assert stamps(first, VISION) == [1, 100]
    assert stamps(second, VISION) == [101, 150, 200]


def test_when_a_source_lags_the_window_is_cut_at_the_lateness_with_what_came() -> None:
    w = window()
    w.add(frame(100))
    assert w.cut(149) == []
    (cut,) = w.cut(150)
    assert not cut.settled
    assert stamps(cut, VISION) == [100]
    assert cut.missing[AUDIO] is Absence.LATE


def test_due_is_the_end_once_settled_and_the_deadline_before() -> None:
    w = window()
    assert w.due_ns() == 150
    w.watermark("camera", 100)
    w.watermark("microphone", 120)
    assert w.due_ns() == 100


@pytest.mark.parametrize(
    ("state", "reason"), [(SourceState.FAILED, Absence.FAILED), (SourceState.DISABLED, Absence.DISABLED)]
)
def test_nobody_waits_for_a_source_that_is_down(state: SourceState, reason: Absence) -> None:
    w = window()
    w.mark("microphone", state)
    w.add(frame(100))
    (cut,) = w.cut(100)
    assert cut.settled
    assert cut.missing[AUDIO] is reason


def test_a_source_that_delivered_nothing_up_to_the_end_is_silent() -> None:
    w = window(CAMERA, MESSAGES)
    w.add(frame(100))
    w.watermark("text", 100)
    (cut,) = w.cut(100)
    assert cut.missing[TEXT] is Absence.SILENT


def test_a_source_that_nobody_waits_for_never_holds_a_window_up() -> None:
    w = window(CAMERA, SPEECH)
    w.add(frame(100))
    (cut,) = w.cut(100)
    assert cut.missing[TEXT] is Absence.SILENT


def test_what_comes_after_its_window_was_cut_is_dropped_and_counted() -> None:
    w = window()
    w.cut(150)
    assert not w.add(frame(100))
    assert w.add(frame(101))
    assert w.dropped == {("camera", "late"): 1}


def test_a_source_that_may_be_late_enters_the_windows_that_are_still_to_come() -> None:
    w = window(CAMERA, SPEECH)
    w.cut(650)
    assert w.add(text(101, source="speech", arrival_ns=650))
    assert not w.add(text(100, source="speech", arrival_ns=650))
    (cut,) = w.cut(750)
    assert stamps(cut, TEXT) == [101]


def test_a_duplicate_stamp_is_dropped_and_a_backward_one_put_in_its_place() -> None:
    w = window()
    for end in (50, 60, 60, 55):
        w.add(frame(end))
    (cut,) = w.cut(150)
    assert stamps(cut, VISION) == [50, 55, 60]
    assert w.dropped == {("camera", "duplicate"): 1}


def test_a_sample_that_comes_again_is_dropped_whatever_came_between() -> None:
    w = window(CAMERA, Source("other", VISION), MICROPHONE)
    for source, end in (("camera", 50), ("camera", 60), ("other", 50), ("camera", 50)):
        w.add(frame(end, source))
    (cut,) = w.cut(150)
    assert [(sample.source, sample.end_ns) for sample in cut.parts[VISION]] == [
        ("camera", 50),
        ("other", 50),
        ("camera", 60),
    ]
    assert w.dropped == {("camera", "duplicate"): 1}


def test_instants_may_lie_before_zero() -> None:
    w = window(start_ns=-1_000)
    assert w.cut(-900) == []  # nobody has delivered up to there
    for end in (-950, -900, -1):
        assert w.add(frame(end))
        assert w.add(audio(end - 1, end))
    (cut,) = w.cut(-850)
    assert (cut.end_ns, cut.settled, stamps(cut, VISION)) == (-900, True, [-950, -900])


def test_a_stamp_from_the_future_does_not_settle_windows_for_ever() -> None:
    w = window(bounds=Bounds(future_ns=1_000))
    assert not w.add(frame(5_000, arrival_ns=100))
    w.add(audio(80, 100))
    assert w.cut(101) == []
    assert w.dropped == {("camera", "future"): 1}


def test_two_sources_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two sources are called camera"):
        window(CAMERA, CAMERA)


def test_an_unknown_source_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError, match="nobody"):
        window().add(frame(1, source="nobody"))


@pytest.mark.parametrize("bounds", [Bounds(count=3), Bounds(nbytes=3 * 12)])
def test_memory_is_bounded_by_count_and_by_bytes(bounds: Bounds) -> None:
    w = window(bounds=bounds)
    for end in range(1, 11):
        w.add(frame(end))
    assert w.held()[VISION] == (3, 36)
    assert w.dropped == {("camera", "overflow"): 7}
    (cut,) = w.cut(150)
    assert stamps(cut, VISION) == [8, 9, 10]


def test_memory_is_bounded_by_time() -> None:
    w = window()
    for end in range(10, 2_000, 10):
        w.add(frame(end))
        w.watermark("microphone", end)
        w.cut(end)
    assert w.held()[VISION][0] <= 20


def test_windows_do_not_share_their_parts_with_the_buffer() -> None:
    w = window()
    w.add(frame(100))
    (cut,) = w.cut(150)
    w.cut(1_000)
    assert stamps(cut, VISION) == [100]


arrivals = st.lists(
    st.tuples(st.sampled_from(["camera", "microphone", "text"]), st.integers(1, 1_000)), max_size=60, unique=True
)


@given(arrivals, st.randoms(use_true_random=False))
def test_order_of_arrival_across_sources_never_changes_a_window(
    stamped: list[tuple[str, int]], rng: random.Random
) -> None:
    def cuts(order: list[tuple[str, int]]) -> list[tuple[int, list[tuple[str, int]]]]:
        w = window(CAMERA, MICROPHONE, MESSAGES)
        for source, end in order:
            w.add(_sample(source, end))
        return [
            (cut.end_ns, [(s.source, s.end_ns) for part in cut.parts.values() for s in part]) for cut in w.cut(2_000)
        ]

    shuffled = stamped[:]
    rng.shuffle(shuffled)
    assert cuts(shuffled) == cuts(sorted(stamped, key=lambda pair: pair[1]))


@given(arrivals)
def test_each_end_is_cut_once_and_holds_exactly_its_span(stamped: list[tuple[str, int]]) -> None:
    w = window(CAMERA, MICROPHONE, MESSAGES)
    ordered = sorted(stamped, key=lambda pair: pair[1])
    cuts = []
    for source, end in ordered:
        w.add(_sample(source, end))
        cuts += w.cut(end)
    cuts += w.cut(2_000)
    assert [cut.end_ns for cut in cuts] == list(range(100, 2_000, 100))
    for cut in cuts:
        for modality, span in SPANS.items():
            name = {VISION: "camera", AUDIO: "microphone", TEXT: "text"}[modality]
            want = [end for source, end in ordered if source == name and cut.end_ns - span < end <= cut.end_ns]
            assert stamps(cut, modality) == want
            assert (modality in cut.missing) == (not want)


def _sample(source: str, end: int) -> Sample:
    match source:
        case "camera":
            return frame(end)
        case "microphone":
            return audio(end - 1, end)
        case _:
            return text(end)
