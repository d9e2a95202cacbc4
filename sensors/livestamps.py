"""When a live frame was taken, by what the back end tells of it."""

from __future__ import annotations

import logging
from typing import Any

from agent.clock import MS, SECOND
from sensors.stamps import PtsMap
from sensors.video import Kind, fourcc_of, held_frames, kind_of, pts_ns

log = logging.getLogger(__name__)


class LiveStamps:
    """The driver's stamp, else the mapped PTS, else the return of `grab`; never falls and is never after `grab`."""

    PLAUSIBLE_NS = 5 * SECOND
    """A driver's stamp lies within this before now, or it is not on the monotonic clock."""
    QUEUED_NS = 10 * MS
    """Frames without a time of their own that come faster than this had waited for the stream to be opened…"""
    OPENING_NS = 2 * SECOND
    """…unless they do so for longer."""

    def __init__(self, name: str, device: str, capture: Any) -> None:
        """Of the opened ``cv2.VideoCapture`` of a device, stream or pipeline, as the config calls it."""
        self._name = name
        kind = kind_of(device)
        self._driver = kind is Kind.DEVICE
        # Motion JPEG over HTTP carries no time; FFmpeg makes its PTS up by counting frames at 25 per second.
        made_up = kind is Kind.STREAM and fourcc_of(capture) == "mjpg"
        held = held_frames(device, capture) if kind is Kind.STREAM else 0
        self._map = None if self._driver or made_up else PtsMap(held=held)
        self._queued = made_up
        self._told = False
        self._first_ns = self._before_ns = -1
        self._last_ns = 0

    def stamp(self, capture: Any, grabbed_ns: int) -> int | None:
        """The instant of the frame whose `grab` returned at `grabbed_ns`; None where it had waited before that."""
        t_ns = grabbed_ns
        if self._driver:
            t_ns = self._drivers(pts_ns(capture), grabbed_ns)
        elif self._map is not None:
            t_ns = self._map.stamp(pts_ns(capture), grabbed_ns)
            if self._map.opening:
                return None
        elif self._waited(grabbed_ns):
            return None
        self._last_ns = max(self._last_ns, t_ns)
        return self._last_ns

    def _drivers(self, told_ns: int, grabbed_ns: int) -> int:
        # V4L2 stamps buffers with the monotonic clock at the start of exposure (UVC) or the end of the frame.
        if 0 <= grabbed_ns - told_ns < self.PLAUSIBLE_NS:
            return told_ns
        if not self._told:
            self._told = True
            log.warning(
                "%s: its driver's stamps are not on the monotonic clock; frames count as of when they came", self._name
            )
        return grabbed_ns

    def _waited(self, grabbed_ns: int) -> bool:
        if self._before_ns < 0:
            self._first_ns = grabbed_ns
        elif grabbed_ns - self._before_ns >= self.QUEUED_NS or grabbed_ns - self._first_ns > self.OPENING_NS:
            self._queued = False
        self._before_ns = grabbed_ns
        return self._queued
