"""The face encoder with its real models: what it says, what it remembers, which camera it believes."""

import gc
import logging
import weakref
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from agent.types import F32, U8, Evidence, Modality, Sample
from engines import Array
from engines.detector import Detector, Face
from engines.face import FAR_BORDER, FaceEncoder, near_then_far
from engines.face_networks import Networks, views
from engines.familiarity import Familiarity
from engines.head import Head
from engines.portrait import (
    SIDE,
    WIDE_SIDE,
    Portrait,
    certainty,
    choose,
    cut,
    exposure,
    pose,
    sharpness,
    size,
    take,
    visible,
)
from tests.faces import EYES, engine, portrait, scene, shot, store

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
BLACK = np.zeros((480, 640, 3), np.uint8)


@pytest.fixture(scope="module")
def encoder() -> Iterator[FaceEncoder]:
    encoder = FaceEncoder.open(store(), labels=LABELS, backend="onnxruntime")
    yield encoder
    encoder.close()


class Parts:
    """An encoder whose engines count their runs."""

    def __init__(self, *, rate_hz: float = 5.0) -> None:
        self.near, self.far = map(engine, ("face-detector-near", "face-detector-far"))
        names = ("face-encoder", "face-embedding", "face-general")
        self.close, self.wide, self.general = map(engine, names)
        self.encoder = FaceEncoder(
            finder=near_then_far(self.near, self.far),
            networks=Networks(self.close, self.wide, self.general),
            head=Head.load(store().path("face-head")).onto(LABELS),
            familiar=Familiarity.load(store().path("face-familiar")),
            rate_hz=rate_hz,
        )

    def rows(self) -> tuple[int, int]:
        """Frames looked at, and faces described (each with its mirror image, but by the general network)."""
        assert self.close.rows == self.wide.rows == 2 * self.general.rows
        return self.near.rows, self.wide.rows // 2


def read(encoder: FaceEncoder, *samples: Sample) -> Evidence | None:
    return encoder.encode(samples, max((sample.end_ns for sample in samples), default=0)).evidence


def seen(encoder: FaceEncoder, *samples: Sample) -> Evidence:
    """As `read`, of samples that show a face."""
    evidence = read(encoder, *samples)
    assert evidence is not None
    return evidence


def test_the_portrait_smiles(encoder: FaceEncoder) -> None:
    found = seen(encoder, shot(portrait(), at_s=1.5))
    assert found.modality is Modality.VISION
    assert LABELS[found.probs.argmax()] == "happy"
    assert found.probs.max() > 0.6
    assert found.probs.sum() == pytest.approx(1)
    assert (found.probs > 0).all()
    assert found.prior.sum() == pytest.approx(1)
    assert found.quality > 0.6
    assert (found.source, found.t_ns, found.engine) == ("camera", 1_500_000_000, "onnxruntime")
    assert found.rivals == {}


@pytest.mark.parametrize("face_px", [300, 150, 64])
def test_the_smile_is_seen_from_near_and_far(encoder: FaceEncoder, face_px: int) -> None:
    assert LABELS[seen(encoder, shot(scene(face_px=face_px))).probs.argmax()] == "happy"


def test_the_smile_is_seen_on_a_rolled_face(encoder: FaceEncoder) -> None:
    turn = cv2.getRotationMatrix2D((225, 120), 25, 1.0)
    assert LABELS[seen(encoder, shot(cv2.warpAffine(portrait(), turn, (512, 512)))).probs.argmax()] == "happy"


@pytest.mark.parametrize("picture", [BLACK, np.full((480, 640, 3), 200, np.uint8), np.zeros((1, 1, 3), np.uint8)])
def test_without_a_face_there_is_no_evidence(encoder: FaceEncoder, picture: U8) -> None:
    assert read(encoder, shot(picture)) is None


def test_without_frames_there_is_no_evidence(encoder: FaceEncoder) -> None:
    assert encoder.encode([], 0).evidence is None


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((0, 640, 3), np.uint8),
        cv2.cvtColor(portrait(), cv2.COLOR_BGR2GRAY),
        portrait().astype(np.float32),
        np.dstack([portrait(), portrait()[..., :1]]),
    ],
    ids=["empty", "no rows", "grey", "float", "four channels"],
)
def test_an_odd_frame_is_no_face_and_is_said_once(picture: Array, caplog: pytest.LogCaptureFixture) -> None:
    parts = Parts()
    with caplog.at_level(logging.WARNING):
        assert read(parts.encoder, shot(picture, at_s=0), shot(picture, at_s=1)) is None
    (record,) = caplog.records
    assert "camera: a frame of" in record.getMessage()
    assert str(picture.shape) in record.getMessage()


