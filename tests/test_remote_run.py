"""An agent that senses through the cameras, microphones and people of another host: two processes and a broker."""

from pathlib import Path

import pytest

from tests.mosquitto import free_port, mosquitto
from tests.outside import agent, launch, watching

SENDS = """
[sensors.recorded]
kind = "replay"
session = "sensors/demo"
loop = true
"""
LISTENS = """
[sensors.kitchen-eye]
kind = "remote"
source = "camera"
modality = "vision"
stall = "30 s"
[sensors.kitchen-words]
kind = "remote"
source = "text"
modality = "text"
stall = "30 s"
[encoders.audio]
enabled = false
[mqtt]
metrics_every = "500 ms"
"""


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


async def test_decisions_come_of_what_another_host_sees_and_reads(tmp_path: Path) -> None:
    port = free_port()
    broker = f"mqtt://127.0.0.1:{port}"
    sends, listens = written(tmp_path / "sends.toml", SENDS), written(tmp_path / "listens.toml", LISTENS)
    async with (
        mosquitto(port, tmp_path),
        watching(port, "attune/hub/clock/+") as known,
        watching(port, "attune/hub/+") as watcher,
        agent("--config", listens, "--set", f"mqtt.broker={broker}", "--set", "agent.node=hub"),
        agent("send", "--config", sends, "--set", "agent.node=kitchen", "--to", broker, "--node", "hub", "--fps", "5"),
    ):
        seen = await watcher.until_decision(lambda decision: "vision" in decision["modalities"])
        read = await watcher.until_decision(lambda decision: "text" in decision["modalities"])
        metrics = await watcher.until(lambda message: "clock_uncertainty_ms" in message.payload)
        clock = await known.until(lambda message: message.topic == "attune/hub/clock/kitchen")
    assert seen["modalities"]["vision"]["source"] == "kitchen-eye"
    assert read["modalities"]["text"]["source"] == "kitchen-words"
    assert 0 < metrics.json["clock_uncertainty_ms"]["kitchen"] < 1000
    assert abs(clock.json["offset_ms"]) <= clock.json["uncertainty_ms"] + 0.001  # one machine: the clocks are one


@pytest.mark.parametrize(
    ("table", "words", "said"),
    [
        ('[sensors.text]\nkind = "text"\n', ("--to", "mqtt://127.0.0.1"), "no sensor to send from"),
        (SENDS, (), "name the broker of the agent that listens with --to mqtt://HOST"),
        (SENDS, ("--to", "127.0.0.1"), "mqtt.broker: must be"),
        (SENDS, ("--to", "mqtt://127.0.0.1", "--quality", "0"), "must be from 1 to 100"),
    ],
)
async def test_what_cannot_be_sent_says_what_to_do(
    tmp_path: Path, table: str, words: tuple[str, ...], said: str
) -> None:
    code, output = await launch("send", "--config", written(tmp_path / "c.toml", table), "--node", "hub", *words)
    assert code == 2
    assert said in output


async def test_check_says_that_the_embedded_broker_hears_nobody_else(tmp_path: Path) -> None:
    code, output = await launch("check", "--config", written(tmp_path / "c.toml", LISTENS))
    assert code == 1
    assert "sensors.kitchen-eye (remote): the embedded broker takes connections of this host alone" in output
