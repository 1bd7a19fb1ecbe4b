import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from mien.faces.alignment import (
    FITS,
    TEMPLATES,
    apply,
    crop_matrix,
    crop_square,
    dlib_chip_matrix,
    invert,
    pose_errors,
    reverse_similarity,
    similarity,
    warp,
)

LEFT_TO_RIGHT = [1, 0, 2, 4, 3]  # what left and right become in a mirror


def turned(angle, scale=1.0, shift=(0.0, 0.0)):
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


matrices = st.builds(
    turned, st.floats(-np.pi, np.pi), st.floats(0.01, 100), st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
)
point = st.tuples(st.floats(0, 500), st.floats(0, 500))


def points(count):
    return st.lists(point, min_size=count, max_size=count).map(np.array)


@given(points(5), matrices)
def test_similarity_recovers_a_similarity(source, matrix):
    assume(source.std(0).sum() > 1)
    found = similarity(source, apply(matrix, source))
    assert np.allclose(apply(found, source), apply(matrix, source), atol=1e-6 * np.abs(matrix).max())


@given(points(5), points(5), st.floats(-0.1, 0.1), st.floats(0.9, 1.1), st.tuples(st.floats(-5, 5), st.floats(-5, 5)))
def test_similarity_is_the_least_squares_one(source, target, angle, scale, shift):
    assume(source.std(0).sum() > 1)
    best = similarity(source, target)
    step = turned(angle, scale, shift)
    other = np.column_stack([step[:, :2] @ best[:, :2], step[:, :2] @ best[:, 2] + step[:, 2]])
    error = [((apply(matrix, source) - target) ** 2).sum() for matrix in (best, other)]
    assert error[0] <= error[1] * (1 + 1e-9) + 1e-6
    assert np.linalg.det(best[:, :2]) >= 0


@given(points(5), matrices)
def test_turning_the_image_leaves_the_crop(source, matrix):
    """The crop of a turned, scaled and shifted image is the crop of the image."""
    assume(source.std(0).min() > 5)
    for template in TEMPLATES.values():
        if len(template.poses) > 1:
            continue  # two poses may fit equally well
        direct = apply(crop_matrix(source, template), source)
        assert np.allclose(apply(crop_matrix(apply(matrix, source), template), apply(matrix, source)), direct, atol=1e-3)


def test_stacks_are_fitted_one_by_one():
    rng = np.random.default_rng(5)
    faces = TEMPLATES["fer2013"].poses + rng.normal(0, 3, (7, 5, 2))
    for name, template in TEMPLATES.items():
        for fit in FITS:
            stack = crop_matrix(faces, template, 96, fit=fit)
            assert np.allclose(stack, [crop_matrix(face, template, 96, fit=fit) for face in faces]), name


def test_points_that_coincide_are_refused():
    with pytest.raises(ValueError, match="two different"):
        similarity(np.ones((5, 2)), np.zeros((5, 2)))
    with pytest.raises(ValueError, match="finite"):
        crop_matrix(np.full((5, 2), np.nan), TEMPLATES["fer2013"])


def test_published_matrices(shared):
    golden = json.loads((shared / "golden" / "align_matrices.json").read_text())
    mfer, ddamfn = TEMPLATES["mfer112"], TEMPLATES["ddamfn5"]
    assert np.allclose(mfer.poses[0], golden["arcface_reference_112"], atol=1e-5)
    assert np.allclose(ddamfn.poses, golden["five_templates_112"])
    assert len(golden["faces"]) == 13
    reflected = 0
    for face in golden["faces"]:
        source, whole = np.array(face["points"]), np.array(face["points_int"], float)
        assert np.allclose(crop_matrix(source, mfer), face["arcface_112"], atol=1e-4)
        assert np.allclose(crop_matrix(source, mfer, 224), face["arcface_224"], atol=1e-4)
        published = reverse_similarity(source, mfer.poses[0], "published")
        assert np.allclose(published, face.get("author_arcface_112", face["arcface_112"]), atol=1e-4)
        assert (np.linalg.det(published[:, :2]) < 0) == face["author_reflected"]
        reflected += face["author_reflected"]
        assert np.allclose(crop_matrix(whole, ddamfn), face["five_template_112"], atol=1e-6)
        fits = similarity(np.broadcast_to(whole, ddamfn.poses.shape), ddamfn.poses)
        errors = pose_errors(whole, fits, ddamfn.poses)
        assert np.allclose(errors, face["five_template_errors"], atol=1e-6)
        assert errors.argmin() == face["five_template_index"]
    assert reflected == 2


