"""What comes in over MQTT, and who gets it."""

from __future__ import annotations

from collections.abc import Callable

import aiomqtt

from agent.clock import Clock
from agent.config import Mqtt
from agent.health.metrics import Metrics
from agent.mqtt.commands import Commands

BIRTH = b"online"
"""What Home Assistant says on its status topic when it has started, and has to be told of all devices again."""


class Inlet:
    """Hands out texts, commands and the birth of Home Assistant.

    What a broker kept of texts and commands (``retain``) was said once and would be new again at each connection: it is
    left out, and counted as ``text.retained`` and ``commands.retained``.
    """

    def __init__(
        self,
        settings: Mqtt,
        *,
        root: str,
        on_text: Callable[[bytes, int], None] | None,
        commands: Commands | None,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.on_birth: Callable[[], None] | None = None
        """Called when Home Assistant has started."""
        self._text_topic = f"{root}/text/in"
        self._birth_topic = f"{settings.discovery_prefix}/status"
        self._command_topic = f"{root}/cmd/"
        self._discovery = settings.discovery
        self._on_text = on_text
        self._commands = commands
        self._clock = clock
        self._metrics = metrics

    @property
    def topics(self) -> list[tuple[str, int]]:
        """What to subscribe to, and with which QoS."""
        found = []
        if self._on_text:
            found.append((self._text_topic, 1))
        if self._commands:
            found.append((f"{self._command_topic}+", 1))
        if self._discovery and self.on_birth:
            found.append((self._birth_topic, 0))
        return found

    async def receive(self, client: aiomqtt.Client) -> None:
        """Hand out what comes until the connection fails."""
        async for message in client.messages:
            self._hand_out(message)

    def _hand_out(self, message: aiomqtt.Message) -> None:
        topic = message.topic.value
        payload = message.payload if isinstance(message.payload, bytes) else b""
        if topic == self._text_topic and self._on_text:
            if message.retain:
                self._metrics.count("text.retained")
            else:
                self._on_text(payload, self._clock.now_ns())
        elif topic.startswith(self._command_topic) and self._commands:
            self._commands.take(message, self._clock.now_ns())
        elif topic == self._birth_topic and self.on_birth and not message.retain and payload == BIRTH:
            self.on_birth()
        # Else a subscription of an earlier run, which the broker remembers.
