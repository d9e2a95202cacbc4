"""Another agent of the same name at the same broker, which knows each of its clients by name and keeps only the last.

Each would interrupt the other for ever. So who is interrupted looks, under a name of its own, whether another instance
says in the retained status that it is there, and stays away for as long as it does. Who is there is told by the
availability, if by MQTT 5: a status may be older than that, or come from whoever may write it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import aiomqtt

from agent.clock import SECOND, Clock
from agent.config import Mqtt
from agent.mqtt.address import Address
from agent.mqtt.connection import connection
from agent.mqtt.waiting import heed_cancellation
from agent.supervisor import Backoff

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""How long a look may take: what is retained comes at once, and comes not at all where the access list forbids it."""
ASIDE_NS = 600 * SECOND
"""After that long it tries again: a broker that was killed may keep ``online`` of one that is gone."""
SHOWN = 80
"""Characters of what another says of itself."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One run of an agent, as its status tells."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    started: str = ""
    """RFC 3339."""

    def payload(self) -> Mapping[str, object]:
        """As it is published."""
        return {"id": self.id, "host": self.host, "pid": self.pid, "started": self.started}

    def __str__(self) -> str:
        """In words, on one line whatever another says of itself."""
        return f"process {self.pid} on {self.host!r}, started {self.started!r}"


def instance_in(status: bytes) -> Instance | None:
    """Of a status, whoever published it; None where it says nothing of it that can be understood."""
    try:
        told = json.loads(status)["instance"]
        host, pid, started = (str(told[key])[:SHOWN] for key in ("host", "pid", "started"))
        return Instance(str(told["id"]), host, int(pid), started)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


class Rivals:
    """Looks for others of our name."""

    def __init__(self, settings: Mqtt, *, identifier: str, root: str, own: str, clock: Clock) -> None:
        """``identifier`` is what the broker knows us by, ``root`` begins our topics, ``own`` is our `Instance.id`."""
        self._settings = settings
        self._identifier = identifier
        self._root = root
        self._own = own
        self._clock = clock

    async def stand_aside(self, protocol: aiomqtt.ProtocolVersion) -> bool:
        """Whether there is another one; returns only when that has gone, or after `ASIDE_NS`."""
        other = await self.other(protocol)
        if other is None:
            return False
        address = Address.of(self._settings.broker)
        where = f"broker {address.host}:{address.port}"
        log.error(
            "%s: another agent of this name is connected: %s. This one stays away while that is there: its events wait,"
            " and nothing else that it says is heard. Stop one of them, or give it another name: [agent] node",
            *(where, other),
        )
        pauses, until_ns = Backoff(first_ns=SECOND), self._clock.now_ns() + ASIDE_NS
        while other and self._clock.now_ns() < until_ns:
            await self._clock.sleep_until(self._clock.now_ns() + pauses.next_ns())
            other = await self.other(protocol)
        log.warning(
            "%s: the other agent of this name %s", where, "is still there; trying all the same" if other else "has gone"
        )
        return True

    async def other(self, protocol: aiomqtt.ProtocolVersion) -> Instance | None:
        """The one that is there; None where there is none, or the broker does not tell."""
        found: dict[str, tuple[bytes, str | None]] = {}
        with suppress(aiomqtt.MqttError, TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._look(protocol, found)
        heed_cancellation()
        availability, said_by = found.get("availability", (b"", None))
        status, _ = found.get("status", (b"", None))
        other = instance_in(status)
        if availability != b"online" or other is None or other.id == self._own:
            return None
        return other if said_by in (None, other.id) else None

    async def _look(self, protocol: aiomqtt.ProtocolVersion, found: dict[str, tuple[bytes, str | None]]) -> None:
        """Fill in payload and id of the instance of both topics."""
        name = f"{self._identifier}-{uuid.uuid4().hex[:6]}"
        async with connection(self._settings, protocol=protocol, identifier=name) as client:
            await client.subscribe([(f"{self._root}/{topic}", 0) for topic in ("availability", "status")])
            async for message in client.messages:
                if isinstance(message.payload, bytes):
                    found[message.topic.value.rpartition("/")[2]] = message.payload, _said_by(message)
                if len(found) == 2:
                    return


def _said_by(message: aiomqtt.Message) -> str | None:
    """The id of the instance that said it; None where the message does not tell, as before MQTT 5."""
    return dict(getattr(message.properties, "UserProperty", ())).get("instance")
