"""Label sets in the order in which published weights and files use them, and mapping of scores between sets.

Names travel with the weights: two label sets are only ever compared by name, never by index. All sets spell a class the
same way (`anger`, not `angry`), so a map between sets is a matter of order and of classes that one set lacks.
"""

import unicodedata
from collections.abc import Sequence

import numpy as np

from .registry import lookup

FER2013 = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
FERPLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
AFFECTNET8 = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
AFFECTNET7 = AFFECTNET8[:7]
RAFDB = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
AFFWILD2 = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise", "other")
POOLED6 = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
ALPHABETICAL7 = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
ALPHABETICAL8 = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
CKPLUS = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
JAFFE6 = ("happiness", "sadness", "surprise", "fear", "disgust", "anger")
AFFECTNET11 = (*AFFECTNET8, "none", "uncertain", "no face")
RAFDB_COMPOUND = (
    "happily surprised", "happily disgusted", "sadly fearful", "sadly angry", "sadly surprised", "sadly disgusted",
    "fearfully angry", "fearfully surprised", "angrily surprised", "angrily disgusted", "disgustedly surprised",
)  # fmt: skip

ACTION_UNITS = tuple(f"AU{number}" for number in (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26))
"""The action units of Aff-Wild2, in the order of its files."""

LABEL_SETS: dict[str, tuple[str, ...]] = {
    "fer2013": FER2013,
    "ferplus": FERPLUS,
    "affectnet7": AFFECTNET7,
    "affectnet8": AFFECTNET8,
    "rafdb": RAFDB,
    "affwild2": AFFWILD2,
    "pooled6": POOLED6,
    "alphabetical7": ALPHABETICAL7,
    "alphabetical8": ALPHABETICAL8,
    "ckplus": CKPLUS,
    "jaffe6": JAFFE6,
    "affectnet11": AFFECTNET11,
    "rafdb-compound": RAFDB_COMPOUND,
}
"""Every published order. Numbers in files count from 0 in these orders; RAF-DB's own files count from 1, and CK+'s
`Emotion` files use 0 for neutral, as here."""

FERPLUS_VOTES = (*FERPLUS, "unknown", "NF")
"""Column order of the ten votes in `fer2013new.csv`; NF is "no face"."""

ALIASES: dict[str, str] = {
    "angry": "anger", "disgusted": "disgust", "fearful": "fear", "afraid": "fear", "happy": "happiness", "sad": "sadness",
    "surprised": "surprise", "natural": "neutral", "neutrality": "neutral", "contemptuous": "contempt", "fearfull": "fear",
    "suprise": "surprise", "joy": "happiness",
}  # fmt: skip


def canonical(name: str) -> str:
    """Return the one spelling of a class name: `canonical("Happy")` is `"happiness"`."""
    key = unicodedata.normalize("NFC", name.strip().lower())
    return ALIASES.get(key, key)


def label_set(name: str) -> tuple[str, ...]:
    """Return the classes of a published label set in its order; UnknownName if no set has that name."""
    return lookup(name, LABEL_SETS, "label set", plugins=False)


def shared_classes(source: Sequence[str], target: Sequence[str]) -> tuple[str, ...]:
    """Return the classes that both sets have, in the order of `target`.

    This is how a model trained on one dataset is evaluated on another: its scores of other classes are dropped, and so are the
    images of classes that it does not know. The rules of published cross-dataset figures follow from it: an AffectNet-8 model
    loses contempt on SFEW, a RAF-DB model skips the contempt images of CK+, and both keep the six of JAFFE.

    Example:
        >>> shared_classes(AFFECTNET8, JAFFE6)
        ('happiness', 'sadness', 'surprise', 'fear', 'disgust', 'anger')
    """
    known = {canonical(name) for name in source}
    return tuple(name for name in map(canonical, target) if name in known)


def index_map(source: Sequence[str], target: Sequence[str]) -> np.ndarray:
    """Return (len(source),) int64: the index in `target` of each class of `source`, or −1 where it has none.

    Example:
        >>> index_map(RAFDB, AFFECTNET7).tolist()
        [3, 4, 5, 1, 2, 6, 0]
    """
    places = {canonical(name): index for index, name in enumerate(target)}
    return np.array([places.get(canonical(name), -1) for name in source], np.int64)


def map_scores(scores: np.ndarray, source: Sequence[str], target: Sequence[str]) -> np.ndarray:
    """Carry probabilities (N, len(source)) from one label set to another by name: (N, len(target)), rows that sum to one.

    Classes that `target` lacks are dropped and the rest is scaled to sum to one; classes that `source` lacks get zero.
    A row that has no mass on the shared classes becomes uniform over them. Sets that share no class, and scores of another
    width than `source`, raise ValueError.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or scores.shape[1] != len(source):
        raise ValueError(f"scores of shape {scores.shape} do not have the {len(source)} columns of {tuple(source)}")
    columns = index_map(target, source)
    into = np.flatnonzero(columns >= 0)
    if not len(into):
        raise ValueError(f"label sets {tuple(source)} and {tuple(target)} share no class")
    mapped, uniform = np.zeros((len(scores), len(target)), scores.dtype), np.zeros(len(target), scores.dtype)
    mapped[:, into], uniform[into] = scores[:, columns[into]], 1 / len(into)
    total = mapped.sum(1, keepdims=True)
    return np.where(total > 0, mapped / np.where(total > 0, total, 1), uniform)


# fmt: off
BLENDSHAPES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel", "mouthLeft",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight",
)
