"""Commands that come over MQTT: the known ones are carried out one after the other, and answered."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

import aiomqtt

from agent.clock import SECOND
from agent.config import Mqtt
from agent.control.commands import COMMANDS, CommandHandler, Reply
from agent.delivery.mailbox import Mailbox
from agent.delivery.policy import NeverDrop
from agent.delivery.rate import RateLimit
from agent.health.metrics import Metrics
from agent.mqtt.message import Message
from agent.payload import encode

log = logging.getLogger(__name__)

MAX_BYTES = 4096
"""Of a command's payload."""
MAX_RATE_HZ = 5
"""Commands a second that are looked at."""
WAITING = 8
"""Commands that wait for the one that is being carried out, at most."""
REPLY_EXPIRY_NS = 60 * SECOND
OFF = frozenset({b"off", b"false", b"0"})
"""Payloads with which ``pause`` means ``resume``: what a switch sends that knows one topic."""
CONTRACT = "availability|state|status|decision|event|modality|metrics|text|cmd|clock|remote"
"""Third levels of topics that have a meaning of their own."""


def contract_topics(settings: Mqtt) -> re.Pattern[str]:
    """Matches the topics of every agent, and of Home Assistant's discovery."""
    base, prefix = re.escape(settings.base), re.escape(settings.discovery_prefix)
    return re.compile(rf"{base}/[^/]*/({CONTRACT})(/|$)|{prefix}/")


@dataclass(frozen=True, slots=True)
class Command:
    """One that was let in."""

    name: str
    payload: bytes
    reply_to: str | None
    correlation: bytes | None
    end_ns: int
    """When it came."""


class Commands:
    """`take` lets commands in or refuses them, `run` carries them out.

    Counted: ``commands.done``, ``commands.failed`` (the handler said so), ``commands.retained`` (said once, it would be
    new again at each connection) and ``commands.refused`` (unknown, too large, too many).
    """

    def __init__(
        self, handler: CommandHandler, *, own: re.Pattern[str], send: Callable[[Message], None], metrics: Metrics
    ) -> None:
        """``own`` matches topics on which nobody can have an answer: what is said there others believe."""
        self._handler = handler
        self._own = own
        self._send = send
        self._metrics = metrics
        self._waiting: Mailbox[Command] = Mailbox(NeverDrop(WAITING))
        self._rate = RateLimit(MAX_RATE_HZ)
        self._came = asyncio.Event()

    def take(self, message: aiomqtt.Message, now_ns: int) -> None:
        """Let a message on ``cmd/<name>`` in, or refuse it."""
        if message.retain:
            self._metrics.count("commands.retained")
            return
        if not self._rate.passes(now_ns):  # without an answer and a line in the log, or a flood would make a flood
            self._metrics.count("commands.refused")
            return
        name = message.topic.value.rpartition("/")[2]
        payload = message.payload if isinstance(message.payload, bytes) else b""
        if name == "pause" and payload.strip().lower() in OFF:
            name = "resume"
        command = Command(name, payload, *self._asker(message), end_ns=now_ns)
        if name not in COMMANDS:
            self._refuse(command, f"there is no command {name[:32]!r}; known: {', '.join(COMMANDS)}")
        elif len(payload) > MAX_BYTES:
            self._refuse(command, f"{name}: {len(payload)} bytes, at most {MAX_BYTES} are read")
        elif self._waiting.put(command, now_ns):
            self._refuse(command, f"{name}: {WAITING} commands wait already; try again")
        else:
            self._came.set()

    async def run(self) -> None:
        """Carry out what was let in, also while the broker is away."""
        while True:
            await self._came.wait()
            self._came.clear()
            while isinstance(command := self._waiting.take(0), Command):
                reply = await self._handler(command.name, command.payload)
                self._metrics.count("commands.done" if reply.ok else "commands.failed")
                log.log(logging.INFO if reply.ok else logging.WARNING, "command %s: %s", command.name, reply.said)
                self._answer(command, reply)

    def _refuse(self, command: Command, why: str) -> None:
        self._metrics.count("commands.refused")
        log.warning("command refused: %s", why)
        self._answer(command, Reply(ok=False, said=why))

    def _answer(self, command: Command, reply: Reply) -> None:
        if command.reply_to is None:
            return
        payload = encode({"command": command.name[:32], "ok": reply.ok, "said": reply.said})
        self._send(
            Message(
                command.reply_to,
                payload,
                qos=1,
                put_ns=command.end_ns,
                expiry_ns=REPLY_EXPIRY_NS,
                correlation=command.correlation,
            )
        )

    def _asker(self, message: aiomqtt.Message) -> tuple[str | None, bytes | None]:
        """Where the answer goes, and its correlation data; None where none was asked for, or may be given."""
        topic = getattr(message.properties, "ResponseTopic", None)
        if not topic:
            return None, None
        if any(sign in topic for sign in "+#\0") or topic.startswith("$") or self._own.match(topic):
            log.warning("a command asks for its answer on %r, where only the agent itself speaks", topic[:64])
            return None, None
        return topic, getattr(message.properties, "CorrelationData", None)
