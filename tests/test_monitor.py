"""How the agent tells that it is well: to a browser or an orchestrator, to Prometheus, to systemd."""

import asyncio
import contextlib
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from agent.assembly import Agent
from agent.clock import MS, SECOND, RealClock, VirtualClock, WallClock
from agent.config import Config
from agent.config.scalars import Endpoint
from agent.health.judge import LAG_NS, UNDECIDED_NS, Health
from agent.health.metrics import LAGS, Metrics
from agent.health.monitor import Monitor
from agent.health.systemd import Notifier, Service
from agent.health.telemetry import Telemetry, temperatures
from agent.health.vitals import Vitals
from agent.playback import play
from agent.types import Frame, Modality, Reading, Sample, Watermark
from agent.window import SourceState
from tests.mosquitto import free_port, mosquitto
from tests.outside import agent as outside_agent
from tests.outside import launch
from tests.samples import frame
from tests.scripted import HOP_NS, LABELS, SOURCES, ScriptedEncoder, ScriptedSensor, Steps, happy, pipeline

VISION = Modality.VISION
CAMERA = SOURCES[0]
CLOCK = RealClock()
NOISE = [np.random.default_rng(i).integers(90, 110, (48, 64, 3)).astype(np.uint8) for i in range(5)]


@dataclass(frozen=True)
class Answer:
    status: int
    body: str

    @property
    def reasons(self) -> str:
        return "; ".join(json.loads(self.body)["reasons"])


