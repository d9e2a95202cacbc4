"""Shows what is sensed and decided in Rerun (https://rerun.io), on the time at which it happened."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from importlib import import_module
from typing import Any, assert_never

import numpy as np

from agent.clock import SECOND, WallClock
from agent.config.view import View
from agent.health.metrics import Metrics
from agent.imaging import PictureError, encode_jpeg
from agent.types import F32, Audio, Decided, Frame, Sample, Text, Watermark
from agent.window import SourceState
from agent.worker import Worker

log = logging.getLogger(__name__)

WAITING = 256
"""Things that wait to be shown at most; the oldest gives way. ``view.dropped`` counts them, and pictures of which no
JPEG can be made."""
SOUND_NS = SECOND // 10
"""From one reading of a microphone's level to the next."""
FLOOR_DBFS = -100.0
"""Digital silence is shown as that."""
QUALITY = 95
"""Of the pictures, 0..100."""
CLOSE_S = 2.0
"""How long the end may wait for what is still to be handed over."""


class ViewError(Exception):
    """Rerun is not installed, or cannot show. The message says what to do."""


class RerunView:
    """A companion of the agent. What is shown is coded and handed over in a thread of its own."""

    name = "rerun view"

    def __init__(self, settings: View, *, node: str, wall: WallClock, metrics: Metrics, pictures: bool) -> None:
        """``pictures`` says whether they may leave the process."""
        self._settings = settings
        self._node = node
        self._wall = wall
        self._metrics = metrics
        self._pictures = pictures
        self._waiting: deque[tuple[int, Sample | Decided]] = deque()
        self._more = asyncio.Event()
        self._nothing = asyncio.Event()  # everything has been handed over
        self._due_ns: dict[str, int] = {}

    @property
    def waiting(self) -> int:
        """How many things wait to be shown."""
        return len(self._waiting)

    def fed(self, item: Sample | Watermark) -> None:
        if isinstance(item, Watermark):
            return
        match item.payload:
            case Frame():
                wanted = self._pictures and self._is_due(item, round(SECOND / self._settings.fps))
            case Audio():
                wanted = self._is_due(item, SOUND_NS)
            case Text():
                wanted = True
            case _ as never:
                assert_never(never)
        if wanted:
            self._put(item, item.end_ns)

    def marked(self, source: str, state: SourceState) -> None:
        pass

    def decided(self, decided: Decided) -> None:
        self._put(decided, decided.decision.end_ns)

    async def run(self) -> None:
        """Show until cancelled; raises `ViewError`."""
        worker = Worker(self.name)  # coding pictures and the viewer's own locks take some milliseconds
        shown = await worker.run(lambda: _Shown(self._settings.rerun, self._node))
        try:
            while True:
                await self._more.wait()
                t_ns, item = self._waiting.popleft()
                if not self._waiting:
                    self._more.clear()
                try:
                    await worker.run(lambda t_ns=t_ns, item=item: shown.show(item, t_ns))  # type: ignore[misc]
                except PictureError:
                    self._metrics.count("view.dropped")
                if not self._waiting:
                    self._nothing.set()
        finally:
            worker.dismiss(shown.close)
            worker.ended(CLOSE_S)

    async def flushed(self) -> None:
        """Return once everything that was put down so far has been handed over."""
        await self._nothing.wait()

    def _is_due(self, sample: Sample, every_ns: int) -> bool:
        if sample.end_ns < self._due_ns.get(sample.source, sample.end_ns):
            return False
        self._due_ns[sample.source] = sample.end_ns + every_ns
        return True

    def _put(self, item: Sample | Decided, t_ns: int) -> None:
        if len(self._waiting) == WAITING:
            self._waiting.popleft()
            self._metrics.count("view.dropped")
        self._waiting.append((self._wall.wall_ns(t_ns), item))
        self._more.set()
        self._nothing.clear()


class _Shown:
    """The recording stream of Rerun; used in one thread."""

    def __init__(self, viewer: bool | str, node: str) -> None:
        try:
            self._rr: Any = import_module("rerun")
        except ImportError:
            raise ViewError("[view] rerun: rerun-sdk is not installed; pip install 'attune[view]'") from None
        self._stream = self._rr.RecordingStream("attune", recording_id=None)
        self._sizes: dict[str, tuple[int, int]] = {}
        self._label: str | None = None
        try:
            if viewer is True:
                self._stream.spawn()
            elif isinstance(viewer, str) and viewer.endswith(".rrd"):
                self._stream.save(viewer)
            else:
                self._stream.connect_grpc(viewer)
        except (OSError, RuntimeError, ValueError) as error:
            raise ViewError(f"[view] rerun = {viewer!r}: cannot show there: {error}") from error
        log.info("shown in Rerun: %s", "a viewer on this machine" if viewer is True else viewer)
        self._stream.send_recording_name(node)

    def show(self, item: Sample | Decided, wall_ns: int) -> None:
        """Hand over what happened at that instant, in ns since the Unix epoch. Raises `PictureError`."""
        self._stream.set_time("capture", timestamp=np.datetime64(wall_ns, "ns"))
        if isinstance(item, Decided):
            self._decided(item)
            return
        where, rr = f"sensors/{item.source}", self._rr
        match item.payload:
            case Frame(bgr):
                jpeg = encode_jpeg(bgr, QUALITY)
                self._sizes[item.source] = (bgr.shape[1], bgr.shape[0])
                self._stream.log(where, rr.EncodedImage(contents=jpeg, media_type="image/jpeg"))
            case Audio(pcm):
                self._stream.log(f"{where}/dbfs", rr.Scalars(dbfs(pcm)))
            case Text(text, origin=origin):
                self._stream.log(where, rr.TextLog(text, level="INFO" if origin == "message" else "DEBUG"))
            case _ as never:
                assert_never(never)

    def close(self) -> None:
        """Hand over what still waits, and let go."""
        self._stream.flush()
        self._stream.disconnect()

    def _decided(self, decided: Decided) -> None:
        rr, decision = self._rr, decided.decision
        for label, p in decision.probabilities.items():
            self._stream.log(f"decision/{label}", rr.Scalars(p))
        self._stream.log("conflict", rr.Scalars(decision.conflict))
        for modality, part in decision.modalities.items():
            self._stream.log(f"weights/{modality}", rr.Scalars(part.weight))
        if decision.label != self._label:
            self._label = decision.label
            self._stream.log("answer", rr.TextLog(f"{decision.label or 'abstained'} {decision.confidence:.2f}"))
        regions = [region for reading in decided.readings.values() for region in reading.regions]
        for source, (width, height) in self._sizes.items():
            size = np.array([width, height, width, height])
            boxes = np.array([region.box for region in regions if region.source == source]).reshape(-1, 4) * size
            boxed = rr.Boxes2D(array=boxes, array_format=rr.Box2DFormat.XYXY)
            self._stream.log(f"sensors/{source}/faces", boxed)


def dbfs(pcm: F32) -> float:
    """The level (root of the mean square) of sound (T,) in dB below full scale."""
    power = float(np.mean(np.square(pcm, dtype=np.float64))) if len(pcm) else 0.0
    return max(FLOOR_DBFS, 10 * math.log10(power)) if power > 0 else FLOOR_DBFS
