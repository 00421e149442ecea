"""Choose the queries and the gallery that models are measured on."""

from __future__ import annotations

from data_io.datasets import DataSet
from data_io.records import ImageList
from data_io.tables.spelling import spelling_key
from delf_ext.app.held_out import held_out_lists
from delf_ext.features.embedder import HeldBack
from delf_ext.recipes import schema

ALL_IN_ALL = "each image is searched in all the others"


def evaluation_lists(data: DataSet, held_back: HeldBack) -> tuple[ImageList, ImageList, str]:
    """Return queries and gallery to measure on, and what they are.

    These are the lists of the data; without them, the images that training held back; if it held
    none back, each training image is searched in all others.

    Args:
        data: the data set.
        held_back: what training held back.

    Returns:
        Queries, gallery, and a description for the log.

    Raises:
        ValueError: if the data has queries but no gallery, or a gallery but no queries; if there
            is nothing to find; or if a held-out class would be one that was trained on.
    """
    if len(data.query) and len(data.gallery):
        return data.query, data.gallery, "queries and gallery of the data"
    if len(data.query) or len(data.gallery):
        missing = "gallery" if len(data.query) else "query"
        raise ValueError(
            f"{data.name}: the data has no {missing} images. Add them, or pass class folders only."
        )
    validation = held_back.validation
    if validation is None or isinstance(validation, schema.Given):
        return data.train, data.train, f"no queries: {ALL_IN_ALL}"
    parts = held_out_lists(data, held_back)
    if parts is not None:
        return parts.query, parts.gallery, parts.description
    if held_back.photographs is None:
        _require_other_classes(data, held_back)
    return data.train, data.train, f"no held-out class of the run is in the data: {ALL_IN_ALL}"


def _require_other_classes(data: DataSet, held_back: HeldBack) -> None:
    """Raise ValueError if a class of the data has the name of a trained class."""
    trained = set(map(spelling_key, held_back.classes))
    for label in sorted(set(data.train.labelled().known_labels("an evaluation").tolist())):
        name = data.class_names[label]
        if spelling_key(name) in trained:
            raise ValueError(
                f"{data.name}: none of the classes that the run held out is in the data, but class "
                f"{name}, which it was trained on. Pass the data of the run, or data with queries."
            )
