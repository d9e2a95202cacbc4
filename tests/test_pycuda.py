"""pycuda over a stand-in of the driver: the real pycuda and cuda-bindings, on a ``libcuda.so.1`` that needs no GPU.

The driver is in the search path of processes of their own alone; everything else here goes on without one.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engines.models import default_cache
from tests.driver import build
from tests.outside import ROOT

FOLDER = Path(sys.prefix) / "driver"


@pytest.fixture(scope="module")
def driver() -> Path:
    """What `make test` has built before; where only this file is run, it is built now."""
    build.main(FOLDER)
    return FOLDER


def environment(driver: Path, bindings: str) -> dict[str, str]:
    packages = [driver, ROOT / "tests" / "driver" / "packages"]
    if bindings != "none":
        packages.append(driver / bindings)
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(driver / "lib"),
        "PYTHONPATH": os.pathsep.join(map(str, packages)),
    }


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("bindings", "files"),
    [
        ("none", ["cases.py"]),
        ("bindings-12", ["cases.py", "graph_cases.py"]),
        ("bindings-13", ["cases.py", "graph_cases.py", "long_cases.py"]),
    ],
)
def test_memory_streams_threads_graphs_and_failures(driver: Path, bindings: str, files: list[str]) -> None:
    """In one process each, whose report is this test's where anything fails."""
    paths = [f"tests/driver/{file}" for file in files]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *paths]
    ended = subprocess.run(command, cwd=ROOT, env=environment(driver, bindings), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
    assert re.search(r"^\d+ passed in ", ended.stdout, re.MULTILINE), ended.stdout[-2000:]


@pytest.mark.timeout(600)
def test_the_bundled_session_with_every_face_on_tensorrt(driver: Path, tmp_path: Path) -> None:
    """`launch.py`, the builder's processes, and the engines in the agent's own threads."""
    cache = tmp_path / "attune" / "models"
    cache.mkdir(parents=True)
    for file in default_cache().iterdir():
        if file.is_file():
            (cache / file.name).symlink_to(file)
    out = tmp_path / "decisions.jsonl"
    command = [sys.executable, "launch.py", "--set=encoders.vision.backend=tensorrt", "replay", "demo"]
    ended = subprocess.run(
        [*command, "--out", str(out)],
        cwd=ROOT,
        env={**environment(driver, "bindings-13"), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert "PyCUDA" not in ended.stderr
    decisions = [json.loads(line) for line in out.read_text().splitlines()]
    used = {(m, said["engine"]) for decision in decisions for m, said in decision["modalities"].items()}
    assert used == {("vision", "tensorrt"), ("audio", "onnxruntime"), ("text", "onnxruntime")}
    assert list((cache / "plans").glob("*.plan"))
