"""What a process did to a folder, and what of it a disk holds that loses its power at some point of it.

`record` has strace write down every call by which a program changes files. `Disk` does them again one by one and keeps
apart what was synced and what was not. After a cut a file has what it had at its last sync, and of the writes since
none, all, or by chance any of their sectors; a name in a folder likewise points to what it pointed to when the folder
was last synced, or to anything since. That is as little as POSIX promises; file systems with a journal keep more.
"""

import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""
STRACE = shutil.which("strace")
CALLS = (
    *("open", "openat", "creat", "mkdir", "mkdirat", "write", "writev", "pwrite64", "pwritev", "truncate", "ftruncate"),
    *(
        "fallocate",
        "copy_file_range",
        "sendfile",
        "fsync",
        "fdatasync",
        "sync_file_range",
        "unlink",
        "unlinkat",
        "rmdir",
    ),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
)
"""All by which files and names change, and `Disk.do` refuses those that it does not know. Not every kernel has all."""
STRING = re.compile(r'"([^"]*)"(\.\.\.)?')
CALL = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)")
HALF = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
REST = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")
DESCRIPTOR = re.compile(r"^(\d+)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")


@dataclass(frozen=True, slots=True)
class Call:
    """One that succeeded."""

    name: str
    arguments: str
    result: int

    @property
    def strings(self) -> list[bytes]:
        """Its quoted arguments: paths, or what was written."""
        found = STRING.findall(self.arguments)
        assert not any(shortened for _, shortened in found), "strace left out some of it"
        return [unhex(string) for string, _ in found]

    @property
    def path(self) -> str:
        """Of the file that it names or whose descriptor comes first; empty where that was deleted."""
        if descriptor := DESCRIPTOR.match(self.arguments):
            return "" if descriptor[3] else unhex(descriptor[2]).decode(errors="replace")
        return self.strings[0].decode()

    @property
    def last_number(self) -> int:
        """Its last argument: an offset, or a length."""
        return int(self.arguments.rpartition(", ")[2])

    @property
    def said(self) -> bytes:
        """What it wrote to standard output; empty where it is another call."""
        return self.strings[0] if self.name == "write" and self.arguments.startswith("1<") else b""


def unhex(string: str) -> bytes:
    return bytes.fromhex(string.replace("\\x", ""))


def record(argv: Sequence[str], root: Path, trace: Path) -> list[Call]:
    """Run a program to its end; returns its calls below ``root``, and what it said, in the order of their returns."""
    assert STRACE, "strace is not installed; `make test` installs it where it may"
    how = ["-f", "--seccomp-bpf", "-y", "-xx", "-s", str(1 << 20), "-o", str(trace)]
    how += ["-e", "trace=" + ",".join(f"?{call}" for call in CALLS)]
    subprocess.run([STRACE, *how, *argv], check=True, stdout=subprocess.DEVNULL)
    with trace.open() as lines:
        return [call for call in _calls(lines) if call.said or f"{call.path}/".startswith(f"{root}/")]


def _calls(lines: Iterator[str]) -> Iterator[Call]:
    begun: dict[str, str] = {}
    for line in lines:
        whole = line.rstrip("\n")
        if half := HALF.match(whole):
            begun[half[1]] = half[2]
            continue
        if rest := REST.match(whole):
            whole = f"{rest[1]} {begun.pop(rest[1])}{rest[2]}"
        if (call := CALL.match(whole)) and int(call[4]) >= 0:
            yield Call(call[2], call[3], int(call[4]))


