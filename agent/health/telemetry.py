"""What `agent.health.metrics.Metrics` counts, as Prometheus reads it.

Names follow Prometheus' own rules: https://prometheus.io/docs/practices/naming/. Nothing is counted here: each scrape
reads what the agent counts anyway.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from agent.clock import SECOND, Clock
from agent.health.metrics import BOUNDS_NS, Histogram, Metrics
from agent.health.vitals import Ailment, Vitals
from agent.window import SourceState

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import HistogramMetricFamily, Metric

THERMAL = Path("/sys/class/thermal")
TASKS = Path("/proc/self/task")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Zone = tuple[str, str, float]
"""Name, kind and degrees Celsius of a thermal zone."""

COUNTERS: tuple[tuple[str, str, str], ...] = (
    (r"(?P<sensor>.+)\.failures", "sensor_failures", "Times that a sensor failed and was started again."),
    (r"decisions", "decisions", "Windows that were decided."),
    (r"abstained", "abstentions", "Decisions that named no label."),
    (r"windows_skipped", "windows_skipped", "Windows passed over, because a newer one was there."),
    (r"encode\.(?P<modality>\w+)\.(?P<reason>\w+)", "encoder_omissions", "Windows in which an encoder said nothing."),
    (r"align\.(?P<modality>\w+)\.(?P<reason>\w+)", "align_omissions", "Windows in which no samples matched."),
    (r"mqtt\.connections", "mqtt_connections", "Connections to the broker."),
    (r"mqtt\.connections_failed", "mqtt_connection_failures", "Connections to the broker that did not come about."),
    (r"mqtt\.connections_lost", "mqtt_connections_lost", "Connections to the broker that ended."),
    (r"publish\.(?P<outcome>\w+)", "mqtt_messages", "Messages by what became of them."),
    (r"outbox\.(?P<outcome>\w+)", "outbox_events", "Events by what became of them."),
    (r"text\.(?P<reason>\w+)", "texts_refused", "Texts that were refused or not read."),
    (r"commands\.(?P<outcome>\w+)", "commands", "Commands by what became of them."),
    (r"transcribe\.(?P<reason>\w+)", "transcription_omissions", "Utterances that were not understood."),
    (r"wall_clock\.steps_back", "wall_clock_steps_back", "Steps back of the wall clock by more than a minute."),
    (r"(?P<what>.+)", "counted", "What else the agent counts."),
)
"""Which counters of `Metrics` make up which family: the first pattern that fits decides; its groups are the labels."""

GAUGES = {
    "mqtt.connected": "Whether the broker is connected.",
    "mqtt.outbox": "Events that wait for the broker.",
    "mqtt.queue": "Messages that wait for the broker, events and what is retained not counted.",
}
"""What readings of `Metrics.gauges` mean; of others the name has to do."""


@dataclass(slots=True, eq=False)
class Telemetry:
    """Collects for Prometheus; an `agent.health.metrics.Metrics` and what else knows something."""

    metrics: Metrics
    vitals: Vitals
    states: Mapping[str, SourceState]
    """How the sources stand."""
    dropped: Callable[[], Mapping[str, int]]
    """Samples left out, by ``source.reason``."""
    clock: Clock
    zones: Sequence[Zone] = ()
    """Temperatures, as they were read last; not read by `collect`, because some boards take their time."""

    def registry(self) -> CollectorRegistry:
        """A registry with this and with what the process itself tells: memory, descriptors, CPU time."""
        from prometheus_client import CollectorRegistry, ProcessCollector

        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        return registry

    def collect(self) -> Iterator[Metric]:
        """All families, read now."""
        yield from _counters(self.metrics.counts)
        yield from self._samples()
        yield from self._sources()
        yield from self._durations()
        yield from _gauges(self.metrics.gauges)
        yield from _machine(self.zones)

    def _samples(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily

        came = CounterMetricFamily("attune_samples", "Samples that a source delivered.", labels=["source"])
        for source, vital in self.vitals.of.items():
            came.add_metric([source], vital.samples)
        yield came
        said = "Samples left out, by the sensor or by the window."
        dropped = CounterMetricFamily("attune_samples_dropped", said, labels=["source", "reason"])
        for name, count in self.dropped().items():
            source, _, reason = name.partition(".")
            dropped.add_metric([source, reason], count)
        yield dropped

    def _sources(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        up = GaugeMetricFamily("attune_source_up", "Whether a source delivers.", labels=["source"])
        age = GaugeMetricFamily("attune_source_age_seconds", "Age of a source's newest sample.", labels=["source"])
        said = "Whether something ails a source that delivers."
        ailing = GaugeMetricFamily("attune_source_ailing", said, labels=["source", "ailment"])
        now_ns = self.clock.now_ns()
        for source, vital in self.vitals.of.items():
            up.add_metric([source], float(self.states.get(source) is SourceState.LIVE))
            if vital.newest_ns is not None:
                age.add_metric([source], max(0, now_ns - vital.newest_ns) / SECOND)
            found = vital.ailments(now_ns) if self.states.get(source) is SourceState.LIVE else ()
            for ailment in Ailment:
                ailing.add_metric([source, ailment], float(ailment in found))
        yield from (up, age, ailing)

    def _durations(self) -> Iterator[Metric]:
        metrics = self.metrics
        said = "From the end of a window to the hand-over of its decision."
        yield _histogram("attune_decision_latency_seconds", said, {"": metrics.decision})
        said = "From the end of a window to the broker's acknowledgement of what was decided."
        yield _histogram("attune_acknowledgement_latency_seconds", said, {"": metrics.acknowledgement})
        said = "Parts of the time to a decision."
        yield _histogram("attune_stage_duration_seconds", said, metrics.stages, label="stage")
        runs = {str(modality): histogram for modality, histogram in metrics.encoding.items()}
        yield _histogram("attune_encoder_duration_seconds", "Runs of an encoder.", runs, label="modality")
        yield _histogram("attune_loop_lag_seconds", "How late the event loop is, once a second.", {"": metrics.lag})


def _counters(counts: Mapping[str, int]) -> Iterable[Metric]:
    from prometheus_client.core import CounterMetricFamily

    families: dict[str, CounterMetricFamily] = {}
    for name, count in list(counts.items()):
        for pattern, family, said in COUNTERS:
            if match := re.fullmatch(pattern, name):
                labels = match.groupdict()
                if family not in families:
                    families[family] = CounterMetricFamily(f"attune_{family}", said, labels=[*labels])
                families[family].add_metric([*labels.values()], count)
                break
    return families.values()


def _histogram(
    name: str, said: str, histograms: Mapping[str, Histogram], *, label: str | None = None
) -> HistogramMetricFamily:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, said, labels=[label] if label else [])
    bounds = [*(str(bound / SECOND) for bound in BOUNDS_NS), "+Inf"]
    for key, histogram in histograms.items():
        buckets = list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
        family.add_metric([key] if label else [], buckets, histogram.sum_ns / SECOND)
    return family


def _gauges(gauges: Mapping[str, Callable[[], Mapping[str, float]]]) -> Iterator[Metric]:
    """A gauge in ms is one family with its keys as labels, since they are names of things; others one family a key."""
    from prometheus_client.core import GaugeMetricFamily

    for gauge, reading in gauges.items():
        if gauge.endswith("_ms"):
            name = f"attune_{_name(gauge.removesuffix('_ms'))}_seconds"
            family = GaugeMetricFamily(name, f"The agent's reading {gauge}, in seconds.", labels=["of"])
            for key, value in reading().items():
                family.add_metric([key], value / 1000)
            yield family
            continue
        for key, value in reading().items():
            parts = key.split("_")
            name = "_".join("seconds" if part == "ms" else part for part in parts)
            scale = 1000 if "ms" in parts else 1
            said = GAUGES.get(f"{gauge}.{key}", f"The agent's reading {gauge}.{key}.")
            yield GaugeMetricFamily(f"attune_{_name(gauge)}_{_name(name)}", said, value / scale)


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9_]", "_", text.lower())


def _machine(zones: Sequence[Zone]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    threads = sum(1 for _ in TASKS.iterdir()) if TASKS.exists() else threading.active_count()
    yield GaugeMetricFamily("attune_threads", "Threads of the process.", threads)
    said = "Temperature of a zone of the board."
    heat = GaugeMetricFamily("attune_temperature_celsius", said, labels=["zone", "kind"])
    for zone, kind, celsius in zones:
        heat.add_metric([zone, kind], celsius)
    yield heat


def temperatures(thermal: Path = THERMAL) -> list[Zone]:
    """Zone, kind and degrees Celsius of each thermal zone that tells: boards switch some off with what they measure.

    As in the kernel's thermal sysfs interface: ``thermal_zone*/type`` and ``temp``, in thousandths of a degree.
    """
    found = []
    for zone in sorted(thermal.glob("thermal_zone*")):
        try:
            kind = (zone / "type").read_text().strip()
            found.append((zone.name, kind, int((zone / "temp").read_text()) / 1000))
        except (OSError, ValueError):
            continue
    return found
