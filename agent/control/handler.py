"""The one place that answers commands, wherever they come from: ``cmd/<name>`` over MQTT, the dashboard, a signal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from agent.control.commands import COMMANDS, Reply

log = logging.getLogger(__name__)

SHOWN = 60
"""Characters of an odd payload that a refusal repeats."""


class Senses(Protocol):
    """What can be paused: `agent.live.LiveAgent`."""

    @property
    def paused(self) -> bool:
        """Whether sensing is off."""

    async def pause(self) -> Sequence[str]:
        """Close all devices; returns the names of those sensors that did not close in time."""

    def resume(self) -> None:
        """Open them again."""


class Recorder(Protocol):
    """What ``record`` starts and stops; attached as `Control.recorder`."""

    @property
    def recording(self) -> bool:
        """Whether something is being written."""

    async def start(self) -> Reply:
        """Begin to record; where that goes on already, say so."""

    async def stop(self) -> Reply:
        """End it, with everything written out."""

    def switched(self, *, on: bool) -> None:
        """Sensing goes off now, or on again."""


class Control:
    """Answers commands with `handle`, an `agent.control.commands.CommandHandler`.

    ``pause`` and ``resume`` never wait for anything else, so that the devices close at once; ``reload`` and ``record``
    are done one at a time. `recorder` and `reloading` are attached by who has them; without, the answer says so.
    """

    def __init__(self, senses: Senses, *, changed: Callable[[], None]) -> None:
        """``changed`` is called after each command that was carried out, for whoever publishes how things stand."""
        self.recorder: Recorder | None = None
        self.reloading: Callable[[], Awaitable[Reply]] | None = None
        self._senses = senses
        self._changed = changed
        self._turn = asyncio.Lock()
        self._hung_up = asyncio.Event()

    @property
    def paused(self) -> bool:
        """Whether sensing is off."""
        return self._senses.paused

    @property
    def recording(self) -> bool:
        """Whether a recording goes on."""
        return self.recorder is not None and self.recorder.recording

    def reload_soon(self) -> None:
        """Have `run` do it: for a signal's handler, which cannot wait."""
        self._hung_up.set()

    async def run(self) -> None:
        """Reload whenever `reload_soon` was called, until cancelled; the log says what came of it."""
        while True:
            await self._hung_up.wait()
            self._hung_up.clear()
            reply = await self.handle("reload", b"")
            log.log(logging.INFO if reply.ok else logging.WARNING, "reload: %s", reply.said)

    async def handle(self, name: str, payload: bytes) -> Reply:
        """Carry out the command, or refuse it in words; see `COMMANDS`. Who asks writes the log.

        ``pause`` takes nothing, or the ``ON`` and ``OFF`` of a switch, of which ``OFF`` resumes, as ``resume`` does;
        ``record`` takes ``start`` and ``stop``, or those of a switch; ``reload`` takes nothing.
        """
        if len(payload) > 4 * SHOWN:
            return Reply(ok=False, said=f"{name[:SHOWN]}: {len(payload)} bytes of payload; no command takes so many")
        word = payload.decode(errors="replace").strip()
        match name, _SWITCH.get(word.lower(), word.lower()):
            case "pause", "" | "on":
                reply = await self._pause()
            case ("pause", "off") | ("resume", "" | "on" | "off"):
                reply = self._resume()
            case "reload", "":
                reply = await self._reload()
            case "record", "start" | "on":
                reply = await self._record(start=True)
            case "record", "stop" | "off":
                reply = await self._record(start=False)
            case (("pause" | "resume" | "reload" | "record") as known, _):
                return Reply(ok=False, said=f"{known}: {word[:SHOWN]!r} is not understood; {_TAKES[known]}")
            case _:
                return Reply(ok=False, said=f"{name[:SHOWN]}: no such command; there are {', '.join(COMMANDS)}")
        self._changed()
        return reply

    async def _pause(self) -> Reply:
        if self.recorder:
            self.recorder.switched(on=False)
        hanging = await self._senses.pause()
        if not self._senses.paused:
            return Reply(ok=False, said="resumed meanwhile")
        if hanging:
            names = ", ".join(hanging)
            return Reply(ok=False, said=f"paused, but these have not let go of their device yet: {names}; unplug it")
        return Reply(ok=True, said="paused: every camera, microphone and other input is closed")

    def _resume(self) -> Reply:
        if not self._senses.paused:
            return Reply(ok=True, said="is not paused")
        if self.recorder:
            self.recorder.switched(on=True)
        self._senses.resume()
        return Reply(ok=True, said="resumed: the inputs are being opened")

    async def _reload(self) -> Reply:
        if self.reloading is None:
            return Reply(ok=False, said="there is no config file to read again; restart instead")
        async with self._turn:
            return await self.reloading()

    async def _record(self, *, start: bool) -> Reply:
        recorder = self.recorder
        if recorder is None:
            return Reply(ok=False, said="recording is not available here")
        async with self._turn:
            return await (recorder.start() if start else recorder.stop())


_SWITCH = {"true": "on", "1": "on", "false": "off", "0": "off"}
"""Other words of a switch."""
_TAKES = {
    "pause": "send nothing, or ON to pause and OFF to resume",
    "resume": "send nothing, or what a switch sends",
    "reload": "send nothing",
    "record": "send start or stop",
}
