"""The bundled demo as a newcomer runs it, seen by an outside client."""

import asyncio
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.config import LABELS
from tests.mosquitto import free_port, mosquitto
from tests.outside import agent, launch, watching

MODALITIES = {"vision", "audio", "text"}
HOP_S = 0.5


def check_schema(decision: dict[str, object]) -> None:
    """Whether a decision is as the contract says; the values of the nested tables are looked at too."""
    assert list(decision) == [
        "schema", "node", "seq", "id", "window", "label", "confidence", "abstained", "conflict", "rule",
        "probabilities", "dimensions", "modalities", "missing", "latency_ms",
    ]  # fmt: skip
    assert decision["schema"] == 1
    window, probabilities = decision["window"], decision["probabilities"]
    modalities, missing = decision["modalities"], decision["missing"]
    assert isinstance(window, dict)
    assert isinstance(probabilities, dict)
    assert isinstance(modalities, dict)
    assert isinstance(missing, dict)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", window["end"])
    assert int(window["start_ns"]) < int(window["end_ns"])
    assert tuple(probabilities) == LABELS
    assert abs(sum(probabilities.values()) - 1) < 0.01
    assert decision["label"] in (*LABELS, None)
    assert decision["abstained"] == (decision["label"] is None)
    assert set(modalities) | set(missing) == MODALITIES
    assert not set(modalities) & set(missing)
    assert set(missing.values()) <= {"silent", "late", "failed", "skipped", "disabled"}
    for said in modalities.values():
        assert {"label", "confidence", "weight", "quality", "age_ms", "contribution", "engine", "encode_ms"} <= set(
            said
        )
        assert 0 <= said["weight"] <= 1
    assert decision["latency_ms"].keys() == {"align", "encode", "fuse", "total"}  # type: ignore[attr-defined]


def windows(decisions: Sequence[dict[str, Any]]) -> int:
    """How many windows there were from the first to the last of these decisions."""
    first, last = (int(decision["window"]["end_ns"]) for decision in (decisions[0], decisions[-1]))
    return round((last - first) / 1e9 / HOP_S) + 1


async def test_the_demo_shows_all_modalities_coming_going_agreeing_and_disagreeing(tmp_path: Path) -> None:
    port = free_port()
    async with (
        mosquitto(port, tmp_path),
        watching(port) as watcher,
        agent(
            *("demo", "--once", "--set", f"mqtt.broker=mqtt://127.0.0.1:{port}"),
            *("--set", "mqtt.metrics_every=1 s"),
        ) as process,
    ):
        await watcher.until_decision(lambda decision: True)
        assert await process.wait() == 0
    decisions = watcher.decisions()
    for decision in decisions:
        check_schema(decision)
    assert windows(decisions) >= 70
    told = max(i for i, message in enumerate(watcher.seen) if message.topic.endswith("/metrics"))
    before = [message.json for message in watcher.seen[:told] if message.topic.endswith("/decision")]
    passed_over = windows(before) - len(before)
    assert passed_over <= watcher.seen[told].json["counts"].get("windows_skipped", 0)  # none where there is time
    assert [decision["seq"] for decision in decisions] == list(range(len(decisions)))
    assert len({decision["id"] for decision in decisions}) == len(decisions)
    for modality in MODALITIES:
        assert any(modality in decision["modalities"] for decision in decisions), f"{modality} was never used"
        assert any(modality in decision["missing"] for decision in decisions), f"{modality} was never missing"
    assert any(decision["label"] == "happy" for decision in decisions)
    assert watcher.seen[-1].topic.endswith("/availability")
    assert watcher.seen[-1].payload == "offline"
    topics = {message.topic.split("/", 2)[2] for message in watcher.seen if message.topic.startswith("attune/")}
    assert {"availability", "state", "decision", "metrics", *(f"modality/{m}" for m in MODALITIES)} <= topics
    metrics = [message.json for message in watcher.seen if message.topic.endswith("/metrics")]
    assert 0 < metrics[-1]["max_rss_mib"] < 600


async def test_sigterm_ends_it_with_offline_retained_and_exit_code_0(tmp_path: Path) -> None:
    port = free_port()
    for number in (signal.SIGTERM, signal.SIGINT):
        async with mosquitto(port, tmp_path):
            async with (
                watching(port) as watcher,
                agent("demo", "--set", f"mqtt.broker=mqtt://127.0.0.1:{port}") as process,
            ):
                await watcher.until_decision(lambda decision: True)
                process.send_signal(number)
                async with asyncio.timeout(10):
                    assert await process.wait() == 0
            async with watching(port) as late:
                left = await late.until(lambda message: message.topic.endswith("/availability"))
                assert (left.payload, left.retained) == ("offline", True)


async def test_with_nothing_installed_the_embedded_broker_serves_an_outside_client() -> None:
    port = free_port()
    async with agent("demo", "--set", f"mqtt.broker=embedded:{port}") as process:
        assert process.stdout
        async for line in process.stdout:
            if b"decisions go to" in line:
                break
        async for line in process.stdout:
            if b"#0 " in line:
                break
        async with watching(port) as watcher:
            check_schema(await watcher.until_decision(lambda decision: True))


async def test_a_port_that_is_taken_is_said_with_exit_code_1(tmp_path: Path) -> None:
    port = free_port()
    async with mosquitto(port, tmp_path):
        code, output = await launch("demo", "--once", "--set", f"mqtt.broker=embedded:{port}")
    assert code == 1
    assert f"127.0.0.1:{port}, but something else does already" in output
    assert "Traceback" not in output
