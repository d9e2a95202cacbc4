import asyncio
import json
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent.clock import MS, SECOND, RealClock, VirtualClock
from agent.types import AUDIO_RATE_HZ, Audio, Frame, Sample, Text, Watermark
from sensors.replay import ReplaySensor
from sensors.session import Session, arrival_ns
from sensors.session_files import SessionError
from tests.reading import read_until
from tests.streams import make_video

DEMO = Path(__file__).parent.parent / "sensors" / "demo"


def make_session(folder: Path, *, seconds: float = 1.0, rate: int = 48_000) -> Path:
    """A folder with all parts: pictures at 10 per second, a tone that is loud in its second half, two texts."""
    folder.mkdir(exist_ok=True)
    make_video(folder / "video.mp4", seconds=seconds, fps=10)
    t = np.arange(round(seconds * rate)) / rate
    sound = np.sin(2 * np.pi * 440 * t) * np.where(t < seconds / 2, 0.01, 0.5)
    soundfile.write(folder / "audio.flac", np.stack([sound, sound], axis=1), rate)
    lines = [{"t": 0.75, "text": "later", "lang": "en"}, {"t": 0.25, "text": "first", "origin": "speech", "begin": 0.1}]
    (folder / "text.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "session.toml").write_text('name = "test"\nstart = 2026-11-21T10:00:00Z\nnotes = "made"\n')
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_session(tmp_path_factory.mktemp("sessions") / "session")


def samples_of(session: Session, source: str) -> list[Sample]:
    return [event for event in session.events() if isinstance(event, Sample) and event.source == source]


def joined(samples: list[Sample]) -> np.ndarray:
    return np.concatenate([sample.payload.pcm for sample in samples if isinstance(sample.payload, Audio)])


def test_what_a_session_says_of_itself(folder: Path) -> None:
    session = Session.open(folder)
    assert (session.name, session.notes) == ("test", "made")
    assert session.start_wall_ns == 1_795_255_200 * SECOND
    assert session.duration_ns == SECOND
    assert [source.name for source in session.sources] == ["camera", "microphone", "text"]


def test_every_sample_stands_at_its_instant(folder: Path) -> None:
    session = Session.open(folder)
    frames = samples_of(session, "camera")
    assert [frame.t_ns for frame in frames] == [n * 100 * MS for n in range(10)]
    assert all(isinstance(frame.payload, Frame) and frame.payload.bgr.shape == (120, 160, 3) for frame in frames)
    blocks = samples_of(session, "microphone")
    assert (blocks[0].t_ns, blocks[-1].end_ns) == (0, SECOND)
    assert all(before.end_ns == after.t_ns for before, after in pairwise(blocks))
    pcm = joined(blocks)
    assert len(pcm) == AUDIO_RATE_HZ
    assert int(np.argmax(np.abs(pcm) > 0.1)) == pytest.approx(AUDIO_RATE_HZ // 2, abs=16)
    first, later = samples_of(session, "text")
    assert isinstance(first.payload, Text)
    assert isinstance(later.payload, Text)
    assert (first.t_ns, first.end_ns) == (100 * MS, 250 * MS)
    assert (first.payload.text, first.payload.origin) == ("first", "speech")
    assert (later.t_ns, later.end_ns, later.payload.lang) == (750 * MS, 750 * MS, "en")


def test_events_come_in_the_order_of_arrival_and_end_with_watermarks(folder: Path) -> None:
    events = list(Session.open(folder).events())
    arrivals = [arrival_ns(event) for event in events]
    assert arrivals == sorted(arrivals)
    marks = {event.source: event.t_ns for event in events if isinstance(event, Watermark)}
    assert marks == {"camera": SECOND, "microphone": SECOND, "text": SECOND}
    beats = [event.t_ns for event in events if isinstance(event, Watermark) and event.source == "text"]
    assert beats == [n * 100 * MS for n in range(11)]


def fingerprint(event: Sample | Watermark) -> object:
    if isinstance(event, Watermark):
        return event
    match event.payload:
        case Frame(bgr):
            content = bgr.tobytes()
        case Audio(pcm):
            content = pcm.tobytes()
        case Text(text, lang, origin):
            content = repr((text, lang, origin)).encode()
    return event.source, event.t_ns, event.end_ns, event.arrival_ns, content


def test_twice_the_same(folder: Path) -> None:
    session = Session.open(folder)
    assert [fingerprint(event) for event in session.events()] == [fingerprint(event) for event in session.events()]


def test_a_source_that_ends_early_goes_on_beating(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "session.toml").write_text("duration_s = 1.5\n")
    (tmp_path / "audio.wav").write_bytes(b"")
    soundfile.write(tmp_path / "audio.wav", np.zeros(8000), 16_000)
    events = list(Session.open(tmp_path).events())
    assert all(isinstance(event, Sample) for event in events[:25])
    assert [arrival_ns(event) for event in events[25:]] == [n * 100 * MS for n in range(6, 16)]


@pytest.mark.parametrize("part", ["video.mp4", "audio.flac", "text.jsonl"])
def test_a_single_file_is_a_session(folder: Path, part: str) -> None:
    session = Session.open(folder / part)
    assert (session.name, session.start_wall_ns, len(session.sources)) == (part.split(".")[0], 0, 1)
    assert any(isinstance(event, Sample) for event in session.events())


def test_capitals_in_the_names_are_no_matter(folder: Path, tmp_path: Path) -> None:
    for part, name in (("video.mp4", "video.MP4"), ("audio.flac", "Audio.Flac"), ("text.jsonl", "text.JSONL")):
        (tmp_path / name).write_bytes((folder / part).read_bytes())
        assert len(Session.open(tmp_path / name).sources) == 1
    assert len(Session.open(tmp_path).sources) == 3
    (tmp_path / "VIDEO.avi").write_bytes(b"")
    with pytest.raises(SessionError, match=r"which of video\.MP4, VIDEO\.avi is the video"):
        Session.open(tmp_path)


def test_parts_can_be_shifted_and_cut(tmp_path: Path) -> None:
    make_session(tmp_path / "s")
    (tmp_path / "s/session.toml").write_text("video_offset_s = 0.25\naudio_offset_s = -0.5\nduration_s = 0.8\n")
    session = Session.open(tmp_path / "s")
    assert [frame.t_ns for frame in samples_of(session, "camera")] == [(250 + 100 * n) * MS for n in range(6)]
    blocks = samples_of(session, "microphone")
    assert blocks[0].t_ns < 20 * MS
    assert np.abs(joined(blocks)).max() > 0.4


def test_values_that_are_no_numbers_become_silence(tmp_path: Path) -> None:
    sound = np.full(1600, 0.25, np.float32)
    sound[500:600] = np.nan
    sound[700] = np.inf
    soundfile.write(tmp_path / "audio.wav", sound, 16_000, subtype="FLOAT")
    pcm = joined(samples_of(Session.open(tmp_path), "microphone"))
    assert np.isfinite(pcm).all()
    assert np.count_nonzero(pcm == 0) == 101


def test_there_is_no_such_session(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"there is no session .*nowhere"):
        Session.open(tmp_path / "nowhere")
    (tmp_path / "notes.md").write_text("")
    with pytest.raises(SessionError, match=r"found notes\.md, expected a folder with video\.mp4"):
        Session.open(tmp_path)
    with pytest.raises(SessionError, match=r"found \.md, expected .* one of \.mcap"):
        Session.open(tmp_path / "notes.md")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("video.mp4", b"nonsense" * 100, "can not be read as video"),
        ("video.mp4", b"", "is empty"),
        ("audio.flac", b"nonsense" * 100, "can not be read as sound"),
        ("text.jsonl", b'{"t": 1, "text": "a"}\n{"t": "x", "text": "b"}', "line 2: must be like"),
        ("text.jsonl", b"\xff\xfe", "not UTF-8"),
        ("session.toml", b"name =", "not TOML"),
        ("session.toml", b"start = 2026-11-21", "must be RFC 3339 with an offset"),
        ("session.toml", b'duration_s = "long"', "duration_s must be a number of seconds, found 'long'"),
        ("session.toml", b"lenght = 3", "unknown key 'lenght'"),
        ("audio.wav", b"", r"which of audio\.flac, audio\.wav is the audio"),
    ],
)
def test_a_damaged_part_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    make_session(tmp_path / "s", seconds=0.2)
    (tmp_path / "s" / name).write_bytes(content)
    with pytest.raises(SessionError, match=says):
        Session.open(tmp_path / "s")


