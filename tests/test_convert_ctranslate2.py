import math
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from agent.types import F64
from engines import Array, Engine
from engines.convert.ctranslate2 import FormatError, convert, read
from tests.data.make_reference_whisper import STEP, spectrogram
from tests.speech import engine, store
from tests.whisper_reference import reference

START, NO_TIMESTAMPS, NO_SPEECH, END = 50257, 50362, 50361, 50256
WIDTH, HEADS, MELS, VOCABULARY = 12, 2, 80, 30

Weights = dict[str, Array]
Infer = Callable[[Mapping[str, Array]], dict[str, Array]]


def test_the_encoder_is_ctranslate2s() -> None:
    states = engine("speech-encoder").infer({"mel": spectrogram()})["states"]
    np.testing.assert_allclose(states[0, ::16, ::5], reference()["states"], atol=1e-3)


def test_the_lower_layers_are_ctranslate2s() -> None:
    """CTranslate2 normalises what its last layer puts out; so does this, before it compares."""
    path = store().path("voice-encoder")
    model = onnx.load(path)
    pooled = next(node for node in model.graph.node if node.op_type == "ReduceMean")
    model.graph.output.append(onnx.helper.make_tensor_value_info(pooled.input[0], onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    embedding, states = session.run(["embedding", pooled.input[0]], {"mel": spectrogram()})
    norm = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(store().path("speech-encoder")).graph.initializer}
    x = states[0] - states[0].mean(axis=1, keepdims=True)
    x /= np.sqrt(np.square(x).mean(axis=1, keepdims=True) + 1e-5)
    x = x * norm["encoder/layer_norm/gamma"] + norm["encoder/layer_norm/beta"]
    np.testing.assert_allclose(x[::16, ::5], reference()["states_two"], atol=1e-3)
    np.testing.assert_allclose(embedding[0], np.concatenate([states[0].mean(0), states[0].std(0)]), atol=1e-4)


def test_the_decoder_is_ctranslate2s_but_for_its_int8() -> None:
    logits = teacher_forced(engine("speech-decoder"), "speech-encoder", [START, NO_TIMESTAMPS, *reference()["tokens"]])
    assert softmax(logits[0])[NO_SPEECH] == pytest.approx(float(reference()["no_speech"]), abs=0.05)
    for ours, theirs, token in zip(logits[1:-1], reference()["logits"], reference()["tokens"], strict=True):
        np.testing.assert_allclose(ours[::STEP], theirs, atol=1.5)
        ours[END] = -np.inf
        assert ours.argmax() == token


def teacher_forced(decoder: Engine, encoder: str, tokens: Sequence[int]) -> list[Array]:
    """The logits after each of `tokens`, one token at a time."""
    encoded = engine(encoder).infer({"mel": spectrogram()})
    cross = {name: encoded[name] for name in ("cross_keys", "cross_values")}
    return walk(decoder.infer, cross, tokens)


def walk(infer: Infer, cross: Mapping[str, Array], tokens: Sequence[int]) -> list[Array]:
    layers, heads, _, width = cross["cross_keys"].shape
    keys = values = np.zeros((layers, heads, 0, width), np.float32)
    logits = []
    for token in tokens:
        result = infer({"token": np.array([token]), "keys": keys, "values": values, **cross})
        keys, values = result["new_keys"], result["new_values"]
        logits.append(result["logits"])
    return logits


# A Whisper of our own, small enough to be worked out with plain NumPy.

LAYERS = 3


@pytest.fixture(scope="module")
def weights() -> Weights:
    rng = np.random.default_rng(5)

    def matrix(*shape: int) -> npt.NDArray[np.float16]:
        return np.asarray(rng.normal(size=shape) / np.sqrt(shape[-1]), np.float16)

    def linear(scope: str, n_out: int, n_in: int) -> Weights:
        return {f"{scope}/weight": matrix(n_out, n_in), f"{scope}/bias": matrix(n_out)}

    def norm(scope: str) -> Weights:
        return {f"{scope}/gamma": 1 + matrix(WIDTH), f"{scope}/beta": matrix(WIDTH)}

    def attention(scope: str, *sizes: int) -> Weights:
        made = norm(f"{scope}/layer_norm")
        for i, size in enumerate(sizes):
            made |= linear(f"{scope}/linear_{i}", size * WIDTH, WIDTH)
        return made

    def ffn(scope: str) -> Weights:
        scope = f"{scope}/ffn"
        widen, narrow = linear(f"{scope}/linear_0", 4 * WIDTH, WIDTH), linear(f"{scope}/linear_1", WIDTH, 4 * WIDTH)
        return norm(f"{scope}/layer_norm") | widen | narrow

    made = {"encoder/num_heads": np.array(HEADS, np.int16), "decoder/embeddings/weight": matrix(VOCABULARY, WIDTH)}
    made |= {"encoder/conv1/weight": matrix(WIDTH, MELS, 3), "encoder/conv1/bias": matrix(WIDTH)}
    made |= {"encoder/conv2/weight": matrix(WIDTH, WIDTH, 3), "encoder/conv2/bias": matrix(WIDTH)}
    for side, length in (("encoder", 50), ("decoder", 20)):
        made |= {f"{side}/position_encodings/encodings": matrix(length, WIDTH)} | norm(f"{side}/layer_norm")
        for i in range(LAYERS):
            scope = f"{side}/layer_{i}"
            made |= attention(f"{scope}/self_attention", 3, 1) | ffn(scope)
            if side == "decoder":
                made |= attention(f"{scope}/attention", 1, 2, 1)
    return made


def write(
    path: Path,
    variables: Weights,
    *,
    spec: str = "WhisperSpec",
    version: int = 6,
    aliases: Sequence[tuple[str, str]] = (),
) -> Path:
    def text(name: str) -> bytes:
        return struct.pack("<H", len(name) + 1) + name.encode() + b"\0"

    parts = [struct.pack("<I", version), text(spec), struct.pack("<II", 3, len(variables))]
    for name, array in variables.items():
        kind = [np.float32, np.int8, np.int16, np.int32, np.float16].index(array.dtype.type)
        shape = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        parts += [text(name), shape, struct.pack("<BI", kind, array.nbytes), array.tobytes()]
    parts += [struct.pack("<I", len(aliases)), *(text(name) for pair in aliases for name in pair)]
    path.write_bytes(b"".join(parts))
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, weights: Weights) -> Path:
    aliases = [("decoder/projection/weight", "decoder/embeddings/weight")]
    return write(tmp_path_factory.mktemp("tiny") / "model.bin", weights, aliases=aliases)


