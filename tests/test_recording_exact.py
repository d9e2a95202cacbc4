"""A recorded agent, played again: the same decisions, whatever took how long then."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.clock import MS, VirtualClock
from agent.config import Config
from agent.control.handler import Control
from agent.payload import encode
from agent.recording.format import Switched
from agent.recording.recorder import Recorder
from agent.replay import Played, replayed
from agent.types import Decision, Latency, Modality
from sensors.session_mcap import McapSession
from tests.outside import ROOT, launch
from tests.recordings import START_NS, Moody, MoodyParts, Ticking, failing, folders, opened, recorded_live, settings

NO_LATENCY = Latency(0, 0, 0, 0)


async def played(session: McapSession, config: Config) -> list[Played]:
    return [each async for each in replayed(session, config, parts=MoodyParts())]  # type: ignore[arg-type]


def timeless(decision: Decision) -> Decision:
    """All of a decision but how long things took."""
    modalities = {m: replace(c, encode_ns=0) for m, c in decision.modalities.items()}
    return replace(decision, modalities=modalities, latency=NO_LATENCY)


async def test_a_replay_decides_what_the_live_agent_decided(tmp_path: Path) -> None:
    config = settings(tmp_path)
    live = await recorded_live(config)
    again = await played(opened(tmp_path), config)
    assert len(live) >= 7
    assert any(sample.source == "speech" for d in live for sample in d.window.parts[Modality.TEXT])
    assert [timeless(p.decided.decision) for p in again] == [timeless(d.decision) for d in live]
    assert not any(p.lost for p in again)
    assert [e.payload for e in await played(opened(tmp_path), config)] == [p.payload for p in again]


async def test_what_was_published_comes_out_again(tmp_path: Path) -> None:
    config = settings(tmp_path, frames="raw")
    await recorded_live(config)
    session = opened(tmp_path)
    published = [json.loads(decision) for decision in session.published()]
    again = [json.loads(encode(p.payload)) for p in await played(session, config)]
    assert [untimed(p) for p in again] == [untimed(p) for p in published]
    assert again[0]["id"] == "live-0"


def untimed(payload: dict[str, Any]) -> dict[str, Any]:
    """A published decision without how long things took."""
    modalities = {m: {**said, "encode_ms": 0} for m, said in payload["modalities"].items()}
    return {**payload, "modalities": modalities, "latency_ms": {}}


async def test_encoders_that_were_late_or_failed_are_so_again(tmp_path: Path) -> None:
    """The camera's encoder hangs in its second run until long after its window; the text's fails in its third."""
    config = settings(tmp_path)
    release = threading.Event()

    def hang(call: int) -> None:
        if call == 2:
            release.wait(10)
        elif call == 3:
            assert release.is_set()

    def let_go(call: int) -> None:
        if call == 5:
            release.set()

    encoders = [
        Moody(Modality.VISION, also=hang),
        Moody(Modality.AUDIO, also=let_go),
        Moody(Modality.TEXT, also=failing(3)),
    ]
    live = await recorded_live(config, seconds=6, encoders=encoders, patience_ns=200 * MS)
    assert any(Modality.VISION in d.course.late for d in live)
    assert any(Modality.TEXT in d.course.failed for d in live)
    assert any(Modality.VISION in d.window.parts and Modality.VISION not in d.course.given for d in live)
    again = await played(opened(tmp_path), config)
    assert [timeless(p.decided.decision) for p in again] == [timeless(d.decision) for d in live]


async def test_what_the_budget_spared_is_spared_again(tmp_path: Path) -> None:
    config = settings(tmp_path, budget="15 ms")
    live = await recorded_live(config, seconds=6, timer=Ticking(START_NS))
    assert any(d.course.spared for d in live)
    assert any(len(d.course.given.get(Modality.VISION, ())) < len(d.window.parts[Modality.VISION]) for d in live)
    again = await played(opened(tmp_path), config)
    assert [timeless(p.decided.decision) for p in again] == [timeless(d.decision) for d in live]


async def test_another_rule_may_be_tried_on_the_same_windows(tmp_path: Path) -> None:
    config = settings(tmp_path)
    live = await recorded_live(config)
    other = config.model_copy(update={"fusion": config.fusion.model_copy(update={"rule": "mean"})})
    again = await played(opened(tmp_path), other)
    assert {p.decided.decision.rule for p in again} == {"mean"}
    assert [p.decided.window.cut_ns for p in again] == [d.window.cut_ns for d in live]


async def test_other_windows_are_cut_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = settings(tmp_path)
    live = await recorded_live(config)
    caplog.set_level("INFO")
    other = config.model_copy(update={"agent": config.agent.model_copy(update={"hop": 250 * MS})})
    again = await played(opened(tmp_path), other)
    assert "cut anew" in caplog.text
    assert len(again) >= 2 * len(live) - 3
    ends = [p.decided.window.end_ns for p in again]
    assert set(ends) >= {d.window.end_ns for d in live[:-1]}


async def test_windows_that_are_cut_anew_hold_the_same(tmp_path: Path) -> None:
    """Nothing was skipped and nobody was late, so that the recorded order of arrival alone gives the same windows."""
    config = settings(tmp_path)
    live = await recorded_live(config)
    other = config.model_copy(update={"agent": config.agent.model_copy(update={"max_samples": 3999})})
    again = await played(opened(tmp_path), other)
    fed = {d.window.end_ns: d.window for d in live}
    for p in again[: len(live) - 1]:
        window = fed[p.decided.window.end_ns]
        assert {m: [s.end_ns for s in part] for m, part in p.decided.window.parts.items()} == {
            m: [s.end_ns for s in part] for m, part in window.parts.items()
        }


@pytest.mark.parametrize("early", [False, True], ids=["", "it is over before the encoder has done"])
async def test_a_pause_is_one_in_the_replay_too(tmp_path: Path, *, early: bool) -> None:
    """Sensing is switched off while the camera's encoder is at work on a window, and another window waits."""
    config = settings(tmp_path)
    hung, release = threading.Event(), threading.Event()

    def hang(call: int) -> None:
        if call == 3:
            hung.set()
            assert release.wait(10)

    async def pause(control: Control, recorder: Recorder, clock: VirtualClock) -> None:
        await asyncio.to_thread(hung.wait, 10)
        await clock.sleep_until(clock.now_ns() + 600 * MS)
        pausing = asyncio.create_task(control.handle("pause", b""))
        await clock.sleep_until(clock.now_ns() + 20 * MS)
        if not early:
            release.set()
            assert (await pausing).ok
        await clock.sleep_until(clock.now_ns() + 700 * MS)
        assert (await control.handle("resume", b"")).ok
        if early:
            await pausing
            await clock.sleep_until(clock.now_ns() + 20 * MS)
            release.set()

    encoders = [Moody(Modality.VISION, also=hang), Moody(Modality.AUDIO), Moody(Modality.TEXT)]
    live = await recorded_live(config, seconds=8, encoders=encoders, meanwhile=pause)
    session = opened(tmp_path)
    assert [e.what.on for e in session.entries() if isinstance(e.what, Switched)] == [False, True]
    again = await played(session, config)
    assert [timeless(p.decided.decision) for p in again] == [timeless(d.decision) for d in live]
    if early:  # by when a window was decided again, sensing was on
        return
    there = [bool(d.window.parts) for d in live]
    off = there.index(False)
    assert any(there[off:])
    other = config.model_copy(update={"agent": config.agent.model_copy(update={"max_samples": 3999})})
    anew = await played(session, other)
    assert [Modality.VISION in p.decided.window.parts for p in anew].index(False) >= off
    ends = {d.window.end_ns: bool(d.window.parts) for d in live[off:]}
    assert all(ends[p.decided.window.end_ns] == bool(p.decided.window.parts) for p in anew[off + 1 : len(live)])


