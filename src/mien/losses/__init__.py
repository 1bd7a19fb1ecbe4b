"""The losses of the published systems, and the field's usual ones, as plain functions of tensors.

| file | contents |
|---|---|
| `attention.py` | separation of attention heads: DAN's affinity and partition losses, DDAMFN's attention loss |
| `centers.py` | attraction of features to class centers: center loss, its FAER variant, a reconstruction of MFER's DSF loss |
| `gaussian.py` | the large-margin Gaussian mixture loss |
| `classification.py` | one label per face: label smoothing, class-balanced weights |
| `votes.py` | many annotators per face (FERPlus): five loss modes |
| `affect.py` | valence/arousal (CCC) and action units, with missing annotations |

Every function returns a scalar (0-dimensional) tensor unless its docstring states otherwise, works in float32 and float64, and
is differentiable with respect to every floating-point argument that describes a prediction. Losses with parameters
(centers, covariances) are modules: give `loss.parameters()` to the optimizer.
Under mixed precision, compute them outside autocast, on float32 outputs.
"""

from .affect import action_unit_loss, ccc, ccc_loss
from .attention import AffinityLoss, dan_affinity, dan_partition, ddamfn_attention
from .centers import CenterLoss, ReconstructedDSF, center_loss, dsf_reconstruction, faer_center_loss
from .classification import class_balanced_weights, cross_entropy
from .gaussian import GaussianMixtureLoss
from .votes import VOTE_MODES, VoteMode, vote_loss

__all__ = [
    "VOTE_MODES", "AffinityLoss", "CenterLoss", "GaussianMixtureLoss", "ReconstructedDSF", "VoteMode",
    "action_unit_loss", "ccc", "ccc_loss", "center_loss", "class_balanced_weights", "cross_entropy", "dan_affinity",
    "dan_partition", "ddamfn_attention", "dsf_reconstruction", "faer_center_loss", "vote_loss",
]  # fmt: skip