def test_an_odd_frame_does_not_spoil_the_others(encoder: FaceEncoder) -> None:
    found = seen(encoder, shot(np.zeros((0, 0, 3), np.uint8), at_s=1), shot(portrait(), at_s=2))
    assert found.t_ns == 2_000_000_000


def test_evidence_is_as_old_as_the_newest_frame_with_a_face(encoder: FaceEncoder) -> None:
    samples = [shot(portrait(), at_s=1), shot(portrait(), at_s=2), shot(BLACK, at_s=3)]
    assert seen(encoder, *samples).t_ns == 2_000_000_000


def test_frames_without_the_face_lower_the_quality(encoder: FaceEncoder) -> None:
    steady = seen(encoder, shot(portrait(), at_s=1), shot(portrait(), at_s=2))
    gone = seen(encoder, shot(portrait(), at_s=1), shot(BLACK, at_s=2))
    assert gone.quality == pytest.approx(steady.quality / 2, rel=1e-3)
    np.testing.assert_allclose(gone.probs, steady.probs, atol=1e-4)


def test_new_frames_go_as_one_batch_and_none_is_looked_at_twice() -> None:
    parts = Parts()
    samples = [shot(scene(face_px=200 + 5 * i), at_s=i / 5 + 0.05) for i in range(8)]
    first = seen(parts.encoder, *samples[:5])
    assert (parts.near.calls, parts.wide.calls, parts.general.calls, *parts.rows()) == (1, 1, 1, 5, 5)
    again = seen(parts.encoder, *samples[:5])
    assert (parts.near.calls, parts.wide.calls) == (1, 1)
    np.testing.assert_array_equal(first.probs, again.probs)
    read(parts.encoder, *samples[3:])
    assert (parts.near.calls, *parts.rows()) == (2, 8, 8)


def test_a_batch_gives_what_each_frame_gives_alone() -> None:
    pictures = [scene(face_px=n) for n in (320, 200, 90)]
    together = seen(Parts().encoder, *[shot(picture, at_s=i) for i, picture in enumerate(pictures)])
    alone = [seen(Parts().encoder, shot(picture)) for picture in pictures]
    weights = [1e-3 + one.quality for one in alone]
    np.testing.assert_allclose(
        together.probs, np.average([one.probs for one in alone], axis=0, weights=weights), atol=1e-3
    )
    assert together.quality == pytest.approx(np.mean([one.quality for one in alone]), abs=1e-3)


def test_what_is_remembered_goes_with_the_sample() -> None:
    parts = Parts()
    sample = shot(portrait())
    read(parts.encoder, sample)
    gone = weakref.ref(sample)
    del sample
    gc.collect()
    assert gone() is None
    assert len(parts.encoder._looks) == 0


def test_windows_look_at_no_more_frames_than_the_rate_allows() -> None:
    parts = Parts(rate_hz=5)
    samples = [shot(scene(face_px=200), at_s=i / 30) for i in range(90)]  # 3 s at 30 frames a second
    for end in range(0, 90, 7):  # windows of a second
        read(parts.encoder, *samples[max(end - 30, 0) : end + 1])
    assert parts.rows()[0] <= 15
    assert parts.rows()[0] >= 12


def test_of_each_slot_the_newest_frame_is_looked_at() -> None:
    parts = Parts(rate_hz=5)
    samples = [shot(scene(face_px=200), at_s=t) for t in (0.01, 0.15, 0.21, 0.39)]
    assert seen(parts.encoder, *samples).t_ns == 390_000_000
    assert parts.rows()[0] == 2


def test_each_camera_has_a_rate_of_its_own() -> None:
    parts = Parts(rate_hz=1)
    read(parts.encoder, shot(portrait(), source="a"), shot(portrait(), source="b"))
    assert parts.rows()[0] == 2


