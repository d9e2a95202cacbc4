"""Spectrogram and cut-outs inside the graph against NumPy and OpenCV: ``python -m tests.bench preprocessing``.

The bundled session's utterances and faces go through the networks as they are fed now, and through those of
`tests.bench.graphs`. Timed is the way from raw samples or pixels to the networks' outputs; the ways take turns, so that
whatever else the machine does meets all alike. Where there is a GPU with TensorRT, they are timed there, too, in 32
bits.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import TypeVar

import numpy as np
import onnx

from agent.config import Config
from agent.types import AUDIO_RATE_HZ, F32, U8, Audio, Frame, Modality, Sample, Utterance
from engines import Array, Engine, EngineError
from engines.bindings import load_bindings
from engines.builder import build
from engines.detector import Face
from engines.encoders import open_encoders
from engines.face import open_finder
from engines.face_networks import Networks, mirrored_mean, views
from engines.head import Head
from engines.mel import log_mel
from engines.models import ModelStore
from engines.ort import OrtEngine
from engines.placement import Deployment
from engines.plans import Axes
from engines.platforms import Platform, find_platform
from engines.portrait import MARGIN, SIDE, WIDE_MARGIN, WIDE_SIDE, Portrait, choose, take, window
from engines.precision import prepare
from engines.speaker import SpeakerHead
from engines.voice import features
from sensors.session import Session
from tests.bench import graphs

ROOT = Path(__file__).parent.parent.parent
ROUNDS = 100
SECONDS = (1, 3)
AXES: Mapping[str, Axes] = {
    "voice": {"batch": (1, 1, 1), "samples": (1_600, 48_000, 176_000)},
    "cut-outs": {"faces": (1, 4, 16)},
    "frame": {"height": (120, 480, 1080), "width": (160, 640, 1920), "faces": (1, 1, 4)},
}
Opener = Callable[[Path], Engine]
T = TypeVar("T")


@dataclass(frozen=True)
class Seen:
    """A frame with a face in it."""

    bgr: U8
    face: Face
    times: tuple[int, int]
    """How many times larger the wide and the close cut-out are cut out."""

    def portrait(self) -> Portrait:
        return take(self.bgr, self.face)

    def matrices(self) -> dict[str, F32]:
        """Where both cut-outs lie, as `tests.bench.graphs.frame` takes it."""
        ways = {"wide_at": (WIDE_SIDE, WIDE_MARGIN), "close_at": (SIDE, MARGIN)}
        return {name: window(self.face, *way)[0].T[np.newaxis].astype(np.float32) for name, way in ways.items()}


def main() -> None:
    store = ModelStore()
    events = [e for e in Session.open(ROOT / "sensors" / "demo").events() if isinstance(e, Sample)]
    said, seen = utterances(events, store), faces(events, store)
    times, n = Counter(each.times for each in seen).most_common(1)[0]
    seen = [each for each in seen if each.times == times]
    print(f"{len(said)} utterances; {n} faces, cut out {times[0]} and {times[1]} times larger and averaged down")
    with TemporaryDirectory() as scratch:
        paths = saved(store, times, Path(scratch))
        compiled(paths)
        alike_heard(paths["voice"], store, said)
        for name in ("cut-outs", "frame"):
            alike_seen(name, paths[name], store, seen)
        ways: dict[str, Opener] = {f"CPU, threads {n}": partial(on_cpu, n) for n in (1, 2)}
        try:
            platform = find_platform()
            ways[str(platform)] = partial(planned, platform, Path(scratch))
        except EngineError as error:
            print(f"not on a GPU: {error}")
        for where, opened in ways.items():
            hearing(where, opened, paths, store, said)
            seeing(where, opened, paths, store, seen)


def utterances(events: Sequence[Sample], store: ModelStore) -> list[F32]:
    """What the voice encoder hears as such."""
    blocks = [event for event in events if isinstance(event.payload, Audio)]
    encoders, _ = open_encoders(Config(), store, {Modality.AUDIO})
    found: list[Utterance] = []
    for end_ns in range(500_000_000, blocks[-1].end_ns, 500_000_000):
        part = [block for block in blocks if end_ns - 3_000_000_000 < block.end_ns <= end_ns]
        found += encoders[Modality.AUDIO].encode(part, end_ns).utterances if part else ()
    return [each.pcm for each in found if len(each.pcm) >= max(SECONDS) * AUDIO_RATE_HZ]


def faces(events: Sequence[Sample], store: ModelStore) -> list[Seen]:
    """The face that the encoder would choose, of every fifth frame that shows one."""
    frames = [event.payload.bgr for event in events if isinstance(event.payload, Frame)][::5]
    found = []
    for bgr, each in zip(frames, open_finder(store, backend="onnxruntime").detect(frames), strict=True):
        if face := choose(each, bgr):
            times = (window(face, WIDE_SIDE, WIDE_MARGIN)[1] // WIDE_SIDE, window(face, SIDE, MARGIN)[1] // SIDE)
            found.append(Seen(bgr, face, times))
    return found


def saved(store: ModelStore, times: tuple[int, int], folder: Path) -> dict[str, Path]:
    names = {"close": "face-encoder", "wide": "face-embedding", "general": "face-general"}
    networks = {place: onnx.load(store.path(name)) for place, name in names.items()}
    models = {
        "voice": graphs.voice(onnx.load(store.path("voice-encoder"))),
        "cut-outs": graphs.faces(graphs.cut_outs(), networks),
        "frame": graphs.faces(graphs.frame(*times), networks),
    }
    paths = {name: folder / f"{name}.onnx" for name in models}
    for name, model in models.items():
        onnx.save(model, paths[name])
    return paths


def compiled(paths: Mapping[str, Path]) -> None:
    """Whether TensorRT's parser and builder take them, where a builder that needs no GPU is installed."""
    flavour, bindings = load_bindings()
    if flavour == "tensorrt":
        return  # it is never made without a device; with one, the plans are built below
    for name, path in paths.items():
        begin = time.perf_counter()
        size = len(build(bindings, path.read_bytes(), name=name, axes=AXES[name], flavour=flavour))
        took = time.perf_counter() - begin
        print(f"{name}: {flavour} {bindings.__version__} compiles it, {size / 1e6:.1f} MB in {took:.1f} s")


