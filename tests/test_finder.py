"""The face finder on photographs: tight, cut off, small, rotated, several at once; and the quality of what it finds."""

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

import mien
from mien.faces.finder import FaceFinder, FoundFace, matching, open_finder
from mien.faces.quality import TRUSTED, face_quality, is_certain
from mien.inference.following import Follower


@pytest.fixture(scope="module")
def find() -> FaceFinder:
    return open_finder()


@pytest.fixture(scope="module")
def photo(sample: Path) -> np.ndarray:
    return np.asarray(Image.open(sample).convert("RGB"))


def resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def only(find: FaceFinder, image: np.ndarray) -> FoundFace:
    ((face,),) = find([image])
    return face


def test_a_portrait_takes_one_search_of_the_first_detector_alone(photo: np.ndarray) -> None:
    first, second = open_finder(), open_finder()
    first.second = lambda image: pytest.fail("the second detector was run")
    assert only(first, photo).box.tolist() == only(second, photo).box.tolist()


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_lying_and_inverted_faces_are_found_the_right_way_up(find: FaceFinder, photo: np.ndarray, quarters: int) -> None:
    face = only(find, np.ascontiguousarray(np.rot90(photo, quarters)))
    error = np.degrees(face.roll) + 90 * quarters - 4
    assert abs((error + 180) % 360 - 180) < 20


def test_a_tight_crop_and_faces_cut_off_by_the_border_are_found(find: FaceFinder, photo: np.ndarray) -> None:
    only(find, photo[57:177, 178:273])
    only(find, photo[75:, :])
    only(find, photo[:, 205:])
    only(find, photo[:, :250])


def test_a_large_face_is_found_beside_a_small_one(find: FaceFinder, photo: np.ndarray) -> None:
    image = resized(photo[40:200, 140:310], 510, 480).copy()
    image[:60, :60] = resized(photo[40:200, 140:310], 60, 60)
    (faces,) = find([image])
    assert np.ptp(faces[0].box[[0, 2]]) > 200


def test_the_main_face_comes_first_and_is_the_one_that_max_faces_keeps(photo: np.ndarray) -> None:
    small = resized(photo, 256, 256)
    image = np.hstack([np.pad(small, ((0, 256), (0, 0), (0, 0))), photo])
    (both,) = open_finder()([image])
    (one,) = open_finder(max_faces=1)([image])
    assert len(both) == 2 and both[0].box[0] > 256
    assert [face.box.tolist() for face in one] == [both[0].box.tolist()]


def test_images_without_a_face_give_none(find: FaceFinder) -> None:
    random = np.random.default_rng(0)
    images = [np.full((200, 300, 3), 127, np.uint8), random.integers(0, 256, (160, 160, 3), np.uint8)]
    text = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(text).text((20, 60), "Not a face", "black", font_size=50)
    assert find([*images, np.asarray(text)]) == [[], [], []]


def test_faces_of_several_images_are_those_of_each(find: FaceFinder, photo: np.ndarray) -> None:
    together = find([photo, np.zeros((50, 50, 3), np.uint8), photo[:300]])
    alone = [find([image])[0] for image in (photo, np.zeros((50, 50, 3), np.uint8), photo[:300])]
    for one, other in zip(together, alone, strict=True):
        assert [face.box.tolist() for face in one] == [face.box.tolist() for face in other]


def test_whole_images_give_one_face_each_with_or_without_a_mesh(photo: np.ndarray) -> None:
    shown, blank = open_finder("whole")([photo[57:177, 178:273], np.zeros((48, 48, 3), np.uint8)])
    assert shown[0].mesh is not None and blank[0].mesh is None
    assert blank[0].box.tolist() == [0, 0, 48, 48]
    assert open_finder("whole", mesh=None)([photo])[0][0].points is None


def test_the_annotated_box_chooses_the_face() -> None:
    faces = [FoundFace(np.array(box, np.float32), 1.0) for box in ([0, 0, 10, 10], [20, 0, 30, 10])]
    assert matching(faces) is faces[0]
    assert matching(faces, (18, 0, 28, 10)) is faces[1]
    assert matching(faces, (50, 50, 60, 60)) is None
    assert matching([]) is None


