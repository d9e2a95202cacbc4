"""Events a second to a Mosquitto that is near and one that is far: ``python -m tests.bench events``."""

import asyncio
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.mosquitto import free_port, mosquitto
from tests.publishing import running, talker
from tests.test_mqtt_events import Consumer

EVENTS = 1000
ROUND_TRIPS_MS = (0, 50)


async def delayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, after_s: float) -> None:
    """Carry what comes, each piece so much later."""
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def hand_over() -> None:
        while True:
            due_s, data = await pieces.get()
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            writer.write(data)

    handing_over = asyncio.create_task(hand_over())
    try:
        while data := await reader.read(65536):
            pieces.put_nowait((time.monotonic() + after_s, data))
    finally:
        handing_over.cancel()
        writer.close()


async def rate(round_trip_ms: float, folder: Path) -> float:
    """Events a second, from the first that is put down to the last that is acknowledged."""
    port = free_port()
    after_s = round_trip_ms / 2000

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(delayed(reader, back, after_s), delayed(there, writer, after_s))

    async with mosquitto(port, folder), await asyncio.start_server(meet, "127.0.0.1", 0) as road:
        p = talker(f"mqtt://127.0.0.1:{road.sockets[0].getsockname()[1]}", outbox=folder)
        consumer = Consumer(port)
        async with consumer(), running(p):
            p.event({"n": 0})
            await consumer.until(n=0)
            begin_s = time.monotonic()
            for n in range(1, EVENTS + 1):
                p.event({"n": n})
            await consumer.until(n=EVENTS)
            await p._outbox.drained.wait()
            taken_s = time.monotonic() - begin_s
        assert [event["n"] for event in consumer.got] == list(range(EVENTS + 1))
    return EVENTS / taken_s


def main() -> None:
    """Print it."""
    for round_trip_ms in ROUND_TRIPS_MS:
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(rate(round_trip_ms, Path(folder)))
        print(f"events to a broker {round_trip_ms} ms away (there and back): {found:.0f}/s ({EVENTS} events)")
