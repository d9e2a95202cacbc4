"""The encoders that the config asks for, and the trained head that fuses them."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import assert_never

from agent.config import Config
from agent.config.encoders import Encoder as EncoderTable
from agent.deciding.head import read_embedded, read_learned
from agent.fusion import EMBEDDED, Learned, TrainedHead
from agent.seams import Encoder, Transcriber
from agent.types import Modality
from engines import Engine, Placement
from engines.models import LicenceError, ModelError, ModelStore

log = logging.getLogger(__name__)


def open_encoders(
    config: Config,
    store: ModelStore,
    modalities: Collection[Modality] = tuple(Modality),
    *,
    live: bool = False,
    opener: Callable[[Path, int], Engine] | None = None,
) -> tuple[dict[Modality, Encoder], Transcriber | None]:
    """Open the encoders of ``modalities`` that are enabled, and the transcriber when spoken words are to become text.

    They open side by side: most of it is ONNX Runtime's work, which leaves Python's lock alone. ``live`` encoders may
    change to TensorRT while they run; `opener` opens every model in place of the config's back ends (both as in
    `engines.Placement`). Raises `engines.models.ModelError` where a model is not there or not allowed, and
    `engines.EngineError` where one cannot be opened. Where the voice's trained weights are not allowed, the next best
    reads it, which is logged.
    """
    enabled = {modality for modality, table in config.encoders.items() if table.enabled}
    speaks = config.agent.transcribe and Modality.AUDIO in modalities and {Modality.AUDIO, Modality.TEXT} <= enabled
    wanted = enabled & ({*modalities, Modality.TEXT} if speaks else set(modalities))
    places = {m: _placement(t, store, live=live, opener=opener) for m, t in config.encoders.items()}
    jobs = {modality: _job(modality, config, store, places[modality]) for modality in Modality if modality in wanted}
    with ThreadPoolExecutor(thread_name_prefix="open") as threads:
        transcriber = threads.submit(_open_transcriber, store, places[Modality.AUDIO]) if speaks else None
        encoders = {modality: threads.submit(job) for modality, job in jobs.items()}
        opened = {m: encoder.result() for m, encoder in encoders.items()}, transcriber.result() if transcriber else None
    _give_back()
    return opened


def open_fusion(config: Config, store: ModelStore) -> TrainedHead | None:
    """The trained head of fusion where the config asks for it.

    Raises `engines.models.ModelError` where it is not there, not what the lock file says, or not allowed.
    """
    rule = config.fusion.rule
    try:
        if rule in EMBEDDED:
            return read_embedded(store.path(f"fusion-{rule}"))
        return read_learned(store.path("fusion-head")) if rule == Learned.name else None
    except ModelError as error:
        raise type(error)(f'[fusion] rule = "{rule}": {error}') from error
    except ValueError as error:
        raise ModelError(f'[fusion] rule = "{rule}": {error}') from error


def _give_back() -> None:
    """Return to the system what opening has freed: some 150 MB, which glibc would keep for the life of the process."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc alone has it
        libc.malloc_trim(0)


def _placement(
    table: EncoderTable, store: ModelStore, *, live: bool, opener: Callable[[Path, int], Engine] | None
) -> Placement:
    return Placement(table.backend, table.precision, store.cache / "plans", live=live, opener=opener)


def _job(modality: Modality, config: Config, store: ModelStore, placement: Placement) -> Callable[[], Encoder]:
    """What opens the encoder of a modality."""
    labels = config.agent.labels

    def vision() -> Encoder:
        from engines.face import FaceEncoder

        table = config.encoders.vision
        return FaceEncoder.open(store, labels=labels, mapping=table.labels, backend=placement, rate_hz=table.rate)

    def audio() -> Encoder:
        from engines.voice import VoiceEncoder

        table = config.encoders.audio
        try:
            return VoiceEncoder.open(store, labels=labels, mapping=table.labels, backend=placement)
        except LicenceError as refused:
            log.warning("%s; of the voice only arousal is read, from its pitch and tilt", refused)
            return VoiceEncoder.open_untrained(store, labels=labels, mapping=table.labels)

    def text() -> Encoder:
        from engines.language import LanguageEncoder

        table = config.encoders.text
        return LanguageEncoder.open(
            store, labels=labels, mapping=table.labels, languages=table.languages, backend=placement
        )

    match modality:
        case Modality.VISION:
            return vision
        case Modality.AUDIO:
            return audio
        case Modality.TEXT:
            return text
        case _ as never:
            assert_never(never)


def _open_transcriber(store: ModelStore, placement: Placement) -> Transcriber:
    from engines.transcribe import WhisperTranscriber

    return WhisperTranscriber.open(store, backend=placement)
