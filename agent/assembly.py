"""Puts the agent together from the config and the parts that `launch.py` opens, and runs it."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import assert_never

import numpy as np

from agent.broker import EmbeddedBroker
from agent.budget import Budget
from agent.clock import SECOND, Clock, WallClock
from agent.config import Align, Config, ConfigError, prior_of
from agent.decision import ROWS, FusionHead, Trust
from agent.fusion import RULES, Learned, LearnedHead, Recalibration
from agent.live import LiveAgent
from agent.mqtt import Publisher
from agent.pipeline import Pipeline, speech_source
from agent.seams import Companion, Encoder, Sensor, Transcriber
from agent.selection import Selection, approximate, exact, first, last, nearest
from agent.smoothing import StickyFilter
from agent.standing import StandingBoard
from agent.types import Decision, Modality, Source
from agent.window import Bounds, SlidingWindow
from agent.worker import DaemonExecutor

log = logging.getLogger(__name__)

PATIENCE_NS = 2 * SECOND
"""An encoder that takes longer is left out until it has done (or four hops, if those are longer)."""


def new_session() -> str:
    """A name for a live session, unique over all nodes."""
    return uuid.uuid4().hex[:12]


def build_head(config: Config, learned: LearnedHead | None = None) -> FusionHead:
    """The fusion head that the config asks for; ``learned`` is the trained one, where there is one.

    Raises `ConfigError` where the config asks for the trained one, and it is not there or knows other labels.
    """
    prior = np.array(list(prior_of(config.agent).values()))
    fusion = config.fusion
    return FusionHead(
        RULES[fusion.rule].of(fusion) if fusion.rule in RULES else _learned(config, learned),
        labels=config.agent.labels,
        prior=prior,
        trust={m: Trust(table.reliability, table.tau) for m, table in config.encoders.items()},
        smoothing=StickyFilter(prior, dwell_ns=fusion.dwell, trust=fusion.trust) if fusion.dwell else None,
        abstain_below=fusion.abstain_below,
        recalibration=Recalibration(fusion.temperatures),
    )


def _learned(config: Config, head: LearnedHead | None) -> Learned:
    """The trained rule; raises `ConfigError` where there is none for these modalities and labels."""
    others = f"take one of {', '.join(RULES)}"
    if head is None:
        raise ConfigError("[fusion]", [f"rule: {config.fusion.rule} needs a trained head, and there is none; {others}"])
    known = {"modalities": head.modalities, "labels": head.labels}
    wanted = {"modalities": tuple(map(str, ROWS)), "labels": config.agent.labels}
    if faults := [
        f"rule: the trained head knows the {what} {', '.join(known[what])}; here they are {', '.join(own)}; {others}"
        for what, own in wanted.items()
        if known[what] != own
    ]:
        raise ConfigError("[fusion]", faults)
    return Learned(head)


def selections(align: Align, spans_ns: Mapping[Modality, int]) -> dict[Modality, Selection]:
    """What each encoder sees of its part of a window, for the modalities of which it does not see all."""
    found: dict[Modality, Selection] = {}
    for modality, name in ((Modality.VISION, align.vision), (Modality.TEXT, align.text)):
        match name:
            case "first":
                found[modality] = first
            case "last":
                found[modality] = last
            case "nearest":
                found[modality] = nearest(spans_ns[modality])
            case "exact":
                found[modality] = exact
            case "approximate":
                found[modality] = approximate(align.max_interval)
            case "all":
                pass
            case _ as never:
                assert_never(never)
    return found


def build_pipeline(
    config: Config,
    *,
    sources: Sequence[Source],
    encoders: Mapping[Modality, Encoder],
    transcriber: Transcriber | None,
    clock: Clock,
    session: str,
    patience_ns: int | None = None,
    learned: LearnedHead | None = None,
) -> Pipeline:
    """The pipeline for samples of ``sources``, from the clock's now on; ``patience_ns`` as in `Pipeline`.

    On a virtual clock encoders take no time, so that no budget is ever spent there. ``learned`` and what is raised are
    as in `build_head`.
    """
    read = [source for source in sources if source.modality in encoders]
    spans_ns = {modality: table.span for modality, table in config.encoders.items()}
    window = SlidingWindow(
        [*read, *([speech_source(spans_ns[Modality.TEXT])] if transcriber else [])],
        spans_ns=spans_ns,
        hop_ns=config.agent.hop,
        lateness_ns=config.agent.lateness,
        start_ns=clock.now_ns(),
        bounds=Bounds(count=config.agent.max_samples, nbytes=config.agent.max_memory),
    )
    return Pipeline(
        window,
        encoders=encoders,
        transcriber=transcriber,
        head=build_head(config, learned),
        clock=clock,
        session=session,
        ignored=[source.name for source in sources if source not in read],
        patience_ns=patience_ns,
        selections=selections(config.align, spans_ns),
        budget=Budget(config.agent.budget, spans_ns) if config.agent.budget else None,
    )


class Agent:
    """A whole agent: sensors, pipeline, broker, publisher. `run` lasts until the sensors end or it is cancelled."""

    def __init__(
        self,
        config: Config,
        *,
        sensors: Sequence[Sensor],
        encoders: Mapping[Modality, Encoder],
        transcriber: Transcriber | None,
        clock: Clock,
        wall: WallClock,
        sinks: Sequence[Callable[[Decision], None]] = (),
        on_text: Callable[[bytes, int], None] | None = None,
        learned: LearnedHead | None = None,
    ) -> None:
        """``learned`` and what is raised are as in `build_head`."""
        self._config = config
        self._companions: list[Companion] = []
        self._sensors = sensors
        self._clock = clock
        self._wall = wall
        self.pipeline = build_pipeline(
            config,
            sources=[source for sensor in sensors for source in sensor.sources],
            encoders=encoders,
            transcriber=transcriber,
            clock=clock,
            session=new_session(),
            patience_ns=max(PATIENCE_NS, 4 * config.agent.hop),
            learned=learned,
        )
        self._publisher = Publisher(
            config.mqtt,
            node=config.agent.node,
            wall=wall,
            clock=clock,
            metrics=self.pipeline.metrics,
            on_text=on_text,
        )
        board = StandingBoard(self._publisher.modality)
        self._live = LiveAgent(
            self.pipeline,
            sensors=sensors,
            clock=clock,
            sinks=(self._publisher.decision, board.update, *sinks),
            observers=self._companions,
        )

    def attach(self, companion: Companion) -> None:
        """Let it look on and work beside the agent; to be called before `run`."""
        self._companions.append(companion)

    async def run(self) -> None:
        """Run; raises `agent.broker.BrokerError` when the embedded broker cannot start, and what a companion raises."""
        asyncio.get_running_loop().set_default_executor(DaemonExecutor())
        async with AsyncExitStack() as stack:
            stack.callback(self.pipeline.close)
            if self._publisher.address.embedded:
                await stack.enter_async_context(EmbeddedBroker(self._publisher.address.port))
            async with asyncio.TaskGroup() as work:
                helpers = [
                    work.create_task(self._publisher.run(), name="publish"),
                    work.create_task(self._follow_wall_clock(), name="wall clock"),
                    work.create_task(self._report(), name="metrics"),
                    *(work.create_task(companion.run(), name=companion.name) for companion in self._companions),
                ]
                await self._live.run()
                await self._publisher.flushed()
                for task in helpers:
                    task.cancel()

    def dropped(self) -> Counter[str]:
        """Samples left out since the start, by ``source.reason``: by the sensors and by the window."""
        drops = Counter({f"{source}.{reason}": n for (source, reason), n in self.pipeline.window.dropped.items()})
        for sensor in self._sensors:
            drops.update({f"{sensor.name}.{reason}": n for reason, n in sensor.drops.items()})
        return drops

    async def _follow_wall_clock(self) -> None:
        """Once a second; how late this comes is how late everything on the loop is."""
        while True:
            due_ns = self._clock.now_ns() + SECOND
            await self._clock.sleep_until(due_ns)
            self.pipeline.metrics.loop_lag_ns = max(self.pipeline.metrics.loop_lag_ns, self._clock.now_ns() - due_ns)
            before = self._wall.steps_back
            self._wall.read()
            if self._wall.steps_back != before:
                log.warning("the wall clock stepped back by more than a minute; published times follow it")

    async def _report(self) -> None:
        while True:
            await self._clock.sleep_until(self._clock.now_ns() + self._config.mqtt.metrics_every)
            self.pipeline.metrics.counts["wall_clock.steps_back"] = self._wall.steps_back
            self._publisher.metrics(self.pipeline.metrics.snapshot(self.dropped()))
            self.pipeline.metrics.loop_lag_ns = 0
