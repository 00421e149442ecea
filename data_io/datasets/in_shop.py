"""Read the In-shop Clothes Retrieval benchmark of DeepFashion.

Source: Liu et al. 2016, "DeepFashion: Powering Robust Clothes Recognition and Retrieval".
"""

from __future__ import annotations

from pathlib import Path

from data_io.datasets.data_set import SPLITS, DataSet, ImageRows, build_data_set
from data_io.datasets.layout import Reading
from data_io.datasets.named_files import NamedFiles
from data_io.datasets.text_lists import text_rows
from data_io.datasets.tree import Tree

LIST = "list_eval_partition.txt"


def is_in_shop(tree: Tree) -> bool:
    """Return whether the folder has the list of In-shop Clothes Retrieval."""
    return _list_file(tree) is not None


def read_in_shop(tree: Tree, reading: Reading) -> DataSet:
    """Read list_eval_partition.txt: image_name item_id evaluation_status.

    Args:
        tree: the folder.
        reading: how to read it.

    Returns:
        The data set.

    Raises:
        ValueError: the list is missing or wrong, or no image exists.
    """
    path = _list_file(tree)
    if path is None:
        raise ValueError(f"{tree.root}: no {LIST}, nor Eval/{LIST}. Check --data.")
    # The archive has the photographs in img/ or in Img/img/.
    folders = [tree.root / "Img", tree.root / "Anno", tree.root]
    folder = next((folder for folder in folders if (folder / "img").is_dir()), tree.root)
    lists = {split: ImageRows() for split in SPLITS}
    files = NamedFiles(path, folder)
    for name, item, split in text_rows(path, 3, num_headers=2):
        if split not in lists:
            raise ValueError(f"{path}: {name}: expected train, query or gallery. Received {split}.")
        files.add(split, name, item, lists[split])
    notes = files.notes()
    return build_data_set(tree.root, lists, merge_labels=reading.merge_labels, notes=notes)


def _list_file(tree: Tree) -> Path | None:
    files = [tree.root / LIST, tree.root / "Eval" / LIST, tree.root / "Anno" / LIST]
    return next((file for file in files if file.is_file()), None)
