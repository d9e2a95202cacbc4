"""What ails a source: when it is noticed, when it is over, and what it does to a decision."""

import asyncio
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import MS, SECOND, VirtualClock
from agent.health.signs import Latch
from agent.health.standing import StandingBoard
from agent.health.vitals import (
    BLACK_NS,
    FROZEN_NS,
    JUMPED_NS,
    LIGHT_NS,
    MOVING_NS,
    SILENCE_NS,
    STALL_NS,
    Ailment,
    Vitals,
)
from agent.playback import play
from agent.types import AUDIO_RATE_HZ, F32, U8, Absence, Audio, Decision, Frame, Modality, Sample, Source, Watermark
from tests.scripted import ScriptedEncoder, happy, pipeline, silent

CAMERA, MICROPHONE = Source("camera", Modality.VISION), Source("microphone", Modality.AUDIO)
RNG = np.random.default_rng(7)
NOISE = [RNG.integers(90, 110, (48, 64, 3)).astype(np.uint8) for _ in range(5)]
FRAME_NS, BLOCK_NS = SECOND // 10, 20 * MS
BLOCK = BLOCK_NS * AUDIO_RATE_HZ // SECOND


def frame(t_ns: int, bgr: U8, *, late_ns: int = 0, source: str = "camera") -> Sample:
    return Sample(source, Frame(bgr), t_ns, t_ns, t_ns + late_ns)


def block(end_ns: int, pcm: F32) -> Sample:
    return Sample("microphone", Audio(pcm), end_ns - BLOCK_NS, end_ns, end_ns)


def moving(since_ns: int, until_ns: int) -> Iterator[Sample]:
    for i, t_ns in enumerate(range(since_ns, until_ns, FRAME_NS)):
        yield frame(t_ns, NOISE[i % len(NOISE)])


def shown(bgr: U8, since_ns: int, until_ns: int) -> Iterator[Sample]:
    for t_ns in range(since_ns, until_ns, FRAME_NS):
        yield frame(t_ns, bgr)


def heard(amplitude: float, since_ns: int, until_ns: int) -> Iterator[Sample]:
    """White noise of that standard deviation, through a 16-bit converter."""
    for end_ns in range(since_ns + BLOCK_NS, until_ns + 1, BLOCK_NS):
        pcm = np.clip(RNG.normal(0, amplitude, BLOCK), -1, 32_767 / 32_768)
        yield block(end_ns, (np.rint(pcm * 32_768) / 32_768).astype(np.float32))


def looked(*samples: Sample) -> Vitals:
    vitals = Vitals([CAMERA, MICROPHONE])
    for sample in samples:
        vitals.look(sample)
    return vitals


def found(vitals: Vitals, source: Source, at_ns: int) -> list[str]:
    return [*map(str, vitals.ailments(source.name, at_ns))]


def test_a_frozen_camera_is_noticed_after_ten_seconds_and_well_a_second_after_it_moves() -> None:
    stops, goes = 5 * SECOND, 30 * SECOND
    vitals = looked(*moving(0, stops), *shown(NOISE[0], stops, goes), *moving(goes, 40 * SECOND))
    assert found(vitals, CAMERA, stops + FROZEN_NS) == []
    assert found(vitals, CAMERA, stops + FROZEN_NS + 2 * FRAME_NS) == ["frozen"]
    assert found(vitals, CAMERA, goes + MOVING_NS - FRAME_NS) == ["frozen"]
    assert found(vitals, CAMERA, goes + MOVING_NS + 2 * FRAME_NS) == []


def test_one_frame_that_differs_starts_the_count_anew() -> None:
    late = FROZEN_NS - FRAME_NS
    vitals = looked(*shown(NOISE[0], 0, late), *shown(NOISE[1], late, 2 * late))
    assert found(vitals, CAMERA, 2 * late) == []


