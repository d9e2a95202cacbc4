"""On what each encoder's networks are to run, and why, without running any of them.

The driver, the version of the bindings and the folder of plans are asked; nothing of TensorRT is made for it, neither
`Builder` nor `Runtime`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.check import Finding
from agent.config import Config
from agent.config.encoders import Encoder
from engines import EngineError
from engines.gpu import missing_gpu
from engines.models import ModelStore
from engines.placement import Deployment
from engines.plan_builder import placed, plans_of
from engines.platforms import Platform, find_platform

BUILD = "python launch.py models build"
NO_GPU = (
    "with an NVIDIA GPU, install its driver and the extra gpu (docs/tensorrt.md), and start a container with it (docker"
    ' run --gpus all); without one, set backend = "onnxruntime"'
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with the networks of one encoder."""

    said: str
    """On what they run, why, and what to do where that is not what was wanted."""
    ok: bool = True
    """Whether they can be opened as the config wants."""
    loud: bool = False
    """Whether ``auto`` falls back, or a start has to wait."""
    waits: bool = False
    """Whether opening them begins with building plans."""


def standings(config: Config, store: ModelStore, platform: Platform | None = None) -> dict[str, Standing]:
    """Of each encoder that is enabled, by its table's name.

    `platform` is by default what this machine has. Raises `engines.models.ModelError` where a network is not there.
    """
    return {
        f"encoders.{modality}": _standing(table, placed(modality, config, store), store, platform)
        for modality, table in config.encoders.items()
        if table.enabled
    }


def findings(found: dict[str, Standing]) -> list[Finding]:
    """A line for each encoder; one for those of which the same is to be said."""
    names: dict[Standing, list[str]] = {}
    for name, standing in found.items():
        names.setdefault(standing, []).append(name)
    return [Finding(", ".join(who), ok=each.ok, said=each.said, loud=each.loud) for each, who in names.items()]


def _standing(table: Encoder, names: Sequence[str], store: ModelStore, platform: Platform | None) -> Standing:
    if not names:
        return Standing("onnxruntime, because no network of its own could be elsewhere")
    if table.backend == "onnxruntime":
        return Standing('onnxruntime, because backend = "onnxruntime"')
    try:
        there = platform or find_platform()
    except EngineError as error:
        said = f"{error}; {NO_GPU}" if missing_gpu() else str(error)
        if table.backend == "tensorrt":
            return Standing(f'backend = "tensorrt" cannot be had: {said}', ok=False)
        return Standing(f'onnxruntime, because backend = "auto" finds no TensorRT: {said}', loud=True)
    plans = plans_of(store)
    try:
        lacks = {n: _lack(Deployment.of(store.path(n), there, precision=table.precision, plans=plans)) for n in names}
    except EngineError as error:  # a file that cannot be read is closed to every back end
        return Standing(str(error), ok=False)
    kept = ", ".join(name for name, lack in lacks.items() if not lack)
    wanting = ", ".join(f"{name} ({lack})" for name, lack in lacks.items() if lack)
    parts = [f"{there} in {table.precision}: {kept}"] if kept else []
    if wanting and table.backend == "auto":
        parts.append(f"onnxruntime until there is a plan for {there} ({BUILD}; run builds what is missing): {wanting}")
    elif wanting:
        parts.append(f"waits at the start until there is a plan for {there} ({BUILD} makes it now): {wanting}")
    return Standing("; ".join(parts), loud=bool(wanting), waits=bool(wanting) and table.backend == "tensorrt")


def _lack(deployment: Deployment) -> str:
    """Why there is no plan; empty where there is one, whole and for this machine."""
    if failed := deployment.cache.failed(deployment.key):
        return f"failed before: {failed}"
    return "" if deployment.cache.load(deployment.key) else "missing"
