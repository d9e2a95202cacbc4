"""What the process is like before it does anything."""

import ast
import os
import subprocess
import sys

import pytest

from agent.health.metrics import peak_rss_kib
from tests.outside import ROOT

SAID = "import launch, threadpoolctl; print({pool['num_threads'] for pool in threadpoolctl.threadpool_info()})"


@pytest.mark.parametrize(("asked", "threads"), [(None, 1), ("2", 2)])
def test_linear_algebra_keeps_to_one_core_unless_told(asked: str | None, threads: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    if asked:
        environment["OPENBLAS_NUM_THREADS"] = asked
    said = subprocess.run([sys.executable, "-c", SAID], cwd=ROOT, env=environment, capture_output=True, check=True)
    pools = ast.literal_eval(said.stdout.decode())
    assert pools == {min(threads, os.cpu_count() or 1)}


LEFT = """
import sys, threading
from agent.process import leave
begun = threading.Event()
def hang():
    begun.set()
    threading.Event().wait()
threading.Thread(target=hang, daemon=True).start()
begun.wait()
import atexit
atexit.register(print, "the interpreter was torn down under the thread")
print("written", end="")
sys.exit(leave(3))
"""


def test_the_process_leaves_at_once_and_with_its_code_where_a_thread_hangs() -> None:
    said = subprocess.run([sys.executable, "-c", LEFT], cwd=ROOT, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (3, "written")


ASKED_AGAIN = """
import os, signal, sys
from agent.process import leave
code = leave(3)
for number in (signal.SIGINT, signal.SIGTERM):
    os.kill(os.getpid(), number)
sys.exit(code)
"""


def test_who_asks_for_the_end_again_while_it_leaves_changes_nothing() -> None:
    said = subprocess.run([sys.executable, "-c", ASKED_AGAIN], cwd=ROOT, capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (3, "")


def test_the_peak_of_memory_is_the_process_s_own() -> None:
    ballast = bytearray(400 << 20)
    ballast[:: 1 << 12] = bytes(len(ballast) >> 12)  # touched, so that it is resident
    said = subprocess.run(
        [sys.executable, "-c", "from agent.health.metrics import peak_rss_kib; print(peak_rss_kib())"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert 1_000 < int(said.stdout) < 300 << 10
    assert peak_rss_kib() > 400 << 10
