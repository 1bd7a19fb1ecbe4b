"""The authors' checkpoints as weights of our modules; nothing from a pickle is executed.

    >>> from mien import models
    >>> from mien.models.checkpoints import load_author_state, read_checkpoint
    >>> network = models.build("dan", num_classes=7)                                    # doctest: +SKIP
    >>> checkpoint = read_checkpoint("rafdb_epoch21_acc0.897_bacc0.8532.pth")           # doctest: +SKIP
    >>> load_author_state(network, "dan", checkpoint.state).summary()                   # doctest: +SKIP
    '275 tensors loaded'

| file | what it does |
|---|---|
| `pickled.py` | what a checkpoint's pickle may name, and the inert thing that each of these becomes |
| `unpickling.py` | a machine that reads pickles as data |
| `containers.py` | the file formats |
| `checkpoints.py` | finds the state dict: plain, wrapped, or inside a pickled module |
| `loading.py` | the authors' names → ours, starting weights of other networks, what fitted and what did not |
| `saving.py` | weights → `.safetensors` |
| `converting.py` | a checkpoint → `.safetensors` and card |
"""

from .checkpoints import Checkpoint, read_checkpoint
from .converting import ImportReport, import_checkpoint
from .loading import LoadReport, load_author_state

__all__ = [
    "Checkpoint",
    "ImportReport",
    "LoadReport",
    "import_checkpoint",
    "load_author_state",
    "read_checkpoint",
]
