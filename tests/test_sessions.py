"""``sessions``: recordings are listed, described and exported, and what was exported plays."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pyarrow.parquet
import pytest
import soundfile

from agent.types import Audio, Frame, Sample
from sensors.session import Session
from tests import recordings
from tests.outside import launch
from tests.recordings import START_NS, opened, recorded_live, sensed


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording of two seconds."""
    out = tmp_path_factory.mktemp("out")
    asyncio.run(recorded_live(recordings.settings(out), seconds=2))
    return out


async def test_they_are_listed_and_described(out: Path) -> None:
    code, output = await launch("sessions", "list", str(out))
    assert code == 0, output
    assert "test-20261118T110640Z" in output
    assert re.search(r"0 min [2-9]\.\d", output)
    code, output = await launch("sessions", "info", str(opened(out).parts[0].parent))
    assert code == 0, output
    assert "0001.mcap" in output
    assert "whole" in output
    assert "20 /camera" in output
    assert "100 /microphone" in output


async def test_a_recording_that_was_cut_off_says_so(out: Path, tmp_path: Path) -> None:
    content = opened(out).parts[0].read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(content[:-1000])
    code, output = await launch("sessions", "info", str(cut))
    assert code == 0, output
    assert f"of {len(content) - 1000} bytes can be read" in output


async def test_an_export_is_a_session_of_the_same(out: Path, tmp_path: Path) -> None:
    folder, table = tmp_path / "export", tmp_path / "decisions.parquet"
    recording = opened(out)
    path = str(recording.parts[0].parent)
    code, output = await launch("sessions", "export", path, "--out", str(folder), "--parquet", str(table))
    assert code == 0, output
    session = Session.open(folder)
    found = [event for event in session.events() if isinstance(event, Sample)]
    was = [item for item in sensed(2) if isinstance(item, Sample)]
    # An MP4 counts time in steps of 11 µs.
    taken = [event.t_ns for event in found if isinstance(event.payload, Frame)]
    assert taken == pytest.approx([s.t_ns - START_NS for s in was if s.source == "camera"], abs=12_000)
    pcm, rate_hz = soundfile.read(folder / "audio.wav", dtype="float32")
    whole = b"".join(s.payload.pcm.tobytes() for s in was if isinstance(s.payload, Audio))
    assert rate_hz == 16_000
    assert pcm.tobytes() == whole
    texts = [event for event in found if event.source == "text"]
    assert [t.end_ns for t in texts] == pytest.approx([s.t_ns - START_NS for s in was if s.source == "text"], abs=1000)
    decisions = [json.loads(line) for line in (folder / "decisions.jsonl").read_text().splitlines()]
    rows = pyarrow.parquet.read_table(table)
    assert rows["id"].to_pylist() == [d["id"] for d in decisions] == [f"live-{i}" for i in range(rows.num_rows)]
    assert rows["window_end"].cast("int64").to_pylist() == [int(d["window"]["end_ns"]) for d in decisions]
    assert rows["p_happy"].to_pylist() == [d["probabilities"]["happy"] for d in decisions]


async def test_what_is_asked_wrongly_is_said(out: Path, tmp_path: Path) -> None:
    assert (await launch("sessions", "list", str(tmp_path / "nothing")))[0] == 2
    code, output = await launch("sessions", "export", "demo", "--parquet", str(tmp_path / "x"))
    assert code == 1
    assert "holds no decisions" in output
    code, output = await launch("sessions", "export", "demo")
    assert code == 2
    code, output = await launch("sessions", "export", "demo", "--out", str(tmp_path))
    assert code == 1
    assert "exists" in output
