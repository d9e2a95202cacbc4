"""How fast sessions are replayed with all encoders: the bundled one at two camera rates.

Real time is what counts for who waits; processor time says what is left of two cores on a machine that does something
else meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from agent.config import Config, load
from agent.fusion import LearnedHead
from agent.replay import replayed
from agent.seams import Encoder, Transcriber
from agent.types import Modality, Source
from sensors.session import Session
from tests.outside import ROOT

RUNS = 3


class Opened:
    """Encoders that were opened before: as `agent.verbs.Parts`, as far as a replay asks."""

    def encoders(self, config: Config, sources: Iterable[Source]) -> tuple[dict[Modality, Encoder], Transcriber | None]:
        from engines.encoders import open_encoders
        from engines.models import ModelStore

        opened = open_encoders(config, ModelStore.configured(config.models), {source.modality for source in sources})
        self.begin_s, self.used_s = time.perf_counter(), time.process_time()
        return opened

    def fusion(self, config: Config) -> LearnedHead | None:
        return None


def measured(session: Session, rate_hz: int) -> tuple[float, float]:
    """How many times as fast as real time, and processor time a second of the session, in s; without opening."""
    parts = Opened()

    async def play() -> int:
        config = load(ROOT / "config.toml", [f"encoders.vision.rate={rate_hz} Hz"])
        return len([played async for played in replayed(session, config, parts=parts)])  # type: ignore[arg-type]

    assert asyncio.run(play())
    seconds = session.duration_ns / 1e9
    return seconds / (time.perf_counter() - parts.begin_s), (time.process_time() - parts.used_s) / seconds


def main() -> None:
    session = Session.open(ROOT / "sensors" / "demo")
    for rate_hz in (5, 15):
        runs = [measured(session, rate_hz) for _ in range(RUNS)]
        speed, used = max(speed for speed, _ in runs), min(used for _, used in runs)
        print(
            f"camera at {rate_hz} Hz: {speed:.1f}× real time, {1000 * used:.0f} ms of processor time a second"
            f" (best of {RUNS})"
        )
