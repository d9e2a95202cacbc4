"""Replaying the bundled session: the same bytes every time, whatever the speed."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from agent.showing.chart import colours_of
from tests.outside import ROOT, launch


async def test_two_replays_are_byte_identical_and_real_time_changes_nothing(tmp_path: Path) -> None:
    first, second, real = (tmp_path / name for name in ("first", "second", "real"))
    slow = asyncio.create_task(launch("replay", "demo", "--speed", "1", "--out", str(real)))
    for out in (first, second):
        code, output = await launch("replay", "demo", "--speed", "max", "--out", str(out))
        assert code == 0, output
    code, output = await slow
    assert code == 0, output
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() == real.read_bytes()
    decisions = [json.loads(line) for line in first.read_text().splitlines()]
    assert [decision["seq"] for decision in decisions] == list(range(len(decisions)))
    assert decisions[0]["id"] == "demo-0"
    assert decisions[0]["window"]["end"] == "2026-11-21T10:00:00.500Z"
    assert len(decisions) == 76


def test_the_running_agent_imports_no_training_framework() -> None:
    script = (
        "import sys, launch\n"
        "code = launch.main(['replay', 'demo', '--out', '-', '--log-level', 'WARNING'])\n"
        "heavy = {'torch', 'torchaudio', 'transformers', 'tensorflow', 'sklearn', 'onnx', 'h5py'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 76


async def test_another_rule_may_be_tried_on_the_same_session(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, _ = await launch("replay", "demo", "--out", str(out), "--set", "fusion.rule=vote")
    assert code == 0
    assert {json.loads(line)["rule"] for line in out.read_text().splitlines()} == {"vote"}


async def test_a_session_that_is_not_there_or_damaged_is_said(tmp_path: Path) -> None:
    code, output = await launch("replay", str(tmp_path / "nothing"))
    assert code == 2
    assert "nothing" in output
    (tmp_path / "video.mp4").write_bytes(b"no video at all")
    code, output = await launch("replay", str(tmp_path))
    assert code == 2
    assert "video.mp4" in output
    assert "Traceback" not in output


def decision(end: int, label: str, p: float, **more: object) -> str:
    """A line of a ``--out`` file, with two labels."""
    window = {"end_ns": str(end), "end": f"end {end}"}
    probabilities = {"happy": p, "sad": 1 - p}
    said = {"window": window, "label": label, "confidence": max(p, 1 - p), "probabilities": probabilities}
    return json.dumps(said | {"modalities": {}, "missing": {}, "latency_ms": {}} | more)


async def test_two_runs_are_compared(tmp_path: Path) -> None:
    left, right, plot = tmp_path / "left", tmp_path / "right", tmp_path / "plot.svg"
    left.write_text("\n".join([decision(1, "happy", 0.9), decision(2, "happy", 0.6), decision(3, "sad", 0.1)]))
    right.write_text(
        "\n".join(
            [
                decision(1, "happy", 0.9, latency_ms={"total": 3}),
                decision(2, "sad", 0.2, missing={"text": "silent"}),
                decision(4, "happy", 0.8),
            ]
        )
    )
    code, output = await launch("replay", "--compare", str(left), str(right), "--plot", str(plot))
    assert code == 0, output
    assert "moved by 0.05 and more: 3" in " ".join(output.split())
    assert "2 windows in both: 1 alike in all but latencies, 1 with another label" in output
    assert "moved by 0.200 on average and 0.400 at most" in output
    assert "text: there → silent" in output
    picture = plot.read_text()
    for colour in colours_of([json.loads(decision(1, "happy", 0.9))]).values():  # in the legend and in bars
        assert picture.count(colour) > 1


async def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(decision(1, "happy", 0.9))
    bad.write_text(decision(1, "happy", 0.9) + '\n{"label": 3}\n')
    code, output = await launch("replay", "--compare", str(good), str(bad))
    assert code == 2
    assert "bad, line 2" in output
    code, output = await launch("replay", "--compare", str(good), str(tmp_path / "nothing"))
    assert code == 2
    assert "nothing" in output
    assert (await launch("replay"))[0] == 2