async def test_a_reload_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = settings(tmp_path)
    other = config.model_copy(update={"fusion": config.fusion.model_copy(update={"rule": "mean"})})

    async def adopt(control: Control, recorder: Recorder, clock: VirtualClock) -> None:
        await clock.sleep_until(clock.now_ns() + 900 * MS)
        recorder.adopt(other)
        assert (await recorder.stop()).ok
        assert (await recorder.start()).ok

    await recorded_live(config, seconds=2, meanwhile=adopt)
    first, second = map(McapSession.open, folders(tmp_path))
    assert sum(survey.reloads for survey in first.survey()) == 1
    await played(first, config)
    assert "reloaded while this was recorded" in caplog.text
    assert "fusion.rule" in caplog.text
    assert (first.about.config["fusion"]["rule"], second.about.config["fusion"]["rule"]) == ("bayes", "mean")


async def test_the_real_agent_recorded_and_replayed(tmp_path: Path) -> None:
    """The first seconds of the bundled session through the whole program, its encoders and its transcriber."""
    session = tmp_path / "session"
    session.mkdir()
    for name in ("video.mp4", "audio.flac", "text.jsonl"):
        (session / name).symlink_to(ROOT / "sensors" / "demo" / name)
    (session / "session.toml").write_text("duration_s = 8.0\n")
    config = tmp_path / "config.toml"
    config.write_text(
        f'[agent]\nnode = "n"\n[privacy]\npurpose = "test"\n[mqtt]\nbroker = "embedded:{_port()}"\n'
        f'[sensors.s]\nkind = "replay"\nsession = "{session}"\n'
        '[record]\nframes = "raw"\naudio = "float"\nkeep_free = "1 B"\n'
    )
    out = tmp_path / "out"
    code, output = await launch("record", "--config", str(config), "--out", str(out))
    assert code == 0, output
    (folder,) = out.iterdir()
    first, second = tmp_path / "first", tmp_path / "second"
    replays = [launch("replay", str(folder), "--config", str(config), "--out", str(path)) for path in (first, second)]
    for code, output in await asyncio.gather(*replays):
        assert code == 0, output
    assert first.read_bytes() == second.read_bytes()
    published = [json.loads(decision) for decision in McapSession.open(folder).published()]
    again = [json.loads(line) for line in first.read_text().splitlines()]
    assert len(again) >= 10
    assert [untimed(p) for p in again] == [untimed(p) for p in published]
    assert {"vision", "audio", "text"} == {m for p in again for m in p["modalities"]}


def _port() -> int:
    from tests.mosquitto import free_port

    return free_port()
