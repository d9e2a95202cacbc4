"""``[sensors.<name>]``: one table each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from agent.clock import MS, SECOND
from agent.config.delivery import AnyDelivery, SoundDelivery
from agent.config.scalars import Count, Duration, Level, Rate, Size
from agent.config.table import Table
from agent.delivery.policy import Delivery, NeverDrop, Queue
from agent.types import Modality


def _index(device: object) -> object:
    """A camera's number may be written as one; ``--set`` cannot tell it from a string."""
    return str(device) if isinstance(device, int) and not isinstance(device, bool) else device


class CameraSensor(Table):
    """``[sensors.<name>] kind = "camera"``."""

    kind: Literal["camera"]
    device: Annotated[str, BeforeValidator(_index)]
    width: Count = 640
    height: Count = 480
    fps: Annotated[float, Field(gt=0)] = 30.0
    loop: bool = False
    stall: Duration = 5 * SECOND
    delivery: AnyDelivery = Queue(4)

    @field_validator("delivery")
    @classmethod
    def _can_wait(cls, delivery: Delivery, info: ValidationInfo) -> Delivery:
        """A file can, and what is named in one of the ways of `sensors.video.kind_of` is none."""
        device = str(info.data.get("device", ""))
        live = device.isdecimal() or device.startswith("/dev/") or "://" in device or " ! " in device
        if isinstance(delivery, NeverDrop) and live:
            raise ValueError(
                "only a file can wait for us; of what is live the driver would drop, uncounted:"
                ' write "queue(4)" or another that says which frames go'
            )
        return delivery


class MicrophoneSensor(Table):
    """``[sensors.<name>] kind = "microphone"``."""

    kind: Literal["microphone"]
    device: str = "default"
    block: Duration = 20 * MS
    stall: Duration = 5 * SECOND
    delivery: SoundDelivery = Queue(50)


class TextSensor(Table):
    """``[sensors.<name>] kind = "text"``: MQTT messages on ``<base>/<node>/text/in``."""

    kind: Literal["text"]
    max_delay: Duration = 10 * SECOND
    max_size: Size = 64 << 10
    max_rate: Annotated[Rate, Field(ge=1)] = 50.0
    delivery: AnyDelivery = NeverDrop(64)


class StdinSensor(Table):
    """``[sensors.<name>] kind = "stdin"``: a message a line."""

    kind: Literal["stdin"]
    delivery: AnyDelivery = NeverDrop(64)


class ReplaySensor(Table):
    """``[sensors.<name>] kind = "replay"``: a recorded session, in real time."""

    kind: Literal["replay"]
    session: Path
    loop: bool = False


class RemoteSensor(Table):
    """``[sensors.<name>] kind = "remote"``: what another host sends on ``<base>/<node>/remote/<source>``."""

    kind: Literal["remote"]
    source: Level
    modality: Modality
    max_uncertainty: Duration = 50 * MS
    max_size: Size = 1 << 20
    stall: Duration = 5 * SECOND


SensorTable = Annotated[
    CameraSensor | MicrophoneSensor | TextSensor | StdinSensor | ReplaySensor | RemoteSensor,
    Field(discriminator="kind"),
]
