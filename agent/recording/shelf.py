"""The files of a recording: one part after the other, and how long old ones stay."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from agent.clock import SECOND
from agent.config.record import Record
from agent.recording.codec import Coding
from agent.recording.format import About
from agent.recording.part import Part

_FOLDER = re.compile(r".+-\d{8}T\d{6}Z(-\d+)?")
_PART = re.compile(r"\d{4,}\.mcap")


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _open(path: Path) -> IO[bytes]:
    return path.open("xb")


class Shelf:
    """Opens parts in a folder of its own below ``[record] out``, and clears away what is old there.

    Everything here raises `OSError`.
    """

    def __init__(
        self,
        table: Record,
        about: About,
        *,
        free: Callable[[Path], int] = _free,
        opened: Callable[[Path], IO[bytes]] = _open,
    ) -> None:
        """``free`` tells the bytes left where a folder is, ``opened`` opens a new file."""
        self.coding = Coding(table.frames, table.quality, table.audio)
        self.count = 0
        """Parts that were opened."""
        self.folder: Path | None = None
        self._table = table
        self._about = about
        self._free = free
        self._opened = opened
        self._path: Path | None = None

    def has_room(self) -> bool:
        """Whether more than ``keep_free`` is left."""
        self._table.out.mkdir(parents=True, exist_ok=True)
        return self._free(self._table.out) > self._table.keep_free

    def open(self, at_ns: int) -> Part:
        """A new part that begins at the wall-clock instant, after old ones were cleared away."""
        if self.folder is None:
            self.folder = self._new_folder()
        self._path = None
        self.clear(at_ns)
        self._path = self.folder / f"{self.count + 1:04}.mcap"
        file = self._opened(self._path)
        self.count += 1
        try:
            part = Part(file, self._about, self.coding, number=self.count)
            _sync(self.folder)
        except OSError:
            file.close()
            raise
        return part

    def clear(self, at_ns: int) -> int:
        """Remove parts, oldest first, until the rest is young and small enough; returns how many.

        Only what a recorder wrote, by the names of file and folder; never the part that is being written.
        """
        parts = sorted(
            (path.stat().st_mtime_ns, path.stat().st_size, path)
            for folder in self._table.out.iterdir()
            if folder.is_dir() and _FOLDER.fullmatch(folder.name)
            for path in folder.iterdir()
            if _PART.fullmatch(path.name) and path != self._path
        )
        total, gone = sum(size for _, size, _ in parts), 0
        for written_ns, size, path in parts:
            if total <= self._table.keep_size and at_ns - written_ns <= self._table.keep_age:
                break
            path.unlink()
            total, gone = total - size, gone + 1
            if path.parent != self.folder and not any(path.parent.iterdir()):
                path.parent.rmdir()
        return gone

    def _new_folder(self) -> Path:
        begun = datetime.fromtimestamp(self._about.start_wall_ns // SECOND, UTC)
        node = re.sub(r"[^\w.-]", "_", self._about.node) or "node"
        name = f"{node}-{begun:%Y%m%dT%H%M%SZ}"
        for suffix in ("", *(f"-{i}" for i in range(2, 100))):
            folder = self._table.out / f"{name}{suffix}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            return folder
        raise FileExistsError(f"{self._table.out / name} and 98 more of that second are there already")


def _sync(folder: Path) -> None:
    """Let the name of a new file survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
