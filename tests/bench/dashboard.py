"""What the dashboard costs: processor time of the agent's process without it, with it, and with a page that looks on;
and resident memory over ten minutes with a page. The browser is a process of its own and does not count."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from agent.clock import SECOND, RealClock
from agent.types import AUDIO_RATE_HZ, Audio, Frame, Sample
from tests.browser import Shown, browsing, opened, serving, shown
from tests.mosquitto import free_port
from tests.outside import agent

ALONE_S = 30
SESSION_S = 38
"""Length of the demo's session, which it repeats."""
LONG_MIN = 10
TICK_HZ = os.sysconf("SC_CLK_TCK")


def main() -> None:
    asyncio.run(_alone())
    asyncio.run(_in_the_demo())


async def _alone() -> None:
    """The dashboard in this process, fed as by a camera, a microphone and two decisions a second."""
    async with serving() as at:
        feeding = asyncio.create_task(_feed(at))
        idle = await _own_share()
        async with browsing() as browser, opened(browser, at.url, width=1920) as found:
            await found.says("link-text", "Live")
            watched = await _own_share()
        feeding.cancel()
    print(f"alone, fed with 30 frames, 50 blocks of sound and 2 decisions a second, {ALONE_S} s each:")
    print(f"  without a page {idle:.1%} of a core, with a page {watched:.1%}")


async def _own_share() -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.sleep(ALONE_S)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / ALONE_S


async def _feed(at: Shown) -> None:
    """What a camera of 640 × 480 and a microphone deliver, and what is decided; the payloads are ready-made."""
    clock, random = RealClock(), np.random.default_rng(1)
    pictures = [
        np.kron(random.integers(0, 255, (48, 64, 3), np.uint8), np.ones((10, 10, 1), np.uint8)) for _ in range(8)
    ]
    block = random.normal(0, 0.1, AUDIO_RATE_HZ // 50).astype(np.float32)
    begin_ns = clock.now_ns()
    tick = 0
    while True:  # 150 a second: each fifth is a frame, each third a block
        tick += 1
        t_ns = begin_ns + tick * SECOND // 150
        await clock.sleep_until(t_ns)
        if tick % 5 == 0:
            at.dashboard.fed(Sample("camera", Frame(pictures[tick % 8]), t_ns, t_ns, t_ns))
        if tick % 3 == 0:
            at.dashboard.fed(Sample("microphone", Audio(block), t_ns - SECOND // 50, t_ns, t_ns))
        if tick % 75 == 0:
            at.dashboard.decided(shown(tick // 75, end_ns=t_ns))


async def _in_the_demo() -> None:
    print(f"the demo's process, {2 * SESSION_S} s each (two rounds of the session):")
    async with _demo("dashboard.enabled=false") as (pid, _):
        print(f"  without the dashboard: {await _share(pid, 2 * SESSION_S):.1%} of a core")
    async with _demo("dashboard.enabled=true") as (pid, url):
        print(f"  with it, without a page: {await _share(pid, 2 * SESSION_S):.1%}")
        async with browsing() as browser, opened(browser, url, width=1920) as found:
            await found.says("link-text", "Live")
            print(f"  with a page: {await _share(pid, 2 * SESSION_S):.1%}")
            rss = [_rss_mib(pid)]
            for _ in range(LONG_MIN):
                await asyncio.sleep(60)
                rss.append(_rss_mib(pid))
                heap = await found.page.evaluate("performance.memory.usedJSHeapSize / 2 ** 20")
                print(
                    f"    minute {len(rss) - 1}: {rss[-1]:.0f} MiB resident, {heap:.0f} MiB of scripts in the page",
                    flush=True,
                )
            print(f"  resident memory over {LONG_MIN} minutes with a page: {rss[0]:.0f} to {rss[-1]:.0f} MiB")
            print(f"  complaints of the browser: {len(found.complaints)}")


@asynccontextmanager
async def _demo(setting: str) -> AsyncIterator[tuple[int, str]]:
    """The demo from its first decision on: process and address of the page."""
    port = free_port()
    words = (
        "--set",
        f"mqtt.broker=embedded:{free_port()}",
        "--set",
        f"dashboard.listen=127.0.0.1:{port}",
        "--set",
        setting,
    )
    async with agent("demo", *words) as process:
        assert process.stdout
        async for line in process.stdout:
            if b"#0 " in line:
                break
        draining = asyncio.create_task(process.stdout.read())
        yield process.pid, f"http://127.0.0.1:{port}/"
        draining.cancel()


async def _share(pid: int, seconds: float) -> float:
    before = _cpu_s(pid)
    await asyncio.sleep(seconds)
    return (_cpu_s(pid) - before) / seconds


def _cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICK_HZ


def _rss_mib(pid: int) -> float:
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(row for row in rows if row.startswith("VmRSS")).split()[1]) / 1024