@dataclass(eq=False, slots=True)
class File:
    """What programs read of it, and what the disk has."""

    now: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    since: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Writes since the last sync, each at its offset, or with None the length that it was cut to."""

    def change(self, at: int, data: bytes | None) -> None:
        self.since.append((at, data))
        _change(self.now, at, data)

    def sync(self) -> None:
        self.synced = bytes(self.now)
        self.since.clear()

    def rebuilt(self, kept: Callable[[], bool]) -> bytes:
        found = bytearray(self.synced)
        for at, data in self.since:
            if data is None:
                if kept():
                    _change(found, at, None)
                continue
            ends = [*range(SECTOR - at % SECTOR, len(data), SECTOR), len(data)]
            for begin, end in zip([0, *ends], ends, strict=False):
                if kept():
                    _change(found, at + begin, data[begin:end])
        return bytes(found)


@dataclass(eq=False, slots=True)
class Folder:
    """Its names: what they point to, and everything that they pointed to since the last sync, that first."""

    now: dict[str, "Folder | File"] = field(default_factory=dict)
    since: dict[str, list["Folder | File | None"]] = field(default_factory=dict)

    def point(self, name: str, to: "Folder | File | None") -> None:
        self.since.setdefault(name, [self.now.get(name)]).append(to)
        if to is None:
            del self.now[name]
        else:
            self.now[name] = to

    def sync(self) -> None:
        self.since.clear()


def _change(content: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        del content[at:]
    content.extend(bytes(at - len(content)) if len(content) < at else b"")
    if data is not None:
        content[at : at + len(data)] = data


class Disk:
    """A folder that `do` changes call by call."""

    def __init__(self, root: Path) -> None:
        """``root`` as it is now, all of it synced."""
        self._root = root
        self._top = _read(root)

    def do(self, call: Call) -> None:
        """Do it again."""
        folder, name = self._find(call.path)
        there = folder.now.get(name) if name else folder
        match call.name, there:
            case "open" | "openat" | "creat", None if "O_CREAT" in call.arguments:
                folder.point(name, File())
            case "open" | "openat", File() if "O_TRUNC" in call.arguments:
                there.change(0, None)
            case "open" | "openat", _:
                pass
            case "mkdir" | "mkdirat", None:
                folder.point(name, Folder())
            case "pwrite64", File():
                there.change(call.last_number, call.strings[0][: call.result])
            case "ftruncate", File():
                there.change(call.last_number, None)
            case "fsync" | "fdatasync", File() | Folder():
                there.sync()
            case "unlink" | "unlinkat", File():
                folder.point(name, None)
            case "rename" | "renameat" | "renameat2", File():
                target, called = self._find(call.strings[1].decode())
                target.point(called, there)
                folder.point(name, None)
            case _:
                raise NotImplementedError(f"{call.name}({call.arguments[:200]}")

    def rebuilt(self, into: Path, kept: Callable[[], bool], chosen: Callable[[int], int]) -> None:
        """Write what the disk holds into a new folder.

        ``kept`` tells of each sector that was not synced whether it came to the disk, ``chosen`` which of so many
        things a name points to, the synced one first and the newest last.
        """
        _write(self._top, into, kept, chosen)

    def after_a_cut(self, into: Path, how: random.Random | str) -> None:
        """As `rebuilt`: ``synced`` and no more, ``all`` of it, or as chance has it."""
        match how:
            case random.Random():
                share = how.choice((0.1, 0.5, 0.9))
                self.rebuilt(into, lambda: how.random() < share, how.randrange)
            case "synced":
                self.rebuilt(into, lambda: False, lambda _: 0)
            case "all":
                self.rebuilt(into, lambda: True, lambda count: count - 1)
            case _:
                raise ValueError(how)

    def _find(self, path: str) -> tuple[Folder, str]:
        """The folder in which it is, and its name there; empty: the root itself."""
        *above, name = Path(path).relative_to(self._root).parts or ("",)
        folder = self._top
        for part in above:
            inner = folder.now[part]
            assert isinstance(inner, Folder)
            folder = inner
        return folder, name


def content(folder: Path) -> dict[str, bytes]:
    """All files below, by their paths."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _read(path: Path) -> Folder:
    found = Folder()
    for inner in path.iterdir():
        if inner.is_dir():
            found.now[inner.name] = _read(inner)
        else:
            data = inner.read_bytes()
            found.now[inner.name] = File(bytearray(data), data)
    return found


def _write(folder: Folder, into: Path, kept: Callable[[], bool], chosen: Callable[[int], int]) -> None:
    into.mkdir()
    for name in sorted(folder.now.keys() | folder.since.keys()):
        pointed = folder.since.get(name) or [folder.now[name]]
        match pointed[chosen(len(pointed))]:
            case File() as file:
                (into / name).write_bytes(file.rebuilt(kept))
            case Folder() as inner:
                _write(inner, into / name, kept, chosen)
