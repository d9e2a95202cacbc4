"""What other programs computed; see tests/data/make_reference_whisper.py."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@cache
def reference() -> dict[str, npt.NDArray[Any]]:
    with np.load(Path(__file__).parent / "data" / "whisper_reference.npz") as arrays:
        return dict(arrays)
