"""What `check` and `models` say of each encoder's back end, and that they make nothing of TensorRT to say it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.check import Finding
from agent.config import Config
from agent.types import Modality
from engines import EngineError, Tensor, standing
from engines.check import check_models
from engines.models import ModelStore
from engines.placement import Deployment
from engines.plan_builder import build_plans, placed, plans_of
from engines.plans import StoredPlan
from engines.platforms import Platform
from engines.standing import findings, standings
from tests.fakegpu import FakeGpu, FakeTensorRT, fake_platform
from tests.outside import ROOT

FACES = ("face-detector-near", "face-detector-far", "face-encoder", "face-embedding", "face-general")


class Untouchable(FakeTensorRT):
    """Whoever makes something of it has failed."""

    def Builder(self, logger: Any) -> Any:
        raise AssertionError("a builder was made")

    def Runtime(self, logger: Any) -> Any:
        raise AssertionError("a runtime was made")


@pytest.fixture
def platform() -> Platform:
    gpu = FakeGpu()
    return Platform("tensorrt", Untouchable(gpu), gpu)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """The models of this machine, and no plans."""
    store, cached = ModelStore(tmp_path), ModelStore()
    for file in cached.cache.iterdir():
        if file.is_file():
            (tmp_path / file.name).symlink_to(file)
    return store


def configured(**vision: str) -> Config:
    off = {"enabled": False}
    return Config.model_validate({"encoders": {"vision": vision, "audio": off, "text": off}})


def keep(store: ModelStore, platform: Platform, name: str) -> Path:
    """A plan of that model, which nobody opens here."""
    deployment = deployed(store, platform, name)
    x = Tensor("x", np.dtype(np.float32), ("batch",))
    ones = {"x": np.ones(1, np.float32)}
    return deployment.cache.store(StoredPlan(deployment.key, (x,), (x,), ones, ones, b"a plan"))


def deployed(store: ModelStore, platform: Platform, name: str) -> Deployment:
    return Deployment.of(store.path(name), platform, precision="fp16", plans=plans_of(store))


def of_vision(config: Config, store: ModelStore, platform: Platform) -> Finding:
    (finding,) = findings(standings(config, store, platform))
    assert finding.what == "encoders.vision"
    return finding


def test_without_a_device_the_reason_is_said_once_for_all_and_nothing_of_tensorrt_is_loaded() -> None:
    script = (
        "import sys; from agent.config import Config; from engines.check import check_models\n"
        "for finding in check_models(Config()): print(finding.mark, finding.what, finding.said, sep='|')\n"
        "print([name for name in sys.modules if 'tensorrt' in name or 'pycuda' in name])\n"
    )
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", script]
    out = subprocess.run(command, cwd=ROOT, env=hidden, capture_output=True, text=True, check=True).stdout.splitlines()
    mark, what, said = out[0].split("|")
    assert mark == "[yellow]![/]"
    assert what == "encoders.vision, encoders.audio, encoders.text"
    assert said.startswith('onnxruntime, because backend = "auto" finds no TensorRT: ')
    assert said.endswith('without one, set backend = "onnxruntime"')
    assert out[1].startswith("[green]✓[/]|encoders|vision, audio, text, transcription open in ")
    assert out[2:] == ["[]"]


def test_what_is_wanted_explicitly_and_cannot_be_had_fails_and_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Platform:
        raise EngineError("pycuda cannot be loaded: no libcurand; install the extra gpu")

    monkeypatch.setattr(standing, "find_platform", none)
    monkeypatch.setattr(standing, "missing_gpu", lambda: None)
    (finding,) = check_models(configured(backend="tensorrt"))
    assert not finding.ok
    assert finding.said == (
        'backend = "tensorrt" cannot be had: pycuda cannot be loaded: no libcurand; install the extra gpu'
    )
    quiet, opened = check_models(configured(backend="onnxruntime"))
    assert (quiet.ok, quiet.loud, quiet.said) == (True, False, 'onnxruntime, because backend = "onnxruntime"')
    assert opened.ok


def test_each_network_without_a_plan_is_named_with_what_to_do(store: ModelStore, platform: Platform) -> None:
    finding = of_vision(configured(), store, platform)
    assert finding.loud
    until = (
        f"onnxruntime until there is a plan for {platform} (python launch.py models build; run builds what is missing)"
    )
    assert finding.said == f"{until}: {', '.join(f'{name} (missing)' for name in FACES)}"
    keep(store, platform, FACES[0])
    keep(store, platform, FACES[1]).write_bytes(b"half a plan")
    failed = deployed(store, platform, FACES[2])
    failed.cache.reject(failed.key, "no memory")
    finding = of_vision(configured(), store, platform)
    assert finding.said == (
        f"{platform} in fp16: {FACES[0]}; {until}:"
        f" {FACES[1]} (missing), {FACES[2]} (failed before: no memory), {FACES[3]} (missing), {FACES[4]} (missing)"
    )


@pytest.mark.parametrize("backend", ["auto", "tensorrt"])
def test_a_network_that_cannot_be_read_is_named(store: ModelStore, platform: Platform, backend: str) -> None:
    class Fleeting(ModelStore):
        """Somebody removes each file just after it was looked for."""

        def path(self, name: str) -> Path:
            path = super().path(name)
            path.unlink()
            return path

    finding = of_vision(configured(backend=backend), Fleeting(store.cache), platform)
    assert not finding.ok
    assert finding.said.startswith(f"{store.file(store.model(FACES[0]))}: cannot be read: ")


def test_with_all_plans_it_is_quiet(store: ModelStore, platform: Platform) -> None:
    for name in FACES:
        keep(store, platform, name)
    finding = of_vision(configured(), store, platform)
    assert (finding.ok, finding.loud) == (True, False)
    assert finding.said == f"{platform} in fp16: {', '.join(FACES)}"


def test_insisting_without_a_plan_waits_at_the_start_and_check_builds_none(
    store: ModelStore, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "find_platform", lambda: platform)
    monkeypatch.setattr("engines.check.ModelStore.configured", lambda table: store)
    (finding,) = check_models(configured(backend="tensorrt"))
    assert finding.ok
    assert finding.loud
    assert finding.said.startswith(f"waits at the start until there is a plan for {platform} (python launch.py models")
    assert not plans_of(store).exists()


def test_only_what_an_encoder_opens_is_placed(store: ModelStore) -> None:
    silent = Config.model_validate({"agent": {"transcribe": False}})
    assert placed(Modality.AUDIO, Config(), store) == ("voice-encoder", "speech-encoder")
    assert placed(Modality.AUDIO, silent, store) == ("voice-encoder",)
    lawful = ModelStore(store.cache, commercial=True)
    assert placed(Modality.AUDIO, silent, lawful) == ()
    assert standings(silent, lawful)["encoders.audio"].said == (
        "onnxruntime, because no network of its own could be elsewhere"
    )
    for name in ("chinese-encoder", "chinese-tokenizer"):
        store.file(store.model(name)).unlink(missing_ok=True)
    assert placed(Modality.TEXT, Config(), store) == ("language-encoder",)
    for name in ("chinese-encoder", "chinese-tokenizer"):
        store.file(store.model(name)).write_bytes(b"fetched")
    assert placed(Modality.TEXT, Config(), store) == ("language-encoder", "chinese-encoder")


def test_models_build_names_what_no_encoder_runs_on_tensorrt(store: ModelStore) -> None:
    with pytest.raises(
        EngineError, match="voice-activity: no encoder has it run on TensorRT; there are face-detector-"
    ):
        build_plans(configured(), store, fake_platform(), names=["voice-activity"], progress=lambda name, step: None)
