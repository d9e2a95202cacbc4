"""How `replay --ray` grows with its cores: copies of the demo's session on a Ray of one core, then of all."""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import launch
from agent.config import Config
from agent.verbs.cluster import HERE, plan, run_on_ray

ROOT = Path(__file__).parent.parent.parent
SESSIONS = 6


def played(cores: int, sessions: list[Path], out: Path) -> float:
    """How many times as fast as they were recorded, Ray's and the encoders' start included."""
    args = argparse.Namespace(sessions=[str(session) for session in sessions], out=out, speed=None, ray=HERE)
    config = Config()
    begin_s = time.monotonic()
    outcomes = list(run_on_ray(plan(config, args), config, parts=launch.PARTS, address=HERE, cores=cores))
    took_s = time.monotonic() - begin_s
    assert not any(outcome.problem for outcome in outcomes), outcomes
    return sum(outcome.played_s for outcome in outcomes) / took_s


def main() -> None:
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sessions = [folder / f"session-{n}" for n in range(SESSIONS)]
        for session in sessions:
            shutil.copytree(ROOT / "sensors" / "demo", session)
        alone = played(1, sessions, folder / "one")
        together = played(cores, sessions, folder / "all")
    print(f"{SESSIONS} sessions of 38 s, all encoders: one core {alone:.1f} times real time")
    print(f"{cores} cores {together:.1f} times real time, {together / alone:.2f} times as fast")