def test_each_pose_is_chosen_for_itself():
    for index, pose in enumerate(TEMPLATES["ddamfn5"].poses):
        moved = apply(turned(0.4, 2.5, (100, -30)), pose)
        back = crop_matrix(moved, TEMPLATES["ddamfn5"])
        assert np.allclose(apply(back, moved), pose, atol=1e-9), index


def test_reverse_fit_is_larger():
    face = TEMPLATES["arcface112"].poses[0] + np.random.default_rng(1).normal(0, 4, (5, 2))
    scale = [np.linalg.det(crop_matrix(face, TEMPLATES[name])[:, :2]) for name in ("mfer112", "arcface112")]
    assert scale[0] > scale[1]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [48, 112])
def test_margin_shows_more_around_the_same_center(fit, size):
    template = TEMPLATES["fer2013"]
    face = apply(turned(0.3, 4, (50, 60)), template.poses[0])
    plain, wide = (crop_matrix(face, template, size, fit=fit, margin=margin) for margin in (1.0, 1.5))
    assert np.isclose(np.linalg.det(plain[:, :2]) ** 0.5 / np.linalg.det(wide[:, :2]) ** 0.5, 1.5)
    middle = apply(invert(plain), np.array([[size / 2, size / 2]]))
    assert np.allclose(apply(wide, middle), size / 2)


def test_eyes_and_mouth_ignore_the_nose_and_a_wide_mouth():
    face = TEMPLATES["fer2013"].poses[0].copy()
    before = crop_matrix(face, TEMPLATES["fer2013"], fit="eyes-mouth")
    face[2] += [4, 7]
    face[3:] += [[-5, 2], [5, -2]]
    assert np.allclose(crop_matrix(face, TEMPLATES["fer2013"], fit="eyes-mouth"), before)
    assert not np.allclose(crop_matrix(face, TEMPLATES["fer2013"]), before, atol=0.01)


def test_own_template_is_its_own_mirror_image():
    template = TEMPLATES["fer2013"]
    mirrored = template.poses[0][LEFT_TO_RIGHT] * [-1, 1] + [template.size - 1, 0]
    assert np.allclose(mirrored, template.poses[0])


def test_dlib_chip():
    """Against dlib 20.0.1, `get_face_chip_details(detection, 224, 0.25)`, for 68 points set down here."""
    golden = {"center": [140.792930277538, 187.5824803205723], "side": 130.28232890548327, "angle": 2.46155654859008}
    rng = np.random.default_rng(0)
    back = invert(dlib_chip_matrix(np.rint(rng.uniform(0, 300, (68, 2)))))
    assert np.allclose(apply(back, np.array([[112.0, 112.0]]))[0], golden["center"], atol=1e-6)
    assert np.isclose(224 * np.hypot(back[0, 0], back[1, 0]), golden["side"])
    assert np.isclose(np.arctan2(back[1, 0], back[0, 0]), golden["angle"])


# --- warp


@pytest.fixture(scope="module")
def photo(sample):
    return np.array(Image.open(sample).convert("RGB"))


@pytest.fixture(scope="module")
def ramp():
    """An image whose values say where a pixel is: x in one channel, y in another."""
    y, x = np.mgrid[:256, :256]
    return np.stack([x, y, np.full_like(x, 77)], -1).astype(np.uint8)


def test_identity_and_whole_shifts_copy(photo):
    assert np.array_equal(warp(photo, np.eye(2, 3), 512), photo)
    assert np.array_equal(warp(photo, np.array([[1.0, 0, -100], [0, 1, -37]]), 200), photo[37:237, 100:300])
    assert np.array_equal(warp(photo[..., 0], np.array([[1.0, 0, -100], [0, 1, -37]]), 200), photo[37:237, 100:300, 0])


@pytest.mark.parametrize(("interpolation", "antialias"), [("bilinear", True), ("bilinear", False), ("nearest", True)])
@pytest.mark.parametrize("scale", [3.0, 1.0, 0.6, 0.34, 0.22, 0.101])
def test_every_scale_puts_points_where_the_matrix_says(ramp, scale, antialias, interpolation):
    size = 32
    matrix = turned(0.3, scale)
    matrix[:, 2] = size / 2 - matrix[:, :2] @ [130, 120]
    crop = warp(ramp, matrix, size, antialias=antialias)
    if interpolation == "nearest":
        crop = crop_square(ramp, tuple(invert(matrix).ravel().tolist()), size, interpolation="nearest")
    crop = crop.reshape(-1, 3).astype(float)
    y, x = np.mgrid[:size, :size]
    expected = apply(invert(matrix), np.stack([x, y], -1).reshape(-1, 2).astype(float))
    inside = ((expected > 12) & (expected < 243)).all(-1)
    assert inside.sum() > 100
    error = (crop[:, :2] - expected)[inside]
    step = max(1, int(1 / scale)) if antialias else 1  # pixels averaged
    nearest = interpolation == "nearest"
    assert np.abs(error).max() < 1.51 + nearest * step / 2
    bias = (
        error.mean(0) - nearest * 0.5
    )  # averages of even numbers of pixels are rounded up; bilinear then cuts off half a level
    assert bias.min() > -0.65
    assert bias.max() < 0.15


