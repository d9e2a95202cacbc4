"""What a process holds, as the kernel tells it, and how that grows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MIB = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """One look at a process."""

    at_s: float
    """Since the start, on the clock of the soak."""
    rss_mib: float
    """Resident memory, of files that are mapped too."""
    threads: int
    files: int
    """Descriptors."""

    @classmethod
    def of(cls, pid: int, at_s: float) -> Usage:
        """Of a living process; raises `FileNotFoundError` or `ProcessLookupError` where it has ended."""
        place = Path(f"/proc/{pid}")
        resident = int((place / "statm").read_text().split()[1]) * PAGE
        threads, files = (sum(1 for _ in (place / kind).iterdir()) for kind in ("task", "fd"))
        return cls(at_s, resident / MIB, threads, files)


@dataclass(frozen=True, slots=True)
class Trend:
    """How the resident memory grew, by least squares over time."""

    mib_per_h: float
    error: float
    """Standard error of that, as if one look did not depend on the one before it; it does, so this is the least."""

    @classmethod
    def of(cls, looks: Sequence[Usage]) -> Trend:
        """Of at least three looks."""
        hours = np.array([look.at_s / 3600 for look in looks])
        mib = np.array([look.rss_mib for look in looks])
        away = hours - hours.mean()
        slope = float(away @ mib / (away @ away))
        rest = mib - mib.mean() - slope * away
        return cls(slope, float(np.sqrt(rest @ rest / (len(looks) - 2) / (away @ away))))


def after(looks: Sequence[Usage], warm_s: float) -> list[Usage]:
    """Those after the first ``warm_s``, in which caches fill."""
    return [look for look in looks if look.at_s >= warm_s]


def floors(looks: Sequence[Usage], within_s: float = 60.0) -> list[Usage]:
    """Of each minute the look at the least memory: what comes and goes with the work is no growth."""
    least: dict[int, Usage] = {}
    for look in looks:
        minute = int(look.at_s // within_s)
        least[minute] = min(least.get(minute, look), look, key=lambda seen: seen.rss_mib)
    return list(least.values())


def report(title: str, looks: Sequence[Usage], warm_s: float) -> str:
    """What there is to say of a soak, in lines for people."""
    steady = after(looks, warm_s)
    trend, floor, first, last = Trend.of(steady), Trend.of(floors(steady)), steady[0], steady[-1]
    rss = [look.rss_mib for look in steady]
    spans = (
        f"{what} {min(held)} to {max(held)} (first {held[0]}, last {held[-1]})"
        for what, held in (
            ("threads", [look.threads for look in steady]),
            ("descriptors", [look.files for look in steady]),
        )
    )
    return (
        f"{title}: {last.at_s / 3600:.2f} h, of which the first {warm_s / 60:g} min are left out\n"
        f"  resident memory {first.rss_mib:.1f} MiB, then {last.rss_mib:.1f} MiB; {min(rss):.1f} to {max(rss):.1f} MiB;"
        f" slope {trend.mib_per_h:+.3f} MiB/h (standard error {trend.error:.3f}, {len(steady)} looks),"
        f" of the least of each minute {floor.mib_per_h:+.3f} (error {floor.error:.3f})\n"
        f"  {'; '.join(spans)}"
    )
