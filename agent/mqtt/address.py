"""Where the broker is."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker is."""

    host: str
    port: int
    tls: bool
    embedded: bool

    @classmethod
    def of(cls, broker: str) -> Address:
        """Of the config's ``broker``: ``embedded[:PORT]``, ``mqtt://HOST[:PORT]``, ``mqtts://HOST[:PORT]``."""
        if broker.startswith("embedded"):
            return cls("127.0.0.1", int(broker.partition(":")[2] or 1883), tls=False, embedded=True)
        url = urlsplit(broker)
        tls = url.scheme == "mqtts"
        return cls(url.hostname or "127.0.0.1", url.port or (8883 if tls else 1883), tls=tls, embedded=False)