def test_the_camera_that_sees_best_decides(encoder: FaceEncoder) -> None:
    blurred = cv2.GaussianBlur(portrait(), (0, 0), 4)
    samples = [shot(blurred, at_s=1, source="left"), shot(portrait(), at_s=0.9, source="right")]
    found = seen(encoder, *samples, shot(BLACK, at_s=1, source="back"))
    assert found.source == "right"
    assert set(found.rivals) == {"left"}
    assert found.rivals["left"] < found.quality


def test_regions_say_where_the_faces_of_the_newest_frame_are(encoder: FaceEncoder) -> None:
    both = np.concatenate([scene(face_px=150), scene(face_px=250)], axis=1)
    samples = [
        shot(scene(face_px=300), at_s=1, source="left"),
        shot(both, at_s=2, source="left"),
        shot(portrait(), at_s=1.5, source="right"),
        shot(BLACK, at_s=2, source="back"),
    ]
    found = encoder.encode(samples, 2_000_000_000).regions
    assert [(region.source, region.t_ns) for region in found] == [
        ("left", 2_000_000_000),
        ("left", 2_000_000_000),
        ("right", 1_500_000_000),
    ]
    of_left = sorted(found[:2], key=lambda region: region.box)
    assert of_left[0].box[2] < 0.5 < of_left[1].box[0]
    right = found[2]
    height, width = portrait().shape[:2]
    np.testing.assert_allclose(np.array(right.landmarks[:2]) * (width, height), EYES, atol=12)
    assert right.box[0] < right.landmarks[0][0] < right.landmarks[1][0] < right.box[2]


def test_a_face_that_has_gone_is_in_no_region(encoder: FaceEncoder) -> None:
    reading = encoder.encode([shot(portrait(), at_s=1), shot(BLACK, at_s=2)], 2_000_000_000)
    assert reading.evidence is not None
    assert reading.regions == ()


def test_the_embedding_is_what_the_wide_network_made_of_the_face(encoder: FaceEncoder) -> None:
    networks = Networks.open(store(), backend="onnxruntime")
    face = encoder._finder.detect([portrait()])[0][0]
    wide, _, _ = views([take(portrait(), face)], networks)
    networks.close_all()
    found = seen(encoder, shot(portrait())).embedding
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wide[0], atol=1e-3)
    pooled = seen(encoder, shot(portrait(), at_s=1), shot(scene(face_px=90), at_s=2)).embedding
    assert pooled is not None
    assert not np.allclose(pooled, found, atol=1e-3)


def test_other_labels_are_mapped() -> None:
    mapping = {"happy": "joy", "neutral": "calm"}
    encoder = FaceEncoder.open(store(), labels=("calm", "joy", "bored"), mapping=mapping, backend="onnxruntime")
    found = seen(encoder, shot(portrait()))
    assert found.probs.argmax() == 1
    assert found.probs[2] == pytest.approx(found.prior[2])
    encoder.close()


def test_a_rate_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="rate_hz must be above 0"):
        Parts(rate_hz=0)


def test_left_and_right_do_not_matter_but_to_the_general_network() -> None:
    shown = take(portrait(), face_of(portrait())[0])
    mirrored = Portrait(shown.grey[:, ::-1], shown.wide[:, ::-1])
    wide, general, close = views([shown, mirrored], Networks.open(store(), backend="onnxruntime"))
    for one, other in (wide, close):
        np.testing.assert_allclose(one, other, atol=1e-3)
    assert np.corrcoef(*general)[0, 1] > 0.95


def test_the_head_reads_what_the_networks_give(encoder: FaceEncoder) -> None:
    head = Head.load(store().path("face-head"))
    shown = take(portrait(), face_of(portrait())[0])
    seen = views([shown], Networks.open(store(), backend="onnxruntime"))
    assert np.concatenate(seen, axis=1).shape == (1, len(head.mean))


# The cut-out and its quality


def face_of(picture: U8) -> tuple[Face, U8]:
    """The face of a picture, and its cut-out."""
    (face,) = Detector(engine("face-detector-far"), border=FAR_BORDER).detect([picture])[0]
    return face, cut(picture, face)


