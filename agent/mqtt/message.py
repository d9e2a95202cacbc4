"""What is published, and what MQTT 5 says of it besides the payload."""

from __future__ import annotations

from dataclasses import dataclass

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.clock import SECOND


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to publish."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    end_ns: int = 0
    """End of the window that it is about; 0 for what is about none."""
    put_ns: int = 0
    """When it was put down; its expiry runs from then, also while it waits."""
    expiry_ns: int | None = None
    """MQTT 5 message expiry; older protocols ignore it, as all that follows."""
    content_type: str = "application/json"
    """Of the payload, which is always UTF-8."""
    trace: str | None = None
    """Id of the decision or event, as user property ``trace``."""
    capture: str | None = None
    """RFC 3339 instant of the window's end, as user property ``capture``."""
    instance: str | None = None
    """Id of the process that says it, as user property ``instance``."""
    correlation: bytes | None = None
    """Correlation data of the request that this answers."""


def properties_of(message: Message, now_ns: int) -> Properties:
    """What MQTT 5 says of a message that is sent at ``now_ns``."""
    found = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    found.ContentType = message.content_type
    found.PayloadFormatIndicator = 1
    if message.expiry_ns is not None:
        left_ns = message.put_ns + message.expiry_ns - now_ns
        found.MessageExpiryInterval = min(max(1, left_ns // SECOND), 2**32 - 1)
    said = {"trace": message.trace, "capture": message.capture, "instance": message.instance}
    if pairs := [(name, value) for name, value in said.items() if value is not None]:
        found.UserProperty = pairs
    if message.correlation is not None:
        found.CorrelationData = message.correlation
    return found
