"""From the images of a dataset to what a network is trained on: aligned faces, regions of the face, curated annotations.

    splits = open_splits("folder", "photos")
    summary = prepare(splits, Align("arcface112"), "prepared", workers=4)

`mien prepare` does the same from the command line. A preparation that was stopped goes on where it was; one that is
complete does nothing. The folder that it writes can be opened as dataset `folder`, and with everything that was known of
each image as dataset `csv`.
"""

from __future__ import annotations

from .align import CROPS, Align
from .annotations import Curated, curate
from .contact_sheet import contact_sheet
from .faces import FacePicker, PreparedFace
from .regions import Regions
from .runner import Made, Summary, Work, prepare

__all__ = [
    "CROPS",
    "Align",
    "Curated",
    "FacePicker",
    "Made",
    "PreparedFace",
    "Regions",
    "Summary",
    "Work",
    "contact_sheet",
    "curate",
    "prepare",
]
