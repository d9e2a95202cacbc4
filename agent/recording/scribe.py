"""The thread that writes a recording: encoding pictures and waiting for a disk must not hold up the agent."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from pathlib import Path

from agent.clock import SECOND
from agent.config.record import Record
from agent.recording.line import Item, Line
from agent.recording.part import Part
from agent.recording.shelf import Shelf

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""After the disk was full it is looked at again this often."""


class Scribe:
    """Takes items from a line and writes them into parts, until the line is closed.

    Where the first part cannot be begun it ends at once. Where the disk is full or fails later it says so, leaves out
    what comes (counted as ``unwritten``), and goes on in a new part when there is room.
    """

    def __init__(self, line: Line, shelf: Shelf, table: Record) -> None:
        self.written: Counter[str] = Counter()
        """Samples by source, rows by topic, and ``parts`` that were closed."""
        self.halted: str | None = None
        """Why nothing is written at the moment."""
        self._tried = threading.Event()
        self._left_out: Counter[str] = Counter()
        self._line = line
        self._shelf = shelf
        self._table = table
        self._part: Part | None = None
        self._unsafe = 0  # items since the last flush
        self._part_ns = 0
        self._at_ns = shelf.start_ns
        self._flushed_s = 0.0
        self._retry_s = 0.0
        self._thread = threading.Thread(target=self._main, name="record", daemon=True)

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()

    def begun(self, patience_s: float) -> bool:
        """Whether the first part was begun, or `halted` says why not, or that comes within ``patience_s``."""
        return self._tried.wait(patience_s)

    def ended(self, patience_s: float) -> bool:
        """Whether everything is written and the thread has ended, or does within ``patience_s``."""
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    @property
    def dropped(self) -> Counter[str]:
        """What was left out, by reason; see `Line`, and ``odd`` for pictures that are none."""
        return self._line.dropped + self._left_out

    @property
    def folder(self) -> Path | None:
        """Where the parts are; None before the first."""
        return self._shelf.folder

    def _main(self) -> None:
        try:
            self._open_part()
        except OSError as error:
            self.halted = str(error)
            return
        finally:
            self._tried.set()
        flush_s = self._table.flush / SECOND
        while not self._line.over:
            item = self._line.take(flush_s)
            try:
                if item is not None:
                    self._take(item)
                if self._part and time.monotonic() - self._flushed_s >= flush_s:
                    self._flush()
            except OSError as error:
                self._halt(str(error))
        try:
            self._end_part()
        except OSError as error:
            self._halt(str(error))

    def _take(self, item: Item) -> None:
        self._at_ns = max(self._at_ns, item.log_ns)
        self._unsafe += 1
        if not self._ready():
            self._give_up()
            return
        part = self._part
        assert part is not None, "it is ready"
        if item.sample:
            sample, row = item.sample, item.row
            if not part.sample(sample, row, log_ns=item.log_ns, publish_ns=item.publish_ns):
                self._left_out["odd"] += 1
        else:
            part.json(item.topic, item.row, log_ns=item.log_ns, publish_ns=item.publish_ns)
        self.written[sample.source if item.sample else item.topic] += 1
        if part.size >= self._table.part_size or item.log_ns - self._part_ns >= self._table.part_age:
            self._end_part()

    def _ready(self) -> bool:
        """Whether there is a part to write to; opens one where there is not."""
        if self._part:
            return True
        if self.halted:
            if time.monotonic() < self._retry_s:
                return False
            self._retry_s = time.monotonic() + RETRY_S
        self._open_part()
        if self.halted:
            log.warning("recording goes on, in part %d of %s", self._shelf.count, self._shelf.folder)
            self.halted = None
        return True

    def _open_part(self) -> None:
        """Raises `OSError` where there is no room for it."""
        if lack := self._shelf.lack():
            raise OSError(lack)
        self._part = self._shelf.open(self._at_ns)
        self._part_ns, self._flushed_s = self._at_ns, time.monotonic()

    def _flush(self) -> None:
        assert self._part is not None, "asked for only with a part"
        self._part.flush()
        self._unsafe = 0
        self._flushed_s = time.monotonic()
        if lack := self._shelf.lack():
            self._end_part()
            self._halt(lack)

    def _end_part(self) -> None:
        part, self._part = self._part, None
        if part:
            part.close(self._at_ns)
            self._unsafe = 0
            self.written["parts"] += 1

    def _give_up(self) -> None:
        """Count as left out what may not have reached the disk."""
        self._left_out["unwritten"] += self._unsafe
        self._unsafe = 0

    def _halt(self, reason: str) -> None:
        if not self.halted:
            log.error(
                "nothing is recorded to %s any more: %s; the agent goes on, and so will the recording when there is"
                " room: remove files there, or lower [record] keep_size or keep_age",
                self._shelf.folder or self._table.out,
                reason,
            )
        self.halted = reason
        self._give_up()
        self._retry_s = time.monotonic() + RETRY_S
        part, self._part = self._part, None
        if part:
            with contextlib.suppress(OSError):  # its index may not fit either; what was flushed can be read
                part.close(self._at_ns)
            part.abandon()
