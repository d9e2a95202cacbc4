"""BlazeFace as deployed: near, far, rolled, at the edge, many at once; and its parts."""

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from agent.types import U8
from engines import EngineError
from engines.detector import MIN_SCORE, Detector, FaceFinder, merge
from engines.face import FAR_BORDER, near_then_far, open_finder
from tests.faces import EYES, engine, portrait, scene, store


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    finder = open_finder(store(), backend="onnxruntime")
    yield finder
    finder.close()


@pytest.mark.parametrize(
    ("name", "border"), [("face-detector-near", 0.0), ("face-detector-far", FAR_BORDER), ("face-detector-middle", 0.0)]
)
def test_each_network_finds_the_face_of_the_portrait(name: str, border: float) -> None:
    (face,) = Detector(engine(name), border=border).detect([portrait()])[0]
    assert MIN_SCORE <= face.score <= 1
    np.testing.assert_allclose(face.points[:2], EYES, atol=9)
    assert face.points[2, 1] < face.points[3, 1], "the nose is above the mouth"
    left, top, right, bottom = face.box
    assert left < EYES[0, 0] < EYES[1, 0] < right
    assert top < EYES[0, 1] < face.points[3, 1] < bottom
    assert 85 < face.width < 130


@pytest.mark.parametrize("face_px", [460, 300, 200, 120, 80, 48])
def test_near_and_far_faces_are_found(finder: FaceFinder, face_px: int) -> None:
    (face,) = finder.detect([scene(face_px=face_px)])[0]
    assert face.width == pytest.approx(face_px, rel=0.25)


def test_a_face_that_fills_the_frame_is_found(finder: FaceFinder) -> None:
    (face,) = finder.detect([portrait()[75:185, 170:285].copy()])[0]
    np.testing.assert_allclose(face.points[:2], EYES - [170, 75], atol=9)


@pytest.mark.parametrize("angle", [-30, 30])
def test_a_rolled_face_is_found_with_its_roll(finder: FaceFinder, angle: int) -> None:
    turn = cv2.getRotationMatrix2D((225, 120), angle, 1.0)
    (face,) = finder.detect([cv2.warpAffine(portrait(), turn, (512, 512))])[0]
    x, y = face.points[1] - face.points[0]
    assert -np.degrees(np.arctan2(y, x)) == pytest.approx(angle, abs=8)


@pytest.mark.parametrize("shape", [(1080, 1920), (480, 640), (640, 480), (200, 1000)])
def test_places_do_not_depend_on_the_shape_of_the_frame(finder: FaceFinder, shape: tuple[int, int]) -> None:
    frame = np.full((*shape, 3), 90, np.uint8)
    side = min(shape)
    frame[:side, -side:] = cv2.resize(portrait(), (side, side), interpolation=cv2.INTER_AREA)
    (face,) = finder.detect([frame])[0]
    wanted = EYES * side / 512 + [shape[1] - side, 0]
    np.testing.assert_allclose(face.points[:2], wanted, atol=9 * side / 512 + 2)


@pytest.mark.parametrize("frame", [np.zeros((480, 640, 3), np.uint8), np.full((1, 1, 3), 200, np.uint8)])
def test_where_there_is_no_face_none_is_found(finder: FaceFinder, frame: U8) -> None:
    assert finder.detect([frame]) == [[]]


def test_noise_is_no_face(finder: FaceFinder) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    assert finder.detect([noise]) == [[]]


def test_two_faces_are_two(finder: FaceFinder) -> None:
    frame = np.concatenate([portrait()[:, :400], portrait()[:, :400]], axis=1)
    faces = finder.detect([frame])[0]
    assert sorted(round(face.box[0] / 400) for face in faces) == [0, 1]


def test_a_batch_gives_what_each_frame_gives_alone(finder: FaceFinder) -> None:
    frames = [portrait(), np.zeros((100, 200, 3), np.uint8), scene(face_px=80), scene(face_px=300)]
    for frame, together in zip(frames, finder.detect(frames), strict=True):
        alone = finder.detect([frame])[0]
        assert len(alone) == len(together)
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(one.box, other.box, atol=0.1)
            assert one.score == pytest.approx(other.score, abs=1e-4)
    assert finder.detect([]) == []


def test_the_far_detector_sees_only_frames_without_a_near_face() -> None:
    near, far = engine("face-detector-near"), engine("face-detector-far")
    finder = near_then_far(near, far)
    finder.detect([scene(face_px=300)] * 2)
    assert (near.rows, far.calls) == (2, 0)
    found = finder.detect([scene(face_px=300), scene(face_px=70), np.zeros((480, 640, 3), np.uint8)])
    assert (near.calls, near.rows, far.calls, far.rows) == (2, 5, 1, 2)
    assert [len(faces) for faces in found] == [1, 1, 0]


def test_a_face_too_small_for_the_near_detector_is_left_to_the_far_one() -> None:
    near = engine("face-detector-near")
    assert len(Detector(near, border=0.25).detect([scene(face_px=200)])[0]) == 1
    assert Detector(near, border=0.25, least=0.5).detect([scene(face_px=200)]) == [[]]


def test_a_frame_is_not_written_to(finder: FaceFinder) -> None:
    frame = portrait()
    frame.flags.writeable = False
    assert len(finder.detect([frame])[0]) == 1


def test_a_network_of_another_kind_is_refused() -> None:
    with pytest.raises(EngineError, match="a face detector takes"):
        Detector(engine("face-encoder"))


def test_overlapping_faces_become_one_weighted_by_score() -> None:
    def square(left: float) -> np.ndarray:
        return np.array([[left, 0], [left + 10, 10], *[[left + 5, 5]] * 6], np.float32)

    faces = np.stack([square(0), square(2), square(100)])
    merged = merge(faces, np.array([0.9, 0.6, 0.95], np.float32))
    assert [round(score, 2) for _, score in merged] == [0.95, 0.9]
    np.testing.assert_allclose(merged[1][0], square(2 * 0.6 / 1.5), rtol=1e-5)


def test_faces_that_hardly_overlap_stay_two() -> None:
    one = np.array([[0, 0], [10, 10], *[[5, 5]] * 6], np.float32)
    faces = np.stack([one, one + np.array([6, 0], np.float32)])  # intersection over union 0.25
    assert len(merge(faces, np.array([0.9, 0.8], np.float32))) == 2