@pytest.mark.parametrize("row", ['{"t": 1}', '{"t": NaN, "text": "a"}', '{"t": -1, "text": "a"}', "[]", "{", '"a"'])
def test_a_bad_line_is_named(tmp_path: Path, row: str) -> None:
    (tmp_path / "text.jsonl").write_text(f'\n{{"t": 1, "text": "fine"}}\n{row}\n')
    with pytest.raises(SessionError, match="line 3: must be like"):
        Session.open(tmp_path)


def test_a_video_that_was_cut_off_is_named_when_it_ends(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.avi", seconds=6).read_bytes()
    (tmp_path / "video.avi").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "whole.avi").unlink()
    with pytest.raises(SessionError, match=r"video\.avi: damaged, ends at 1\.\d s of 6\.0 s"):
        list(Session.open(tmp_path).events())


def test_a_flac_that_was_cut_off_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000)
    soundfile.write(tmp_path / "audio.flac", noise, 16_000)
    content = (tmp_path / "audio.flac").read_bytes()
    (tmp_path / "audio.flac").write_bytes(content[: len(content) // 2])
    with pytest.raises(SessionError, match=r"audio\.flac: damaged"):
        list(Session.open(tmp_path).events())


async def test_replay_feeds_all_sources_in_real_time(tmp_path: Path) -> None:
    session = Session.open(make_session(tmp_path / "s", seconds=0.5))
    clock = RealClock()
    sensor = ReplaySensor(session, clock=clock)
    assert sensor.sources == session.sources
    begun_ns = clock.now_ns()
    arrived: list[int] = []

    def on_arrival(items: list[Sample | Watermark]) -> bool:
        arrived.append(clock.now_ns())
        return False

    items = await read_until(sensor, on_arrival)
    recorded = list(session.events())
    epoch_ns = arrival_ns(items[0]) - arrival_ns(recorded[0])
    assert begun_ns <= epoch_ns <= arrived[0]
    assert [arrival_ns(item) - epoch_ns for item in items] == [arrival_ns(event) for event in recorded]
    assert [type(item) for item in items] == [type(event) for event in recorded]
    assert all(now_ns >= arrival_ns(item) for now_ns, item in zip(arrived, items, strict=True))


async def test_a_machine_that_falls_behind_makes_the_whole_session_wait(tmp_path: Path) -> None:
    clock = VirtualClock()
    sensor = ReplaySensor(Session.open(make_session(tmp_path / "s", seconds=0.5)), clock=clock)
    early_ns: list[int] = []
    late_ns: list[int] = []

    async def stood_still() -> None:
        while True:  # time goes on by itself, as far as somebody sleeps
            await asyncio.sleep(0)
            if (next_ns := clock.next_ns()) is not None:
                clock.advance_to(next_ns)

    running = asyncio.create_task(stood_still())
    async with aclosing(sensor.stream()) as stream:
        async for item in stream:
            lag_ns = clock.now_ns() - arrival_ns(item)
            (late_ns if sensor.drops["slipped"] else early_ns).append(lag_ns)
            if len(early_ns) == 10 and not late_ns:
                clock.advance_to(clock.now_ns() + 3 * SECOND)
    running.cancel()
    assert sensor.drops == {"slipped": 1}
    assert set(early_ns) == set(late_ns) == {0}


async def test_a_loop_goes_on_with_the_time_line(tmp_path: Path) -> None:
    session = Session.open(make_session(tmp_path / "s", seconds=0.2))
    sensor = ReplaySensor(session, clock=RealClock(), loop=True)
    round_length = len(list(session.events()))
    items = await read_until(sensor, lambda items: len(items) == 2 * round_length)
    for first, second in zip(items[:round_length], items[round_length:], strict=True):
        assert arrival_ns(second) - arrival_ns(first) == session.duration_ns
    arrivals = [arrival_ns(item) for item in items]
    assert arrivals == sorted(arrivals)


@pytest.mark.parametrize("stops", [[0], [1], [7, 0, 20], [60]])
async def test_after_a_pause_it_goes_on_where_it_stopped(tmp_path: Path, stops: list[int]) -> None:
    """However often, and in the second round, too: every event once, later by as long as it was closed."""
    session = Session.open(make_session(tmp_path / "s", seconds=0.5))
    recorded = [arrival_ns(event) for event in session.events()]
    clock = VirtualClock()
    sensor = ReplaySensor(session, clock=clock, loop=True)
    found: list[int] = []
    paused_ns = 0

    async def time_goes_on() -> None:
        while True:
            await asyncio.sleep(0)
            if (next_ns := clock.next_ns()) is not None:
                clock.advance_to(next_ns)

    going_on = asyncio.create_task(time_goes_on())
    for more in [*stops, 2 * len(recorded)]:
        async with aclosing(sensor.stream()) as stream:
            async for item in stream:
                assert clock.now_ns() == arrival_ns(item)
                found.append(arrival_ns(item) - paused_ns)
                if len(found) > 2 * len(recorded) or (more := more - 1) <= 0:
                    break
        clock.advance_to(clock.now_ns() + 10 * SECOND)
        paused_ns += 10 * SECOND
    going_on.cancel()
    rounds = [at_ns + n * session.duration_ns for n in range(3) for at_ns in recorded]
    assert len(found) > 2 * len(recorded)
    assert found == rounds[: len(found)]


@pytest.mark.parametrize("loop", [False, True])
async def test_damage_found_while_playing_is_said_and_ends_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, loop: bool
) -> None:
    whole = make_video(tmp_path / "whole.avi", seconds=4).read_bytes()
    (tmp_path / "video.avi").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "whole.avi").unlink()
    items = await read_until(ReplaySensor(Session.open(tmp_path), clock=RealClock(), loop=loop), lambda items: False)
    assert any(isinstance(item, Sample) for item in items)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "video.avi: damaged, ends at" in caplog.text


def test_the_bundled_session_opens() -> None:
    session = Session.open(DEMO)
    assert [source.name for source in session.sources] == ["camera", "microphone", "text"]
    assert 20 * SECOND <= session.duration_ns <= 40 * SECOND
    assert session.start_wall_ns > 0