def alike_heard(path: Path, store: ModelStore, said: Sequence[F32]) -> None:
    """How far the posteriors of a voice are from what they are now."""
    head, now = SpeakerHead.load(store.path("voice-head")), OrtEngine(store.path("voice-encoder"))
    narrow = prepare(path, "fp16").model
    for name, engine in (("voice", OrtEngine(path)), ("voice in 16 bits", OrtEngine(path, content=narrow))):
        pairs = []
        for pcm in said:
            within = engine.infer({"pcm": pcm[np.newaxis]})["net.embedding"][0]
            both = features(pcm, now), np.concatenate([within, features(pcm, None)])
            pairs.append([head.posterior(head.place(x[np.newaxis])[0], head.stranger()) for x in both])
        compare(name, pairs)


def alike_seen(name: str, path: Path, store: ModelStore, seen: Sequence[Seen]) -> None:
    """How far the posteriors of a face are from what they are now."""
    head, networks, engine = (
        Head.load(store.path("face-head")),
        Networks.open(store, backend="onnxruntime"),
        OrtEngine(path),
    )
    pairs = []
    for each in seen:
        was = np.concatenate(views([each.portrait()], networks), axis=1)
        pairs.append([head.posterior(x)[0] for x in (was, described(engine.infer(fed(name, each))))])
    compare(name, pairs)


