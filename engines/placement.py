"""Which back end runs a model, and how its plan comes to be."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from threading import Event, Lock

from engines import Engine, EngineError, Placement, Precision, say_once
from engines.agreement import agree
from engines.builder import request
from engines.lock import read_lock
from engines.models import default_cache
from engines.plans import Axes, PlanCache, PlanKey, StoredPlan
from engines.platforms import Platform, find_platform
from engines.swap import SwappingEngine
from engines.trt import TrtEngine

log = logging.getLogger(__name__)

BATCH = (1, 4, 16)
"""Lengths of the axis ``batch`` where models.toml says nothing else."""
STEP_S = 0.1
"""How often a builder's process is looked at, and whether anybody still wants what it makes."""
_BUILDING = Lock()
"""One plan at a time: a builder may take gigabytes, and a small board has few."""


class Stopped(EngineError):  # noqa: N818 - nothing is wrong
    """Nobody waits for the plan any more."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model on one platform."""

    model: Path
    platform: Platform
    key: PlanKey
    cache: PlanCache
    calibration: Path | None = None

    @classmethod
    def of(
        cls, model: Path, platform: Platform, *, precision: Precision, plans: Path, axes: Axes | None = None
    ) -> Deployment:
        """`axes` are those of models.toml where nothing is said. Raises `EngineError`."""
        key = PlanKey.of(
            model,
            precision=precision,
            axes=axes or axes_of(model.name),
            flavour=platform.flavour,
            version=platform.version,
            device=platform.info.name,
            sm=platform.info.sm,
        )
        calibration = plans / f"{model.stem}.calibration.npz"
        return cls(model, platform, key, PlanCache(plans), calibration if calibration.exists() else None)

    def opened(self, stored: StoredPlan, *, graphs: bool = True) -> TrtEngine:
        """The engine, once it has given for the stored input what ONNX Runtime gave. Raises `EngineError`."""
        engine = TrtEngine(
            stored.plan,
            name=self.model.name,
            platform=self.platform,
            inputs=stored.inputs,
            outputs=stored.outputs,
            graphs=graphs,
        )
        try:
            for _ in range(2):  # enqueued, then as a graph
                agree(engine.infer(stored.probe), stored.expected, precision=self.key.precision, name=self.model.name)
        except BaseException:
            engine.close()
            raise
        return engine

    def open_or_build(self, *, stop: Event, say: Callable[[str], None]) -> TrtEngine:
        """From the cache, or built in a process of its own. Raises `EngineError`, and `Stopped` once `stop` is set.

        A plan that cannot be built, or fails its check, is removed and remembered; see `PlanCache.reject`.
        """
        try:
            return self.opened(self.cache.load(self.key) or self._build(stop, say))
        except Stopped:
            raise
        except EngineError as error:
            self.cache.reject(self.key, str(error))
            raise

    def _build(self, stop: Event, say: Callable[[str], None]) -> StoredPlan:
        """Have the builder's process make the plan, when those that this process has asked for before are through."""
        while not _BUILDING.acquire(timeout=STEP_S):
            if stop.is_set():
                raise Stopped
        try:
            return self._build_now(stop, say)
        finally:
            _BUILDING.release()

    def _build_now(self, stop: Event, say: Callable[[str], None]) -> StoredPlan:
        command = [*self.platform.builder, request(self.model, self.key, self.cache.folder, self.calibration)]
        with tempfile.TemporaryFile() as complaints, tempfile.TemporaryFile() as answers:
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=answers, stderr=complaints) as process:
                try:
                    said = _followed(process, answers.fileno(), stop, say)
                finally:
                    process.kill()
            complaints.seek(0)
            last = complaints.read()[-400:].decode(errors="replace").strip()
        if process.returncode in (-signal.SIGTERM, -signal.SIGKILL):
            raise Stopped(f"{self.model.name}: its builder was ended from outside")  # which says nothing of the plan
        if "plan" not in said:
            reason = said.get("error") or f"the builder ended with {process.returncode}: {last or 'it said nothing'}"
            raise EngineError(f"{self.model.name}: {self.platform}: {reason}")
        return self._read(Path(said["plan"]))

    def _read(self, path: Path) -> StoredPlan:
        try:
            if path == self.cache.path(self.key):
                stored = self.cache.load(self.key)
            else:
                stored = StoredPlan.from_bytes(path.read_bytes(), wanted=self.key)
                with suppress(OSError):
                    path.unlink()
        except (OSError, ValueError) as error:
            raise EngineError(f"{self.model.name}: the plan at {path}: {error}") from error
        if stored is None:
            raise EngineError(f"{self.model.name}: the builder left no plan at {path}")
        return stored


