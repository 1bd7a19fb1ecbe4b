import numpy as np
import pytest

from mien.types import EYES, FACE, View, blendshape_points, irises, points5, points68


@pytest.fixture(scope="module")
def mesh():
    return np.random.default_rng(3).normal(size=(2, 478, 3)).astype(np.float32)


def test_views_keep_leading_axes_and_type(mesh):
    for view, count in ((points5, 5), (points68, 68), (blendshape_points, 146), (irises, 10)):
        found = view(mesh)
        assert found.shape == (2, count, 2)
        assert found.dtype == np.float32
        assert np.array_equal(view(mesh[1]), found[1])


def test_single_points_are_copied_and_groups_averaged(mesh):
    found = View(4, (61, 291), (1, 2, 3))(mesh)
    assert np.array_equal(found[:, 0], mesh[:, 4, :2])
    assert np.allclose(found[:, 1], (mesh[:, 61, :2] + mesh[:, 291, :2]) / 2)
    assert np.allclose(found[:, 2], mesh[:, 1:4, :2].mean(1), atol=1e-6)


def test_points_without_depth_do_as_well(mesh):
    assert np.array_equal(points68(mesh[..., :2]), points68(mesh))


def test_only_irises_and_blendshapes_need_the_large_mesh(mesh):
    assert np.array_equal(points5(mesh[:, :FACE]), points5(mesh))
    assert np.array_equal(points68(mesh[:, :FACE]), points68(mesh))
    for view in (irises, blendshape_points):
        with pytest.raises(IndexError):
            view(mesh[:, :FACE])


def test_five_points_agree_with_the_68(mesh):
    """Eye corners and mouth corners are the same mesh points in both schemes."""
    assert [points68.indices[i] for i in (36, 39, 45, 42)] == [*EYES[0], *EYES[1]]
    assert [points68.indices[i] for i in (48, 54, 30)] == [61, 291, 4]
