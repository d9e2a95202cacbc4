"""Reading an MCAP file from its beginning to where it ends, be that its own end or where the power was cut."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import zstandard
from mcap.exceptions import EndOfFile, InvalidMagic, McapError
from mcap.records import Chunk
from mcap.stream_reader import StreamReader, breakup_chunk

from sensors.session_files import SessionError

_DAMAGE = (McapError, zstandard.ZstdError, struct.error, ValueError, OverflowError, MemoryError, RuntimeError, KeyError)
"""What the library and the decompressors raise on bytes that are no records; lz4 raises `RuntimeError`."""


MAGIC = 8
"""Bytes before the first record."""
_HEAD = struct.Struct("<BQ")
"""Of a record: kind and length."""


class Records:
    """The records of a file in their order, chunks opened and their checksums looked at.

    Iterating raises `SessionError` where a record is damaged. A file that ends in the middle of a record ends, for
    the reader, with the record before: `cut_off_at` then says where, as it is known after the last one.
    """

    def __init__(self, path: Path, *, opened: bool = True) -> None:
        """With ``opened`` chunks are opened, and what is in them comes; else they come themselves."""
        self.path = path
        self.cut_off_at: int | None = None
        self._opened = opened

    def __iter__(self) -> Iterator[Any]:
        try:
            with self.path.open("rb") as file:
                yield from self._records(file, self.path.stat().st_size)
        except OSError as error:
            raise SessionError(f"{self.path}: cannot be read ({error.strerror})") from None

    def _records(self, file: IO[bytes], size: int) -> Iterator[Any]:
        if not size:
            raise SessionError(f"{self.path} is empty: nothing was written before it was cut off; remove it")
        records = iter(StreamReader(file, emit_chunks=True, record_size_limit=size).records)
        while True:
            at = file.tell()
            try:
                record = next(records)
                inside = None
                if self._opened and isinstance(record, Chunk):
                    inside = breakup_chunk(record, validate_crc=True)
            except StopIteration:
                return
            except InvalidMagic:
                if at == 0:
                    raise SessionError(f"{self.path} is no MCAP file; record or copy it again") from None
                self.cut_off_at = at
                return
            except EndOfFile:
                self.cut_off_at = at
                return
            except _DAMAGE as error:
                if _reaches_beyond(file, max(at, MAGIC), size):
                    self.cut_off_at = at
                    return
                raise SessionError(
                    f"{self.path}: damaged at byte {at} of {size} ({error}); copy it again, or let `mcap recover` save"
                    " what is whole"
                ) from None
            if inside is None:
                yield record
            else:
                yield from inside


def _reaches_beyond(file: IO[bytes], at: int, size: int) -> bool:
    """Whether the record there would end after the file does."""
    file.seek(at)
    head = file.read(_HEAD.size)
    return len(head) < _HEAD.size or at + _HEAD.size + _HEAD.unpack(head)[1] > size
