"""Label sets in their published orders, and the maps between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien import labels
from mien.errors import UnknownName
from mien.labels import (
    AFFECTNET7,
    AFFECTNET8,
    CKPLUS,
    FERPLUS,
    JAFFE6,
    LABEL_SETS,
    RAFDB,
    canonical,
    index_map,
    label_set,
    map_scores,
    shared_classes,
)

PUBLISHED = {
    "affectnet8": "Neutral, Happy, Sad, Surprise, Fear, Disgust, Anger, Contempt",
    "affectnet7": "Neutral, Happy, Sad, Surprise, Fear, Disgust, Anger",
    "rafdb": "Surprise, Fear, Disgust, Happiness, Sadness, Anger, Neutral",
    "fer2013": "angry, disgust, fear, happy, sad, surprise, neutral",
    "ferplus": "neutral, happiness, surprise, sadness, anger, disgust, fear, contempt",
    "affwild2": "Neutral, Anger, Disgust, Fear, Happiness, Sadness, Surprise, Other",
    "pooled6": "anger, disgust, fear, happy, sadness, surprise",
    "alphabetical7": "anger, disgust, fear, happy, neutral, sad, surprise",
    "alphabetical8": "anger, contempt, disgust, fear, happy, neutral, sad, surprise",
    "ckplus": "neutral, anger, contempt, disgust, fear, happy, sadness, surprise",
    "jaffe6": "Happy, Sad, Surprise, Fear, Disgust, Anger",
    "affectnet11": "Neutral, Happy, Sad, Surprise, Fear, Disgust, Anger, Contempt, None, Uncertain, No face",
    "rafdb-compound": "Happily Surprised, Happily Disgusted, Sadly Fearful, Sadly Angry, Sadly Surprised, Sadly Disgusted, "
    "Fearfully Angry, Fearfully Surprised, Angrily Surprised, Angrily Disgusted, Disgustedly Surprised",
}
"""The orders as their publishers write them, index 0 first."""


@pytest.mark.parametrize("name", sorted(LABEL_SETS))
def test_orders_are_the_published_ones(name: str) -> None:
    assert label_set(name) == tuple(canonical(word) for word in PUBLISHED[name].split(","))


def test_votes_of_ferplus_end_in_unknown_and_no_face() -> None:
    assert (*FERPLUS, "unknown", "NF") == labels.FERPLUS_VOTES


def test_rafdb_to_affectnet_is_the_map_that_authors_refolder_by() -> None:
    assert dict(enumerate(index_map(RAFDB, AFFECTNET7).tolist())) == {0: 3, 1: 4, 2: 5, 3: 1, 4: 2, 5: 6, 6: 0}


@pytest.mark.parametrize(
    ("model", "data", "logits_kept", "labels_kept"),
    [
        (AFFECTNET8, AFFECTNET8, range(8), range(8)),  # on CK+ in AffectNet's order: all eight classes
        (AFFECTNET7, AFFECTNET8, range(7), range(7)),  # a RAF-DB model on the same: the folder of contempt is left out
        (AFFECTNET8, AFFECTNET7, range(7), range(7)),  # on SFEW: logit 7, contempt, is deleted
        (AFFECTNET8, JAFFE6, range(1, 7), range(6)),  # on JAFFE: logits 1 … 6 become labels 0 … 5
        (AFFECTNET7, JAFFE6, range(1, 7), range(6)),
    ],
)
def test_published_cross_dataset_rules_follow_from_the_names(model, data, logits_kept, labels_kept) -> None:
    shared = shared_classes(model, data)
    assert [model.index(name) for name in shared] == list(logits_kept)
    assert [data.index(name) for name in shared] == list(labels_kept)


def test_a_map_marks_classes_that_the_other_set_lacks() -> None:
    assert index_map(CKPLUS, RAFDB).tolist() == [6, 5, -1, 2, 1, 3, 4, 0]


@given(st.sampled_from(sorted(LABEL_SETS)), st.sampled_from(sorted(LABEL_SETS)))
def test_maps_agree_with_names_in_both_directions(first: str, second: str) -> None:
    source, target = label_set(first), label_set(second)
    there, back = index_map(source, target), index_map(target, source)
    assert all(target[there[i]] == name for i, name in enumerate(source) if there[i] >= 0)
    assert all(back[there[i]] == i for i in range(len(source)) if there[i] >= 0)
    assert set(shared_classes(source, target)) == set(source) & set(target)


@given(st.sampled_from(["affectnet8", "rafdb", "ferplus", "jaffe6"]), st.integers(0, 2**32 - 1))
def test_mapped_scores_sum_to_one_and_keep_their_order(target: str, seed: int) -> None:
    scores = np.random.default_rng(seed).dirichlet(np.ones(7), 3)
    mapped = map_scores(scores, labels.FER2013, label_set(target))
    assert np.allclose(mapped.sum(1), 1)
    shared = shared_classes(labels.FER2013, label_set(target))
    before = scores[:, [labels.FER2013.index(name) for name in shared]]
    after = mapped[:, [label_set(target).index(name) for name in shared]]
    assert np.array_equal(before.argsort(1), after.argsort(1))
    assert np.allclose(after * before.sum(1, keepdims=True), before)


def test_scores_without_mass_on_shared_classes_become_uniform() -> None:
    mapped = map_scores(np.array([[0.0, 1.0]]), ("anger", "contempt"), ("anger", "fear"))
    assert mapped.tolist() == [[1.0, 0.0]]


def test_scores_that_cannot_be_mapped() -> None:
    with pytest.raises(ValueError):
        map_scores(np.ones((1, 1)), ("other",), ("anger",))
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        map_scores(np.ones((1, 2)), ("anger",), ("anger",))
    with pytest.raises(UnknownName, match="'rafdb'"):
        label_set("raf-db")
