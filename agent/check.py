"""What ``launch.py check`` finds: each thing, whether it works, and what to do when it does not."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import aiomqtt

from agent.broker import BrokerError, check_free
from agent.config import Mqtt
from agent.mqtt import Address, connection


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    what: str
    ok: bool
    said: str
    """What was found, and what to do where it does not work."""


async def check_broker(settings: Mqtt) -> Finding:
    """Whether the broker of the config can be reached, or may be started."""
    address = Address.of(settings.broker)
    what = f"mqtt.broker ({settings.broker})"
    if address.embedded:
        try:
            check_free(address.port)
        except BrokerError as error:
            return Finding(what, ok=False, said=str(error))
        return Finding(what, ok=True, said=f"will listen on 127.0.0.1:{address.port}")
    problem = ""
    for protocol, name in ((aiomqtt.ProtocolVersion.V5, "5"), (aiomqtt.ProtocolVersion.V311, "3.1.1")):
        try:
            async with connection(settings, protocol=protocol):
                return Finding(what, ok=True, said=f"answers, MQTT {name}")
        except (aiomqtt.MqttError, OSError) as error:
            problem = problem or str(error)
    try:
        socket.getaddrinfo(address.host, address.port)
    except OSError:
        problem = f"the host name {address.host} is not known"
    advice = "is it running, is [mqtt] broker right, and do user and password fit?"
    return Finding(what, ok=False, said=f"cannot be used: {problem}; {advice}")
