"""Engines run ONNX models; encoders make evidence of what they return.

`open_engine` is the one door: it returns an `Engine` for the back end that was asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, assert_never

import numpy as np
import numpy.typing as npt

from agent.seams import EncoderError

if TYPE_CHECKING:
    from engines.platforms import Platform

Array = npt.NDArray[Any]
BackendName = Literal["auto", "tensorrt", "onnxruntime"]
Precision = Literal["fp32", "fp16", "int8"]

log = logging.getLogger(__name__)


class EngineError(EncoderError):
    """A model could not be opened or run. The message names the model, what was asked, what was found, what to do."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model is to run, and how."""

    backend: BackendName = "auto"
    precision: Precision = "fp32"
    """Of TensorRT's plan; ONNX Runtime takes the model as it is."""
    plans: Path | None = None
    """Folder of the plans; by default ``plans`` in the user's cache of models."""
    live: bool = False
    """Whether ``auto`` builds a missing plan in the background, and changes over when it is there."""
    platform: Platform | None = None
    """TensorRT and its GPU; by default what this machine has."""
    opener: Callable[[Path, int], Engine] | None = None
    """Opens every model, with that many threads, in place of any back end: what measures, or records, encoders."""


Backend = BackendName | Placement
"""By its name alone a back end runs models as they are, and builds nothing that nobody asked for."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named input or output."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    """A string names an axis whose length is free."""

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(map(str, self.shape))}]"


class Engine(Protocol):
    """A model that is ready to run. `infer` blocks and may be called from one thread at a time."""

    @property
    def backend(self) -> str:
        """``onnxruntime`` or ``tensorrt``."""

    @property
    def inputs(self) -> tuple[Tensor, ...]: ...

    @property
    def outputs(self) -> tuple[Tensor, ...]: ...

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once. Feeds are by input name, of exactly that dtype; raises `EngineError` on a misfit, by name."""

    def close(self) -> None: ...

    def __str__(self) -> str:
        """What it is, in one line: model, back end, inputs, outputs."""


def open_engine(path: Path | str, backend: Backend = "auto", *, threads: int = 1) -> Engine:
    """Open the ONNX model at `path`.

    ``auto`` takes TensorRT where it can be had, and says in the log what it chose and why; a named back end never falls
    back, and ``tensorrt`` waits while a plan that is missing is built. `threads` bounds ONNX Runtime's on the CPU.
    Raises `EngineError`.
    """
    from engines.gpu import missing_gpu
    from engines.ort import OrtEngine

    path = Path(path)
    placement = backend if isinstance(backend, Placement) else Placement(backend)
    if placement.opener:
        return placement.opener(path, threads)
    match placement.backend:
        case "onnxruntime":
            return OrtEngine(path, threads=threads)
        case "tensorrt":
            from engines.placement import insist

            return insist(path, placement)
        case "auto":
            if placement.platform is None and (reason := missing_gpu()):
                say_once(f"auto: models run on onnxruntime: {reason}")
                return OrtEngine(path, threads=threads)
            from engines.placement import prefer  # which a machine without a GPU has no use for

            return prefer(path, placement, otherwise=lambda: OrtEngine(path, threads=threads))
        case _ as never:
            assert_never(never)


def say_once(line: str) -> None:
    """Log what holds for every model alike: once in the life of the process, not once a model."""
    if line not in _SAID:
        _SAID.add(line)
        log.info("%s", line)


_SAID: set[str] = set()


def check_feeds(model: str, inputs: tuple[Tensor, ...], feeds: Mapping[str, Array]) -> None:
    """Raise `EngineError` where `feeds` do not fit `inputs` in names, dtype, rank or a fixed axis."""
    asked, given = {t.name for t in inputs}, set(feeds)
    if asked != given:
        raise EngineError(f"{model}: takes the inputs {sorted(asked)}, was given {sorted(given)}")
    for tensor in inputs:
        array = feeds[tensor.name]
        fits = array.dtype == tensor.dtype and array.ndim == len(tensor.shape)
        if not fits or any(isinstance(n, int) and n != m for n, m in zip(tensor.shape, array.shape, strict=True)):
            raise EngineError(f"{model}: takes {tensor}, was given {array.dtype}{list(array.shape)}")
