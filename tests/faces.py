"""Pictures of a face, and the models that look at them."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np

from agent.types import U8, Frame, Sample
from engines import open_engine
from engines.models import ModelStore
from tests.speech import Counting

PORTRAIT = Path(__file__).parent.parent / "sensors" / "demo" / "portrait.png"
EYES = np.array([[204, 101], [246, 104]])
"""Image-left and image-right eye of the portrait, by hand; good to two pixels."""
SECOND = 1_000_000_000


@cache
def store() -> ModelStore:
    """The lock file's models; those for faces are brought if they are not there yet."""
    models = ModelStore()
    models.fetch([name for name in models.models if name.startswith("face-")])
    return models


@cache
def reference() -> dict[str, np.ndarray]:
    """What the packages' own programs compute; see make_reference_face.py."""
    with np.load(Path(__file__).parent / "data" / "face_reference.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def engine(name: str) -> Counting:
    """The model of that name in the lock file."""
    return Counting(open_engine(store().path(name), "onnxruntime"))


def portrait() -> U8:
    """(512, 512, 3) BGR: one smiling face, 105 pixels wide, eyes level."""
    picture = cv2.imread(str(PORTRAIT))
    assert picture is not None
    return np.asarray(picture, np.uint8)


def scene(*, face_px: int, width: int = 640, height: int = 480) -> U8:
    """The portrait at such a size that its face is about that wide, the face in the middle, on grey."""
    scale = face_px / 105
    small = cv2.resize(portrait(), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    x, y = (np.array([width, height]) / 2 - EYES.mean(axis=0) * scale).round()
    frame = cv2.warpAffine(small, np.array([[1, 0, x], [0, 1, y]]), (width, height), borderValue=(90, 90, 90))
    return np.asarray(frame, np.uint8)


def shot(picture: np.ndarray, *, at_s: float = 0, source: str = "camera") -> Sample:
    """A frame as a camera delivers it."""
    t_ns = round(at_s * SECOND)
    return Sample(source, Frame(picture), t_ns, t_ns, t_ns)
