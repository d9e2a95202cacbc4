"""What Home Assistant accepts as the announcement of a device, written down as rules of our own.

Read off the schemas of its MQTT integration, version 2026.2.3 of homeassistant on PyPI: ``abbreviations.py``,
``schemas.py`` (device discovery), ``sensor.py``, ``binary_sensor.py``, ``switch.py`` and ``discovery.py``. Keys that it
does not know it leaves out without a word, so that here they are faults.
"""

import re
from collections.abc import Mapping
from typing import Any

LONG = {
    "avty_t": "availability_topic",
    "cmd_t": "command_topic",
    "cmps": "components",
    "dev": "device",
    "dev_cla": "device_class",
    "ent_cat": "entity_category",
    "exp_aft": "expire_after",
    "ic": "icon",
    "json_attr_t": "json_attributes_topic",
    "o": "origin",
    "ops": "options",
    "p": "platform",
    "pl_off": "payload_off",
    "pl_on": "payload_on",
    "stat_cla": "state_class",
    "stat_t": "state_topic",
    "sug_dsp_prc": "suggested_display_precision",
    "uniq_id": "unique_id",
    "unit_of_meas": "unit_of_measurement",
    "val_tpl": "value_template",
}
LONG_DEVICE = {"ids": "identifiers", "mdl": "model", "mf": "manufacturer", "sw": "sw_version"}
LONG_ORIGIN = {"sw": "sw_version", "url": "support_url"}
TOPIC = re.compile(r"(device)/([a-zA-Z0-9_-]+)/config")
COMMON = {
    "device_class", "entity_category", "icon", "json_attributes_topic", "name", "platform", "qos", "state_topic",
    "unique_id", "value_template",
}  # fmt: skip
KNOWN = {
    "sensor": COMMON | {"expire_after", "options", "state_class", "suggested_display_precision", "unit_of_measurement"},
    "binary_sensor": COMMON | {"expire_after", "payload_off", "payload_on"},
    "switch": COMMON | {"command_topic", "payload_off", "payload_on"},
}
UNITS = {"duration": {"d", "h", "min", "s", "ms", "μs"}, "data_size": {"B", "kB", "MB", "GB", "KiB", "MiB", "GiB"}}
"""Those that matter here: a device class may be measured in these units alone."""


def faults(topic: str, payload: Mapping[str, Any], *, prefix: str = "homeassistant") -> list[str]:
    """What Home Assistant would not take, or leave out; none where it takes it all."""
    found = [] if TOPIC.fullmatch(topic.removeprefix(f"{prefix}/")) else [f"topic: {topic}"]
    whole = _long(payload, LONG)
    found += [f"{key}: is missing" for key in ("device", "origin", "components") if not whole.get(key)]
    found += _unknown("", whole, {"device", "origin", "components", "availability_topic", "qos"})
    device, origin = _long(whole.get("device", {}), LONG_DEVICE), _long(whole.get("origin", {}), LONG_ORIGIN)
    found += _unknown("device.", device, {"identifiers", "name", "manufacturer", "model", "sw_version"})
    found += _unknown("origin.", origin, {"name", "sw_version", "support_url"})
    if not device.get("identifiers"):
        found.append("device: has no identifiers")
    if not isinstance(origin.get("name"), str):
        found.append("origin.name: is missing")
    found += _topics("", whole)
    ids: set[str] = set()
    for name, component in whole.get("components", {}).items():
        entity = _long(component, LONG)
        found += [f"{name}: {fault}" for fault in _entity(entity)]
        if entity.get("unique_id") in ids:
            found.append(f"{name}: unique_id is another's too")
        ids.add(str(entity.get("unique_id")))
    return found


def _long(table: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in table.items()}


def _unknown(where: str, table: Mapping[str, Any], known: set[str]) -> list[str]:
    return [f"{where}{key}: is not known" for key in sorted(table.keys() - known)]


def _topics(where: str, table: Mapping[str, Any]) -> list[str]:
    topics = {key: value for key, value in table.items() if key.endswith("_topic")}
    return [f"{where}{key}: {value!r}" for key, value in topics.items() if not value or re.search(r"[+#\0]", value)]


def _entity(entity: Mapping[str, Any]) -> list[str]:
    platform = entity.get("platform")
    if platform not in KNOWN:
        return [f"platform {platform!r}"]
    found = _unknown("", entity, KNOWN[platform]) + _topics("", entity)
    needed = {"unique_id", "command_topic" if platform == "switch" else "state_topic"}
    found += [f"{key}: is missing" for key in sorted(needed - entity.keys())]
    if entity.get("entity_category", "diagnostic") not in ("config", "diagnostic"):
        found.append(f"entity_category {entity['entity_category']!r}")
    if platform != "switch" and entity.get("entity_category") == "config":
        found.append("entity_category: what only tells cannot be config")
    if not re.fullmatch(r"[\w-]+:[\w-]+", entity.get("icon", "mdi:x")):
        found.append(f"icon {entity['icon']!r}")
    if (expire := entity.get("expire_after", 1)) != int(expire) or expire < 0:
        found.append(f"expire_after {expire!r}")
    return found + _measured(entity)


def _measured(entity: Mapping[str, Any]) -> list[str]:
    found = []
    options, kind, unit = entity.get("options"), entity.get("device_class"), entity.get("unit_of_measurement")
    if options is not None:
        if not options or len(set(options)) < len(options):
            found.append("options: empty, or one comes twice")
        if kind != "enum":
            found.append("options: only with device_class enum")
        if "state_class" in entity or unit:
            found.append("options: not with state_class or a unit")
    if kind == "enum" and options is None:
        found.append("device_class enum: without options nothing is checked")
    if entity.get("state_class", "measurement") not in ("measurement", "total", "total_increasing"):
        found.append(f"state_class {entity['state_class']!r}")
    if kind in UNITS and unit not in UNITS[kind]:
        found.append(f"device_class {kind}: in {unit!r}")
    return found
