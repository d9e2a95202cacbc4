"""``python -m engines.training face|voice|language|fusion``: train a head and write it to ``engines/weights``.

``quality`` measures whether the encoders' qualities tell errors, and works out what is familiar to them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

PARTS = ("face", "voice", "language", "fusion", "quality")


def main(argv: Sequence[str]) -> int:
    """Hand over to ``engines.training.<part>.main``; 2 where no such part is named, 1 if interrupted."""
    if not argv or argv[0] not in PARTS:
        asked = (
            f"training: {argv[0]!r} is none of what is trained\n" if argv and argv[0] not in ("-h", "--help") else ""
        )
        print(f"{asked}usage: python -m engines.training {'|'.join(PARTS)} --data … [--help]", file=sys.stderr)
        return 0 if argv and not asked else 2
    # By name and only now: each needs scikit-learn and packages of its own.
    module = importlib.import_module(f"engines.training.{argv[0]}")
    try:
        return int(module.main(argv[1:]))
    except KeyboardInterrupt:
        print(f"\ntraining: {argv[0]} interrupted; the same command goes on from what it kept", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
