"""Events on disk, in order, until the broker has them: one SQLite file.

Write-ahead log with ``synchronous=FULL``: what `Journal.append` returned from is there after a power cut (SQLite,
"PRAGMA synchronous"; as far as the disk keeps what it says it has written). SQLite syncs the names of its files; those
of the folders above are synced here. Blocking, and for one thread only.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.disk import sync_folder

COMPANIONS = ("", "-wal", "-shm")
"""What SQLite appends to the file's name for the files beside it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One event that waits."""

    seq: int
    wall_ns: int
    """When it was put down, in ns since the Unix epoch: its age must survive a restart."""
    body: bytes


class Journal:
    """The file. Whoever opens it has it alone: two agents of one node would mix up their numbers.

    Every method raises `sqlite3.Error`, and `OSError` on opening; what it was to do is then not done at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _make(path)
        self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._check()
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS event"
                " (seq INTEGER PRIMARY KEY AUTOINCREMENT, wall_ns INTEGER NOT NULL, body BLOB NOT NULL)"
            )
            last = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()
            self.last_seq: int = last[0] if last else 0
            """The highest number ever given, also to events that are gone."""
            (self.count,) = self._db.execute("SELECT count(*) FROM event").fetchone()
        except BaseException:
            self._db.close()
            raise

    def append(self, rows: Sequence[Row]) -> None:
        """Add events with numbers above `last_seq`; when this returns they are on disk."""
        with self._transaction():
            values = [(row.seq, row.wall_ns, row.body) for row in rows]
            self._db.executemany("INSERT INTO event (seq, wall_ns, body) VALUES (?, ?, ?)", values)
        self.last_seq = rows[-1].seq
        self.count += len(rows)

    def oldest(self, limit: int, *, after: int) -> list[Row]:
        """The first events with a number above ``after``."""
        query = "SELECT seq, wall_ns, body FROM event WHERE seq > ? ORDER BY seq LIMIT ?"
        return [Row(*found) for found in self._db.execute(query, (after, limit))]

    def forget(self, through: int) -> None:
        """Delete up to and with that number."""
        self._delete("seq <= ?", through)

    def forget_aged(self, before_wall_ns: int) -> int:
        """Delete what was put down before that; returns how many."""
        return self._delete("wall_ns < ?", before_wall_ns)

    def close(self) -> None:
        """Close the file; never raises."""
        with suppress(sqlite3.Error):
            self._db.close()

    def _check(self) -> None:
        (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)

    def _delete(self, where: str, value: int) -> int:
        with self._transaction():
            gone = self._db.execute(f"DELETE FROM event WHERE {where}", (value,)).rowcount
        self.count -= gone
        return gone

    def _transaction(self) -> sqlite3.Connection:
        self._db.execute("BEGIN IMMEDIATE")
        return self._db  # commits at the end of the block, or rolls back


def _make(path: Path) -> None:
    """The file, empty, where it is not there, with its folders; their names survive a power cut, too."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # events tell of people
    empty = os.fstat(handle).st_size == 0
    os.close(handle)
    if empty:  # perhaps a run that was killed made them
        for folder in path.parents:
            with suppress(OSError):  # above our own they may be closed to us; some file systems cannot, and need not
                sync_folder(folder)


def set_aside(path: Path) -> Path:
    """Put a file that cannot be read out of the way, for people to look at; an earlier such file gives way."""
    aside = path.with_name(path.name + ".corrupt")
    for companion in COMPANIONS:
        with suppress(FileNotFoundError):
            path.with_name(path.name + companion).replace(aside.with_name(aside.name + companion))
    return aside


def is_corrupt(error: Exception) -> bool:
    """Whether the file itself is at fault, and not the disk or the permissions."""
    return type(error) is sqlite3.DatabaseError  # its subclasses tell of the disk, or of our own mistakes


def is_taken(error: Exception) -> bool:
    """Whether another process has the file open."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
