"""What ``launch.py check`` has to say about the models and encoders."""

from __future__ import annotations

import time

from agent.check import Finding
from agent.config import Config
from agent.seams import EncoderError
from engines.encoders import open_encoders, open_fusion
from engines.models import ModelError, ModelStore
from engines.standing import findings, standings


def check_models(config: Config) -> list[Finding]:
    """On what the encoders are to run, and whether they open, with the trained fusion head if there is one, how fast.

    They are not opened where that cannot go well, or would have to wait until plans are built.
    """
    try:
        store = ModelStore.configured(config.models)
        found = standings(config, store)
    except ModelError as error:
        return [Finding("encoders", ok=False, said=str(error))]
    said = findings(found)
    if all(standing.ok and not standing.waits for standing in found.values()):
        said.append(_opened(config, store))
    return said


def _opened(config: Config, store: ModelStore) -> Finding:
    begin_s = time.monotonic()
    try:
        open_fusion(config, store)
        encoders, transcriber = open_encoders(config, store)
    except (ModelError, EncoderError) as error:
        return Finding("encoders", ok=False, said=str(error))
    took_s = time.monotonic() - begin_s
    for encoder in encoders.values():
        encoder.close()
    if transcriber:
        transcriber.close()
    names = ", ".join([*encoders, *(["transcription"] if transcriber else [])])
    return Finding("encoders", ok=True, said=f"{names} open in {took_s:.1f} s")
