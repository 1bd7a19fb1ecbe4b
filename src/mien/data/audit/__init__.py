"""Dataset audit: duplicates across splits, conflicting labels, subject overlap, preprocessed and corrupt images.

    splits = open_splits("fer2013", "data/fer2013")
    report = audit(splits)
    report.exact.leaks[0]       # Leak(split='validation', other='train', images=280)
    clean_protocol(splits).write("fer2013.clean.json")

`mien audit` does the same from the command line.
"""

from collections.abc import Mapping
from pathlib import Path

from ..datasets import Dataset, reader
from ..datasets.layout import Damaged
from ..datasets.protocols import official
from .checks import audit
from .duplicates import clean_protocol
from .report import Audit, Duplicates, Finding, Leak, Overlap, Quality, SplitSummary

__all__ = [
    "Audit", "Duplicates", "Finding", "Leak", "Overlap", "Quality", "SplitSummary", "audit", "clean_protocol", "open_splits",
]  # fmt: skip


def open_splits(
    name: str, root: str | Path, protocol: str = "", *, damaged: Damaged = "skip", options: Mapping[str, str] | None = None
) -> dict[str, Dataset]:
    """Return the splits to audit: those of `protocol`, by default the parts named by the files, or `"all"` without parts.

    Raises DatasetError: the data is missing; UnknownName: unknown dataset or protocol.
    """
    known = reader(name)
    as_filed = (name for name, entry in known.protocols.items() if entry.splits is official and not entry.options)
    whole = known.open(root, "all", protocol or next(as_filed, ""), damaged=damaged, options=options)
    return known.deal(whole) if protocol or (whole.part != "").any() else {"all": whole}
