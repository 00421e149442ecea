"""Define the frozen records that stages pass to each other.

Each record checks itself when it is made and holds read-only arrays, so that its reader can rely on
it. Ids are stored beside the arrays: row i of an array belongs to `ids[i]`.
"""

from data_io.records.checked_arrays import has_unit_length
from data_io.records.global_features import GlobalFeatures
from data_io.records.ground_truth import GroundTruth
from data_io.records.image_list import NO_LABEL, ImageList
from data_io.records.local_features import (
    DESCRIPTOR_TOLERANCE,
    INT8_STEPS,
    ImageKeypoints,
    LocalFeatures,
)
from data_io.records.ranking import Ranking

__all__ = [
    "DESCRIPTOR_TOLERANCE",
    "INT8_STEPS",
    "NO_LABEL",
    "GlobalFeatures",
    "GroundTruth",
    "ImageKeypoints",
    "ImageList",
    "LocalFeatures",
    "Ranking",
    "has_unit_length",
]
