"""Whatever comes from outside and is no model: config, sessions, texts, commands, packets. Nothing but its own errors.

Texts and packets have more of these in tests/test_text.py and tests/test_remote_packet.py.
"""

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.config import ConfigError, load
from agent.control.handler import Control
from sensors.message import Unreadable, parse
from sensors.remote_packet import BadPacket
from sensors.remote_payload import decode_jpeg
from sensors.session import Session
from sensors.session_files import SessionError
from tests.faults.damage import EXAMPLES, Change, bounded_memory, changes, damaged
from tests.faults.pictures import jpeg, noise
from tests.outside import ROOT
from tests.streams import make_video

FUZZ = settings(
    deadline=None,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
DEEP = ("[" * 3000, "a = " + "[" * 3000, "a = " + "{b = " * 3000, "a = " + "9" * 5000)
NO_TOML = (*DEEP, "a = 9999-99-99", "\x00", "a = 'é")
NONSENSE = (*NO_TOML, "duration_s = 1e400", "duration_s = -1", "start = 0001-01-01T00:00:00Z")
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def read_config(file: Path) -> None:
    with suppress(ConfigError):
        load(file)


@FUZZ
@given(changed=changes())
def test_a_damaged_config_is_read_or_refused(tmp_path: Path, changed: list[Change]) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(damaged((ROOT / "config.toml").read_bytes(), changed))
    read_config(file)


@pytest.mark.parametrize("content", NO_TOML, ids=range(len(NO_TOML)))
def test_a_config_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(content)
    with pytest.raises(ConfigError):
        load(file)


@FUZZ
@given(
    override=st.text(max_size=40) | st.builds("{}={}".format, st.text("abm.[]\"'", max_size=12), st.text(max_size=20))
)
def test_an_override_is_taken_or_refused(override: str) -> None:
    with suppress(ConfigError):
        load(ROOT / "config.toml", [override])


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a short session."""
    folder = tmp_path_factory.mktemp("session")
    make_video(folder / "video.mp4", seconds=1)
    soundfile.write(folder / "audio.flac", [0.1, -0.1] * 8000, 16_000)
    (folder / "text.jsonl").write_text('{"t": 0.5, "text": "hello", "lang": "en"}\n{"t": 0.7, "text": "you"}\n')
    (folder / "session.toml").write_text(
        'name = "s"\nstart = 2026-11-21T10:00:00Z\nduration_s = 1.0\naudio_offset_s = 0.1\n'
    )
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def play(folder: Path) -> None:
    try:
        with bounded_memory():
            opened = Session.open(folder)
            # A video of a second that says that it lasts a year is played with heartbeats to the end of that.
            if opened.duration_ns < 3600 * 10**9:
                for _ in opened.events():
                    pass
    except SessionError as error:
        said = str(error)
    else:
        return
    assert str(folder) in said


@pytest.mark.parametrize("name", ["video.mp4", "audio.flac", "text.jsonl", "session.toml"])
@FUZZ
@given(changed=changes())
def test_a_damaged_session_is_played_or_refused(
    tmp_path: Path, session: dict[str, bytes], name: str, changed: list[Change]
) -> None:
    (tmp_path / name).write_bytes(damaged(session[name], changed))
    other = "text.jsonl" if name == "session.toml" else "session.toml"
    (tmp_path / other).write_bytes(session[other])
    play(tmp_path)


@pytest.mark.parametrize("content", NONSENSE, ids=range(len(NONSENSE)))
def test_a_session_that_says_nonsense_of_itself_is_refused_or_played(
    tmp_path: Path, session: dict[str, bytes], content: str
) -> None:
    (tmp_path / "text.jsonl").write_bytes(session["text.jsonl"])
    (tmp_path / "session.toml").write_text(content)
    play(tmp_path)


@FUZZ
@given(rows=st.lists(_JSON.map(json.dumps) | st.text(max_size=20), max_size=4))
def test_lines_of_any_kind_are_read_or_refused(tmp_path: Path, rows: list[str]) -> None:
    (tmp_path / "text.jsonl").write_bytes("\n".join(rows).encode("utf-8", "surrogatepass"))
    play(tmp_path)


@FUZZ
@given(document=_JSON.map(json.dumps).map(str.encode) | st.binary(max_size=60) | st.just(b'{"text":' + b"[" * 5000))
def test_a_text_is_read_or_left_out(document: bytes) -> None:
    with suppress(Unreadable):
        message = parse(document)
        assert message.text.strip()
        message.text.encode()


@FUZZ
@given(changed=changes())
def test_a_damaged_picture_is_decoded_or_left_out(changed: list[Change]) -> None:
    with suppress(BadPacket), bounded_memory():
        decode_jpeg(damaged(jpeg(noise(3)), changed))


class Asleep:
    """What can be paused, and is."""

    paused = True

    async def pause(self) -> list[str]:
        return []

    def resume(self) -> None:
        pass


@FUZZ
@given(
    name=st.sampled_from(["pause", "resume", "reload", "record"]) | st.text(max_size=20),
    payload=st.binary(max_size=300),
)
def test_a_command_is_answered_in_words(name: str, payload: bytes) -> None:
    reply = asyncio.run(Control(Asleep(), changed=lambda: None).handle(name, payload))
    assert reply.said
    reply.said.encode()
