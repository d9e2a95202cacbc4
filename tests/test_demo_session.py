"""The bundled session: its files fit one another and its description, and it shows what its story says."""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from agent.types import Audio, Frame, Sample, Text
from sensors.demo import picture, speech, story
from sensors.session import Session

SESSION = Path(story.__file__).parent
MIB = 1 << 20


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return tomllib.loads((SESSION / "session.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sound() -> npt.NDArray[np.float32]:
    pcm, rate_hz = soundfile.read(SESSION / "audio.flac", dtype="float32")
    assert (rate_hz, pcm.ndim) == (16_000, 1)
    return np.asarray(pcm, np.float32)


@pytest.fixture(scope="module")
def frames() -> tuple[list[float], list[npt.NDArray[np.uint8]]]:
    """The instant of each frame, and each frame at a quarter of its size."""
    instants, pictures = [], []
    for t_s, frame in decoded():
        assert frame.shape == (480, 640, 3)
        instants.append(t_s)
        pictures.append(np.asarray(cv2.resize(frame, (160, 120), interpolation=cv2.INTER_AREA), np.uint8))
    return instants, pictures


def decoded() -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
    video = cv2.VideoCapture(str(SESSION / "video.mp4"), cv2.CAP_FFMPEG)
    try:
        while video.grab():
            t_s = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            whole, frame = video.retrieve()
            assert whole
            yield t_s, frame
    finally:
        video.release()


def level_db(sound: npt.NDArray[np.float32], start_s: float, end_s: float) -> float:
    part = sound[round(start_s * 16_000) : round(end_s * 16_000)]
    return float(20 * np.log10(np.sqrt(np.mean(part**2))))


def test_description_says_what_the_story_says(description: dict[str, Any]) -> None:
    assert description["name"] == "demo"
    assert description["duration_s"] == story.DURATION_S
    assert 30 <= story.DURATION_S <= 40
    start = datetime.fromisoformat(str(description["start"]))
    assert start == datetime.fromisoformat(story.START)
    assert start.tzinfo is not None
    assert "public domain" in description["notes"]


def test_session_is_small() -> None:
    names = ("session.toml", "video.mp4", "audio.flac", "text.jsonl", "portrait.png")
    assert sum((SESSION / name).stat().st_size for name in names) < 6 * MIB


def test_frames_come_at_known_instants(frames: tuple[list[float], list[Any]]) -> None:
    instants, _ = frames
    np.testing.assert_allclose(instants, np.arange(len(instants)) / picture.FPS, atol=1e-3)
    assert len(instants) / picture.FPS == pytest.approx(story.DURATION_S, abs=0.1)


def test_sound_lasts_as_long_as_the_video(sound: npt.NDArray[np.float32]) -> None:
    assert len(sound) / 16_000 == pytest.approx(story.DURATION_S, abs=0.1)


def test_sound_is_not_clipped_and_has_no_offset(sound: npt.NDArray[np.float32]) -> None:
    assert 0.1 < np.abs(sound).max() < 0.95
    assert abs(sound.mean()) < 1e-3


def test_lines_are_heard_and_the_rest_is_a_quiet_room(sound: npt.NDArray[np.float32]) -> None:
    for line in story.LINES:
        assert level_db(sound, line.at_s, line.at_s + 3) > line.level_db - 6, line.text
    for start_s, end_s in ((10.0, 14.9), (19.5, 21.7), (26.5, 31.9), (37.2, 38.0)):
        assert level_db(sound, start_s, end_s) == pytest.approx(speech.ROOM_DB, abs=3)


def test_anger_is_louder_and_sadness_softer_than_cheer(sound: npt.NDArray[np.float32]) -> None:
    cheerful, _, angry, sad, _ = (level_db(sound, line.at_s, line.at_s + 3) for line in story.LINES)
    assert angry > cheerful + 4
    assert sad < cheerful - 4


def test_texts_are_those_of_the_story_in_order() -> None:
    rows = [json.loads(line) for line in (SESSION / "text.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["t"], row["text"]) for row in rows] == [(m.at_s, m.text) for m in story.MESSAGES]
    instants = [row["t"] for row in rows]
    assert instants == sorted(instants)
    assert instants[0] < 1
    assert instants[-1] < story.DURATION_S
    # Longer than the ten seconds for which a text counts, so that text is missing for a while.
    assert max(np.diff(instants)) > 12


def test_curtain_hides_everything_and_darkness_falls(frames: tuple[list[float], list[Any]]) -> None:
    instants, pictures = frames
    light = np.array([frame.mean() for frame in pictures])
    t_s = np.array(instants)
    still = [np.abs(np.diff(pictures[i].astype(int), axis=0)).mean() for i in np.flatnonzero((t_s > 6) & (t_s < 12.5))]
    assert max(still) < 2, "the curtain has vertical folds and nothing else"
    assert light[(t_s > 23.5) & (t_s < 28)].max() < 0.4 * light[t_s < 5].min()
    assert light[t_s > 32].min() > 0.8 * light[t_s < 5].min()


def test_session_reader_delivers_all_of_it() -> None:
    session = Session.open(SESSION)
    samples = [event for event in session.events() if isinstance(event, Sample)]
    assert (session.name, session.duration_ns) == ("demo", round(story.DURATION_S * 1e9))
    assert sum(isinstance(sample.payload, Frame) for sample in samples) == round(story.DURATION_S * picture.FPS)
    assert sum(len(s.payload.pcm) for s in samples if isinstance(s.payload, Audio)) == round(story.DURATION_S * 16_000)
    assert [s.payload.text for s in samples if isinstance(s.payload, Text)] == [m.text for m in story.MESSAGES]


def test_portrait_is_the_one_whose_origin_is_recorded() -> None:
    recorded = re.search(r"portrait\.png.*sha256 `([0-9a-f]{64})`", (SESSION / "ORIGIN.md").read_text(encoding="utf-8"))
    assert recorded is not None
    assert hashlib.sha256((SESSION / "portrait.png").read_bytes()).hexdigest() == recorded[1]


def test_committed_frames_are_those_that_the_script_renders(
    frames: tuple[list[float], list[Any]], sound: npt.NDArray[np.float32]
) -> None:
    portrait = np.asarray(cv2.imread(str(SESSION / "portrait.png")), np.uint8)
    rendered = picture.frames(portrait, sound)
    for committed, _ in zip(frames[1], range(20), strict=False):
        fresh = cv2.resize(next(rendered), (160, 120), interpolation=cv2.INTER_AREA)
        assert np.abs(fresh.astype(int) - committed).mean() < 4


def test_track_eases_between_its_key_frames_and_holds_outside() -> None:
    track = ((1.0, 10.0), (3.0, 20.0))
    assert [story.at(track, t_s) for t_s in (0.0, 1.0, 2.0, 3.0, 9.0)] == [10.0, 10.0, 15.0, 20.0, 20.0]
    assert story.at(track, 1.2) - 10 < 1


def test_face_shuts_its_mouth_and_frowns() -> None:
    portrait = np.asarray(cv2.imread(str(SESSION / "portrait.png")), np.uint8)
    head = picture.Portrait(portrait)
    as_it_is = head.face(smile=1.0, opening=1.0)
    teeth = (slice(290, 298), slice(430, 470))
    assert as_it_is[teeth].min(axis=-1).mean() > head.face(smile=1.0, opening=0.0)[teeth].min(axis=-1).mean() + 30
    untouched = np.ones(as_it_is.shape[:2], bool)
    untouched[120:400, 270:630] = False
    sad = head.face(smile=-1.0, opening=0.0)
    assert (sad[untouched] == as_it_is[untouched]).all()
    assert (sad[160:210, 380:520] != as_it_is[160:210, 380:520]).any()


def test_overlapping_lines_are_refused(tmp_path: Path) -> None:
    tone = np.sin(np.arange(16_000 * 7) / 9).astype(np.float32)
    for number in range(1, len(story.LINES) + 1):
        soundfile.write(tmp_path / f"line-{number}.wav", tone, 16_000)
    with pytest.raises(ValueError, match=r"line 2 begins at 5\.7 s, but the one before it ends at 6\.\d+ s"):
        speech.sound_track(tmp_path)
