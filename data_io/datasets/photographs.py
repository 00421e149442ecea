"""Read every photograph below a folder, without labels."""

from __future__ import annotations

from data_io.datasets.data_set import (
    DataSet,
    ImageRows,
    build_data_set,
    id_below,
    left_out_details,
)
from data_io.datasets.layout import Reading
from data_io.datasets.tree import Tree


def is_never_assumed(tree: Tree) -> bool:
    """Return False: photographs without labels are read only where labels are not needed."""
    return False


def read_photographs(tree: Tree, reading: Reading) -> DataSet:
    """Read every photograph below the folder as a gallery without labels.

    Args:
        tree: the folder.
        reading: how to read it.

    Returns:
        The data set.

    Raises:
        ValueError: there is no image.
    """
    rows = ImageRows(labelled=False, skipped=tree.skipped())
    for file in tree.files():
        rows.add(id_below(tree.root, file), file)
    if not rows.found:
        raise ValueError(f"{tree.root}: no image in it{left_out_details(rows.skipped)}.")
    return build_data_set(tree.root, {"gallery": rows})
