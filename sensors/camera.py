"""Frames from a camera, a video file, a network stream or a GStreamer pipeline."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import cv2

from agent.clock import SECOND
from agent.delivery.policy import Delivery, NeverDrop, Queue
from agent.health.repeats import Repeats
from agent.seams import SensorError
from agent.types import Frame, Modality, Sample, Source, Watermark
from sensors.bridge import Bridge, Bridges
from sensors.livestamps import LiveStamps
from sensors.video import CUT_OFF_NS, Format, Kind, as_opened, kind_of, open_video, pts_ns, video_ns, without_password

log = logging.getLogger(__name__)


class CameraSensor:
    """A `Sensor` of one vision source.

    A file plays at the pace of its PTS and then ends, or starts again with `loop`. Everything else is live: frames
    are taken as they come, and when the loop is slow `delivery` says which go. `NeverDrop` is for files alone: their
    reader waits, and late frames keep their stamps; what a live driver loses meanwhile nobody could count.

    `drops` counts what was left out, by reason: those of `agent.delivery.policy`, ``opening`` (had waited while a
    stream was opened, nobody knows how long), ``decode`` (could not be).
    """

    QUEUE = 4
    """Frames between the driver's thread and the loop: what a hiccup of 100 ms leaves behind at 30 frames/s."""

    def __init__(
        self,
        name: str,
        *,
        device: str,
        wanted: Format = Format(),  # noqa: B008 - frozen
        loop: bool = False,
        stall_ns: int = 5 * SECOND,
        delivery: Delivery = Queue(QUEUE),  # noqa: B008 - frozen
    ) -> None:
        """Raises `SensorError` for a live device that is never to drop."""
        self.name = name
        self.sources = (Source(name, Modality.VISION),)
        self.drops: Counter[str] = Counter()
        self._device = device
        self._kind = kind_of(device)
        if isinstance(delivery, NeverDrop) and self._kind is not Kind.FILE:
            raise SensorError(
                f"{name}: {self._shown} is live and can not wait, so its driver would drop, uncounted; set"
                f' `delivery` to "queue({self.QUEUE})" or another that says what goes ("never_drop" is for files)'
            )
        self._wanted = wanted
        self._loop = loop
        self._stall_ns = stall_ns
        self._bridges = Bridges(name, drive=self._drive, delivery=delivery, stall_ns=stall_ns, drops=self.drops)
        self._repeats = Repeats()

    @property
    def held(self) -> bool:
        """See `agent.seams.Abandons`."""
        return self._bridges.hanging

    async def stream(self) -> AsyncGenerator[Sample | Watermark, None]:
        """See `agent.seams.Sensor`."""
        async with self._bridges.items() as items:
            async for sample in items:
                yield sample

    def _drive(self, bridge: Bridge[Sample]) -> None:
        """In the driver's thread: grab, stamp, retrieve, hand over."""
        capture = open_video(self.name, self._device, wanted=self._wanted, timeout_ns=self._stall_ns)
        try:
            opened = as_opened(capture, self._device, self._wanted)
            if message := self._repeats.due(opened, time.monotonic_ns()):
                log.info("%s: %s", self.name, message)
            if self._kind is Kind.FILE:
                self._play(capture, bridge)
            else:
                self._watch(capture, bridge)
        except cv2.error as error:
            raise SensorError(f"{self.name}: OpenCV failed on {self._shown}: {error}") from error
        finally:
            capture.release()

    def _watch(self, capture: Any, bridge: Bridge[Sample]) -> None:
        stamps = LiveStamps(self.name, self._device, capture)
        while not bridge.stopping.is_set():
            if not capture.grab():
                raise SensorError(f"{self.name}: lost {self._shown}; it was unplugged, switched off or cut")
            t_ns = stamps.stamp(capture, time.monotonic_ns())
            if t_ns is None:
                self.drops["opening"] += 1
                continue
            self._retrieve(capture, bridge, t_ns=t_ns)

    def _play(self, capture: Any, bridge: Bridge[Sample]) -> None:
        epoch_ns, shown_ns, frames = time.monotonic_ns(), 0, 0
        period_ns = round(SECOND / (capture.get(cv2.CAP_PROP_FPS) or 25))
        announced_ns, told = video_ns(capture), False
        while not bridge.stopping.is_set():
            if not capture.grab():
                if frames == 0:
                    raise SensorError(f"{self.name}: not one frame of {self._shown} can be decoded; is it damaged?")
                if shown_ns < announced_ns - CUT_OFF_NS and not told:  # once, not in each round of a loop
                    told = True
                    ends = (shown_ns / SECOND, announced_ns / SECOND)
                    log.warning(
                        "%s: %s is damaged, ends at %.1f s of %.1f s; copy or record it again",
                        *(self.name, self._shown, *ends),
                    )
                if not self._loop or not capture.set(cv2.CAP_PROP_POS_FRAMES, 0):
                    log.info("%s: %s is at its end, after %d frames", self.name, self._shown, frames)
                    return
                epoch_ns, frames = epoch_ns + shown_ns + period_ns, 0
                continue
            frames += 1
            shown_ns = pts_ns(capture)
            if not bridge.stopping.wait((epoch_ns + shown_ns - time.monotonic_ns()) / SECOND):
                self._retrieve(capture, bridge, t_ns=epoch_ns + shown_ns)

    def _retrieve(self, capture: Any, bridge: Bridge[Sample], *, t_ns: int) -> None:
        if not bridge.admits(t_ns):
            return
        decoded, bgr = capture.retrieve()
        if not decoded:
            self.drops["decode"] += 1
            return
        bridge.put(Sample(self.name, Frame(bgr), t_ns=t_ns, end_ns=t_ns, arrival_ns=time.monotonic_ns()))

    @property
    def _shown(self) -> str:
        """The device as messages name it."""
        return without_password(self._device)
