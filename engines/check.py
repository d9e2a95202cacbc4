"""What ``launch.py check`` has to say about the models and encoders."""

from __future__ import annotations

import time

from agent.check import Finding
from agent.config import Config
from agent.seams import EncoderError
from engines.encoders import open_encoders, open_fusion
from engines.models import ModelError, ModelStore


def check_models(config: Config) -> list[Finding]:
    """Whether the encoders of the config open, and its trained fusion head if it has one, and how long that takes."""
    begin_s = time.monotonic()
    try:
        store = ModelStore.configured(config.models)
        open_fusion(config, store)
        encoders, transcriber = open_encoders(config, store)
    except (ModelError, EncoderError) as error:
        return [Finding("encoders", ok=False, said=str(error))]
    took_s = time.monotonic() - begin_s
    for encoder in encoders.values():
        encoder.close()
    if transcriber:
        transcriber.close()
    names = ", ".join([*encoders, *(["transcription"] if transcriber else [])])
    return [Finding("encoders", ok=True, said=f"{names} open in {took_s:.1f} s")]
