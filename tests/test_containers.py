"""The Dockerfiles, without a container tool: what they copy, install, make and start is there, and hadolint is content.

What their context holds is decided by the matcher of Docker's own SDK; that they build is tried by hand
(docs/docker/README.md).
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths
from dockerfile_parse import DockerfileParser

import launch
from agent.config import Config
from agent.mqtt.outbox import outbox_path
from engines.lock import LOCK, read_lock
from engines.placement import default_plans

ROOT = Path(__file__).parent.parent
DOCKERFILES = sorted((ROOT / "docs" / "docker").glob("*.Dockerfile"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOME = "/attune"
"""Where the images have the repository."""

pytestmark = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)


def steps(dockerfile: Path) -> list[tuple[str, str]]:
    """Instructions and what each is given, in their order."""
    parser = DockerfileParser(str(dockerfile), env_replace=False)
    return [(step["instruction"], step["value"]) for step in parser.structure]


def given(dockerfile: Path, instruction: str) -> list[str]:
    """What each instruction of that name is given."""
    return [value for name, value in steps(dockerfile) if name == instruction]


def ignored() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def environment(dockerfile: Path) -> dict[str, str]:
    """Of the image that is run, as all `ENV` leave it."""
    return dict(pair.split("=", 1) for value in given(dockerfile, "ENV") for pair in value.split())


def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, "--no-color", dockerfile], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_what_it_copies_is_in_the_context_and_all_that_runs_with_it(dockerfile: Path) -> None:
    context = exclude_paths(str(ROOT), ignored())
    stages = re.findall(r" AS (\w+)", "\n".join(given(dockerfile, "FROM")))
    whole = False
    for value in given(dockerfile, "COPY"):
        options = re.findall(r"--from=(\w+)", value)
        assert set(options) <= set(stages), value
        *sources, _ = (word for word in value.split() if not word.startswith("--"))
        if not options:
            assert all((ROOT / source).exists() for source in sources), value
            whole = whole or sources == ["."]
    assert whole
    project, packages = PROJECT["project"], [path for name in ("agent", "engines", "sensors") for path in own(name)]
    needed = {project["readme"], *project["license-files"], "pyproject.toml", "config.toml", "launch.py", *packages}
    needed |= {source.member for model in read_lock(LOCK).values() for source in model.source if source.kind == "file"}
    assert len(needed) > 200
    assert needed <= context


def own(package: str) -> list[str]:
    """Every file of a package that is no cache of Python's."""
    files = (path.relative_to(ROOT) for path in (ROOT / package).rglob("*") if path.is_file())
    return [path.as_posix() for path in files if "__pycache__" not in path.parts]


def test_what_git_ignores_no_image_takes(dockerfile: Path, tmp_path: Path) -> None:
    folders = [line.strip("/").replace("*", "some") for line in (ROOT / ".gitignore").read_text().split()]
    for folder in (".git", "agent/config/__pycache__", *folders):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "file").touch()
    (tmp_path / "launch.py").touch()
    files = {path for path in exclude_paths(str(tmp_path), ignored()) if (tmp_path / path).is_file()}
    assert files == {"launch.py"}


def test_the_extras_it_installs_exist(dockerfile: Path) -> None:
    arguments = dict(value.split("=", 1) for value in given(dockerfile, "ARG"))
    (asked,) = re.findall(r"-e ['\"]\.\[(.+?)\]", "\n".join(given(dockerfile, "RUN")))
    extras = re.sub(r"\$\{(\w+)\}", lambda name: arguments[name[1]], asked).split(",")
    assert {"models", "gpu"} <= set(extras) <= set(PROJECT["project"]["optional-dependencies"])


def test_it_starts_a_verb_that_there_is_as_nobody_special(dockerfile: Path) -> None:
    (entry,), (verb,), (user,) = (given(dockerfile, name) for name in ("ENTRYPOINT", "CMD", "USER"))
    python, script = json.loads(entry)
    assert python == f"{HOME}/.venv/bin/python"
    assert (ROOT / Path(script).relative_to(HOME)).is_file()
    assert given(dockerfile, "WORKDIR")[0] == HOME
    assert json.loads(verb)[0] in launch.VERBS
    assert f"useradd --create-home --uid {user} " in "\n".join(given(dockerfile, "RUN"))


def test_what_lasts_lies_in_the_volumes_of_the_readme(dockerfile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {Path(path) for path in re.findall(r"-v \w+-\w+:(\S+)", (dockerfile.parent / "README.md").read_text())}
    for name, value in environment(dockerfile).items():
        monkeypatch.setenv(name, value)
    assert default_plans() in kept
    written = [outbox_path(Config().mqtt, "node"), given(dockerfile, "WORKDIR")[-1] / Config().record.out]
    assert all(kept & set(path.parents) for path in written)
    (made,) = re.findall(r"mkdir -p (\S+) (\S+)", "\n".join(given(dockerfile, "RUN")))
    assert {Path(path) for path in made} == kept
