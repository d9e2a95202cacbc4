"""A road to the broker that is cut, half-open or slow while events flow; tests/test_mqtt_*.py have the broker's own."""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiomqtt
import pytest

from tests.faults.proxy import Proxy
from tests.mosquitto import free_port, mosquitto
from tests.publishing import NODE, Talker, decision, running, talker
from tests.test_mqtt_events import Consumer, first_times

PATIENCE_S = 60.0
EVERY_S = 0.005
"""Between two events, many times faster than any rule makes them."""


class Telling:
    """Tells events without a pause, until it is told to stop."""

    def __init__(self, p: Talker) -> None:
        self.count = 0
        self._p = p
        self._task = asyncio.create_task(self._tell(), name="telling")

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _tell(self) -> None:
        for n in itertools.count():
            self._p.event({"n": n})
            self.count = n + 1
            await asyncio.sleep(EVERY_S)


async def counted(p: Talker, name: str, above: int) -> None:
    """Return once the counter is above that."""
    # Counters tell nobody that they rise.
    while p.counted.counts[name] <= above:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def cut(road: Proxy) -> None:
    await road.refuse()


async def hold(road: Proxy) -> None:
    road.hold()


async def accept(road: Proxy) -> None:
    await road.accept()


async def release(road: Proxy) -> None:
    road.release()


Step = Callable[[Proxy], Awaitable[None]]


@pytest.mark.parametrize(("breaks", "mends"), [(cut, accept), (hold, release)], ids=["cut", "half-open"])
async def test_no_event_is_lost_on_a_road_that_breaks_and_it_is_back_within_one_pause(
    breaks: Step, mends: Step, tmp_path: Path
) -> None:
    port = free_port()
    async with mosquitto(port, tmp_path), Proxy(port) as road, asyncio.timeout(PATIENCE_S):
        p = talker(f"mqtt://127.0.0.1:{road.port}", keepalive="2 s")
        consumer = Consumer(port)
        async with consumer(), running(p):
            telling = Telling(p)
            await consumer.until(n=20)
            lost, failed = p.counted.counts["mqtt.connections_lost"], p.counted.counts["mqtt.connections_failed"]
            await breaks(road)
            await counted(p, "mqtt.connections_lost", lost)
            await counted(p, "mqtt.connections_failed", failed)
            connections, failed = p.counted.counts["mqtt.connections"], p.counted.counts["mqtt.connections_failed"]
            await mends(road)
            await counted(p, "mqtt.connections", connections)
            assert p.counted.counts["mqtt.connections_failed"] <= failed + 1
            await telling.stop()
            await consumer.until(n=telling.count - 1)
            await p._outbox.drained.wait()
    got = [event["n"] for event in first_times(consumer.got)]
    assert got == list(range(telling.count)), "lost, or out of order"
    assert not any(p.counted.counts[f"outbox.{fate}"] for fate in ("lost", "overflow", "aged", "flooded"))


async def test_cut_again_and_again_in_the_middle_of_it(tmp_path: Path) -> None:
    port = free_port()
    async with mosquitto(port, tmp_path), Proxy(port) as road, asyncio.timeout(PATIENCE_S):
        p = talker(f"mqtt://127.0.0.1:{road.port}", keepalive="2 s")
        consumer = Consumer(port)
        async with consumer(), running(p):
            telling = Telling(p)
            for size in (100, 1, 1000):
                connections = p.counted.counts["mqtt.connections"]
                await road.until_carried(size)
                await road.refuse()
                await road.accept()
                await counted(p, "mqtt.connections", connections)
            await telling.stop()
            await consumer.until(n=telling.count - 1)
            await p._outbox.drained.wait()
    assert [event["n"] for event in first_times(consumer.got)] == list(range(telling.count))


async def test_on_a_slow_road_the_state_is_new_decisions_give_way_and_events_all_come(tmp_path: Path) -> None:
    """Ten times as much is said as the road carries."""
    port = free_port()
    async with mosquitto(port, tmp_path), Proxy(port) as road, asyncio.timeout(PATIENCE_S):
        p = talker(f"mqtt://127.0.0.1:{road.port}", queue=4)
        consumer = Consumer(port)
        async with consumer(), running(p), aiomqtt.Client("127.0.0.1", port) as reader:
            await reader.subscribe(f"{NODE}/state")
            await counted(p, "mqtt.connections", 0)
            road.pace(20_000)
            behind: list[int] = []
            for seq in range(300):
                p.decision(decision(seq))
                if seq % 50 == 0:
                    p.event({"n": seq // 50})
                await asyncio.sleep(0.005)
                while len(reader.messages):
                    message = await anext(aiter(reader.messages))
                    behind.append(seq - json.loads(message.payload)["seq"])
            road.pace(0)
            await consumer.until(n=5)
    assert p.counted.counts["publish.dropped"] > 100
    assert [event["n"] for event in first_times(consumer.got)] == list(range(6))
    half = len(behind) // 2
    assert half >= 2
    assert min(behind[half:]) <= max(behind[:half]), "what is published grows older"