def test_a_picture_of_another_size_is_another_picture() -> None:
    vitals = looked(
        *(frame(t, np.full((48 + t // FRAME_NS % 2, 64, 3), 99, np.uint8)) for t in range(0, 20 * SECOND, FRAME_NS))
    )
    assert found(vitals, CAMERA, 19 * SECOND) == []


def still(path: Path, frozen_s: int) -> Iterator[Sample]:
    """A scene in which nothing moves, with a sensor's noise, as a cheap network camera compresses it: with a key frame
    only every ten seconds. After 25 s the camera freezes."""
    source = "color=gray:s=320x240:r=10:d=25,noise=c0s=4:c0f=t+u"
    stops = f"tpad=stop_mode=clone:stop_duration={frozen_s}"
    codec = ("-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast", "-crf", "32", "-g", "100")
    subprocess.run(["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", f"{source},{stops}", *codec, path], check=True)
    film = cv2.VideoCapture(str(path))
    try:
        for i in range((25 + frozen_s) * 10):
            ok, bgr = film.read()
            assert ok
            yield frame(i * FRAME_NS, np.asarray(bgr, np.uint8))
    finally:
        film.release()


def test_a_still_scene_through_a_video_codec_is_not_a_frozen_camera(tmp_path: Path) -> None:
    vitals = looked(*still(tmp_path / "still.mkv", 25))
    assert [found(vitals, CAMERA, t * SECOND) for t in range(25)] == [[]] * 25
    assert found(vitals, CAMERA, 49 * SECOND) == ["frozen"]


@pytest.mark.parametrize(("level", "black"), [(12, True), (40, False)])
def test_a_dark_picture_is_black_and_a_dim_one_is_not(level: int, black: bool) -> None:
    pictures = [np.clip(RNG.normal(level, 3, (480, 640, 3)), 0, 255).astype(np.uint8) for _ in range(3)]
    dark = [frame(t, pictures[t // FRAME_NS % 3]) for t in range(0, 8 * SECOND, FRAME_NS)]
    vitals = looked(*dark, *moving(8 * SECOND, 12 * SECOND))
    assert found(vitals, CAMERA, BLACK_NS - FRAME_NS) == []
    assert found(vitals, CAMERA, BLACK_NS + FRAME_NS) == (["black"] if black else [])
    assert found(vitals, CAMERA, 8 * SECOND + LIGHT_NS + FRAME_NS) == []


@pytest.mark.parametrize(
    ("amplitude", "dead"),
    [(0.0, True), (10 ** (-110 / 20), True), (10 ** (-90 / 20), False), (10 ** (-60 / 20), False)],
)
def test_silence_is_what_no_room_is(amplitude: float, dead: bool) -> None:
    """Digital zero, and noise of -110 dBFS, are not a room; noise of -90 and -60 dBFS is, through 16 bits."""
    quiet = SILENCE_NS + 2 * SECOND
    vitals = looked(*heard(amplitude, 0, quiet), *heard(0.05, quiet, quiet + SECOND))
    assert found(vitals, MICROPHONE, SILENCE_NS - BLOCK_NS) == []
    assert found(vitals, MICROPHONE, quiet) == (["silence"] if dead else [])
    assert found(vitals, MICROPHONE, quiet + SECOND) == []


def test_a_steady_offset_is_silence_too() -> None:
    vitals = looked(*(block(t, np.full(BLOCK, 0.3, np.float32)) for t in range(BLOCK_NS, 12 * SECOND, BLOCK_NS)))
    assert found(vitals, MICROPHONE, 11 * SECOND) == ["silence"]


def test_a_microphone_that_clips_is_noticed_and_is_well_again() -> None:
    loud, fine = 5 * SECOND, 30 * SECOND
    vitals = looked(*heard(0.1, 0, loud), *heard(0.6, loud, 10 * SECOND), *heard(0.1, 10 * SECOND, fine))
    assert found(vitals, MICROPHONE, loud) == []
    assert found(vitals, MICROPHONE, 9 * SECOND) == ["clipping"]
    assert found(vitals, MICROPHONE, fine) == []


def test_one_bang_is_not_clipping() -> None:
    bang = block(SECOND + BLOCK_NS, np.ones(BLOCK, np.float32))
    vitals = looked(*heard(0.1, 0, SECOND), bang, *heard(0.1, SECOND + BLOCK_NS, 2 * SECOND))
    assert found(vitals, MICROPHONE, SECOND + BLOCK_NS) == []


def test_samples_that_are_no_numbers_harm_nothing() -> None:
    sick = [block(t, np.full(BLOCK, np.nan, np.float32)) for t in range(BLOCK_NS, SECOND, BLOCK_NS)]
    vitals = looked(*sick, block(SECOND, np.zeros(0, np.float32)), *heard(0.6, SECOND, 5 * SECOND))
    assert found(vitals, MICROPHONE, 5 * SECOND) == ["clipping"]


@pytest.mark.parametrize("jump_ns", [-5 * SECOND, -SECOND, SECOND, 5 * SECOND])
def test_a_jump_of_the_stamps_is_held_against_a_source_for_a_while(jump_ns: int) -> None:
    """The camera's stamps jump at 10 s by ``jump_ns``; what arrives arrives in time."""
    samples = [
        frame(t + jump_ns * (t >= 10 * SECOND), NOISE[t // FRAME_NS % 5], late_ns=-jump_ns * (t >= 10 * SECOND))
        for t in range(0, 60 * SECOND, FRAME_NS)
    ]
    vitals = looked(*samples)
    after = 10 * SECOND + jump_ns
    assert found(vitals, CAMERA, min(after, 10 * SECOND) - SECOND) == []
    assert found(vitals, CAMERA, max(after, 10 * SECOND) + 3 * SECOND) == ["clock_jump"]
    assert found(vitals, CAMERA, max(after, 10 * SECOND) + JUMPED_NS + 3 * SECOND) == []


def test_a_burst_after_a_network_stalled_is_no_jump() -> None:
    """Three seconds of frames come at once, and then as before."""
    stalls, comes = 10 * SECOND, 13 * SECOND
    samples = [
        frame(t, NOISE[t // FRAME_NS % 5], late_ns=max(comes - t, 0) if t >= stalls else 0)
        for t in range(0, 30 * SECOND, FRAME_NS)
    ]
    vitals = looked(*samples)
    assert [found(vitals, CAMERA, t * SECOND) for t in range(30)] == [[]] * 30


def test_a_source_that_stands_still_has_stalled_and_one_that_never_came_has_not() -> None:
    vitals = looked(*moving(0, SECOND))
    newest = SECOND - FRAME_NS
    assert found(vitals, CAMERA, newest + STALL_NS) == []
    assert found(vitals, CAMERA, newest + STALL_NS + 1) == ["stalled"]
    assert found(vitals, MICROPHONE, 60 * SECOND) == []


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=60))
def test_a_latch_follows_a_sign_that_lasts_and_no_other(steps: list[tuple[int, bool]]) -> None:
    latch, t, on, since = Latch(on_ns=6, off_ns=3), 0, False, None
    for pause, sign in steps:
        t += pause
        since = (t if since is None else since) if sign != on else None
        if since is not None and t - since >= (6 if sign else 3):
            on, since = sign, None
        assert latch.update(t, sign=sign) is on


def test_what_is_found_for_a_window_does_not_change_with_what_comes_after_it() -> None:
    samples = [*moving(0, 5 * SECOND), *shown(NOISE[0] * 0, 5 * SECOND, 20 * SECOND), *moving(20 * SECOND, 25 * SECOND)]
    vitals, then = Vitals([CAMERA]), []
    for sample in samples:
        vitals.look(sample)
        then.append(vitals.ailments("camera", sample.end_ns))
    assert [vitals.ailments("camera", sample.end_ns) for sample in samples] == then
    assert {ailment for found in then for ailment in found} == {Ailment.FROZEN, Ailment.BLACK}


def merged(*streams: Sequence[Sample | Watermark]) -> list[Sample | Watermark]:
    return sorted(
        (item for stream in streams for item in stream),
        key=lambda item: item.arrival_ns if isinstance(item, Sample) else item.t_ns,
    )


def played(
    events: Sequence[Sample | Watermark], *encoders: ScriptedEncoder, sources: Sequence[Source]
) -> list[Decision]:
    async def run() -> list[Decision]:
        clock = VirtualClock()
        p = pipeline(clock, *encoders, sources=sources, vitals=Vitals(sources))
        try:
            return [decided.decision async for decided in play(events, p, clock)]
        finally:
            p.close()

    return asyncio.run(run())


def test_a_frozen_camera_loses_its_weight_and_gets_it_back() -> None:
    stops, goes = 2 * SECOND, 14 * SECOND
    events = [*moving(0, stops), *shown(NOISE[0], stops, goes), *moving(goes, 18 * SECOND)]
    eyes = [ScriptedEncoder(Modality.VISION, happy) for _ in range(2)]
    decisions = played(events, eyes[0], sources=[CAMERA])
    weights = {d.end_ns: d.modalities[Modality.VISION].weight for d in decisions if Modality.VISION in d.modalities}
    frozen = [w for end_ns, w in weights.items() if stops + FROZEN_NS + 2 * FRAME_NS < end_ns < goes]
    assert frozen
    assert set(frozen) == {0.0}
    assert weights[stops] > 0.5
    assert weights[max(weights)] > 0.5
    assert all(d.abstained for d in decisions if weights.get(d.end_ns) == 0)
    assert played(events, eyes[1], sources=[CAMERA]) == decisions


def test_a_live_camera_decides_beside_a_frozen_one() -> None:
    """The encoder prefers the first source that it is shown, which is the frozen one as long as it is shown."""
    other = Source("other", Modality.VISION)
    events = merged(
        [*shown(NOISE[0], 0, 14 * SECOND)],
        [
            frame(s.end_ns, s.payload.bgr, source="other")
            for s in moving(0, 14 * SECOND)
            if isinstance(s.payload, Frame)
        ],
    )
    first = ScriptedEncoder(
        Modality.VISION, lambda samples: happy([s for s in samples if s.source == samples[0].source])
    )
    decided = played(events, first, sources=[CAMERA, other])
    sources = [d.modalities[Modality.VISION].source for d in decided if Modality.VISION in d.modalities]
    assert sources[0] == "camera"
    assert sources[-1] == "other"
    assert not decided[-1].abstained


def test_the_modality_says_what_ails_it() -> None:
    events = merged(
        [*moving(0, 2 * SECOND), *shown(NOISE[0] * 0, 2 * SECOND, 8 * SECOND), *moving(8 * SECOND, 11 * SECOND)]
    )
    told: list[tuple[str, object, object]] = []

    async def run() -> None:
        clock = VirtualClock()
        p = pipeline(clock, ScriptedEncoder(Modality.VISION, silent), sources=[CAMERA], vitals=Vitals([CAMERA]))
        board = StandingBoard(lambda m, said: told.append((m, said["state"], said["reason"])), p.ailment)
        async for decided in play(events, p, clock):
            board.update(decided.decision)
            if Modality.VISION in decided.decision.missing:
                assert decided.decision.missing[Modality.VISION] is Absence.SILENT
        p.close()

    asyncio.run(run())
    assert [said for modality, *said in told if modality == "vision"] == [
        ["missing", "silent"], ["degraded", "black"], ["missing", "silent"],
    ]  # fmt: skip


def test_nothing_is_kept_of_pictures_once_it_is_to_forget() -> None:
    vitals = looked(*shown(NOISE[0], 0, FROZEN_NS - FRAME_NS))
    vitals.forget()
    for sample in shown(NOISE[0], FROZEN_NS - FRAME_NS, FROZEN_NS + 5 * SECOND):
        vitals.look(sample)
    assert found(vitals, CAMERA, FROZEN_NS + 4 * SECOND) == []
