"""Where events wait: the journal, and the memory that stands in for it while the disk fails. Blocking, one thread."""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.health.metrics import Metrics
from agent.mqtt.journal import Journal, Row, is_corrupt, is_taken, set_aside

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait."""

    events: int
    age_ns: int


class Shelf:
    """Numbers events and keeps them, in order and within the bounds.

    A disk that is full, read-only or gone is logged once and tried again with each event. ``outbox.unwritten`` counts
    the events that it did not take at first; those that are in memory only when the agent ends are ``outbox.lost``. A
    file that is corrupt is set aside, counted as ``outbox.corrupt``, and the events that were in it as lost.
    """

    def __init__(self, path: Path, bounds: Bounds, *, metrics: Metrics) -> None:
        self.count = 0
        """Events that wait."""
        self._path = path
        self._bounds = bounds
        self._metrics = metrics
        self._journal: Journal | None = None
        self._loose: deque[Row] = deque()  # not on disk, all younger than what is
        self._last = 0  # the highest number given
        self._done = 0  # the highest that the broker has
        self._known = False  # whether those of earlier runs have been looked at
        self._stale = False  # numbers that `oldest` gave mean others by now
        self._said = ""

    def look(self) -> None:
        """Open what an earlier run left; without events no file is made."""
        if self._path.exists():
            self._try(lambda journal: None)
            self._tally()

    def add(self, puts: Sequence[tuple[bytes, int]]) -> None:
        """Number and keep events: each a JSON object with at least one key, and its wall-clock time."""
        self._try(self._settle)  # before a number is given, those of earlier runs must be known
        for body, wall_ns in puts:
            self._last += 1
            self._loose.append(Row(self._last, wall_ns, body))
        if not self._try(self._settle):
            self._metrics.count("outbox.unwritten", len(puts))
        self._bound(puts[-1][1])
        self._tally()

    def oldest(self, limit: int) -> list[Row]:
        """The first events that are not `done`."""
        found: list[Row] = []
        if self._journal is not None or self._path.exists():
            self._try(lambda journal: found.extend(journal.oldest(limit, after=self._done)))
        self._tally()
        self._stale = False
        return found or [row for row in self._loose if row.seq > self._done][:limit]

    def done(self, seq: int) -> None:
        """Delete up to and with that number, which `oldest` gave; where the disk fails, at the next occasion.

        Nothing, where others have that number by now: then they come again.
        """
        if seq <= self._done or self._stale:
            return
        self._done = seq
        while self._loose and self._loose[0].seq <= seq:
            self._loose.popleft()
        if self._journal is not None:
            self._try(lambda journal: journal.forget(self._done))
        self._tally()

    def close(self) -> None:
        """Close the file; what could not be written is lost now."""
        if self._loose:
            self._metrics.count("outbox.lost", len(self._loose))
            log.error("outbox %s: %d events could not be written, and are lost", self._path, len(self._loose))
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _meet(self, journal: Journal) -> None:
        """Where this run has given numbers already, it did not know of those that are in it from an earlier one."""
        if not self._known and self._last and journal.last_seq:
            self._done, self._stale = 0, True
        self._known = True
        self._last = max(self._last, journal.last_seq)

    def _settle(self, journal: Journal) -> None:
        """Move what is in memory to disk, with numbers above those that are there."""
        if not self._loose:
            return
        first = journal.last_seq + 1
        if self._loose[0].seq < first:  # they were numbered while the journal could not be read
            self._loose = deque(replace(row, seq=seq) for seq, row in enumerate(self._loose, first))
            self._last = self._loose[-1].seq
        journal.append(self._loose)
        self._loose.clear()

    def _bound(self, now_wall_ns: int) -> None:
        """The oldest give way."""
        before_ns = now_wall_ns - self._bounds.age_ns

        def shorten(journal: Journal) -> None:
            self._metrics.count("outbox.aged", journal.forget_aged(before_ns))
            if (excess := journal.count + len(self._loose) - self._bounds.events) > 0 and journal.count:
                going = journal.oldest(excess, after=0)
                journal.forget(going[-1].seq)
                self._metrics.count("outbox.overflow", len(going))

        if self._journal is not None:
            self._try(shorten)
        on_disk = self._journal.count if self._journal is not None else 0
        while self._loose and (self._loose[0].wall_ns < before_ns or len(self._loose) + on_disk > self._bounds.events):
            self._metrics.count("outbox.aged" if self._loose.popleft().wall_ns < before_ns else "outbox.overflow")

    def _tally(self) -> None:
        self.count = len(self._loose) + (self._journal.count if self._journal is not None else 0)

    def _try(self, work: Callable[[Journal], None]) -> bool:
        """Do it with the journal, opened where need be; false where the disk does not let us."""
        for _ in range(2):
            try:
                if self._journal is None:
                    self._journal = Journal(self._path)
                    self._meet(self._journal)
                work(self._journal)
            except (sqlite3.Error, OSError) as error:
                self._give_up(error)
                if not is_corrupt(error):
                    return False
            else:
                if self._said:
                    log.info("outbox %s: is written again", self._path)
                    self._said = ""
                return True
        return False

    def _give_up(self, error: Exception) -> None:
        """Close the journal, put it away where it is corrupt, and say so."""
        if self._journal is not None:
            if is_corrupt(error):
                self._metrics.count("outbox.lost", self._journal.count)
            self._journal.close()
            self._journal = None
        if is_corrupt(error):
            self._metrics.count("outbox.corrupt")
            try:
                aside = set_aside(self._path)
            except OSError as refused:
                self._say(f"is corrupt ({error}) and cannot be moved away: {refused}")
            else:
                log.error(
                    "outbox %s: is corrupt (%s); it is kept as %s, and a new one begins", self._path, error, aside
                )
        elif is_taken(error):
            self._say(
                "another agent of this name runs here and uses it; events wait in memory, and a restart would lose"
                " them. Stop that one, or give this one another name: [agent] node"
            )
        else:
            self._say(
                f"cannot be written: {error}; events wait in memory, and a restart would lose them. Free the disk or"
                " mend its permissions"
            )

    def _say(self, what: str) -> None:
        """Once, and not with every event."""
        if what != self._said:
            self._said = what
            log.error("outbox %s: %s", self._path, what)
