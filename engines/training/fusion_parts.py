"""What each encoder says about items that it was not trained on, which is what fusion is trained on.

Of faces and voices the encoder is trained anew without whom it is then shown; of comments it is shown those that only
its temperature and shifts were fitted to. Each is shown the items as they are and spoilt, and says them as the running
agent has them: over its labels, with their prior and their quality.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from agent.config import Config
from agent.types import F32, Modality
from engines import open_engine
from engines.evaluation.dataset import Dataset, Item, read
from engines.evaluation.pool import Pool, collect, evidence_key
from engines.evaluation.present import Answer, Items, answers
from engines.evaluation.spoil import Spoilt
from engines.head import Projection
from engines.models import ModelStore, sha256_of
from engines.training import comments, face_data, familiar
from engines.training.speakers import Corpus, fit
from engines.training.utterances import IN_PART, PLAIN, Features, Row, gather, read_rows, teachable
from engines.training.voice import HELD_OUT
from engines.voice import VoiceEncoder

FOLDS = 5
"""Into so many parts people's faces are dealt."""
SEED = 0
Say = Callable[[str], None]
"""Told what is being done."""


def faces(folder: Path, labels: Sequence[str], *, cache: Path, say: Say) -> list[Pool]:
    """Of the pictures of split ``train``, in each of `face_data.WAYS`; nobody is known to the encoder. Needs torch.

    Raises `face_data.DataError`, and `engines.models.ModelError`.
    """
    table = face_data.read_table(folder)
    parts = face_data.models()
    shown = face_data.gather(folder, table.files, cache, parts)
    which = np.flatnonzero(table.train[shown.item])
    models = [sha256_of(parts[name]) for name in face_data.PARTS]
    key = _key([*models, *table.files, *table.labels.tolist(), *map(str, which), *labels])
    kept = cache / f"fusion-faces-embedded-{key}.npz"
    if not kept.exists():
        _read_faces(kept, shown, table, which, labels, parts["expression-start"], say)
    with np.load(kept, allow_pickle=False) as arrays:
        y = np.array([labels.index(name) for name in table.labels[shown.item[which]].tolist()], np.intp)
        everywhere = np.ones(len(y), bool)
        return [
            Pool(
                y,
                arrays["probs"][way],
                arrays["priors"],
                shown.quality[which, way],
                everywhere,
                arrays["embeddings"][way],
            )
            for way in range(len(face_data.WAYS))
        ]


def _read_faces(
    kept: Path,
    shown: face_data.Shown,
    table: face_data.Table,
    which: face_data.Ints,
    labels: Sequence[str],
    start: Path,
    say: Say,
) -> None:
    from engines.training.face import labels_of
    from engines.training.face_net import fit as fit_faces
    from engines.training.face_top import Top, embed, read_weights

    own = labels_of(table.labels)
    y = np.array([own.index(name) for name in table.labels[shown.item].tolist()])
    people = table.people[shown.item]
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED)
    probs = np.zeros((len(face_data.WAYS), len(which), len(labels)))
    priors = np.zeros((len(which), len(labels)))
    embeddings = np.zeros((len(face_data.WAYS), len(which), shown.before.shape[2]), np.float32)
    for number, (fitted, rest) in enumerate(folds.split(which, y[which], people[which]), 1):
        say(f"faces, part {number} of {FOLDS}")
        trained = fit_faces(shown, y, people, which[fitted], labels=own, start=read_weights(start))
        projection = Projection(own, labels)
        top = Top(trained.weights)
        for way, into in enumerate(probs):
            embeddings[way, rest] = embed(top, shown, which[rest], way=way)
            read = np.concatenate([embeddings[way, rest], shown.beside(which[rest], way)], axis=1)
            into[rest] = projection.posterior(trained.head.posterior(read))
        priors[rest] = projection.prior(trained.head.prior)
    draft = kept.with_suffix(".part.npz")
    np.savez(draft, allow_pickle=False, probs=probs, priors=priors, embeddings=embeddings)
    draft.replace(kept)


