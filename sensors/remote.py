"""Samples that another host captured and sends over MQTT, placed on our clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import partial

import aiomqtt

from agent.clock import MS, SECOND
from agent.config.sensors import RemoteSensor as Settings
from agent.delivery.rate import RateLimit
from agent.mqtt import V311, connection, either, heed_cancellation
from agent.payload import encode
from agent.remote.clocks import ClockId, Listening, Probe
from agent.seams import SensorError
from agent.types import Modality, Payload, Sample, Source, Text, Watermark
from agent.worker import Worker
from sensors.remote_line import RemoteLine
from sensors.remote_packet import BadPacket, Form, Packet, Question, parse, parse_answer
from sensors.remote_payload import decode_jpeg, decode_pcm, decode_text
from sensors.remote_queue import Arrived, PacketQueue
from sensors.text import MAX_DELAY_NS

QUEUE = {Modality.VISION: 4, Modality.AUDIO: 100, Modality.TEXT: 64}
"""Samples that wait at most, see `PacketQueue`."""
HOLD_NS = SECOND
"""How long a packet waits for the first word on its clock."""
MAX_RATE_HZ = 250
"""Packets a second that are looked at, and answers: sound in blocks of 20 ms makes 50."""
HINTS = {
    "unsynchronised": "its host does not answer the probes of its clock; what runs there, `launch.py send`?",
    "size": "larger than its max_size; raise that, or let the host send less (`launch.py send --quality`)",
    "rate": f"more than {MAX_RATE_HZ} a second; let the host send fewer (`launch.py send --fps`)",
    "modality": "of another modality than the one in its table",
    "order": "older than what came before; do two hosts send under one name?",
    "stamp": "they claim to be of the future; start `launch.py send` anew on its host",
    "retained": "kept by the broker; publish samples without retain",
    "overflow": "they came faster than they can be decoded",
    "refused": "more messages came at once than may wait",
}
"""What to do about packets that were left out, by reason; ``uncertain`` depends on the settings."""
FORMS = {Modality.VISION: Form.JPEG, Modality.AUDIO: Form.PCM, Modality.TEXT: Form.TEXT}


class RemoteSensor:
    """A `Sensor` of one source that some host publishes on ``<base>/<node>/remote/<source>``.

    It probes the clocks that it hears, and shares what it learns with the other remote sensors (`Listening`).
    Whatever comes in, nothing is raised. `drops` counts by reason: those of `parse` and `RemoteLine.place`, and
    ``size`` (above `max_size`), ``rate`` (more than `MAX_RATE_HZ`), ``overflow`` and ``refused`` (see `PacketQueue`),
    ``modality`` (another than the config's), ``unsynchronised`` (no answer from its clock within `HOLD_NS`),
    ``payload`` (not what the header says it is), ``retained`` (said once, it would be new again at each connection).
    """

    def __init__(self, name: str, settings: Settings, *, listening: Listening) -> None:
        self.name = name
        in_order = settings.modality is not Modality.TEXT
        self.sources = (Source(name, settings.modality, late_by_ns=0 if in_order else MAX_DELAY_NS),)
        self.drops: Counter[str] = Counter()
        self._settings = settings
        self._listening = listening
        self._clock = listening.clock
        self._clocks = listening.clocks
        self._topic = f"{listening.root}/remote/{settings.source}"
        self._line = RemoteLine(max_uncertainty_ns=settings.max_uncertainty, in_order=in_order)
        self._waiting = PacketQueue(QUEUE[settings.modality], said_once=not in_order, drops=self.drops)
        self._wake = asyncio.Event()  # something came that may be delivered, or the connection has ended
        self._heard = asyncio.Event()  # of a clock that is to be probed
        self._gate, self._answers = RateLimit(MAX_RATE_HZ), RateLimit(MAX_RATE_HZ)

    async def stream(self) -> AsyncGenerator[Sample | Watermark, None]:
        """See `agent.seams.Sensor`. A lost connection, and silence for ``stall``, are a `SensorError`."""
        self._waiting.clear()
        before = Counter(self.drops)
        link = asyncio.create_task(self._listen(), name=f"{self.name} link")
        link.add_done_callback(lambda _: self._wake.set())
        worker = Worker(f"{self.name} decoder")
        quiet_from_ns = self._clock.now_ns()
        try:
            while not link.done():
                self._wake.clear()
                while arrived := self._next():
                    item = await self._item(arrived, worker)
                    if item is not None:
                        yield item
                        quiet_from_ns = self._clock.now_ns()
                if self._clock.now_ns() - quiet_from_ns >= self._settings.stall:
                    raise SensorError(self._why_quiet(self.drops - before))
                await self._rest(quiet_from_ns + self._settings.stall)
            link.result()
        finally:
            worker.dismiss()
            while not link.done():
                link.cancel()  # more than once if need be, see `heed_cancellation`
                await asyncio.wait([link], timeout=0.1)

    async def _rest(self, until_ns: int) -> None:
        """Return when something comes, at `until_ns`, or when the oldest packet has waited for too long."""
        if oldest := self._waiting.oldest:
            until_ns = min(until_ns, oldest.arrival_ns + HOLD_NS + 1)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0, until_ns - self._clock.now_ns()) / SECOND):
                await self._wake.wait()

    async def _listen(self) -> None:
        """Stay connected; a `SensorError` when that ends."""
        settings = self._listening.settings
        try:
            # 3.1.1 is understood by every broker there is, and a sample is self-contained: there is nothing to choose.
            async with connection(settings, protocol=V311) as client:
                heed_cancellation()
                await client.subscribe([(self._topic, 1), (f"{self._listening.root}/clock/+/answer", 0)])
                heed_cancellation()
                await either(self._receive(client), self._probe(client))
        except aiomqtt.MqttError as error:
            heed_cancellation()
            raise SensorError(f"{self.name}: broker {settings.broker}: {error}; is it there?") from error

    async def _receive(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            arrival_ns = self._clock.now_ns()
            payload = message.payload if isinstance(message.payload, bytes) else b""
            if message.topic.value != self._topic:
                await self._take_answer(client, message.topic.value.split("/")[-2], payload, arrival_ns)
            elif message.retain:
                self.drops["retained"] += 1
            else:
                self._take(payload, arrival_ns)

    async def _take_answer(self, client: aiomqtt.Client, host: str, payload: bytes, arrival_ns: int) -> None:
        if not self._answers.passes(arrival_ns):
            self.drops["rate"] += 1
            return
        try:
            answer = parse_answer(payload)
        except BadPacket as error:
            self.drops[error.reason] += 1
            return
        clock = ClockId(host, answer.session)
        news = self._clocks.answer(Probe(clock, answer.number), answer.t1_ns, answer.t2_ns, arrival_ns=arrival_ns)
        self._wake.set()
        if news:
            report = self._clocks.report(clock, self._listening.wall)
            await client.publish(f"{self._listening.root}/clock/{host}", encode(report), retain=True)

    def _take(self, payload: bytes, arrival_ns: int) -> None:
        """Put a packet in the queue."""
        if len(payload) > self._settings.max_size:
            self.drops["size"] += 1
            return
        if not self._gate.passes(arrival_ns):
            self.drops["rate"] += 1
            return
        try:
            packet = parse(payload)
        except BadPacket as error:
            self.drops[error.reason] += 1
            return
        if packet.form not in (FORMS[self._settings.modality], Form.WATERMARK):
            self.drops["modality"] += 1
            return
        if self._clocks.hear(packet.clock):
            self._heard.set()
        self._waiting.put(Arrived(packet, arrival_ns))
        self._wake.set()

    async def _probe(self, client: aiomqtt.Client) -> None:
        while True:
            self._heard.clear()
            while probe := self._clocks.probe():
                question = Question(probe.clock.session, probe.number)
                await client.publish(f"{self._listening.root}/clock/{probe.clock.host}/probe", question.bytes())
            due_ns = self._clocks.due_ns()
            pause_ns = SECOND if due_ns is None else min(SECOND, max(0, due_ns - self._clock.now_ns()))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_ns / SECOND):
                    await self._heard.wait()

    def _next(self) -> Arrived | None:
        """The oldest packet that can be placed; what has waited for too long goes."""
        while oldest := self._waiting.oldest:
            if self._clocks.offset(oldest.packet.clock) is not None:
                return self._waiting.pop()
            if self._clock.now_ns() - oldest.arrival_ns <= HOLD_NS:
                return None
            self._waiting.pop()
            self.drops["unsynchronised"] += 1
        return None

    async def _item(self, arrived: Arrived, worker: Worker) -> Sample | Watermark | None:
        packet, arrival_ns = arrived.packet, arrived.arrival_ns
        offset = self._clocks.offset(packet.clock)
        assert offset is not None, "`_next` returns only those"
        try:
            t_ns, end_ns = self._line.place(packet, offset, arrival_ns)
            if packet.form is Form.WATERMARK:
                return Watermark(self.name, end_ns)
            payload = await self._payload(packet, worker)
        except BadPacket as error:
            self.drops[error.reason] += 1
            return None
        return Sample(self.name, payload, t_ns=t_ns, end_ns=end_ns, arrival_ns=arrival_ns)

    async def _payload(self, packet: Packet, worker: Worker) -> Payload:
        if packet.form is Form.JPEG:
            return await worker.run(partial(decode_jpeg, packet.payload))
        if packet.form is Form.PCM:
            return decode_pcm(packet.payload, packet.end_ns - packet.t_ns)
        return Text(decode_text(packet.payload), lang=packet.lang)

    def _why_quiet(self, drops: Counter[str]) -> str:
        drops["unsynchronised"] += len(self._waiting)
        stall = f"{self._settings.stall / SECOND:g} s"
        if not +drops:
            return (
                f"{self.name}: nothing came on {self._topic} for {stall}; does a host send there"
                " (`launch.py send`), and to this broker?"
            )
        reason, count = drops.most_common(1)[0]
        hint = HINTS.get(reason, "not what `launch.py send` of this version sends; does something else publish there?")
        if reason == "uncertain":
            limit = f"max_uncertainty, {self._settings.max_uncertainty / MS:g} ms"
            hint = f"its clock is less certain than {limit}; see {self._listening.root}/clock/+"
        return f"{self.name}: nothing usable came on {self._topic} for {stall}: {count} left out as {reason!r}: {hint}"
