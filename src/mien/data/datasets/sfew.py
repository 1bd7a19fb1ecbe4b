"""SFEW 2.0 (Dhall et al. 2015): single frames of films in seven classes, 958 for training and 436 for validation.

The labels of the test frames were never published. A name such as `AlexEmma_000435486_00000021.png` contains film, time and
face; two frames of one time are one recording.
"""

import dataclasses
from collections.abc import Mapping

from ...errors import DatasetError
from ...labels import ALPHABETICAL7, canonical
from .dataset import Dataset
from .folders import read_class_folders
from .layout import Place, children
from .listing import subfolders, texts

FOLDERS = {
    "aligned": {"train": "Train_Aligned_Faces*", "validation": "Val_Aligned_Faces*"},
    "whole": {"train": "Train", "validation": "Val"},
}


def read(place: Place) -> Dataset:
    """Read the class folders of one of the two versions; DatasetError if the requested one is missing."""
    wanted = place.options["images"]
    found = {kind: _folders(place, patterns) for kind, patterns in FOLDERS.items() if wanted in (kind, "auto")}
    kind = next((kind for kind, folders in found.items() if folders), None)
    if kind is None:
        looked = " or ".join(pattern for kind in found for pattern in FOLDERS[kind].values())
        message = f"SFEW under {place.base} has no class folders in {looked}; images=aligned|whole chooses the other version"
        raise DatasetError(message)
    data = read_class_folders(place, found[kind], ALPHABETICAL7)
    stems = [str(name).rpartition("/")[2].rpartition(".")[0].rsplit("_", 2) for name in data.names]
    return dataclasses.replace(
        data,
        sequence=texts("_".join(stem[:2]) if len(stem) == 3 else "" for stem in stems),
        groups={"film": texts(stem[0] if len(stem) == 3 else "" for stem in stems)},
        notes=(f"images={kind}",) if wanted == "auto" else (),
    )


def _folders(place: Place, patterns: Mapping[str, str]) -> dict[str, str]:
    """Folder → part: for each part the first folder that fits, or is in or around one that fits, and holds class folders."""
    found = {}
    for part, pattern in patterns.items():
        for folder in (path for way in (pattern, f"*/{pattern}", f"{pattern}/*") for path in children(place.base, way)):
            wanted = folder.is_dir() and ("aligned" in folder.name.lower()) == ("Aligned" in pattern)
            if wanted and any(canonical(name) in ALPHABETICAL7 for name in subfolders(folder)):
                found[folder.relative_to(place.base).as_posix()] = part
                break
    return found