def _key(words: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def voices(config: Config, folder: Path, *, items: int, grades: Sequence[int], cache: Path, say: Say) -> list[Pool]:
    """Of at most `items` of each label, by grade of noise; of each speaker what an encoder says that never heard him.

    They are taught what `teachable` says, as the deployed one is. Embeddings are those of the whole utterance and, of
    all that are spoilt, of a part in noise (`WAYS`). `HELD_OUT` and splits other than ``train`` are left out. Raises
    ValueError, `engines.evaluation.dataset.DataError` and `engines.models.ModelError`.
    """
    rows = read_rows(folder)
    speaker_of = {row.file: row.speaker for row in rows if row.speaker not in HELD_OUT and row.split == "train"}
    data = read(folder, Modality.AUDIO, labels=config.agent.labels)
    data = replace(data, items=tuple(item for item in data.items if item.what in speaker_of)).few(items, seed=SEED)
    ways = teachable(say)
    key = _key([evidence_key(config, Modality.AUDIO, data), *ways])
    kept = [cache / f"fusion-voices-{grade}-{key}.npz" for grade in grades]
    heard = gather(folder, [row.file for row in rows], cache, ways)
    speakers = sorted(set(speaker_of.values()))
    if not all(file.exists() for file in kept):
        corpus = _corpus(heard, rows)
        found: list[list[Answer]] = [[] for _ in grades]
        for number, speaker in enumerate(speakers, 1):
            own = replace(data, items=tuple(item for item in data.items if speaker_of[item.what] == speaker))
            say(f"voices, speaker {number} of {len(speakers)}: {len(own.items)} utterances")
            encoder = _stranger(config, corpus, [other for other in speakers if other != speaker])
            for grade, into in zip(grades, found, strict=True):
                into += _heard(config, encoder, Spoilt(own, grade) if grade else own)
            encoder.close()
        for file, answered in zip(kept, found, strict=True):
            Pool.of(answered, config.agent.labels).save(file)
    line_of = {row.file: line for line, row in enumerate(rows)}
    lines = [line_of[i.what] for speaker in speakers for i in data.items if speaker_of[i.what] == speaker]
    return [
        replace(Pool.load(file), embeddings=_embedded(heard, IN_PART if grade else PLAIN, lines))
        for file, grade in zip(kept, grades, strict=True)
    ]


def _embedded(heard: Features, way: str, lines: Sequence[int]) -> F32:
    """(N, D) of the utterances in those lines, presented so; NaN where no speech was found."""
    own = heard.way == way
    row_of = dict(zip(heard.item[own].tolist(), np.flatnonzero(own).tolist(), strict=True))
    nothing = np.full(heard.x.shape[1], np.nan, np.float32)
    return np.array([heard.x[row_of[line]] if line in row_of else nothing for line in lines], np.float32)


def _corpus(found: Features, rows: Sequence[Row]) -> Corpus:
    own = sorted({row.label for row in rows})
    y = np.array([own.index(row.label) for row in rows])[found.item]
    return Corpus.of(found, y, np.array([row.speaker for row in rows])[found.item], own)


def _stranger(config: Config, corpus: Corpus, speakers: Sequence[str]) -> VoiceEncoder:
    """The voice encoder as it would be, had it been trained on these speakers alone."""
    store, head = ModelStore.configured(config.models), fit(corpus, speakers)
    activity, embedding = (open_engine(store.path(f"voice-{name}"), "onnxruntime") for name in ("activity", "encoder"))
    projection = Projection(head.labels, config.agent.labels)
    own = np.isin(corpus.speakers, speakers) & (corpus.found.way == PLAIN)
    known = familiar.fit(corpus.found.x[own], corpus.speakers[own])
    return VoiceEncoder(activity=activity, embedding=embedding, head=head, projection=projection, familiar=known)


def _heard(config: Config, encoder: VoiceEncoder, data: Items) -> list[Answer]:
    return list(answers(encoder, data, span_ns=config.encoders.audio.span, hop_ns=config.agent.hop))


def texts(config: Config, folder: Path, *, items: int, grades: Sequence[int], cache: Path, say: Say) -> list[Pool]:
    """Of at most `items` comments of each label in ``dev``, by grade of what is mistyped, as the running encoder reads.

    Raises OSError and ValueError where there is no such folder.
    """
    dev = comments.read(folder)[1]["dev"].single()
    named = zip(dev.texts, dev.y.tolist(), strict=True)
    every = [Item(line, text, comments.LABELS[k], None) for line, (text, k) in enumerate(named, 1)]
    data = Dataset(folder, tuple(every), 0).few(items, seed=SEED)
    say(f"texts: {len(data.items)} comments")
    return [collect(config, Modality.TEXT, data, grade=grade, work=cache) for grade in grades]
