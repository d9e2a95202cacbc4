"""The cache of plans: whole or absent, never of something else, one builder at a time."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines import EngineError, Tensor, builder
from engines.plans import KEPT, MAGIC, PlanCache, PlanKey, StoredPlan
from tests.engine_contract import linear
from tests.fakegpu import VERSION
from tests.outside import ROOT

AXES = {"batch": (1, 2, 4), "length": (1, 3, 8)}


def key_of(model: Path) -> PlanKey:
    made_by = {"flavour": "tensorrt", "version": VERSION, "device": "Fake GPU", "sm": "9.9"}
    return PlanKey.of(model, precision="fp32", axes=AXES, **made_by)


def stored(key: PlanKey, plan: bytes = b"a plan") -> StoredPlan:
    x, y = Tensor("x", np.dtype(np.float32), ("batch", 2)), Tensor("y", np.dtype(np.int64), ("batch",))
    return StoredPlan(key, (x,), (y,), {"x": np.ones((1, 2), np.float32)}, {"y": np.arange(1)}, plan)


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "plans")


@pytest.fixture
def key(tmp_path: Path) -> PlanKey:
    return key_of(linear(tmp_path / "linear.onnx"))


def test_what_was_stored_comes_back(cache: PlanCache, key: PlanKey) -> None:
    assert cache.load(key) is None
    cache.store(stored(key))
    found = cache.load(key)
    assert found
    assert (found.key, found.plan) == (key, b"a plan")
    assert found.inputs[0] == Tensor("x", np.dtype(np.float32), ("batch", 2))
    np.testing.assert_array_equal(found.expected["y"], np.arange(1))


@pytest.mark.parametrize(
    "other",
    [
        {"sha256": "0" * 64},
        {"precision": "fp16"},
        {"axes": {"batch": (1, 2, 5), "length": (1, 3, 8)}},
        {"flavour": "tensorrt_rtx"},
        {"version": "10.0.1"},
        {"device": "Orin"},
        {"sm": "8.7"},
        {"revision": 99},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_plan_of_something_else_is_never_served(cache: PlanCache, key: PlanKey, other: dict[str, str]) -> None:
    cache.store(stored(key))
    assert cache.load(replace(key, **other)) is None  # type: ignore[arg-type]
    cache.path(key).rename(cache.path(replace(key, **other)))  # type: ignore[arg-type]
    assert cache.load(replace(key, **other)) is None  # type: ignore[arg-type]


def test_a_plan_of_which_any_byte_is_another_is_removed_and_said(
    cache: PlanCache, key: PlanKey, caplog: pytest.LogCaptureFixture
) -> None:
    whole = stored(key).to_bytes()
    at = {0, len(MAGIC), len(MAGIC) + 33, len(whole) // 2, len(whole) - 1}
    spoilt = [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in sorted(at)]
    for content in [*spoilt, whole[:-1], whole[:40], b"", whole + b"!"]:
        path = cache.store(stored(key))
        path.write_bytes(content)
        caplog.clear()
        assert cache.load(key) is None
        assert f"{path}: is n" in caplog.text
        assert not path.exists()


def test_another_model_under_the_same_name_is_another_key(tmp_path: Path, key: PlanKey) -> None:
    assert key_of(linear(tmp_path / "linear.onnx")) == key
    assert key_of(linear(tmp_path / "linear.onnx", np.ones((4, 3), np.float32))).digest != key.digest


def test_old_plans_go_and_drafts_of_the_dead_too(cache: PlanCache, key: PlanKey) -> None:
    keys = [replace(key, version=f"10.{n}") for n in range(KEPT + 2)]
    other = replace(key, model="other.onnx")
    cache.store(stored(other))
    for n, each in enumerate(keys):
        os.utime(cache.store(stored(each)), (n, n))
    dead, young = cache.folder / "x.1.part", cache.folder / "y.2.part"
    dead.write_bytes(b"half"), young.write_bytes(b"half")
    os.utime(dead, (0, 0))
    cache.store(stored(key))
    assert [each.version for each in keys if cache.path(each).exists()] == [f"10.{n}" for n in (3, 4, 5)]
    assert cache.path(key).exists()
    assert cache.path(other).exists()
    assert (dead.exists(), young.exists()) == (False, True)


def test_a_full_disk_is_said_and_leaves_nothing(cache: PlanCache, key: PlanKey) -> None:
    cache.folder.mkdir()
    draft = cache.path(key).with_suffix(f".{os.getpid()}.part")
    draft.symlink_to("/dev/full")
    with pytest.raises(EngineError, match=r"the plan cannot be kept: No space left on device"):
        cache.store(stored(key))
    assert list(cache.folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_still_has_the_plan_built_and_handed_over(tmp_path: Path) -> None:
    model = linear(tmp_path / "linear.onnx")
    key, nowhere = key_of(model), Path("/proc/attune/plans")
    found = build(model, key, nowhere)
    assert any("the plan cannot be kept" in said.get("step", "") for said in found)
    path = Path(found[-1]["plan"])
    assert StoredPlan.from_bytes(path.read_bytes(), wanted=key).expected.keys() == {"y"}
    path.unlink()
    PlanCache(nowhere).reject(key, "nobody remembers")
    assert PlanCache(nowhere).failed(key) is None


def start(model: Path, key: PlanKey, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.fakegpu", builder.request(model, key, folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def build(model: Path, key: PlanKey, folder: Path) -> list[dict[str, str]]:
    """What a builder's process said."""
    out, _ = start(model, key, folder).communicate(timeout=60)
    return [json.loads(line) for line in out.splitlines()]


def test_of_two_processes_one_builds_and_the_other_takes_what_it_built(tmp_path: Path) -> None:
    model = linear(tmp_path / "linear.onnx")
    key = key_of(model)
    both = [start(model, key, tmp_path / "plans") for _ in range(2)]
    said = [[json.loads(line) for line in process.communicate(timeout=60)[0].splitlines()] for process in both]
    assert sum({"step": "compiling"} in each for each in said) == 1
    assert {each[-1]["plan"] for each in said} == {str(PlanCache(tmp_path / "plans").path(key))}


def test_the_lock_of_a_process_that_was_killed_is_nobodys(cache: PlanCache, key: PlanKey) -> None:
    script = (
        "import signal, sys, pathlib, json; from engines.plans import PlanCache, PlanKey\n"
        "key = PlanKey(**json.loads(sys.argv[2]))\n"
        "with PlanCache(pathlib.Path(sys.argv[1])).lock(key): print('held', flush=True); signal.pause()\n"
    )
    fields = {name: getattr(key, name) for name in PlanKey.__slots__}
    fields["axes"] = {axis: list(lengths) for axis, lengths in AXES.items()}
    key = PlanKey(**fields | {"axes": fields["axes"]})
    command = [sys.executable, "-c", script, str(cache.folder), json.dumps(fields)]
    holder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    taken = threading.Event()

    def take() -> None:
        with cache.lock(key):
            taken.set()

    waiting = threading.Thread(target=take)
    waiting.start()
    assert not taken.wait(0.2)
    holder.kill()
    assert taken.wait(30)
    waiting.join()
    holder.communicate()


def test_a_builder_of_another_version_refuses(tmp_path: Path) -> None:
    model = linear(tmp_path / "linear.onnx")
    said = build(model, replace(key_of(model), version="11.0"), tmp_path / "plans")
    assert said == [{"error": f"linear.onnx: tensorrt 11.0 was asked for, here is tensorrt {VERSION}"}]
