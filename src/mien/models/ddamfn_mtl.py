"""The multi-task DDAMFN of the 7th ABAW challenge: valence and arousal, expression, and 12 action units from one face.

Paper: Cabacas-Maso et al., "Enhancing facial expression recognition through dual-direction attention mixed feature networks:
application to 7th ABAW challenge", arXiv 2407.12390. Repository: josep-cm, kept in the history of rostos/TFM at ade24b7 (no
license: only formulas and constants were used).

DDAMFN up to its 512 numbers, then one linear layer a task. Three forms:

* `"code"`: a shared 512-unit layer first, and 9 expression columns of which the last is never labeled. This is what produced
  the published numbers. The authors' network returns softmax values, and their cross-entropy takes the softmax of these again;
  they are `MultiTaskOutput.expression`.
* `"paper"`: as the text and figure have it, 8 expressions and no shared layer.
* `"default"`, ours: 8 expressions with the shared layer.

Parameters: 4,458,271, 4,195,118 and 4,457,758; dead as in `mien.models.ddamfn`. Losses are in `mien.losses`.

Differences from the paper: the network gives scores; sigmoid and softmax are one property away, so that a loss can take either.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from torch import Tensor, nn

from ..errors import ConfigError
from . import ddamfn
from .ddamfn import IMAGE, DDAMFNTrunk
from .info import Rule, children, rename

__all__ = ["IMAGE", "ddamfn_mtl"]

Form = Literal["default", "code", "paper"]
Task = Literal["valence_arousal", "expression", "action_units"]


class MultiTaskOutput(NamedTuple):
    """Output of the multi-task network; fields of disabled tasks are None.

    `logits` (N, expressions); `valence_arousal` (N, 2) in (-1, 1), valence first; `action_logits` (N, 12) in the order AU1, 2,
    4, 6, 7, 10, 12, 15, 23, 24, 25, 26; `feature` (N, 512); `feature_map` and each of `heads` (N, 512, h, w),
    h = w = 7 for faces of 112 pixels.
    """

    logits: Tensor | None
    valence_arousal: Tensor | None
    action_logits: Tensor | None
    feature: Tensor
    feature_map: Tensor
    heads: tuple[Tensor, ...]

    @property
    def expression(self) -> Tensor | None:
        """(N, expressions) probabilities."""
        return None if self.logits is None else self.logits.softmax(1)

    @property
    def action_units(self) -> Tensor | None:
        """(N, 12) the probability of each action unit, independent of the others."""
        return None if self.action_logits is None else self.action_logits.sigmoid()


class MultiTaskDDAMFN(DDAMFNTrunk):
    """DDAMFN with a linear layer a task."""

    def __init__(
        self, form: Form, num_classes: int, tasks: tuple[Task, ...], num_heads: int, slim: bool, size: int, backbone: str
    ) -> None:
        super().__init__(num_heads, slim, size, backbone)
        self.classifier = TaskLayers(self.channels, num_classes, tasks, dense=form != "paper")
        if form == "paper" and not slim:
            self.bn = nn.BatchNorm1d(num_classes).requires_grad_(False)

    def forward(self, image: Tensor) -> MultiTaskOutput:
        """Return the tasks' scores, feature, feature map and attention maps for images (N, 3, size, size)."""
        feature, feature_map, heads = self.read(image)
        logits, valence_arousal, action_logits = self.classifier(feature)
        return MultiTaskOutput(logits, valence_arousal, action_logits, feature, feature_map, heads)


class TaskLayers(nn.Module):
    """(N, C) → expression scores, valence and arousal, action-unit scores; None for a task that is off."""

    def __init__(self, channels: int, num_classes: int, tasks: tuple[Task, ...], *, dense: bool) -> None:
        super().__init__()
        self.dense = nn.Sequential(nn.Linear(channels, channels), nn.ReLU()) if dense else None
        self.expression = nn.Linear(channels, num_classes) if "expression" in tasks else None
        self.valence_arousal = nn.Linear(channels, 2) if "valence_arousal" in tasks else None
        self.action_units = nn.Linear(channels, 12) if "action_units" in tasks else None

    def forward(self, feature: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return scores (N, expressions), valence and arousal (N, 2), −1 … 1, scores of units (N, 12) for features (N, C)."""
        x = feature if self.dense is None else self.dense(feature)
        return (
            None if self.expression is None else self.expression(x),
            None if self.valence_arousal is None else self.valence_arousal(x).tanh(),
            None if self.action_units is None else self.action_units(x),
        )


def ddamfn_mtl(
    num_classes: int | None = None,
    *,
    form: Form = "default",
    tasks: tuple[Task, ...] = get_args(Task),
    num_heads: int = 2,
    slim: bool = False,
    size: int = 112,
    backbone: str = "mfn",
) -> MultiTaskDDAMFN:
    """Return a multi-task DDAMFN; its options are described in `architectures.toml`. Raises ConfigError for other values."""
    if form not in get_args(Form):
        raise ConfigError(f"form={form!r}: a multi-task DDAMFN has the forms {', '.join(get_args(Form))}")
    if not tasks or not set(tasks) <= set(get_args(Task)):
        raise ConfigError(f"tasks={tasks!r}: name at least one of {', '.join(get_args(Task))}")
    return MultiTaskDDAMFN(form, num_classes or (9 if form == "code" else 8), tuple(tasks), num_heads, slim, size, backbone)


def from_author(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the authors' state dict, or that of a DDAMFN (their AffectNet-8 start) or MFN, under our names."""
    if "fc.weight" in state:  # a DDAMFN: its last layer and BatchNorm have no place here
        state = {f"pretraining.{key}" if key.startswith(("fc.", "bn.")) else key: value for key, value in state.items()}
    return rename(ddamfn.from_author(state), AUTHOR_RULES)


AUTHOR_RULES: tuple[Rule, ...] = (
    *children(r"^custom_classifier\.", "classifier.", {"dense": "dense.0", "val_arousal": "valence_arousal"}),
    *children(r"^custom_classifier\.", "classifier.", {"emotions": "expression", "actions": "action_units"}),
)
