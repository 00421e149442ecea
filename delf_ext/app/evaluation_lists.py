"""Choose the queries and the gallery that models are measured on, and check them."""

from __future__ import annotations

from collections.abc import Sequence

from data_io.datasets import DataSet
from data_io.duplicates import find_duplicates
from data_io.messages import unlabelled_notes
from data_io.progress import Log, quiet
from data_io.records import GroundTruth, ImageList
from data_io.tables.spelling import spelling_key
from delf_ext.app.held_out import held_out_lists
from delf_ext.app.trained_on import require_untrained, trained_queries, was_trained
from delf_ext.features.embedder import AnyEmbedder, HeldBack, common_held_back
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


def common_lists(
    data: DataSet,
    models: Sequence[AnyEmbedder],
    log: Log = quiet,
    allow_trained_photographs: bool = False,
) -> tuple[ImageList, ImageList]:
    """Return the queries and the gallery that all models are measured on.

    Args:
        data: its queries and gallery are used if it has them; else the images that training held
            back; else each image is searched in all others.
        models: the models to measure.
        log: called with one line for each model.
        allow_trained_photographs: measure also if queries are photographs that a model was
            trained on.

    Returns:
        Queries and gallery.

    Raises:
        UsageError: if the data has no queries and the models held back different images.
        ValueError: if there is nothing to find, a held-out class would be a trained one, or a
            query photograph was trained on and that is not allowed.
    """
    has_lists = len(data.query) and len(data.gallery)
    held_back = HeldBack() if has_lists else common_held_back(models, data.name)
    query, gallery, source = evaluation_lists(data, held_back)
    all_found = [trained_queries(model, query, data.class_names) for model in models]
    for model, found in zip(models, all_found, strict=True):
        line = f"{model.name}: {len(query)} queries in a gallery of {len(gallery)}: {source}"
        if was_trained(model) and query.labels is not None:
            line += (
                f"; {found.num_trained_classes} of {found.num_classes} query classes were "
                "trained on"
            )
        log(line)
    for model, found in zip(models, all_found, strict=True):
        require_untrained(model, found, allow_trained_photographs)
    for line in unlabelled_notes(query, gallery):
        log(line)
    return query, gallery


def require_answers(
    query: ImageList,
    gallery: ImageList,
    duplicates: str,
    class_names: Sequence[str],
    remedy: str = "Pass --duplicates=count to count copies.",
) -> None:
    """Raise ValueError, before the long work, if copies are an error or nothing can be found.

    Args:
        query: images to search with.
        gallery: images to search in.
        duplicates: see `find_duplicates`.
        class_names: name of label i, for the message.
        remedy: what to do if only copies can be found, for the message.

    Raises:
        ValueError: a list has no labels, copies are refused, or no query has a relevant image.
    """
    found = find_duplicates(query, gallery, duplicates)
    truth = GroundTruth.from_labels(query, gallery, found.junk)
    if any(len(rows) for rows in truth.relevant):
        return
    if found.num_only_copies:
        raise ValueError(
            f"all relevant images of the {found.num_only_copies} queries are copies of them, so "
            f"there is nothing to find. {remedy}"
        )
    examples = [
        f"{what} has {class_names[images.labels[images.has_label][0]]!r}"
        for what, images in (("a query", query), ("a gallery image", gallery))
        if images.labels is not None and images.has_label.any()
    ]
    raise ValueError(
        f"none of the {len(query)} queries has another photograph with its label in the gallery, "
        f"so there is nothing to find ({', '.join(examples)}). Check the labels of the data."
    )