def run(source: Path, folder: Path, **options: object) -> Infer:
    """The graph that `options` ask for, as a function of its feeds."""
    convert([source], folder / "model.onnx", options=options)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, feeds), strict=True))


def softmax(x: Array) -> Array:
    e: Array = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


class Plain:
    """The decoder over all tokens at once, with a causal mask, in float64."""

    def __init__(self, weights: Weights) -> None:
        self.weights = {name: array.astype(np.float64) for name, array in weights.items()}

    def linear(self, x: F64, scope: str) -> F64:
        return x @ self.weights[f"{scope}/weight"].T + self.weights[f"{scope}/bias"]

    def norm(self, x: F64, scope: str) -> F64:
        x = x - x.mean(axis=1, keepdims=True)
        x = x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + 1e-5)
        return x * self.weights[f"{scope}/gamma"] + self.weights[f"{scope}/beta"]

    def attend(self, q: F64, k: F64, v: F64, *, causal: bool) -> F64:
        heads = []
        for q, k, v in zip(*(np.split(x, HEADS, axis=1) for x in (q, k, v)), strict=True):  # noqa: B020
            scores = q @ k.T / np.sqrt(q.shape[1])
            heads.append(softmax(np.where(np.tri(len(q)), scores, -np.inf) if causal else scores) @ v)
        return np.concatenate(heads, axis=1)

    def gelu(self, x: F64) -> F64:
        return np.asarray(x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))

    def __call__(self, tokens: Sequence[int], states: F64) -> F64:
        embeddings = self.weights["decoder/embeddings/weight"]
        x = embeddings[tokens] + self.weights["decoder/position_encodings/encodings"][: len(tokens)]
        for i in range(LAYERS):
            scope = f"decoder/layer_{i}"
            normed = self.norm(x, f"{scope}/self_attention/layer_norm")
            qkv = np.split(self.linear(normed, f"{scope}/self_attention/linear_0"), 3, axis=1)
            x = x + self.linear(self.attend(*qkv, causal=True), f"{scope}/self_attention/linear_1")
            q = self.linear(self.norm(x, f"{scope}/attention/layer_norm"), f"{scope}/attention/linear_0")
            kv = np.split(self.linear(states, f"{scope}/attention/linear_1"), 2, axis=1)
            x = x + self.linear(self.attend(q, *kv, causal=False), f"{scope}/attention/linear_2")
            inner = self.gelu(self.linear(self.norm(x, f"{scope}/ffn/layer_norm"), f"{scope}/ffn/linear_0"))
            x = x + self.linear(inner, f"{scope}/ffn/linear_1")
        return self.norm(x, "decoder/layer_norm") @ embeddings.T


