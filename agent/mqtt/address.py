"""Where the broker is."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from agent.config import Mqtt
from agent.config.mqtt import loopback

PORT, TLS_PORT = 1883, 8883
LOOPBACK = "127.0.0.1"
EVERYWHERE = {"0.0.0.0": LOOPBACK, "::": "::1"}
"""What one listens on for all networks, and where that is reached on this machine."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker is."""

    host: str
    """Where clients on this machine reach it."""
    port: int
    tls: bool
    embedded: bool
    listen: str = LOOPBACK
    """Of the embedded one: the address on which it listens."""

    @classmethod
    def of(cls, broker: str) -> Address:
        """Of the config's ``broker``: ``embedded[:PORT]``, and ``embedded``, ``mqtt`` or ``mqtts`` ``://HOST[:PORT]``."""
        if broker.startswith("embedded") and "://" not in broker:
            return cls(LOOPBACK, int(broker.partition(":")[2] or PORT), tls=False, embedded=True)
        url = urlsplit(broker)
        host = url.hostname or LOOPBACK
        if url.scheme == "embedded":
            return cls(EVERYWHERE.get(host, host), url.port or PORT, tls=False, embedded=True, listen=host)
        tls = url.scheme == "mqtts"
        return cls(host, url.port or (TLS_PORT if tls else PORT), tls=tls, embedded=False)


def in_the_clear(settings: Mqtt) -> str:
    """What everybody on the network may read, in words; empty where that is nothing."""
    address = Address.of(settings.broker)
    if address.tls or loopback(address.listen if address.embedded else address.host):
        return ""
    what = "the password and what is published cross" if settings.password else "what is published crosses"
    return f"{what} the network unencrypted; a broker with TLS (mqtts://) protects it"
