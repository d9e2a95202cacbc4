"""``[mqtt]``: the broker, and what is sent to it."""

from __future__ import annotations

import ssl
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from agent.clock import SECOND
from agent.config.scalars import Authority, Broker, Count, Duration, Level, PrivateKey, Secret, within
from agent.config.table import Table
from agent.delivery.policy import MAX_SIZE

DAY = 24 * 3600 * SECOND


def loopback(host: str) -> bool:
    """Whether only this machine can get there."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


class Mqtt(Table):
    """``[mqtt]``."""

    broker: Broker = "embedded"
    base: Level = "attune"
    user: str | None = None
    password: Annotated[Secret | None, Field(validate_default=True)] = None
    ca_file: Authority | None = None
    cert_file: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    key_file: Annotated[PrivateKey | None, Field(validate_default=True)] = None
    decision_qos: Literal[0, 1] = 0
    stale_after: Duration = 10 * SECOND
    metrics_every: Duration = 10 * SECOND
    queue: Annotated[int, Field(gt=0, le=MAX_SIZE)] = 256
    keepalive: Annotated[int, within("1 s", "18 h")] = 20 * SECOND
    session_expires: Annotated[int, within("1 s", "365 d")] = 3600 * SECOND
    outbox: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    outbox_events: Count = 10_000
    outbox_age: Annotated[int, within("1 s", "365 d")] = 7 * DAY
    discovery: bool = True
    discovery_prefix: Level = "homeassistant"

    @field_validator("password")
    @classmethod
    def _network_needs_one(cls, password: Secret | None, info: ValidationInfo) -> Secret | None:
        """Who is on the network could listen to people, and command the agent."""
        broker, user = str(info.data.get("broker", "")), info.data.get("user")
        open_to = urlsplit(broker).hostname or "" if broker.startswith("embedded://") else ""
        if open_to and not loopback(open_to) and not (user and password):
            raise ValueError(
                f"{broker!r} listens on a network: give user and password, which everybody there needs then"
            )
        return password

    @field_validator("key_file")
    @classmethod
    def _goes_with_the_certificate(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        """Both or none, and the one must be of the other; looked into here so that the connection need not."""
        certificate = info.data.get("cert_file")
        if (certificate is None) != (key is None):
            raise ValueError("a client certificate is two files: give cert_file and key_file, or neither")
        if certificate is not None and key is not None:
            if not str(info.data.get("broker", "")).startswith("mqtts://"):
                raise ValueError('a client certificate is shown over TLS only: write broker = "mqtts://…"')
            try:
                context = ssl.create_default_context()
                context.load_cert_chain(certificate, key, password=_no_passphrase)
            except (OSError, ValueError) as error:
                raise ValueError(f"{certificate} and {key} are no certificate and its key: {error}") from None
        return key


def _no_passphrase() -> str:
    """Of a key that wants one; without this OpenSSL would ask on the terminal, and wait."""
    raise ValueError("the key is encrypted; store it without a passphrase, readable by its owner alone")
