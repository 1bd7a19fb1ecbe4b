"""Preparation of training data: aligned faces, regions of faces, filtered annotations.

    splits = open_splits("folder", "photos")
    summary = prepare(splits, Align("arcface112"), "prepared", workers=4)

`mien prepare` does the same from the command line. An interrupted preparation resumes; a complete one is unchanged. The output
can be opened as dataset `folder`, or as dataset `csv` with all annotations.
"""

from ..datasets.films import Curated, curate
from .crops import CROPS, Align, FacePicker, PreparedFace, Regions, contact_sheet
from .runner import Made, Summary, Work, prepare

__all__ = [
    "CROPS", "Align", "Curated", "FacePicker", "Made", "PreparedFace", "Regions", "Summary", "Work", "contact_sheet", "curate",
    "prepare",
]  # fmt: skip
