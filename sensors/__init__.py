"""Sensors: where samples come from. Each stamps what it delivers with the instant at which it happened.

`open_sensor` is the one door. To add a kind of sensor: write it in a file here, give it a table in
`agent.config.sensors` and a case below.
"""

from __future__ import annotations

from typing import assert_never

from agent.clock import Clock, WallClock
from agent.config import sensors as tables
from agent.remote.clocks import Listening
from agent.seams import Sensor


def open_sensor(name: str, table: tables.SensorTable, *, clock: Clock, wall: WallClock, listening: Listening) -> Sensor:
    """The sensor of ``[sensors.<name>]``; nothing is opened before its stream is read.

    What a kind needs is imported in its case: a box without a camera pays nothing for OpenCV. Raises `SensorError`
    where a recorded session cannot be read, and for a live camera that is never to drop.
    """
    match table:
        case tables.CameraSensor():
            from sensors.camera import CameraSensor
            from sensors.video import Format

            wanted = Format(table.width, table.height, table.fps)
            return CameraSensor(
                name,
                device=table.device,
                wanted=wanted,
                loop=table.loop,
                stall_ns=table.stall,
                delivery=table.delivery,
            )
        case tables.MicrophoneSensor():
            from sensors.microphone import MicrophoneSensor

            return MicrophoneSensor(
                name, device=table.device, block_ns=table.block, stall_ns=table.stall, delivery=table.delivery
            )
        case tables.TextSensor():
            from sensors.text import TextInbox

            return TextInbox(
                name,
                clock=clock,
                mono_ns=wall.mono_ns,
                max_delay_ns=table.max_delay,
                max_bytes=table.max_size,
                max_rate_hz=table.max_rate,
                delivery=table.delivery,
            )
        case tables.StdinSensor():
            from sensors.text import StdinSensor

            return StdinSensor(name, clock=clock, mono_ns=wall.mono_ns, delivery=table.delivery)
        case tables.ReplaySensor():
            from sensors.replay import ReplaySensor
            from sensors.session import open_session

            return ReplaySensor(open_session(table.session), clock=clock, loop=table.loop, name=name)
        case tables.RemoteSensor():
            from sensors.remote import RemoteSensor

            return RemoteSensor(name, table, listening=listening)
        case _ as never:
            assert_never(never)
