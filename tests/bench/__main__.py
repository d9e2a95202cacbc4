"""Prints the figures that the README quotes."""

import os
import platform
import sys

from tests.bench import align, encoders, lipsync, pipeline, process, window

BENCHES = {
    "window": window.main,
    "align": align.main,
    "pipeline": pipeline.main,
    "process": process.main,
    "encoders": encoders.main,
    "lipsync": lipsync.main,
}


def main() -> None:
    names = sys.argv[1:] or list(BENCHES)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    for name in names:
        print(f"\n== {name}")
        BENCHES[name]()


if __name__ == "__main__":
    main()