def test_the_edge_blends_into_black():
    white = np.full((20, 20, 3), 255, np.uint8)
    crop = warp(white, np.array([[1.0, 0, 10.25], [0, 1, 10]]), 40)
    assert not crop[:, :9].any() and not crop[:9].any()
    assert (crop[12:28, 12:28] == 255).all()
    assert np.abs(crop[15, 10].astype(int) - 255 * 0.75).max() <= 1
    gray = warp(white[..., 0], np.array([[1.0, 0, 10.25], [0, 1, 10]]), 40)
    assert np.array_equal(gray, crop[..., 0])


@pytest.mark.parametrize("scale", [1.0, 0.2, 5.0])
def test_outside_the_image_is_black_alone(photo, scale):
    for shift in ((-9000.0, 0.0), (9000.0, 9000.0)):
        assert not warp(photo, turned(0.2, scale, shift), 24).any()


def test_shrinking_averages(photo):
    """A checkerboard of single pixels shrinks to even gray; without antialiasing pixels are skipped."""
    board = ((np.indices((512, 512)).sum(0) % 2) * 255).astype(np.uint8)
    matrix = turned(0.1, 1 / 8, (10.0, 0.0))
    assert np.abs(warp(board, matrix, 48)[8:40, 20:40].astype(int) - 127).max() <= 1
    assert warp(board, matrix, 48, antialias=False)[8:40, 20:40].std() > 40


@pytest.mark.parametrize("matrix", [np.zeros((2, 3)), np.array([[1.0, 2, 0], [2, 4, 0]]), np.full((2, 3), np.nan)])
def test_matrices_without_inverse_are_refused(photo, matrix):
    with pytest.raises(ValueError):
        warp(photo, matrix, 32)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_tiny_images(size):
    image = np.full((size, size, 3), 200, np.uint8)
    assert warp(image, turned(0.1, 8.0), 16).shape == (16, 16, 3)
    assert warp(image, turned(0.1, 0.01), 16).shape == (16, 16, 3)


@pytest.fixture(scope="module")
def framed(photo):
    return np.pad(photo[:128, 160:288].astype(float), ((150, 150), (150, 150), (0, 0)))


@given(st.integers(0, 2**32 - 1))
def test_bilinear_is_that_of_opencv(photo, framed, seed):
    """OpenCV's warpAffine in numpy: weights from the matrix, black blended in; ours is within a gray level."""
    rng = np.random.default_rng(seed)
    size = 24
    matrix = turned(rng.uniform(-np.pi, np.pi), rng.uniform(0.3, 3))
    matrix[:, 2] = size / 2 - matrix[:, :2] @ rng.uniform(-10, 138, 2)
    y, x = np.mgrid[:size, :size]
    place = apply(invert(matrix), np.stack([x, y], -1).reshape(-1, 2).astype(float))
    corner = np.floor(place).astype(int)
    (fx, fy), (cx, cy) = (place - corner).T[..., None], corner.T + 150
    expected = (1 - fy) * ((1 - fx) * framed[cy, cx] + fx * framed[cy, cx + 1])
    expected += fy * ((1 - fx) * framed[cy + 1, cx] + fx * framed[cy + 1, cx + 1])
    crop = warp(photo[:128, 160:288], matrix, size, antialias=False).reshape(-1, 3)
    assert np.abs(crop - expected).max() <= 1.01


@pytest.mark.parametrize("matrix", [[[1, 2, 0], [2, 4, 0]], [[np.nan, 0, 0], [0, 1, 0]], [[1e-200, 0, 1e200], [0, 1e-100, 0]]])
def test_matrices_that_map_nothing_are_refused(matrix: list[list[float]]) -> None:
    with pytest.raises(ValueError):
        warp(np.zeros((4, 4, 3), np.uint8), np.array(matrix), 4)
