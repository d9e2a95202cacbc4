"""Commands, wherever they come from: one handler, which carries them out or refuses them in words."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.control.commands import COMMANDS, Reply
from agent.control.handler import Control


class Senses:
    def __init__(self, *hanging: str) -> None:
        self.paused = False
        self._hanging = hanging

    async def pause(self) -> Sequence[str]:
        self.paused = True
        return self._hanging

    def resume(self) -> None:
        self.paused = False


class Tape:
    def __init__(self) -> None:
        self.recording = False
        self.on = True

    async def start(self) -> Reply:
        self.recording = True
        return Reply(ok=True, said="recording")

    async def stop(self) -> Reply:
        self.recording = False
        return Reply(ok=True, said="stopped")

    def switched(self, *, on: bool) -> None:
        self.on = on


def control(*hanging: str) -> tuple[Control, list[tuple[bool, bool]]]:
    """A handler, and how things stood after each command that was carried out."""
    stood: list[tuple[bool, bool]] = []
    made = Control(Senses(*hanging), changed=lambda: stood.append((made.paused, made.recording)))
    return made, stood


@pytest.mark.parametrize("on", ["", "ON", "on", "true", "1", " ON\n"])
@pytest.mark.parametrize(("name", "off"), [("pause", "OFF"), ("pause", "false"), ("resume", ""), ("resume", "OFF")])
async def test_pause_and_resume_take_nothing_or_the_words_of_a_switch(on: str, name: str, off: str) -> None:
    c, stood = control()
    assert (await c.handle("pause", on.encode())).ok
    assert (await c.handle(name, off.encode())).ok
    assert stood == [(True, False), (False, False)]


async def test_who_records_is_told_of_a_pause() -> None:
    c, _ = control()
    c.recorder = tape = Tape()
    await c.handle("pause", b"")
    assert not tape.on
    await c.handle("resume", b"")
    assert tape.on


async def test_a_device_that_does_not_close_is_named() -> None:
    c, _ = control("camera", "microphone")
    reply = await c.handle("pause", b"")
    assert not reply.ok
    assert "camera, microphone" in reply.said
    assert c.paused


async def test_recording_is_started_and_stopped_by_who_does_it() -> None:
    c, stood = control()
    assert await c.handle("record", b"start") == Reply(ok=False, said="recording is not available here")
    c.recorder = Tape()
    for payload in (b"start", b"stop", b"ON", b"OFF"):
        assert (await c.handle("record", payload)).ok
    assert stood[-4:] == [(False, True), (False, False)] * 2
    assert not (await c.handle("record", b"")).ok


async def test_a_pause_does_not_wait_for_a_reload() -> None:
    c, _ = control()
    reading = asyncio.Event()

    async def slow() -> Reply:
        await reading.wait()
        return Reply(ok=True, said="read")

    assert "no config file" in (await c.handle("reload", b"")).said
    c.reloading = slow
    first, second = (asyncio.create_task(c.handle("reload", b"")) for _ in range(2))
    await asyncio.sleep(0)
    assert (await c.handle("pause", b"")).ok
    assert not first.done()
    reading.set()
    assert (await first).ok
    assert (await second).ok


@settings(deadline=None)
@given(
    st.sampled_from([*COMMANDS, "reboot", ""]) | st.text(), st.binary() | st.sampled_from([b"ON", b"stop", b"x" * 999])
)
def test_whatever_comes_is_answered_and_never_raised(name: str, payload: bytes) -> None:
    async def ask() -> Reply:
        c, stood = control()
        c.recorder = Tape()
        reply = await c.handle(name, payload)
        assert 0 < len(reply.said) < 400
        assert name in COMMANDS or (not reply.ok and not stood)
        return reply

    asyncio.run(ask())


async def test_what_is_not_understood_says_what_would_be() -> None:
    c, stood = control()
    assert "send start or stop" in (await c.handle("record", b"perhaps")).said
    assert "there are pause, resume, reload, record" in (await c.handle("reboot", b"")).said
    assert stood == []
