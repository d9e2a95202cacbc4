"""What Home Assistant is told, so that the agent appears there as a device with its sensors and a pause switch.

Device discovery as in its MQTT integration (2024.11 and later): one retained message with ``dev``, ``o`` and ``cmps``.
Templates give ``None`` where there is nothing to say, which Home Assistant shows as unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from agent.clock import SECOND
from agent.config import Mqtt
from agent.mqtt.message import Message
from agent.payload import encode
from agent.types import Modality

STANDINGS = ("active", "degraded", "missing", "disabled")
"""States of a modality, as in `agent.health.standing`."""
MISSED_REPORTS = 3
"""Metrics that may fail to come until their sensors count as unavailable."""

Component = dict[str, Any]


def announcement(settings: Mqtt, *, node: str, labels: Sequence[str]) -> Message:
    """The retained message that makes the device appear, or with ``discovery = false`` the one that removes it."""
    name = plain(f"{settings.base}_{node}")
    topic = f"{settings.discovery_prefix}/device/{name}/config"
    payload = encode(device(settings, node=node, labels=labels)) if settings.discovery else b""
    return Message(topic, payload, qos=1, retain=True)


def plain(name: str) -> str:
    """The name with what is not A-Z a-z 0-9 _ - as _, as Home Assistant wants it in topics."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def device(settings: Mqtt, *, node: str, labels: Sequence[str]) -> Mapping[str, Any]:
    """The device, its origin and its components, in the abbreviations of Home Assistant."""
    name, root = plain(f"{settings.base}_{node}"), f"{settings.base}/{node}"
    components = {
        **_decided(f"{root}/state", labels, expire_s=max(1, settings.stale_after // SECOND)),
        **{modality.value: _modality(f"{root}/modality/{modality}", modality) for modality in Modality},
        **_controls(root),
        **_diagnostics(root, expire_s=max(1, MISSED_REPORTS * settings.metrics_every // SECOND)),
    }
    made_by = {"sw": sw} if (sw := _version()) else {}
    return {
        "dev": {"ids": [name], "name": f"Attune {node}", "mf": "Attune", "mdl": "Multimodal agent", **made_by},
        "o": {"name": "Attune", **made_by},
        "avty_t": f"{root}/availability",
        "qos": 1,
        "cmps": {key: {**component, "uniq_id": f"{name}_{key}"} for key, component in components.items()},
    }


def _version() -> str:
    try:
        return version("attune")
    except PackageNotFoundError:  # run from a folder, without having been installed
        return ""


def _decided(topic: str, labels: Sequence[str], *, expire_s: int) -> dict[str, Component]:
    """What the newest decision says."""
    sensor: Component = {"p": "sensor", "stat_t": topic, "exp_aft": expire_s}
    share = {**sensor, "stat_cla": "measurement"}
    dimensions = {
        key: {
            **share,
            "name": key.capitalize(),
            "ic": icon,
            "val_tpl": f"{{{{ value_json.dimensions.{key} | default(none) }}}}",
            "sug_dsp_prc": 2,
        }
        for key, icon in (("valence", "mdi:emoticon-happy-outline"), ("arousal", "mdi:flash-outline"))
    }
    return {
        "label": {
            **sensor,
            "name": "Label",
            "ic": "mdi:emoticon-outline",
            "dev_cla": "enum",
            "ops": list(labels),
            "val_tpl": "{{ value_json.label }}",
        },
        "confidence": {
            **share,
            "name": "Confidence",
            "ic": "mdi:gauge",
            "unit_of_meas": "%",
            "val_tpl": "{{ (value_json.confidence * 100) | round(1) }}",
        },
        **dimensions,
    }


def _modality(topic: str, modality: Modality) -> Component:
    """How a modality stands; it is said when it changes, so that it does not expire."""
    return {
        "p": "sensor",
        "name": modality.capitalize(),
        "ic": {Modality.VISION: "mdi:camera", Modality.AUDIO: "mdi:microphone", Modality.TEXT: "mdi:text"}[modality],
        "ent_cat": "diagnostic",
        "dev_cla": "enum",
        "ops": list(STANDINGS),
        "stat_t": topic,
        "val_tpl": "{{ value_json.state }}",
        "json_attr_t": topic,
    }


def _controls(root: str) -> dict[str, Component]:
    return {
        "pause": {
            "p": "switch",
            "name": "Pause",
            "ic": "mdi:pause-circle-outline",
            "cmd_t": f"{root}/cmd/pause",
            "stat_t": f"{root}/status",
            "val_tpl": "{{ 'ON' if value_json.paused else 'OFF' }}",
            "pl_on": "ON",
            "pl_off": "OFF",
        },
        "recording": {
            "p": "binary_sensor",
            "name": "Recording",
            "ic": "mdi:record-circle-outline",
            "ent_cat": "diagnostic",
            "stat_t": f"{root}/status",
            "val_tpl": "{{ 'ON' if value_json.recording else 'OFF' }}",
        },
    }


def _diagnostics(root: str, *, expire_s: int) -> dict[str, Component]:
    said = {"p": "sensor", "ent_cat": "diagnostic", "stat_cla": "measurement", "stat_t": f"{root}/metrics"}
    reported = {**said, "exp_aft": expire_s}
    return {
        "latency": {
            **reported,
            "name": "Latency",
            "dev_cla": "duration",
            "unit_of_meas": "ms",
            "val_tpl": "{{ (value_json.latency_ms.total | default({})).p50 | default(none) }}",
        },
        "loop_lag": {
            **reported,
            "name": "Loop lag",
            "dev_cla": "duration",
            "unit_of_meas": "ms",
            "val_tpl": "{{ value_json.loop_lag_ms }}",
        },
        "memory": {
            **reported,
            "name": "Peak memory",
            "dev_cla": "data_size",
            "unit_of_meas": "MiB",
            "val_tpl": "{{ value_json.max_rss_mib }}",
        },
    }
