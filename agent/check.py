"""What ``launch.py check`` finds: each thing, whether it works, and what to do when it does not."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import aiomqtt

from agent.config import Config, Mqtt
from agent.control.privacy import NOTICE, unlawful
from agent.mqtt import Address, connection
from agent.mqtt.address import in_the_clear
from agent.mqtt.broker import BrokerError, bracketed, check_free
from agent.seams import Sensor


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    what: str
    ok: bool
    said: str
    """What was found, and what to do where it does not work."""
    loud: bool = False
    """It works, but not as it might."""

    @property
    def mark(self) -> str:
        """One sign in the colour that fits, as Rich's markup."""
        if not self.ok:
            return "[red]✗[/]"
        return "[yellow]![/]" if self.loud else "[green]✓[/]"


def collisions(sensors: Sequence[Sensor]) -> list[str]:
    """A line for each source that more than one sensor feeds: the window could not tell their samples apart."""
    feeding: defaultdict[str, list[str]] = defaultdict(list)
    for sensor in sensors:
        for source in sensor.sources:
            feeding[source.name].append(sensor.name)
    lines = []
    for source_name, names in feeding.items():
        if len(names) > 1:
            tables = " and ".join(f"[sensors.{name}]" for name in names)
            advice = (
                f"rename [sensors.{source_name}], for instance to [sensors.{source_name}-2]"
                if source_name in names
                else "a recorded session names its sources itself, so keep one of them"
            )
            lines.append(f"{tables} feed one source, {source_name}; {advice}")
    return lines


def check_privacy(config: Config) -> Finding:
    """Whether what is to be inferred is stated, and allowed where it is to be."""
    faults = unlawful(config)
    stated = f"{config.privacy.purpose}; tell those concerned, see {NOTICE}"
    return Finding("privacy", ok=not faults, said="; ".join(faults) or stated)


async def check_broker(settings: Mqtt) -> Finding:
    """Whether the broker of the config can be reached, or may be started."""
    address = Address.of(settings.broker)
    what = f"mqtt.broker ({settings.broker})"
    if address.embedded:
        try:
            check_free(address.port, address.listen)
        except BrokerError as error:
            return Finding(what, ok=False, said=str(error))
        guarded = ", with a password" if settings.password else ""
        return Finding(what, ok=True, said=f"will listen on {bracketed(address.listen)}:{address.port}{guarded}")
    problem, but = "", f"; but {said}" if (said := in_the_clear(settings)) else ""
    for protocol, name in ((aiomqtt.ProtocolVersion.V5, "5"), (aiomqtt.ProtocolVersion.V311, "3.1.1")):
        try:
            async with connection(settings, protocol=protocol):
                return Finding(what, ok=True, said=f"answers, MQTT {name}{but}")
        except (aiomqtt.MqttError, OSError) as error:
            problem = problem or str(error)
    try:
        socket.getaddrinfo(address.host, address.port)
    except OSError:
        problem = f"the host name {address.host} is not known"
    advice = "is it running, is [mqtt] broker right, and do user and password fit?"
    return Finding(what, ok=False, said=f"cannot be used: {problem}; {advice}")
