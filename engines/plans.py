"""Where built plans are kept, so that none is ever used that was built from, by, or for something else.

A plan belongs to one ONNX file, one TensorRT of one exact version, one GPU model, one precision and one profile.
Building it twice gives other bytes, so it is named by what it was built from, never by what it is. A file holds all of
that, a stored input with the outputs that ONNX Runtime gave for it, and the plan, under one checksum.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import logging
import os
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines import Array, EngineError, Precision, Tensor

log = logging.getLogger(__name__)

MAGIC = b"ATTUNE-PLAN-1\n"
REVISION = 3
"""Raised where the same key would be built otherwise, so that older plans are not taken for it."""
KEPT = 4
"""Plans of one model that are kept: those used last."""
_DAY_S = 86_400

Axes = Mapping[str, tuple[int, int, int]]
"""By the name of an axis that is free: its least, usual and greatest length."""


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Everything that decides whether a plan is the right one."""

    model: str
    """Name of the ONNX file, for people."""
    sha256: str
    """Of the ONNX file."""
    precision: Precision
    axes: Axes
    flavour: str
    version: str
    device: str
    sm: str
    revision: int = REVISION

    @property
    def digest(self) -> str:
        """40 hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:40]

    @classmethod
    def of(cls, path: Path, **more: Any) -> PlanKey:
        """That of the ONNX file at `path`, read anew. Raises `EngineError`."""
        try:
            with path.open("rb") as stream:
                return cls(path.name, hashlib.file_digest(stream, "sha256").hexdigest(), **more)
        except OSError as error:
            raise EngineError(f"{path}: cannot be read: {error}") from error


@dataclass(frozen=True, slots=True, eq=False)
class StoredPlan:
    """A plan, and what it takes to open and to check it."""

    key: PlanKey
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    probe: Mapping[str, Array]
    """A stored input…"""
    expected: Mapping[str, Array]
    """…and what ONNX Runtime made of it."""
    plan: bytes

    def to_bytes(self) -> bytes:
        arrays, named = io.BytesIO(), {f"in.{name}": array for name, array in self.probe.items()}
        named |= {f"out.{name}": array for name, array in self.expected.items()}
        np.savez(arrays, **named)  # type: ignore[arg-type]  # its stub takes the names for those of its switches
        header = json.dumps(
            {
                "key": asdict(self.key),
                "inputs": [_written(tensor) for tensor in self.inputs],
                "outputs": [_written(tensor) for tensor in self.outputs],
                "arrays": len(arrays.getvalue()),
            }
        ).encode()
        rest = len(header).to_bytes(8, "big") + header + arrays.getvalue() + self.plan
        return MAGIC + hashlib.sha256(rest).digest() + rest

    @classmethod
    def from_bytes(cls, content: bytes, *, wanted: PlanKey) -> StoredPlan:
        """Raises ValueError where it is not whole, or of another key."""
        start = len(MAGIC) + 32
        if not content.startswith(MAGIC) or len(content) < start + 8:
            raise ValueError("is no plan of this version of Attune")
        rest = memoryview(content)[start:]
        if hashlib.sha256(rest).digest() != content[len(MAGIC) : start]:
            raise ValueError("is not whole: its checksum is another")
        n = int.from_bytes(rest[:8], "big")
        try:
            header = json.loads(bytes(rest[8 : 8 + n]))
            key = header["key"]
            key["axes"] = {axis: tuple(lengths) for axis, lengths in key["axes"].items()}
            end = 8 + n + header["arrays"]
            with np.load(io.BytesIO(rest[8 + n : end])) as file:
                arrays = {name: file[name] for name in file.files}
            if PlanKey(**key) != wanted:
                raise ValueError("is of another key than its name says")
            return cls(
                wanted,
                tuple(map(_read, header["inputs"])),
                tuple(map(_read, header["outputs"])),
                {name[3:]: array for name, array in arrays.items() if name.startswith("in.")},
                {name[4:]: array for name, array in arrays.items() if name.startswith("out.")},
                bytes(rest[end:]),
            )
        except (KeyError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(f"is not laid out as this version lays it out: {error!r}") from error


class PlanCache:
    """The folder of plans. What cannot be read counts as absent; what cannot be written raises `EngineError`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: PlanKey) -> Path:
        return self.folder / f"{Path(key.model).stem}-{key.precision}-{key.digest}.plan"

    def load(self, key: PlanKey) -> StoredPlan | None:
        """The plan of that key, whole and checked; None where there is none. A corrupt one is said and removed."""
        path = self.path(key)
        try:
            stored = StoredPlan.from_bytes(path.read_bytes(), wanted=key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("%s: %s; it is built anew", path, error)
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # `prune` goes by when one was used last
        return stored

    def store(self, stored: StoredPlan) -> Path:
        """Write it at once and whole, and remove what is old. Raises `EngineError`."""
        path = self.path(stored.key)
        draft = path.with_suffix(f".{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as out:
                out.write(stored.to_bytes())
                out.flush()
                os.fsync(out.fileno())
            draft.replace(path)
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            raise EngineError(f"{path}: the plan cannot be kept: {error.strerror or error}") from error
        self.failure(stored.key).unlink(missing_ok=True)
        self._prune(path)
        return path

    def failure(self, key: PlanKey) -> Path:
        """Where it is written why no plan of this key can be had."""
        return self.path(key).with_suffix(".failed")

    def failed(self, key: PlanKey) -> str | None:
        """Why building a plan of this key, or checking it, failed before; None where it did not."""
        try:
            return self.failure(key).read_text(encoding="utf-8")
        except OSError:
            return None

    def reject(self, key: PlanKey, reason: str) -> None:
        """Remove the plan of that key and remember why, so that not every start tries again."""
        with suppress(OSError):  # a folder that cannot be written remembers nothing: it is tried again
            self.path(key).unlink(missing_ok=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            self.failure(key).write_text(reason, encoding="utf-8")

    @contextmanager
    def lock(self, key: PlanKey) -> Iterator[None]:
        """Hold off other processes that would build the same plan; waits while one does.

        The system lets go of the lock when its holder ends, however that happens, so that none is ever stale. In a
        folder that cannot be written nobody is held off: what is built there is not kept either.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.path(key).with_suffix(".lock").open("wb")
        except OSError:
            yield
            return
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _prune(self, newest: Path) -> None:
        """Of one model keep those used last; remove what writers that were killed left behind."""
        model = newest.name.rsplit("-", 2)[0]
        with suppress(OSError):
            siblings = [p for p in self.folder.glob("*.plan") if p.name.rsplit("-", 2)[0] == model and p != newest]
            siblings.sort(key=lambda path: path.stat().st_mtime, reverse=True)
            for path in siblings[KEPT - 1 :]:
                for left in (path, path.with_suffix(".lock")):
                    left.unlink(missing_ok=True)
            for part in self.folder.glob("*.part"):
                if time.time() - part.stat().st_mtime > _DAY_S:
                    part.unlink(missing_ok=True)


def _written(tensor: Tensor) -> list[Any]:
    return [tensor.name, tensor.dtype.str, list(tensor.shape)]


def _read(written: list[Any]) -> Tensor:
    name, dtype, shape = written
    return Tensor(name, np.dtype(dtype), tuple(shape))
