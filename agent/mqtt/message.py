"""What is published, and what MQTT 5 says of it besides the payload."""

from __future__ import annotations

from dataclasses import dataclass

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to publish."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    expiry_s: int | None = None
    """MQTT 5 message expiry; older protocols ignore it."""


def properties_of(message: Message) -> Properties:
    """What MQTT 5 says besides the payload."""
    found = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    found.ContentType = "application/json"
    found.PayloadFormatIndicator = 1
    if message.expiry_s:
        found.MessageExpiryInterval = message.expiry_s
    return found
