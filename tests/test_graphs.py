"""What `tests.bench.preprocessing` measures is the same work: graphs of the spectrogram and of the cut-outs."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from engines.bindings import load_bindings
from engines.builder import build
from engines.detector import Face
from engines.face_networks import both_ways, colours
from engines.mel import log_mel
from engines.ort import OrtEngine
from engines.portrait import MARGIN, SIDE, WIDE_MARGIN, WIDE_SIDE, take, window
from engines.precision import prepare
from tests.bench import graphs
from tests.bench.preprocessing import AXES

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.parametrize("samples", [201, 16_000, 24_077])
def test_the_spectrogram_in_a_graph_is_that_of_numpy(samples: int) -> None:
    pcm = np.random.default_rng(0).standard_normal(samples, np.float32) / np.float32(10)
    found = OrtEngine(Path("mel"), content=graphs.mel().SerializeToString()).infer({"pcm": pcm[np.newaxis]})
    np.testing.assert_allclose(found["mel"][0], log_mel(pcm), atol=1e-5)


def test_in_16_bits_a_value_that_several_read_in_32_is_cast_once(tmp_path: Path) -> None:
    path = tmp_path / "mel.onnx"
    onnx.save(graphs.mel(), path)
    names = [name for node in onnx.load_from_string(prepare(path, "fp16").model).graph.node for name in node.output]
    assert len(names) == len(set(names))


def test_cut_outs_in_a_graph_are_those_of_opencv_but_for_its_rounding() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    bgr = np.asarray(cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC), np.uint8)
    points = np.array([[250, 180], [330, 200], [280, 230], [275, 270], [210, 190], [370, 215]], np.float32)
    face = Face(np.array([200, 140, 380, 320], np.float32), points, 0.9)
    (wide, at_first), (close, close_at_first) = window(face, WIDE_SIDE, WIDE_MARGIN), window(face, SIDE, MARGIN)
    model = graphs.frame(at_first // WIDE_SIDE, close_at_first // SIDE)
    feeds = {"wide_at": wide.T[np.newaxis], "close_at": close.T[np.newaxis]}
    feeds = {name: array.astype(np.float32) for name, array in feeds.items()}
    found = OrtEngine(Path("frame"), content=model.SerializeToString()).infer({"frame": bgr, **feeds})
    shown = take(bgr, face)
    np.testing.assert_allclose(found["picture"], both_ways(colours([shown.wide])), atol=4)
    grey = both_ways(shown.grey[np.newaxis, np.newaxis].astype(np.float32) / 127.5 - 1)
    np.testing.assert_allclose(found["close"], grey, atol=4 / 127.5)
    flavour, rtx = load_bindings()
    assert build(rtx, model.SerializeToString(), name="frame", axes=AXES["frame"], flavour=flavour)
