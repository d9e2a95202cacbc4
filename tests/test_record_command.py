"""Recording on demand: ``cmd/record`` over MQTT, to the whole program while it runs."""

import asyncio
import json
from pathlib import Path

from sensors.session_mcap import McapSession
from tests.mosquitto import free_port, mosquitto
from tests.outside import Seen, agent, watching
from tests.recordings import folders


async def ask(port: int, payload: str) -> None:
    """A command over MQTT 5, to be answered on ``answers``."""
    words = ["-V", "5", "-q", "1", "-D", "publish", "response-topic", "answers", "-m", payload]
    process = await asyncio.create_subprocess_exec(
        "mosquitto_pub", "-p", str(port), "-t", "attune/box/cmd/record", *words
    )
    assert await process.wait() == 0


def answered(message: Seen) -> bool:
    return message.topic == "answers"


async def test_a_demo_is_recorded_from_start_to_stop(tmp_path: Path) -> None:
    port, out = free_port(), tmp_path / "out"
    settings = {"agent.node": "box", "mqtt.broker": f"mqtt://127.0.0.1:{port}", "record.out": out}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    more = ("--set", "dashboard.enabled=false", "--set", "record.keep_free=1 B")
    async with mosquitto(port, tmp_path), watching(port, "#") as watcher, agent("demo", *words, *more):
        before = await watcher.until_decision(lambda decision: True)
        await ask(port, "start")
        reply = (await watcher.until(answered)).json
        assert reply["ok"], reply
        begun = len(watcher.seen)
        for i in range(3):
            last = await watcher.until_decision(lambda d, n=i: d["seq"] > before["seq"] + n + 1, after=begun)  # type: ignore[misc]
        await watcher.until(lambda message: message.topic.endswith("/status") and message.json["recording"])
        await ask(port, "stop")
        reply = (await watcher.until(answered, after=begun)).json
        assert reply["ok"], reply
        (folder,) = folders(out)
        assert str(folder) in reply["said"]
        session = McapSession.open(folder)
        told = [json.loads(decision) for decision in session.published()]
        sent = {decision["id"]: decision for decision in watcher.decisions()}
    assert not session.about.whole
    assert last["id"] in [decision["id"] for decision in told]
    assert before["id"] not in [decision["id"] for decision in told]
    assert all(decision == sent[decision["id"]] for decision in told if decision["id"] in sent)
    (survey,) = session.survey()
    assert survey.cut_off_at is None
    assert survey.messages["/camera"]
    assert survey.messages["/microphone"]
