"""How `replay --ray` grows with its cores: copies of the demo's session on a Ray of one core, then of all."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mosquitto import free_port

ROOT = Path(__file__).parent.parent.parent
RAY = str(Path(sys.executable).with_name("ray"))
SESSIONS = 6
QUIET = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}


def played(cores: int, sessions: list[Path], out: Path) -> float:
    """How many times as fast as they were recorded, workers and encoders brought up included."""
    address = f"127.0.0.1:{free_port()}"
    start = [
        RAY,
        "start",
        "--head",
        f"--port={address.split(':')[1]}",
        f"--num-cpus={cores}",
        "--include-dashboard=false",
    ]
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL, env=QUIET)
    try:
        words = [sys.executable, "launch.py", "replay", *map(str, sessions), "--ray", address, "--out", str(out)]
        said = subprocess.run(words, check=True, cwd=ROOT, capture_output=True, text=True, env=QUIET).stdout
    finally:
        subprocess.run([RAY, "stop", "--force"], check=True, stdout=subprocess.DEVNULL)
    found = re.search(r"([\d.]+) times as fast as they were", said)
    assert found, said
    return float(found[1])


def main() -> None:
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sessions = [folder / f"session-{n}" for n in range(SESSIONS)]
        for session in sessions:
            shutil.copytree(ROOT / "sensors" / "demo", session)
        alone = played(1, sessions, folder / "one")
        together = played(cores, sessions, folder / "all")
    print(
        f"{SESSIONS} sessions of 38 s, all encoders: one core {alone:.1f} times real time, {cores} cores {together:.1f}"
    )
    print(f"{together / alone:.2f} times as fast on {cores} cores")
