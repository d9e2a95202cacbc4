"""What ``launch.py check`` has to say about the sensors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from agent.check import Finding
from agent.clock import SECOND, RealClock, WallClock
from agent.config import Config, SensorTable
from agent.config.mqtt import loopback
from agent.mqtt import Address
from agent.remote.clocks import Listening
from agent.seams import SensorError
from agent.types import Sample
from sensors import open_sensor

PATIENCE_NS = 5 * SECOND
"""A camera that has not delivered by then is not well."""


async def check_sensors(config: Config) -> AsyncIterator[Finding]:
    """Open each sensor of the config for its first sample."""
    if not config.sensors:
        yield Finding("sensors", ok=False, said="none is configured; add a table [sensors.<name>], see config.toml")
    for name, table in config.sensors.items():
        yield await _check(name, table, config)
    if any(table.kind == "camera" for table in config.sensors.values()):
        from sensors.video import opencv_backends

        backends = ", ".join(opencv_backends())
        yield Finding("opencv", ok=True, said=f"opens cameras by {backends}")


async def _check(name: str, table: SensorTable, config: Config) -> Finding:
    what = f"sensors.{name} ({table.kind})"
    if table.kind == "text":
        return Finding(what, ok=True, said="takes messages over MQTT")
    if table.kind == "stdin":
        return Finding(what, ok=True, said="takes lines from the terminal")
    address = Address.of(config.mqtt.broker)
    if table.kind == "remote" and address.embedded and loopback(address.listen):
        said = "the embedded broker takes connections of this host alone; others need a [mqtt] broker of yours"
        return Finding(what, ok=False, said=said)
    clock, wall = RealClock(), WallClock()
    wall.read()
    listening = Listening.of(config.mqtt, node=config.agent.node, clock=clock, wall=wall)
    try:
        sensor = open_sensor(name, table, clock=clock, wall=wall, listening=listening)
        async with asyncio.timeout(PATIENCE_NS / SECOND), aclosing(sensor.stream()) as stream:
            async for item in stream:
                if isinstance(item, Sample):
                    return Finding(what, ok=True, said="delivers")
    except SensorError as error:
        return Finding(what, ok=False, said=str(error))
    except TimeoutError:
        return Finding(what, ok=False, said=f"delivered nothing within {PATIENCE_NS // SECOND} s")
    return Finding(what, ok=False, said="is at its end before its first sample")