@cache
def _axes_by_file() -> Mapping[str, Axes]:
    named = {}
    for model in read_lock().values():
        named[model.file or PurePosixPath(model.source[0].member).name] = model.axes
    return named


def axes_of(file: str) -> Axes:
    """The lengths that models.toml gives the free axes of the model in that file."""
    return {"batch": BATCH, **_axes_by_file().get(file, {})}


def _followed(
    process: subprocess.Popen[bytes], answers: int, stop: Event, say: Callable[[str], None]
) -> Mapping[str, str]:
    """The last thing the builder said; each of its steps goes to `say` as it comes."""
    said: dict[str, str] = {}
    done = False
    position, left = 0, b""
    while not done:
        if stop.is_set():
            raise Stopped
        with suppress(subprocess.TimeoutExpired):
            process.wait(STEP_S)
            done = True
        chunk = _rest(answers, position)
        position += len(chunk)
        *lines, left = (left + chunk).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "step" in said:
                say(said["step"])
    return said


def _rest(file: int, position: int) -> bytes:
    """What was written to a file from `position` on."""
    chunks = []
    while chunk := os.pread(file, 1 << 16, position):
        chunks.append(chunk)
        position += len(chunk)
    return b"".join(chunks)


def insist(path: Path, placement: Placement) -> Engine:
    """On TensorRT, whose plan is built first where it is missing. Raises `EngineError`."""
    try:
        deployment = _deployment(path, placement)
    except EngineError as error:
        raise EngineError(
            f'{path.name}: backend = "tensorrt" was asked for, but {error}; set backend = "onnxruntime", or "auto"'
        ) from error
    return deployment.open_or_build(stop=Event(), say=lambda step: log.info("%s: %s", path.name, step))


def prefer(path: Path, placement: Placement, *, otherwise: Callable[[], Engine]) -> Engine:
    """On TensorRT where there is a plan for it, and otherwise, or until there is one, on what `otherwise` opens.

    Raises `EngineError` where `otherwise` does.
    """
    try:
        deployment = _deployment(path, placement)
    except EngineError as error:
        say_once(f"auto: models run on onnxruntime: {error}")
        return otherwise()
    failed = deployment.cache.failed(deployment.key)
    if failed:
        log.warning("%s: onnxruntime (auto): its plan failed before: %s; launch.py models build", path.name, failed)
        return otherwise()
    if placement.live:
        return SwappingEngine(
            otherwise,
            lambda stop: deployment.open_or_build(stop=stop, say=lambda step: log.info("%s: %s", path.name, step)),
            agrees=lambda found, wanted: agree(found, wanted, precision=placement.precision, name=path.name),
            name=path.name,
        )
    stored = deployment.cache.load(deployment.key)
    if stored is None:
        log.info("%s: onnxruntime (auto): no plan for %s yet; launch.py models build", path.name, deployment.platform)
        return otherwise()
    try:
        return deployment.opened(stored)
    except EngineError as error:
        log.warning("%s: onnxruntime (auto): %s", path.name, error)
        return otherwise()


def _deployment(path: Path, placement: Placement) -> Deployment:
    platform = placement.platform or find_platform()
    return Deployment.of(path, platform, precision=placement.precision, plans=placement.plans or default_plans())


def default_plans() -> Path:
    """With the models, in the user's cache."""
    return default_cache() / "plans"