def test_quality_falls_with_size_sharpness_and_rotation(find: FaceFinder, photo: np.ndarray) -> None:
    tight = photo[30:200, 140:310]

    def quality(image: np.ndarray) -> float:
        (faces,) = find([image])
        found = face_quality(image, faces[0]) if faces else 0.0
        assert found is not None and 0 <= found <= 1
        return found

    good = quality(photo)
    assert good > 0.9
    assert quality(resized(tight, 20, 20)) < TRUSTED  # a face of 14 pixels
    assert quality(np.asarray(Image.fromarray(tight).filter(ImageFilter.GaussianBlur(9)))) < TRUSTED
    assert quality(np.ascontiguousarray(photo[::-1, ::-1])) < TRUSTED
    assert face_quality(photo, FoundFace(np.zeros(4), 1.0)) is None


def test_certain_needs_confidence_and_quality() -> None:
    assert is_certain(0.9, 0.5, 1.0) and is_certain(0.9, 0.5, None)
    assert not is_certain(0.4, 0.5, 1.0) and not is_certain(0.9, 0.5, TRUSTED / 2)


def test_inverted_and_tiny_faces_are_never_certain(photo: np.ndarray) -> None:
    read = mien.load(blendshapes=False)
    (upright,) = read(photo).faces
    (inverted,) = read(np.ascontiguousarray(photo[::-1, ::-1])).faces
    assert upright.certain and upright.quality is not None and upright.quality > 0.9
    assert not inverted.certain and inverted.label == upright.label
    assert not any(face.certain for face in read(resized(photo[30:200, 140:310], 20, 20)).faces)


def drawings() -> Iterator[np.ndarray]:
    """Drawn faces, letters and signs."""
    for number, (side, skin) in enumerate(itertools.product((128, 256, 512), ("#ffdc3c", "#e6be96", "#e08a5a", "white"))):
        image = Image.new("RGB", (side, side), ("#dde", "#543", "#7a4")[number % 3])
        draw, middle, radius = ImageDraw.Draw(image), side / 2, side * (0.32 + 0.04 * (number % 4))
        draw.ellipse((middle - radius, middle - radius, middle + radius, middle + radius), skin, "black", side // 60)
        for x in (middle - radius / 3, middle + radius / 3):
            draw.ellipse((x - radius / 7, middle - radius / 2, x + radius / 7, middle - radius / 8), "black")
        mouth = (middle - 0.6 * radius, middle - 0.5 * radius, middle + 0.6 * radius, middle + 0.6 * radius)
        draw.arc(mouth, 20, 160, "black", side // 40)
        draw.line((middle, middle - radius / 10, middle - radius / 12, middle + radius / 6), "#5a3c28", side // 80)
        yield np.asarray(image)
    for number, text in enumerate(("O_o", "B8", "STOP", ":-)", "0 0", "\u00d6", "&@", "Ü")):
        image = Image.new("RGB", (320, 320), "white" if number % 2 else "#d02020")
        ImageDraw.Draw(image).text((160, 160), text, "black", ImageFont.load_default(110), anchor="mm")
        yield np.asarray(image)


def test_drawings_and_letters_are_never_certain() -> None:
    read = mien.load(blendshapes=False)
    found = [face for image in drawings() for face in read(image).faces]
    assert len(found) >= 2  # detectors do take drawings for faces
    assert [face.quality for face in found if face.certain or (face.quality or 0) >= TRUSTED] == []


def test_a_face_in_a_video_stays_followed_when_it_turns_upside_down(find: FaceFinder, photo: np.ndarray) -> None:
    """By 9 degrees a frame; with five detections that do not confirm it, it would be dropped within ten frames."""
    follow, image = Follower(find, detect_every=2), Image.fromarray(photo)
    for number in range(34):
        turned = image.rotate(min(9 * number, 180), Image.Resampling.BILINEAR, center=(225, 117))
        seen, tracks = follow(np.asarray(turned), number / 25)
        assert tracks == [1]
    assert abs(seen[0].found.roll) > np.radians(160)


@pytest.mark.shared
def test_every_face_of_the_group_photo(find: FaceFinder, shared: Path) -> None:
    image = np.asarray(Image.open(shared / "data/photos/solvay_conference_1927.jpg").convert("RGB"))
    assert len(find([image])[0]) == 29


@pytest.mark.shared
def test_one_face_in_each_portrait_and_news_photo(find: FaceFinder, shared: Path) -> None:
    """Every 12th portrait of London and every 40th image of LFW's validation split; docs/log.md has all of them."""
    with (shared / "data/lfw_expressions/labels.csv").open() as file:
        news = [row["path"] for row in csv.DictReader(file) if row["split"] == "validation"][::40]
    paths = [
        *sorted((shared / "data/london/images").glob("*.jpg"))[::12],
        *(shared / "data/lfw_expressions" / name for name in news),
    ]
    images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    assert [path.name for path, faces in zip(paths, find(images), strict=True) if len(faces) != 1] == []
