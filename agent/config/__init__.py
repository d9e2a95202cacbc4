"""``config.toml`` as typed, frozen settings, one module a table.

`load` reports every fault at once, each with its key, what was found and what to do; an unknown key fails with the
nearest known name. Durations, sizes and rates are strings with a unit; in here they are ns, bytes and Hz.
"""

from agent.config.agent import LABELS, Agent, prior_of
from agent.config.align import Align
from agent.config.encoders import Audio, Encoder, Encoders, Language, Vision
from agent.config.events import Event
from agent.config.file import Config, ConfigError, Models, load
from agent.config.fusion import Fusion
from agent.config.metrics import Metrics
from agent.config.mqtt import Mqtt
from agent.config.privacy import Privacy
from agent.config.sensors import (
    CameraSensor,
    MicrophoneSensor,
    RemoteSensor,
    ReplaySensor,
    SensorTable,
    StdinSensor,
    TextSensor,
)

__all__ = [
    "LABELS",
    "Agent",
    "Align",
    "Audio",
    "CameraSensor",
    "Config",
    "ConfigError",
    "Encoder",
    "Encoders",
    "Event",
    "Fusion",
    "Language",
    "Metrics",
    "MicrophoneSensor",
    "Models",
    "Mqtt",
    "Privacy",
    "RemoteSensor",
    "ReplaySensor",
    "SensorTable",
    "StdinSensor",
    "TextSensor",
    "Vision",
    "load",
    "prior_of",
]
