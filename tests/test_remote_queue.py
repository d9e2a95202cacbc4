"""What waits for a remote clock: samples give way, watermarks never do."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agent.remote.clocks import ClockId
from sensors.remote_packet import Form, Packet
from sensors.remote_queue import Arrived, PacketQueue

HERE = ClockId("host", "session")


def sample(t_ns: int) -> Arrived:
    return Arrived(Packet(HERE, t_ns, Form.PCM, t_ns, t_ns), t_ns)


def mark(t_ns: int, clock: ClockId = HERE) -> Arrived:
    return Arrived(Packet(clock, t_ns, Form.WATERMARK, t_ns, t_ns), t_ns)


def left(queue: PacketQueue) -> list[tuple[bool, int]]:
    """What is in it: whether a watermark, and its instant."""
    found = []
    while queue.oldest:
        arrived = queue.pop()
        found.append((arrived.mark, arrived.packet.t_ns))
    return found


def test_of_more_samples_the_oldest_goes_and_marks_stay() -> None:
    drops: Counter[str] = Counter()
    queue = PacketQueue(2, said_once=False, drops=drops)
    for arrived in (mark(0), sample(1), mark(1), sample(2), mark(2), sample(3), mark(3)):
        queue.put(arrived)
    assert left(queue) == [(True, 1), (False, 2), (True, 2), (False, 3), (True, 3)]
    assert drops == {"overflow": 1}


def test_of_what_is_said_once_the_newest_is_refused() -> None:
    drops: Counter[str] = Counter()
    queue = PacketQueue(2, said_once=True, drops=drops)
    for t_ns in (1, 2, 3):
        queue.put(sample(t_ns))
    queue.put(mark(4))
    assert left(queue) == [(False, 1), (False, 2), (True, 4)]
    assert drops == {"refused": 1}


def test_of_marks_in_a_row_the_further_stands_for_both_unless_the_clock_is_another() -> None:
    queue = PacketQueue(2, said_once=False, drops=Counter())
    again = ClockId("host", "restarted")
    for arrived in (mark(1), mark(2), mark(1, again), mark(3, again)):
        queue.put(arrived)
    assert left(queue) == [(True, 2), (True, 3)]


@given(st.lists(st.booleans(), max_size=80), st.integers(1, 5), st.booleans())
def test_order_bounds_and_counts(marks: list[bool], size: int, said_once: bool) -> None:
    drops: Counter[str] = Counter()
    queue = PacketQueue(size, said_once=said_once, drops=drops)
    for t_ns, is_mark in enumerate(marks):
        queue.put(mark(t_ns) if is_mark else sample(t_ns))
        assert len(queue) <= 2 * size + 1
    found = left(queue)
    assert [t_ns for _, t_ns in found] == sorted(t_ns for _, t_ns in found)
    assert sum(not is_mark for is_mark, _ in found) + drops.total() == marks.count(False)
    newest_mark = max((t_ns for t_ns, is_mark in enumerate(marks) if is_mark), default=None)
    assert newest_mark is None or (True, newest_mark) in found
