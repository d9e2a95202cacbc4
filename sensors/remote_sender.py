"""The sending side of remote sources: this host's sensors, for an agent somewhere else."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import aiomqtt

from agent.clock import SECOND, Clock
from agent.config import Mqtt
from agent.delivery.mailbox import Mailbox
from agent.delivery.policy import Delivery, NeverDrop, Queue, Throttle
from agent.delivery.rate import RateLimit
from agent.health.metrics import Metrics
from agent.health.repeats import Repeats
from agent.mqtt import V311, connection, either, heed_cancellation
from agent.remote.clocks import ClockId
from agent.seams import Sensor
from agent.supervisor import Backoff, supervise
from agent.types import Modality, Sample, Text, Watermark
from agent.window import SourceState
from agent.worker import Worker
from sensors.remote_packet import Answer, BadPacket, Form, Packet, parse_question
from sensors.remote_payload import encode_payload

log = logging.getLogger(__name__)

PROBES_HZ = 250
"""Probes a second that are answered."""
WAITING = {Modality.VISION: 2, Modality.AUDIO: 100, Modality.TEXT: 64}
"""Samples of a source that wait for the broker at most: of pictures only the newest are worth the way."""
GOODBYE_S = 2.0
"""How long the end waits for what is still to be sent."""


class Sender:
    """Publishes what `sensors` deliver on ``<base>/<node>/remote/<source>``, and answers the probes of its clock.

    Two connections: a probe must not wait behind a picture on its way out. Each connects again by itself, with
    growing pauses; what the broker does not take meanwhile waits within `WAITING`. `drops` counts by
    ``source.reason`` what was left out: the reasons of `agent.delivery.policy`, ``lost`` (the connection broke over
    it), and ``encode`` (no JPEG can be made of it).
    """

    def __init__(
        self,
        settings: Mqtt,
        *,
        node: str,
        host: str,
        sensors: Sequence[Sensor],
        clock: Clock,
        quality: int = 80,
        max_fps: float | None = None,
    ) -> None:
        """`node` is the agent that listens, `host` this one; pictures go as JPEG of `quality`, 0..100."""
        self.clock_id = ClockId(host, uuid.uuid4().hex[:12])
        self.drops: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        """Samples by source."""
        self._settings = settings
        self._root = f"{settings.base}/{node}"
        self._sensors = sensors
        self._clock = clock
        self._quality = quality
        self._max_fps = max_fps
        sources = [source for sensor in sensors for source in sensor.sources]
        self._boxes = {source.name: self._box(source.modality) for source in sources}
        self._seq: Counter[str] = Counter()
        self._unsent: Packet | None = None  # a text that the connection broke over
        self._unsent_source = ""
        self._something = asyncio.Event()
        self._nothing = asyncio.Event()
        self._worker = Worker("jpeg")

    def _box(self, modality: Modality) -> Mailbox[Sample]:
        delivery: Delivery = Queue(WAITING[modality])
        if modality is Modality.TEXT:  # said once
            delivery = NeverDrop(WAITING[modality])
        if modality is Modality.VISION and self._max_fps is not None:
            delivery = Throttle(round(SECOND / self._max_fps), WAITING[modality])
        return Mailbox(delivery)

    async def run(self) -> None:
        """Send until every sensor has ended, or until cancelled."""
        address = self._settings.broker
        async with asyncio.TaskGroup() as work:
            links = [
                work.create_task(self._stay(self._publish, f"samples go to {address}"), name="send samples"),
                work.create_task(self._stay(self._answer, f"probes are answered at {address}"), name="answer probes"),
            ]
            async with asyncio.TaskGroup() as sensing:
                for sensor in self._sensors:
                    sensing.create_task(self._sense(sensor), name=f"sensor {sensor.name}")
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self._nothing.wait()
            for link in links:
                link.cancel()
        self._worker.dismiss()

    def dropped(self) -> Counter[str]:
        """What was left out since the start, by ``source.reason``."""
        drops = Counter(self.drops)
        for name, box in self._boxes.items():
            drops.update({f"{name}.{reason}": count for reason, count in box.drops.items()})
        for sensor in self._sensors:
            drops.update({f"{sensor.name}.{reason}": count for reason, count in sensor.drops.items()})
        return drops

    async def _sense(self, sensor: Sensor) -> None:
        await supervise(sensor, feed=self._feed, mark=_ignore, clock=self._clock, metrics=Metrics())

    def _feed(self, item: Sample | Watermark) -> None:
        self._boxes[item.source].put(item, self._clock.now_ns())
        self._nothing.clear()
        self._something.set()

    async def _stay(self, job: Callable[[aiomqtt.Client], Coroutine[Any, Any, None]], said: str) -> None:
        """Do the job over a connection, again and again, until cancelled."""
        backoff, problem, repeats, silent = Backoff(), "", Repeats(), True
        lost_ns: int | None = None
        while True:
            try:
                async with connection(self._settings, protocol=V311) as client:
                    heed_cancellation()
                    if silent:
                        log.info("broker %s: connected; %s", self._settings.broker, said)
                    backoff.reset()
                    problem, silent, lost_ns = "", False, None
                    await either(job(client))
            except aiomqtt.MqttError as error:
                now_ns = self._clock.now_ns()
                lost_ns = now_ns if lost_ns is None else lost_ns
                lasting_ns = 0 if silent else now_ns - lost_ns  # "connected" must not be what is said of it
                if str(error) != problem and (message := repeats.due(str(error), now_ns, lasting_ns=lasting_ns)):
                    problem, silent = str(error), True
                    log.warning("broker %s: %s; trying again", self._settings.broker, message)
            heed_cancellation()
            await self._clock.sleep_until(self._clock.now_ns() + backoff.next_ns())

    async def _publish(self, client: aiomqtt.Client) -> None:
        while True:
            self._something.clear()
            while await self._publish_some(client):
                pass
            self._nothing.set()
            await self._something.wait()

    async def _publish_some(self, client: aiomqtt.Client) -> bool:
        """Publish one item of each source; false when none had any."""
        if self._unsent is not None:
            await self._put(client, self._unsent_source, self._unsent)
        some = False
        for name, box in self._boxes.items():
            item = box.take(self._clock.now_ns())
            if item is not None:
                some = True
                packet = await self._packet(item)
                if packet is not None:
                    await self._put(client, name, packet)
        return some

    async def _put(self, client: aiomqtt.Client, source: str, packet: Packet) -> None:
        text = packet.form is Form.TEXT
        if text:
            self._unsent, self._unsent_source = packet, source
        try:
            await client.publish(f"{self._root}/remote/{source}", packet.bytes(), qos=1 if text else 0)
        except aiomqtt.MqttError:
            self.drops[f"{source}.lost"] += packet.form in (Form.JPEG, Form.PCM)
            raise
        if text:
            self._unsent = None
        self.sent[source] += packet.form is not Form.WATERMARK

    async def _packet(self, item: Sample | Watermark) -> Packet | None:
        if isinstance(item, Watermark):
            return Packet(self.clock_id, self._seq[item.source], Form.WATERMARK, max(0, item.t_ns), max(0, item.t_ns))
        encoding = partial(encode_payload, item, quality=self._quality)
        try:
            vision = item.modality is Modality.VISION
            form, payload = await self._worker.run(encoding) if vision else encoding()
        except ValueError:
            self.drops[f"{item.source}.encode"] += 1
            return None
        self._seq[item.source] += 1
        lang = item.payload.lang if isinstance(item.payload, Text) else None
        return Packet(self.clock_id, self._seq[item.source], form, item.t_ns, item.end_ns, payload, lang)

    async def _answer(self, client: aiomqtt.Client) -> None:
        clock = f"{self._root}/clock/{self.clock_id.host}"
        await client.subscribe(f"{clock}/probe")
        gate = RateLimit(PROBES_HZ)
        async for message in client.messages:
            t1_ns = self._clock.now_ns()
            try:
                question = parse_question(message.payload if isinstance(message.payload, bytes) else b"")
            except BadPacket:
                continue
            if question.session == self.clock_id.session and not message.retain and gate.passes(t1_ns):
                answer = Answer(question.session, question.number, t1_ns, self._clock.now_ns())
                await client.publish(f"{clock}/answer", answer.bytes())


def _ignore(source: str, state: SourceState) -> None:
    """Whoever listens sees for itself that a source is silent."""
