"""Prints the figures that the README and docs/performance.md quote.

``python -m tests.bench [NAME…]``; without a name all but those that take minutes.
"""

import os
import platform
import sys

from tests.bench import (
    align,
    budget,
    clocks,
    cluster,
    dashboard,
    encoders,
    engines,
    events,
    fleet,
    lipsync,
    pipeline,
    preprocessing,
    process,
    remote,
    replay,
    vitals,
    window,
)

BENCHES = {
    "window": window.main,
    "align": align.main,
    "pipeline": pipeline.main,
    "preprocessing": preprocessing.main,
    "process": process.main,
    "encoders": encoders.main,
    "engines": engines.main,
    "events": events.main,
    "budget": budget.main,
    "clocks": clocks.main,
    "dashboard": dashboard.main,
    "cluster": cluster.main,
    "fleet": fleet.main,
    "lipsync": lipsync.main,
    "remote": remote.main,
    "vitals": vitals.main,
    "replay": replay.main,
}
LONG = {"cluster", "dashboard", "fleet", "lipsync", "remote", "vitals"}


def main() -> None:
    names = sys.argv[1:] or [name for name in BENCHES if name not in LONG]
    if unknown := set(names) - set(BENCHES):
        sys.exit(f"no bench is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    for name in names:
        print(f"\n== {name}")
        BENCHES[name]()


if __name__ == "__main__":
    main()
