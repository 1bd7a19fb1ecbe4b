"""Clean protocols: files with the images to exclude from one copy of a dataset, written by `mien audit --write-clean`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...errors import DatasetError
from ...io.files import atomic_write
from .dataset import Dataset

PREFIX = "clean:"
"""`open_dataset(…, protocol="clean:FILE")` uses such a file."""


@dataclass(frozen=True, slots=True)
class Clean:
    """Images to exclude from the splits of another protocol."""

    dataset: str
    """Entry of `mien.data.datasets.DATASETS`."""
    protocol: str
    """The protocol whose splits are cleaned."""
    digests: Mapping[str, str]
    """Split → digest before cleaning: the file applies to this copy of the data only."""
    drop: Mapping[str, Sequence[str]]
    """Split → names of the images to exclude."""
    why: Mapping[str, str]
    """Split → rule by which they were selected."""

    def write(self, path: str | Path) -> None:
        """Write the file as JSON.

        Raises:
            ConfigError: the disk is full, or the folder may not be written.
        """
        text = json.dumps(asdict(self), indent=1, sort_keys=True)
        with atomic_write(path) as part:
            part.write_text(text + "\n", encoding="utf-8")

    def apply(self, data: Dataset, path: str) -> Dataset:
        """Return one split without the excluded images.

        Raises:
            DatasetError: `data` is another copy or another dataset than the file was made from.
        """
        if data.name != self.dataset or data.digest != self.digests.get(data.split):
            raise DatasetError(
                f"{path} was made from another copy of {self.dataset} (split {data.split}, "
                f"digest {self.digests.get(data.split, 'absent')[:12]}, here {data.digest[:12]}); "
                "run mien audit --write-clean on this copy"
            )
        kept = np.flatnonzero(~np.isin(data.names, list(self.drop.get(data.split, ()))))
        note = f"{len(data) - len(kept)} of {len(data)} images excluded: {self.why[data.split]}"
        return data.take(kept, protocol=f"{PREFIX}{Path(path).name}", notes=(*data.notes, note))


def read_clean(path: str | Path) -> Clean:
    """Read a clean protocol.

    Raises:
        DatasetError: the file does not exist or is invalid.
    """
    try:
        return Clean(**json.loads(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise DatasetError(f"{path} does not exist; mien audit --write-clean writes clean protocols", path=path) from error
    except (ValueError, TypeError) as error:
        message = f"{path} is not a clean protocol ({error}); mien audit --write-clean writes one"
        raise DatasetError(message, path=path) from error
