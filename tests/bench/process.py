"""The demo as a process of its own: seconds to the first decision, resident memory, processor time."""

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.mosquitto import free_port

ROOT = Path(__file__).parent.parent.parent


def main() -> None:
    begin = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", "import launch, agent.assembly, engines.encoders, sensors"], cwd=ROOT, check=True
    )
    print(f"imports of the command line, the agent and its rooms: {time.monotonic() - begin:.2f} s, Python included")
    port = free_port()
    begin = time.monotonic()
    demo = subprocess.Popen(
        [sys.executable, "launch.py", "demo", "--once", "--set", f"mqtt.broker=embedded:{port}",
         "--set", "mqtt.metrics_every=5 s"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert demo.stdout is not None
    demo.stdout.readline()
    print(f"process start to the first decision: {time.monotonic() - begin:.2f} s")
    peak_kib = 0
    watcher = subprocess.Popen(
        ["mosquitto_sub", "-p", str(port), "-t", "attune/+/metrics"], stdout=subprocess.PIPE, text=True
    )
    assert watcher.stdout is not None
    metrics = {}
    for line in watcher.stdout:
        metrics = json.loads(line)
        peak_kib = max(peak_kib, *(_rss_kib(pid) for pid in _tree(demo.pid)), sum(map(_rss_kib, _tree(demo.pid))))
        if metrics["counts"]["decisions"] > 60:
            break
    watcher.terminate()
    watcher.wait()
    demo.stdout.read()
    print(f"exit code {demo.wait()}, resident memory with all encoders and transcription: {peak_kib / 1024:.0f} MiB")
    print(f"processor time {metrics['cpu_s']} s; latency of the newest decisions {metrics['latency_ms']}")


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    below = [int(child) for child in children.read_text().split()] if children.exists() else []
    return [pid, *(descendant for child in below for descendant in _tree(child))]


def _rss_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    rows = status.read_text().splitlines() if status.exists() else []
    return next((int(row.split()[1]) for row in rows if row.startswith("VmRSS")), 0)
