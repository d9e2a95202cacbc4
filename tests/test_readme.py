"""The README keeps its word: each recipe applies to the code as it is, and does what it says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mosquitto import free_port, mosquitto
from tests.outside import ROOT, agent, watching

RECIPES = dict(
    re.findall(
        r"<details><summary><b>(.+?)</b>.*?```diff\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S
    )
)


@pytest.fixture
def changed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the repository to which the recipe of that name was applied."""
    tree = tmp_path / "attune"
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    ).stdout.split(b"\0")
    for name in (os.fsdecode(raw) for raw in listed if raw):
        if (ROOT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    recipe = RECIPES[request.param]
    subprocess.run(["git", "apply", "--unidiff-zero", "-"], input=recipe.encode(), cwd=tree, check=True)
    return tree


def launched(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "launch.py", *words], cwd=tree, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("changed", ["Add a sensor"], indirect=True)
async def test_recipe_add_a_sensor(changed: Path, tmp_path: Path) -> None:
    port = free_port()
    only_it = tmp_path / "ticker.toml"
    table = re.search(r"\[sensors\.ticker\]\n(?:.+\n)+", (changed / "config.toml").read_text())
    assert table
    only_it.write_text(f'{table[0]}[mqtt]\nbroker = "mqtt://127.0.0.1:{port}"\n')
    async with (
        mosquitto(port, tmp_path),
        watching(port) as watcher,
        agent("--config", str(only_it), tree=changed),
    ):
        decision = await watcher.until_decision(lambda decision: "text" in decision["modalities"])
    assert decision["modalities"]["text"]["source"] == "ticker"
    assert decision["label"] == "happy"


@pytest.mark.parametrize("changed", ["Add a fusion rule"], indirect=True)
def test_recipe_add_a_fusion_rule(changed: Path) -> None:
    done = launched(changed, "replay", "demo", "--set", "fusion.rule=median", "--out", "-", "--log-level", "ERROR")
    assert done.returncode == 0, done.stderr
    assert {json.loads(line)["rule"] for line in done.stdout.splitlines()} == {"median"}


@pytest.mark.parametrize("changed", ["Swap an engine back end"], indirect=True)
def test_recipe_swap_an_engine_back_end(changed: Path) -> None:
    others = [word for m in ("audio", "text") for word in ("--set", f"encoders.{m}.backend=onnxruntime")]
    done = launched(changed, "replay", "demo", "--out", "-", *others)
    assert done.returncode == 0, done.stderr
    assert "auto" not in done.stderr, "nobody is left to choose a back end for"
    unlike = launched(changed, "replay", "demo", "--out", "-", *others, "--set", "encoders.vision.backend=auto")
    assert "auto" in unlike.stderr, "else the line before says nothing"


def test_the_subscriber_is_fifteen_lines_and_compiles() -> None:
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    compile(script, "README.md", "exec")
    assert len(script.splitlines()) <= 16


def test_the_keys_that_matter_exist_with_these_defaults() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    config = (ROOT / "config.toml").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `\[(\w+)\] (\w+)` \| `?(.+?)`? \|", readme, re.M)
    assert len(rows) >= 5
    for _, key, default in rows:
        assert re.search(rf"^{key} = {re.escape(default)}(\s|$)", config, re.M), f"{key} = {default}"
