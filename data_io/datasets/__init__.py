"""Read a data set from disk: class folders, CSV, published trees, or a zip archive of them.

Everything is sorted, so two runs see the same order. A file that cannot be used is skipped and
listed with its reason.
"""

from __future__ import annotations

from data_io.datasets.data_set import ACCEPTED_FORMS, DataSet
from data_io.datasets.listing import list_images, listed, listed_gallery
from data_io.datasets.loading import load_dataset

__all__ = ["ACCEPTED_FORMS", "DataSet", "list_images", "listed", "listed_gallery", "load_dataset"]
