"""The default detector: one look where it suffices, closer looks where they are needed, and the converted network itself."""

import numpy as np
import pytest
from PIL import Image

from mien.faces.detection import Detections, open_detector
from mien.faces.detection.blazeface import SIDE, Network
from mien.faces.detection.tiling import Region


class Counting(Network):
    """The network, counting the regions it looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def __call__(self, image, regions, threshold):
        self.looks += len(regions)
        return super().__call__(image, regions, threshold)


@pytest.fixture(scope="module")
def photo(sample) -> np.ndarray:
    return np.asarray(Image.open(sample).convert("RGB"))


def search(image: np.ndarray, **options) -> tuple[int, int]:
    """Return how many faces were found, in how many looks."""
    detector = open_detector("blazeface", **options).search
    detector.network = Counting()
    return len(detector(image)), detector.network.looks


def far_away(photo: np.ndarray, side: int, canvas: int = 1024) -> np.ndarray:
    """The sample photo, `side` pixels large, on a plain wall."""
    image = np.full((canvas, canvas, 3), 150, np.uint8)
    image[600 : 600 + side, 700 : 700 + side] = np.asarray(
        Image.fromarray(photo).resize((side, side), Image.Resampling.LANCZOS)
    )
    return image


def test_one_look_settles_a_portrait(photo: np.ndarray) -> None:
    assert search(photo) == (1, 1)


@pytest.mark.parametrize("side", [260, 160])
def test_a_small_face_is_found_by_closer_looks(side: int, photo: np.ndarray) -> None:
    """Faces of 6 and 4 hundredths of the image's side."""
    faces, looks = search(far_away(photo, side))
    assert faces == 1 and 1 < looks <= 12


def test_small_faces_that_nobody_wants_take_no_closer_look(photo: np.ndarray) -> None:
    assert search(far_away(photo, 160), min_size=200) == (0, 2)  # the image, and the padded view


def test_small_faces_mode_looks_closer_although_a_face_was_found(photo: np.ndarray) -> None:
    faces, looks = search(photo, small_faces=True)
    assert faces == 1 and looks >= 5


def test_a_tiny_image_is_never_cut_up() -> None:
    assert search(np.zeros((SIDE, SIDE, 3), np.uint8)) == (0, 2)


def test_a_face_that_fills_its_image_is_found_in_the_padded_view(photo: np.ndarray) -> None:
    crop = np.asarray(Image.fromarray(photo[66:172, 172:278]).resize((48, 48), Image.Resampling.BOX))
    faces, looks = search(crop)
    assert (faces, looks) == (1, 2)


def test_half_a_face_at_the_border_of_a_square_is_left_to_other_looks() -> None:
    image = np.zeros((400, 700, 3), np.uint8)
    eyes = [[[10, 100], [30, 100]], [[110, 100], [130, 100]]]
    seen = Detections.from_points([[0, 80, 40, 140], [100, 80, 140, 140]], [0.95, 0.9], eyes)
    right, left = Region(300, 0, 400, 400), Region(0, 0, 400, 400)
    detector = open_detector("blazeface").search
    assert detector._split(seen, right, image, 0.65)[0].scores.tolist() == pytest.approx([0.9])
    assert len(detector._split(seen, left, image, 0.65)[0]) == 2


def test_the_same_from_a_view_of_a_larger_array(photo: np.ndarray) -> None:
    detect = open_detector("blazeface")
    np.testing.assert_array_equal(detect(photo[20:420, 30:430]).boxes, detect(photo[20:420, 30:430].copy()).boxes)


def test_the_converted_network_answers_as_the_original(photo: np.ndarray) -> None:
    """LiteRT 2.3.0 on the published face_detection_full_range.tflite, same input; values for the best cell."""
    small = np.asarray(Image.fromarray(photo).reduce(2).resize((SIDE, SIDE), Image.Resampling.NEAREST))
    offsets, logits = Network().network((small[None] / np.float32(127.5) - 1).astype(np.float32)).values()
    best = int(logits[0, :, 0].argmax())
    assert (best, float(logits[0, best, 0])) == (549, pytest.approx(2.71515, abs=1e-4))
    expected = [-1.222, -0.578, 40.583, 40.582, -9.252, -7.786, 6.3, -6.881]
    expected += [-1.965, 2.784, -2.31, 9.656, -18.052, -4.933, 15.186, -3.204]
    np.testing.assert_allclose(offsets[0, best], expected, atol=1e-3)