def test_a_rolled_face_is_cut_out_upright() -> None:
    straight = face_of(portrait())[1].astype(float)
    turn = cv2.getRotationMatrix2D((225, 120), 20, 1.0)
    rolled = face_of(cv2.warpAffine(portrait(), turn, (512, 512)))[1].astype(float)
    assert straight.shape == (SIDE, SIDE)
    assert np.corrcoef(straight.ravel(), rolled.ravel())[0, 1] > 0.8


def test_the_wide_cut_out_shows_more_of_the_same_in_colour() -> None:
    face, grey = face_of(portrait())
    wide = take(portrait(), face).wide
    assert wide.shape == (WIDE_SIDE, WIDE_SIDE, 3)
    assert np.ptp(wide.astype(int), axis=2).max() > 20  # colours
    levels = cv2.cvtColor(wide, cv2.COLOR_BGR2GRAY)
    inner = round(WIDE_SIDE * 1.1 / 1.3)
    rest = WIDE_SIDE - inner
    overlaps = [  # the wide one is lifted by a share of its own, larger side
        np.corrcoef(
            cv2.resize(levels[y : y + inner, rest // 2 : rest // 2 + inner], (SIDE, SIDE)).ravel(), grey.ravel()
        )[0, 1]
        for y in range(rest + 1)
    ]
    assert max(overlaps) > 0.95


def test_the_eyes_of_a_cut_out_lie_where_faces_have_them() -> None:
    face, grey = face_of(portrait())
    marked = portrait()
    for x, y in EYES:
        cv2.circle(marked, (int(x), int(y)), 4, (255, 255, 255), -1)
    difference = cut(marked, face).astype(int) - grey
    rows, columns = np.nonzero(difference > 60)
    assert 0.25 * SIDE < rows.min() <= rows.max() < 0.55 * SIDE
    assert columns.min() < SIDE / 2 < columns.max()


def test_a_face_at_the_edge_is_cut_out_whole() -> None:
    face, _ = face_of(portrait())
    face.box[:] -= 190
    face.points[:] -= 190
    grey = cut(portrait(), face)
    assert grey.shape == (SIDE, SIDE)


def test_the_largest_face_is_chosen_and_the_central_one_of_two_alike() -> None:
    face, _ = face_of(portrait())
    frame = np.zeros((480, 640, 3), np.uint8)
    assert choose([], frame) is None
    large, central, corner = (
        moved(face, to=to, scale=k) for to, k in (((100, 80), 2), ((320, 240), 1), ((600, 440), 1))
    )
    assert choose([corner, central], frame) is central
    assert choose([corner, central, large], frame) is large


def moved(face: Face, *, to: tuple[float, float], scale: float) -> Face:
    centre = face.points.mean(axis=0)

    def place(points: F32) -> F32:
        return np.asarray((points - centre) * scale + to, np.float32)

    return type(face)(place(face.box.reshape(2, 2)).reshape(4), place(face.points), face.score)


def test_blur_darkness_light_distance_and_a_turned_head_lower_the_quality() -> None:
    face, grey = face_of(portrait())
    good = visible(face, grey)
    assert good > 0.6
    blurred = cv2.GaussianBlur(grey, (0, 0), 2)
    parts = certainty(face.score) * size(face) * pose(face) * exposure(blurred) * sharpness(blurred)
    assert 0.1 < parts < 0.9
    assert visible(face, blurred) == pytest.approx(parts**0.25)
    blurs = [sharpness(cv2.GaussianBlur(grey, (0, 0), sigma)) for sigma in (0.3, 1.5, 2, 3)]
    assert blurs == sorted(blurs, reverse=True)
    assert blurs[-1] < 0.4 < blurs[0]
    assert exposure(grey) == 1
    assert exposure((grey * 0.15).astype(np.uint8)) < 0.5
    assert exposure(np.clip(grey.astype(int) * 4, 0, 255).astype(np.uint8)) < 0.5
    assert sharpness(np.full((SIDE, SIDE), 80, np.uint8)) == 0
    sizes = [size(moved(face, to=(0, 0), scale=k)) for k in (2, 1, 0.3, 0.15, 0.05)]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (1, 0)
    assert pose(face) > 0.8
    turned = moved(face, to=(0, 0), scale=1)
    turned.points[2] = turned.points[1]  # the nose in front of an eye
    assert pose(turned) == 0
    assert visible(turned, grey) == 0
    turned.points[0] = turned.points[1]
    assert pose(turned) == 0