def described(found: Mapping[str, Array]) -> F32:
    """What the head reads, of the outputs of the face networks behind `graphs.cut_outs` or `graphs.frame`."""
    logits = np.log(np.maximum(found["close.probs"], 1e-9))
    logits -= logits.mean(axis=1, keepdims=True)
    close = mirrored_mean(np.concatenate([found["close.features"], logits], axis=1))
    return np.concatenate([mirrored_mean(found["wide.embedding"]), found["general.features"], close], axis=1)


def compare(name: str, pairs: Sequence[Sequence[Array]]) -> None:
    apart = [float(np.abs(was - found).max()) for was, found in pairs]
    same = np.mean([was.argmax() == found.argmax() for was, found in pairs])
    print(f"{name}: of {len(pairs)} the same label {same:.3f}, probabilities apart by at most {max(apart):.6f}")


def fed(name: str, seen: Seen) -> dict[str, Array]:
    if name == "frame":
        return {"frame": seen.bgr, **seen.matrices()}
    portrait = seen.portrait()
    return {"wide": portrait.wide[np.newaxis], "grey": portrait.grey[np.newaxis]}


def on_cpu(threads: int, path: Path) -> Engine:
    return OrtEngine(path, threads=threads)


def planned(platform: Platform, folder: Path, path: Path) -> Engine:
    """On TensorRT, with a plan that is built for it."""
    axes = AXES.get(path.stem) if path.parent == folder else None
    deployment = Deployment.of(path, platform, precision="fp32", plans=folder / "plans", axes=axes)
    return deployment.open_or_build(stop=Event(), say=lambda step: None)


def hearing(where: str, opened: Opener, paths: Mapping[str, Path], store: ModelStore, said: Sequence[F32]) -> None:
    within, now = opened(paths["voice"]), opened(store.path("voice-encoder"))
    ways: dict[str, Callable[[F32], object]] = {
        "NumPy, then the network": lambda pcm: now.infer({"mel": log_mel(pcm)[np.newaxis]}),
        "in the graph": lambda pcm: within.infer({"pcm": pcm[np.newaxis]}),
        "NumPy alone": log_mel,
    }
    for seconds in SECONDS:
        report(f"{where}; {seconds} s of speech", ways, [pcm[: seconds * AUDIO_RATE_HZ] for pcm in said])
    for engine in (within, now):
        engine.close()


def seeing(where: str, opened: Opener, paths: Mapping[str, Path], store: ModelStore, seen: Sequence[Seen]) -> None:
    cut_outs, frame = opened(paths["cut-outs"]), opened(paths["frame"])
    names = ("face-encoder", "face-embedding", "face-general")
    networks = Networks(*(opened(store.path(name)) for name in names))
    ways: dict[str, Callable[[Seen], object]] = {
        "OpenCV, then the networks": lambda each: views([each.portrait()], networks),
        "cut-outs as bytes": lambda each: described(cut_outs.infer(fed("cut-outs", each))),
        "in the graph": lambda each: described(frame.infer(fed("frame", each))),
        "OpenCV alone": lambda each: each.portrait(),
    }
    report(f"{where}; one face", ways, seen)
    for engine in (cut_outs, frame):
        engine.close()
    networks.close_all()


def report(what: str, ways: Mapping[str, Callable[[T], object]], items: Sequence[T]) -> None:
    """Print of each way the least and the median time, and the median ratio to the first, which is how it is done now.

    The least is what a quiet machine takes; the ratios are of calls that follow one another.
    """
    took: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(ROUNDS + 5):
        for name, work in ways.items():
            begin = time.perf_counter_ns()
            work(items[i % len(items)])
            if i >= 5:
                took[name].append((time.perf_counter_ns() - begin) / 1e6)
    first = next(iter(took.values()))
    for name, each in took.items():
        ratio = statistics.median(one / other for one, other in zip(each, first, strict=True))
        print(
            f"{what}: {name:26} least {min(each):6.2f} ms, median {statistics.median(each):6.2f} ms, {ratio:5.2f} times"
        )