@pytest.mark.parametrize(("form", "tolerance"), [("float32", 1e-4), ("int8", 0.3)])
def test_a_remembered_past_is_as_good_as_the_whole(
    tmp_path: Path, tiny: Path, weights: Weights, form: str, tolerance: float
) -> None:
    mel = np.random.default_rng(6).normal(size=(1, MELS, 31)).astype(np.float32)
    encoded = run(tiny, tmp_path, graph="encoder")({"mel": mel})
    cross = {name: encoded[name] for name in ("cross_keys", "cross_values")}
    tokens = [3, 29, 0, 11, 11, 7]
    logits = walk(run(tiny, tmp_path, graph="decoder", weights=form), cross, tokens)
    expected = Plain(weights)(tokens, encoded["states"][0].astype(np.float64))
    np.testing.assert_allclose(logits, expected, atol=tolerance)


def test_embeddings_of_a_batch_and_of_any_length(tmp_path: Path, tiny: Path) -> None:
    embed = run(tiny, tmp_path, graph="embedding", layers=1)
    mel = np.random.default_rng(7).normal(size=(3, MELS, 40)).astype(np.float32)
    together = embed({"mel": mel})["embedding"]
    assert together.shape == (3, 2 * WIDTH)
    np.testing.assert_allclose(together[1], embed({"mel": mel[1:2]})["embedding"][0], atol=1e-5)
    assert not np.allclose(together[1], embed({"mel": mel[1:2, :, :20]})["embedding"][0], atol=1e-2)


@pytest.mark.parametrize("form", ["float32", "int8"])
@pytest.mark.parametrize("graph", ["embedding", "encoder", "decoder"])
def test_the_same_bytes_each_time(tmp_path: Path, tiny: Path, graph: str, form: str) -> None:
    for name in ("a", "b"):
        convert([tiny], tmp_path / name, options={"graph": graph, "weights": form})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    model = onnx.load(tmp_path / "a")
    assert [opset.version for opset in model.opset_import] == [17]
    assert not any(attribute.name == "auto_pad" for node in model.graph.node for attribute in node.attribute)


def test_words_are_embedded_and_chosen_by_one_matrix(tmp_path: Path, tiny: Path) -> None:
    convert([tiny], tmp_path / "decoder.onnx", options={"graph": "decoder"})
    graph = onnx.load(tmp_path / "decoder.onnx").graph
    assert sum(VOCABULARY in initializer.dims for initializer in graph.initializer) == 1


def test_aliases_name_the_same_array(tiny: Path) -> None:
    variables = read(tiny).variables
    assert variables["decoder/projection/weight"] is variables["decoder/embeddings/weight"]
    assert variables["encoder/conv1/weight"].dtype == np.float32


def test_files_that_cannot_be_read(tmp_path: Path, tiny: Path, weights: Weights) -> None:
    broken = tmp_path / "broken.bin"
    broken.write_bytes(tiny.read_bytes()[:-400])
    with pytest.raises(FormatError, match="broken off or not a CTranslate2 model"):
        read(broken)
    broken.write_bytes(tiny.read_bytes() + b"more")
    with pytest.raises(FormatError, match="4 bytes follow the last alias"):
        read(broken)
    with pytest.raises(FormatError, match="container version 5, can read 6"):
        read(write(tmp_path / "old.bin", weights, version=5))
    with pytest.raises(FormatError, match="holds a TransformerSpec; only WhisperSpec"):
        convert([write(tmp_path / "other.bin", weights, spec="TransformerSpec")], broken, options={"graph": "encoder"})


@pytest.mark.parametrize("options", [{"graph": "head"}, {"graph": "encoder", "weights": "int4"}, {"grahp": "encoder"}])
def test_options_that_are_not_known(tmp_path: Path, tiny: Path, options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"not known|is not a valid"):
        convert([tiny], tmp_path / "model.onnx", options=options)
