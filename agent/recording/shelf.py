"""The files of a recording: one part after the other, and how long old ones stay."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from agent.clock import SECOND
from agent.config.record import Record
from agent.disk import sync_folder
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

    @property
    def start_ns(self) -> int:
        """When the recording begins, on the wall clock."""
        return self._about.start_wall_ns

    def lack(self) -> str:
        """What is wrong where no more than ``keep_free`` is left; empty where there is room."""
        found, wanted = self._free(_there(self._table.out)), self._table.keep_free
        if found > wanted:
            return ""
        return f"{self._table.out}: {_mib(found)} MiB are free, and [record] keep_free = {_mib(wanted)} MiB must stay"

    def open(self, at_ns: int) -> Part:
        """A new part that begins at the wall-clock instant, after old ones were cleared away.

        What every part begins with is on the disk then. Where that fails nothing of it stays behind.
        """
        made: list[Path] = []
        if self.folder is None:
            self.folder = self._new_folder(made)
        self._path = None
        try:
            self.clear(at_ns)
            part = self._begun(self.folder / f"{self.count + 1:04}.mcap")
        except OSError:
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()
            if made:
                self.folder = None
            raise
        self.count += 1
        return part

    def _begun(self, path: Path) -> Part:
        file = self._opened(path)
        self._path = path
        try:
            part = Part(file, self._about, self.coding, number=self.count + 1)
            part.flush()
            sync_folder(path.parent)
        except OSError as error:
            with suppress(OSError):  # what it still holds does not fit either
                file.close()
            path.unlink(missing_ok=True)
            raise OSError(
                f"{path}: {error.strerror or error}, with {_mib(self._free(path.parent))} MiB free"
            ) from error
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

    def _new_folder(self, made: list[Path]) -> Path:
        """Adds to ``made`` what was not there, innermost first."""
        begun = datetime.fromtimestamp(self._about.start_wall_ns // SECOND, UTC)
        node = re.sub(r"[^\w.-]", "_", self._about.node) or "node"
        name = f"{node}-{begun:%Y%m%dT%H%M%SZ}"
        for suffix in ("", *(f"-{i}" for i in range(2, 100))):
            folder = self._table.out / f"{name}{suffix}"
            above = [path for path in folder.parents if not path.exists()]
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            made += [folder, *above]
            return folder
        raise FileExistsError(f"{self._table.out / name} and 98 more of that second are there already")


def _there(path: Path) -> Path:
    """The path, or what is above it and exists."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _mib(size: int) -> int:
    return size >> 20
