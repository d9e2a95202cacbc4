"""What is said again, and when."""

from agent.clock import SECOND
from agent.health.repeats import CAP_NS, FIRST_NS, KEPT, Repeats


def test_the_first_is_said_at_once_and_the_others_are_summed_up_ever_more_seldom() -> None:
    repeats = Repeats()
    said = [(n, text) for n in range(0, 1000, 10) if (text := repeats.due("lost", n * SECOND))]
    assert said == [
        (0, "lost"),
        (60, "lost (6 times in the last 60 s)"),
        (180, "lost (12 times in the last 120 s)"),
        (420, "lost (24 times in the last 240 s)"),
        (900, "lost (48 times in the last 480 s)"),
    ]


def test_what_has_not_come_for_long_is_news_again() -> None:
    repeats = Repeats()
    assert repeats.due("lost", 0)
    assert repeats.due("lost", FIRST_NS - 1) is None
    assert repeats.due("lost", FIRST_NS) == "lost (2 times in the last 60 s)"
    assert repeats.due("lost", 3 * FIRST_NS) == "lost"


def test_the_pauses_have_an_end() -> None:
    repeats = Repeats()
    said_ns = [n * SECOND for n in range(0, 100_000, 20) if repeats.due("lost", n * SECOND)]
    assert said_ns[-1] - said_ns[-2] == CAP_NS


def test_each_message_counts_for_itself_and_few_are_remembered() -> None:
    repeats = Repeats()
    assert all(repeats.due(f"lost {n}", 0) for n in range(KEPT))
    assert repeats.due("lost 0", 1) is None
    assert repeats.due("new", 1)
    assert repeats.due("lost 0", 2) == "lost 0"


def test_what_lasts_is_said_however_often_it_was_said_before() -> None:
    repeats = Repeats()
    assert repeats.due("lost", 0)
    assert repeats.due("lost", FIRST_NS)
    assert repeats.due("lost", FIRST_NS + SECOND, lasting_ns=FIRST_NS - 1) is None
    assert repeats.due("lost", FIRST_NS + 2 * SECOND, lasting_ns=FIRST_NS) == "lost (2 times in the last 2 s)"
