"""The reading room: read-only questions over the index, on connections of its own."""

from pipeline.catalogue.catalogue import Catalogue, success
from pipeline.catalogue.gallery import Filter
from pipeline.catalogue.images import GalleryRow
from pipeline.catalogue.jobs import overview
from pipeline.catalogue.values import (
    BadCursor,
    CharacterRow,
    Day,
    Figures,
    JobRow,
    MediaFile,
    NoticeRow,
    Page,
    Problem,
    Step,
    Summary,
    TroubleRow,
    Whose,
)

__all__ = [
    "BadCursor",
    "Catalogue",
    "CharacterRow",
    "Day",
    "Figures",
    "Filter",
    "GalleryRow",
    "JobRow",
    "MediaFile",
    "NoticeRow",
    "Page",
    "Problem",
    "Step",
    "Summary",
    "TroubleRow",
    "Whose",
    "overview",
    "success",
]