async def ask(at: Endpoint, path: str) -> Answer:
    def exchange() -> Answer:
        with contextlib.closing(HTTPConnection("127.0.0.1", at.port, timeout=20)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return Answer(response.status, response.read().decode())

    return await asyncio.to_thread(exchange)


async def until(at: Endpoint, path: str, status: int) -> Answer:
    """Ask until the answer has that status."""
    while (answer := await ask(at, path)).status != status:
        pass
    return answer


async def camera() -> Steps:
    for i in range(1 << 30):
        await CLOCK.sleep_until(CLOCK.now_ns() + HOP_NS // 4)
        now_ns = CLOCK.now_ns()
        yield Sample("camera", Frame(NOISE[i % len(NOISE)]), now_ns, now_ns, now_ns)


@contextlib.asynccontextmanager
async def running(broker: str, *encoders: ScriptedEncoder) -> AsyncIterator[tuple[Endpoint, Agent]]:
    config = Config.model_validate(
        {
            "agent": {"node": "kiosk", "labels": LABELS, "hop": "100 ms"},
            "mqtt": {"broker": broker},
            "metrics": {"listen": "127.0.0.1:0"},
        }
    )
    wall = WallClock()
    wall.read()
    agent = Agent(
        config,
        sensors=[ScriptedSensor("camera", CAMERA, camera)],
        encoders={encoder.modality: encoder for encoder in encoders},
        transcriber=None,
        clock=CLOCK,
        wall=wall,
    )
    monitor = Monitor(config, pipeline=agent.pipeline, dropped=agent.dropped, clock=CLOCK, environment={})
    agent.attach(monitor)
    task = asyncio.create_task(agent.run())
    assert monitor.server
    try:
        async with asyncio.timeout(60):
            served = asyncio.create_task(monitor.server.address())
            await asyncio.wait([served, task], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            yield served.result(), agent
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_ready_once_it_decides_and_not_while_the_broker_is_away(tmp_path: Path) -> None:
    port = free_port()
    async with running(f"mqtt://127.0.0.1:{port}", ScriptedEncoder(VISION, happy)) as (at, _):
        unready = await ask(at, "/readyz")
        assert unready.status == 503
        assert f"not connected to the broker mqtt://127.0.0.1:{port}" in unready.reasons
        async with mosquitto(port, tmp_path):
            ready = json.loads((await until(at, "/readyz", 200)).body)
        assert ready["sources"]["camera"]["state"] == "live"
        assert ready["sources"]["camera"]["age_s"] < 60
        away = await until(at, "/readyz", 503)
        assert away.reasons == f"not connected to the broker mqtt://127.0.0.1:{port}"
        assert (await ask(at, "/healthz")).status == 200


def families(text: str) -> dict[str, Metric]:
    found = [*text_string_to_metric_families(text)]
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(names) == len(set(names)), "a family told twice spoils the whole for strict readers"
    return {family.name: family for family in found}


def value(found: dict[str, Metric], family: str, sample: str = "", **labels: str) -> float:
    samples = [s for s in found[family].samples if s.name == (sample or s.name) and labels.items() <= s.labels.items()]
    assert len(samples) == 1, samples
    return float(samples[0].value)


async def test_prometheus_reads_what_the_agent_counts(tmp_path: Path) -> None:
    port = free_port()
    async with (
        mosquitto(port, tmp_path),
        running(f"mqtt://127.0.0.1:{port}", ScriptedEncoder(VISION, happy)) as (at, agent),
    ):
        await until(at, "/readyz", 200)
        metrics = agent.pipeline.metrics
        while not (metrics.acknowledgement.sum_ns and metrics.encoding):
            await ask(at, "/healthz")
        found = families((await ask(at, "/metrics")).body)
    for name, family in found.items():
        check_rules(name, family)
    assert value(found, "attune_decisions") >= 1
    assert value(found, "attune_samples", source="camera") >= 1
    assert value(found, "attune_source_up", source="camera") == 1
    assert value(found, "attune_source_ailing", source="camera", ailment="frozen") == 0
    assert value(found, "attune_mqtt_connections") == 1
    assert value(found, "attune_mqtt_connected") == 1
    assert value(found, "attune_mqtt_outbox") >= 0
    assert value(found, "attune_mqtt_queue") >= 0
    assert value(found, "attune_threads") >= threading.active_count() / 2
    assert value(found, "process_open_fds") > 3
    assert value(found, "process_resident_memory_bytes") > 1 << 20
    for name, labels in (
        ("attune_decision_latency_seconds", {}),
        ("attune_acknowledgement_latency_seconds", {}),
        ("attune_encoder_duration_seconds", {"modality": "vision"}),
        ("attune_stage_duration_seconds", {"stage": "align"}),
    ):
        buckets = [s for s in found[name].samples if s.name == f"{name}_bucket" and labels.items() <= s.labels.items()]
        counts = [s.value for s in buckets]
        assert [float(s.labels["le"]) for s in buckets] == sorted(float(s.labels["le"]) for s in buckets)
        assert counts == sorted(counts)
        assert counts[-1] == value(found, name, f"{name}_count", **labels) >= 1
        assert value(found, name, f"{name}_sum", **labels) > 0


ABBREVIATED = {"ms", "msec", "s", "sec", "us", "ns", "kb", "mb", "mib", "pct", "percent", "milliseconds", "minutes"}


def check_rules(name: str, family: Metric) -> None:
    """What `promtool check metrics` looks at, by https://prometheus.io/docs/practices/naming/."""
    assert re.fullmatch(r"(attune|process)_[a-z0-9]+(_[a-z0-9]+)*", name)
    assert family.documentation
    assert not ABBREVIATED & set(name.split("_"))
    assert not {"gauge", "counter", "histogram", "summary"} & set(name.split("_"))
    assert family.type in ("counter", "gauge", "histogram")
    if family.type == "counter":
        assert all(sample.name == f"{name}_total" for sample in family.samples)
    else:
        assert not name.endswith(("_total", "_count", "_sum", "_bucket", "_info"))
    for sample in family.samples:
        assert all(re.fullmatch(r"[a-z][a-z_]*", label) for label in sample.labels)
        assert len({s.name for s in family.samples} & {sample.name}) == 1


def scraped(metrics: Metrics, dropped: dict[str, int] | None = None) -> dict[str, Metric]:
    telemetry = Telemetry(metrics, Vitals([CAMERA]), {}, lambda: dropped or {}, VirtualClock())
    return families(generate_latest(telemetry.registry()).decode())


def test_every_counter_has_a_family_and_none_is_lost() -> None:
    counts = {
        "decisions": 7, "abstained": 2, "windows_skipped": 3, "encode.vision.failed": 4, "encode.audio.skipped": 5,
        "align.vision.unmatched": 6, "mqtt.connections_lost": 8, "publish.dropped": 9, "text.failures": 10,
        "my.camera.failures": 11, "wall_clock.steps_back": 12, "some.thing/new": 13, "transcribe.dropped": 14,
        "mqtt.incoming_dropped": 15,
    }  # fmt: skip
    metrics = Metrics()
    metrics.counts.update(counts)
    found = scraped(metrics, {"my-camera.late": 16, "microphone.overflow": 17})
    for name, family in found.items():
        check_rules(name, family)
    assert value(found, "attune_abstentions") == 2
    assert value(found, "attune_encoder_omissions", modality="audio", reason="skipped") == 5
    assert value(found, "attune_sensor_failures", sensor="text") == 10
    assert value(found, "attune_sensor_failures", sensor="my.camera") == 11
    assert value(found, "attune_counted", what="some.thing/new") == 13
    assert value(found, "attune_samples_dropped", source="my-camera", reason="late") == 16
    told = [s.value for f in found.values() if f.name.startswith("attune_") and f.type == "counter" for s in f.samples]
    assert sorted(told) == sorted([0, *counts.values(), 16, 17])  # 0: samples of the camera


def test_gauges_are_told_in_seconds() -> None:
    metrics = Metrics()
    metrics.gauges["clock_uncertainty_ms"] = lambda: {"kitchen-1": 2.5}
    metrics.gauges["budget"] = lambda: {"ms_per_decision": 40.0, "owed_ms": 10.0, "spared_share": 0.5}
    found = scraped(metrics)
    for name, family in found.items():
        check_rules(name, family)
    assert value(found, "attune_clock_uncertainty_seconds", of="kitchen-1") == 0.0025
    assert value(found, "attune_budget_seconds_per_decision") == 0.04
    assert value(found, "attune_budget_owed_seconds") == 0.01
    assert value(found, "attune_budget_spared_share") == 0.5


def test_temperatures_of_the_zones_that_tell(tmp_path: Path) -> None:
    for zone, kind, heat in (("thermal_zone0", "CPU-therm", "45500\n"), ("thermal_zone1", "GPU-therm", "off\n")):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "type").write_text(f"{kind}\n")
        (tmp_path / zone / "temp").write_text(heat)
    (tmp_path / "thermal_zone2").mkdir()
    assert temperatures(tmp_path) == [("thermal_zone0", "CPU-therm", 45.5)]
    telemetry = Telemetry(Metrics(), Vitals([]), {}, dict, VirtualClock(), zones=temperatures(tmp_path))
    found = families(generate_latest(telemetry.registry()).decode())
    assert value(found, "attune_temperature_celsius", zone="thermal_zone0", kind="CPU-therm") == 45.5


async def healthy(clock: VirtualClock, *encoders: ScriptedEncoder, patience_ns: int | None = None) -> Health:
    """Of a pipeline that has decided for a second, connected and with a live camera."""
    p = pipeline(clock, *encoders, sources=[CAMERA], patience_ns=patience_ns)
    health = Health(p, clock, hop_ns=HOP_NS, broker="there")
    health.begin()
    health.marked("camera", SourceState.LIVE)
    p.metrics.counts["mqtt.connections"] = 1
    events: list[Sample | Watermark] = [frame(t) for t in range(0, SECOND, HOP_NS)]
    async for decided in play(events, p, clock):
        health.decided(decided)
    return health


async def test_what_a_restart_would_mend_and_what_not() -> None:
    clock = VirtualClock()
    health = await healthy(clock, ScriptedEncoder(VISION, happy))
    assert (health.ill(), health.unready()) == ([], [])
    health.marked("camera", SourceState.FAILED)
    assert health.ill() == []
    assert health.unready() == ["no source is live: camera failed"]
    health.marked("camera", SourceState.LIVE)
    for _ in range(LAGS):
        assert health.ill() == []
        health.pipeline.metrics.lagged(LAG_NS + MS)
    assert health.ill() == ["the event loop is 501 ms late or more, over and over again"]
    health.pipeline.metrics.lagged(0)
    assert health.ill() == []
    clock.advance_to(clock.now_ns() + UNDECIDED_NS + 4 * HOP_NS)
    assert health.ill() == []
    clock.advance_to(clock.now_ns() + SECOND)
    assert health.ill() == ["no window has been decided for 11 s"]
    assert health.line().startswith("not ready: no window has been decided for 11 s")
    health.pipeline.close()


async def test_an_encoder_that_hangs_is_no_answer() -> None:
    release = threading.Event()

    def hangs(samples: Sequence[Sample]) -> Reading:
        release.wait(20)
        return happy(samples)

    health = await healthy(VirtualClock(), ScriptedEncoder(VISION, hangs), patience_ns=MS)
    assert health.unready() == ["encoders that do not answer: vision"]
    release.set()
    health.pipeline.close()


async def test_without_an_encoder_it_is_not_ready() -> None:
    health = await healthy(VirtualClock())
    assert health.unready() == ["no encoder is open: no source has a modality that one reads"]


class Manager:
    """A service manager's end of the socket."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + path[1:] if path.startswith("@") else path)
        self._socket.setblocking(False)

    async def told(self) -> str:
        async with asyncio.timeout(60):
            return (await asyncio.get_running_loop().sock_recv(self._socket, 4096)).decode()

    def told_already(self) -> list[str]:
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self._socket.recv(4096).decode())
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{tmp_path}/notify" if request.param == "path" else f"@attune-{tmp_path.name}"


async def test_the_watchdog_hears_of_it_only_while_it_is_well(address: str) -> None:
    clock = VirtualClock()
    trouble, status = "", "7 decisions"
    with contextlib.closing(Manager(address)) as manager:
        notifier = Notifier.of({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "4000000"})
        assert notifier
        task = asyncio.create_task(Service(notifier, clock, lambda: trouble, lambda: status).run())

        async def pass_by(ns: int) -> list[str]:
            clock.advance_to(clock.now_ns() + ns)
            for _ in range(5):
                await asyncio.sleep(0)
            return manager.told_already()

        assert await pass_by(0) == ["READY=1\nSTATUS=7 decisions", "WATCHDOG=1"]
        assert await pass_by(SECOND) == []
        assert await pass_by(SECOND) == ["WATCHDOG=1"]
        status = "8 decisions,\nof them 2"
        assert await pass_by(2 * SECOND) == ["WATCHDOG=1", "STATUS=8 decisions, of them 2"]
        trouble = "the loop is late"
        assert await pass_by(2 * SECOND) == ["STATUS=the loop is late"]
        assert await pass_by(2 * SECOND) == []
        trouble = ""
        assert await pass_by(2 * SECOND) == ["WATCHDOG=1", "STATUS=8 decisions, of them 2"]
        task.cancel()
        await asyncio.wait([task])
        assert manager.told_already() == ["STOPPING=1"]


def test_systemd_is_told_only_where_it_asks() -> None:
    assert Notifier.of({}) is None
    assert Notifier.of({"NOTIFY_SOCKET": "relative"}) is None
    assert Notifier.of({"NOTIFY_SOCKET": "/x"}) == Notifier("/x", None)
    assert Notifier.of({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}) == Notifier("/x", None)
    assert Notifier.of({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "9"}) == Notifier("/x", 9_000)


def test_a_manager_that_has_gone_is_said_and_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notifier(f"{tmp_path}/gone").send(READY="1")
    assert "systemd cannot be told READY" in caplog.text


READS = """
[sensors.text]
kind = "text"
[encoders.vision]
enabled = false
[encoders.audio]
enabled = false
"""


async def test_the_process_tells_systemd_and_serves(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(READS)
    port, path = free_port(), f"{tmp_path}/notify"
    words = ("run", "--config", f"{tmp_path}/config.toml", "--set", f"metrics.listen=127.0.0.1:{port}")
    at = Endpoint("127.0.0.1", port)
    with contextlib.closing(Manager(path)) as manager:
        environment = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000000"}
        async with outside_agent(*words, "--set", f"mqtt.broker=embedded:{free_port()}", env=environment):
            assert (await manager.told()).startswith("READY=1\nSTATUS=")
            async with asyncio.timeout(60):
                while (await manager.told()) != "WATCHDOG=1":
                    pass
                await until(at, "/readyz", 200)
            assert (await ask(at, "/healthz")).status == 200
            other, said = await launch(*words, "--set", f"mqtt.broker=embedded:{free_port()}")
            manager.told_already()  # the socket holds no more than a few
        assert other == 1
        assert f"\n[metrics] listen = '127.0.0.1:{port}': something else listens there already" in said
        assert "TaskGroup" not in said
        assert "STOPPING=1" in manager.told_already()
