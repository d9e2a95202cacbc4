"""The face encoder: what the faces in a window's frames look like.

BlazeFace finds the face (`engines.detector`), it is cut out upright (`engines.portrait`), three small networks describe
it, a mini-Xception close up and in grey, one with a wider view and colours that was trained further on real-world faces
(`engines.training.face`), and one on the same view that knows pictures of anything; a linear head trained with the
second reads the labels from all three.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from types import MappingProxyType
from weakref import WeakKeyDictionary

import numpy as np

from agent.imaging import PictureError, refuse_no_picture
from agent.types import F32, F64, U8, Evidence, Frame, Modality, Reading, Region, Sample
from engines import Backend, Engine, open_engine
from engines.detector import Cascade, Detector, Face, FaceFinder
from engines.face_networks import Networks, views
from engines.familiarity import Familiarity
from engines.head import Head, ProjectedHead
from engines.models import ModelStore
from engines.portrait import Portrait, choose, take, visible

log = logging.getLogger(__name__)

NEAR_BORDER, FAR_BORDER = 0.25, 0.0
"""Borders of the two detectors, as measured best by ``python -m engines.training.scenes``."""
NEAR_LEAST = 0.25
"""A face narrower than this share of the frame is left to the detector for far ones."""
RATE_HZ = 5.0
"""Frames that are looked at per second and source, unless told otherwise: a face changes no faster."""
_LEAST_WEIGHT = 1e-3
"""Of a frame in the mean over a window, so that frames of quality 0 still say something among themselves."""


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """What one frame shows; a frame without a face has None instead of probabilities and embedding."""

    probs: F64 | None
    """(K,)."""
    embedding: F32 | None
    """(D,)."""
    quality: float
    regions: tuple[Region, ...]
    """Of all faces in it, most certain first."""


class FaceEncoder:
    """Evidence from the frames of one or several cameras. The one with the best quality decides."""

    modality = Modality.VISION

    def __init__(
        self,
        *,
        finder: FaceFinder,
        networks: Networks,
        head: ProjectedHead,
        familiar: Familiarity,
        rate_hz: float = RATE_HZ,
    ) -> None:
        """`head` reads what all `networks` give, side by side (`views`), and speaks the agent's labels; `familiar`
        reads what the close one gives (`described`).

        Of each source one frame in 1/`rate_hz` seconds is looked at.
        """
        if not rate_hz > 0:
            raise ValueError(f"face encoder: rate_hz must be above 0, is {rate_hz}")
        self._finder = finder
        self._networks = networks
        self._head = head
        self._familiar = familiar
        self._slot_ns = round(1e9 / rate_hz)
        self._looks: WeakKeyDictionary[Sample, _Look] = WeakKeyDictionary()
        self._warned: set[str] = set()

    @classmethod
    def open(
        cls,
        store: ModelStore,
        *,
        labels: Sequence[str],
        mapping: Mapping[str, str] | None = None,
        backend: Backend = "auto",
        rate_hz: float = RATE_HZ,
    ) -> FaceEncoder:
        """With the models of the lock file; `mapping` renames the head's labels to the agent's `labels`.

        Raises `engines.models.ModelError`, `EngineError` and `HeadError`.
        """
        return cls(
            finder=open_finder(store, backend=backend),
            networks=Networks.open(store, backend=backend),
            head=Head.load(store.path("face-head")).onto(labels, mapping),
            familiar=Familiarity.load(store.path("face-familiar")),
            rate_hz=rate_hz,
        )

    def encode(self, samples: Sequence[Sample], end_ns: int) -> Reading:
        """See `agent.seams.Encoder`.

        Time is cut into slots of 1/rate; of each slot and source the newest frame is looked at that the first window
        to reach it holds. Later windows find it remembered and look at no other of that slot.
        """
        by_source = {
            source: list(group)
            for source, group in groupby(sorted(samples, key=lambda s: (s.source, s.end_ns)), lambda s: s.source)
        }
        self._look([sample for frames in by_source.values() for sample in self._new(frames)])
        found: dict[str, Evidence] = {}
        regions: tuple[Region, ...] = ()
        for source, frames in by_source.items():
            looks = [(sample, self._looks[sample]) for sample in frames if sample in self._looks]
            evidence = self._evidence(source, looks)
            if evidence is not None:
                found[source] = evidence
                regions += looks[-1][1].regions
        if not found:
            return Reading(None)
        best = max(found.values(), key=lambda evidence: (evidence.quality, evidence.t_ns))
        rivals = {source: evidence.quality for source, evidence in found.items() if evidence is not best}
        return Reading(replace(best, rivals=MappingProxyType(rivals)) if rivals else best, regions=regions)

    def close(self) -> None:
        self._finder.close()
        self._networks.close_all()

    def __str__(self) -> str:
        return f"faces to {', '.join(self._head.head.labels)}: {self._networks.wide}"

    def _new(self, frames: Sequence[Sample]) -> list[Sample]:
        """Of one source's frames, oldest first, those to look at now: the newest of each slot not yet looked into.

        Frames older than a remembered one are what an earlier window passed over.
        """
        done = max((self._slot(sample) for sample in frames if sample in self._looks), default=None)
        newest = {self._slot(sample): sample for sample in frames}
        return [sample for slot, sample in newest.items() if done is None or slot > done]

    def _slot(self, sample: Sample) -> int:
        return sample.end_ns // self._slot_ns

    def _look(self, samples: Sequence[Sample]) -> None:
        """Work out, and remember, what each of these frames shows; all of them in one batch."""
        frames = {sample: frame for sample in samples if (frame := self._picture(sample)) is not None}
        seen: list[tuple[Sample, Face, Portrait]] = []
        regions: dict[Sample, tuple[Region, ...]] = {}
        for (sample, frame), faces in zip(frames.items(), self._finder.detect(list(frames.values())), strict=True):
            if face := choose(faces, frame):
                seen.append((sample, face, take(frame, face)))
                regions[sample] = tuple(each.region(sample, frame) for each in faces)
        for sample in samples:
            self._looks[sample] = _Look(None, None, 0.0, ())
        if not seen:
            return
        wide, general, close = views([shown for _, _, shown in seen], self._networks)
        probs = self._head.posterior(np.concatenate([wide, general, close], axis=1))
        known = self._familiar.of(close)
        for (sample, face, shown), row, embedding, share in zip(seen, probs, wide, known.tolist(), strict=True):
            self._looks[sample] = _Look(row, embedding, visible(face, shown.grey) * share, regions[sample])

    def _picture(self, sample: Sample) -> U8 | None:
        """The frame's pixels, or None, with one warning per source, where they are not what `Frame` promises."""
        assert isinstance(sample.payload, Frame), f"{sample.source} sent {type(sample.payload).__name__} as a frame"
        bgr = sample.payload.bgr
        try:
            refuse_no_picture(bgr)
        except PictureError:
            if sample.source not in self._warned:
                self._warned.add(sample.source)
                log.warning(
                    "%s: a frame of %s %s, where uint8 (height, width, 3) is wanted; such frames count as showing no"
                    " face (said once; look at its driver)",
                    sample.source,
                    bgr.dtype,
                    bgr.shape,
                )
            return None
        return bgr

    def _evidence(self, source: str, looks: Sequence[tuple[Sample, _Look]]) -> Evidence | None:
        """The mean of the posteriors of one source's frames, and of their embeddings, weighted by quality.

        Its quality is the mean over all frames that were looked at: one without a face adds nothing to it.
        """
        faces = [(sample, look) for sample, look in looks if look.probs is not None]
        if not faces:
            return None
        weights = [_LEAST_WEIGHT + look.quality for _, look in faces]
        return Evidence(
            modality=Modality.VISION,
            source=source,
            probs=np.average([look.probs for _, look in faces], axis=0, weights=weights),
            prior=self._head.prior,
            quality=sum(look.quality for _, look in faces) / len(looks),
            t_ns=max(sample.end_ns for sample, _ in faces),
            engine=self._networks.wide.backend,
            embedding=np.average([look.embedding for _, look in faces], axis=0, weights=weights).astype(np.float32),
        )


def open_finder(store: ModelStore, *, backend: Backend = "auto") -> FaceFinder:
    """The detectors as they are deployed: near faces first, far ones where there is none.

    Raises `engines.models.ModelError` and `EngineError`.
    """
    near, far = (open_engine(store.path(f"face-detector-{name}"), backend) for name in ("near", "far"))
    return near_then_far(near, far)


def near_then_far(near: Engine, far: Engine) -> FaceFinder:
    """Both networks as a cascade, with the borders that suit them."""
    return Cascade([Detector(near, border=NEAR_BORDER, least=NEAR_LEAST), Detector(far, border=FAR_BORDER)])
