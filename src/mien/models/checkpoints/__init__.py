"""Import of authors' checkpoints; no code from a pickle is executed.

>>> from mien import models
>>> from mien.models.checkpoints import load_author_state, read_checkpoint
>>> network = models.build("dan", num_classes=7)                                    # doctest: +SKIP
>>> checkpoint = read_checkpoint("rafdb_epoch21_acc0.897_bacc0.8532.pth")           # doctest: +SKIP
>>> load_author_state(network, "dan", checkpoint.state).summary()                   # doctest: +SKIP
'275 tensors loaded'
"""

from .loading import ImportReport, LoadReport, import_checkpoint, load_author_state
from .reading import Checkpoint, read_checkpoint

__all__ = ["Checkpoint", "ImportReport", "LoadReport", "import_checkpoint", "load_author_state", "read_checkpoint"]
