"""Read Stanford Online Products.

Source: Oh Song et al. 2016, arXiv:1511.06452: train on the first half of the classes; each test
image is searched in the other test images.
"""

from __future__ import annotations

from data_io.datasets.data_set import DataSet, ImageRows, build_data_set
from data_io.datasets.layout import Reading
from data_io.datasets.named_files import NamedFiles
from data_io.datasets.text_lists import text_rows
from data_io.datasets.tree import Tree

LISTS = {"train": "Ebay_train.txt", "gallery": "Ebay_test.txt"}


def is_online_products(tree: Tree) -> bool:
    """Return whether the folder has the lists of Stanford Online Products."""
    return tree.has(*LISTS.values())


def read_online_products(tree: Tree, reading: Reading) -> DataSet:
    """Read Ebay_train.txt and Ebay_test.txt: image_id class_id super_class_id path.

    Args:
        tree: the folder.
        reading: how to read it.

    Returns:
        The data set.

    Raises:
        ValueError: a list is wrong, or no image exists.
    """
    lists: dict[str, ImageRows] = {}
    notes: list[str] = []
    for role, name in LISTS.items():
        lists[role] = ImageRows()
        files = NamedFiles(tree.root / name)
        for _, class_id, _, path in text_rows(tree.root / name, 4, num_headers=1):
            files.add(role, path, class_id, lists[role])
        notes += files.notes()
    return build_data_set(tree.root, lists, merge_labels=reading.merge_labels, notes=notes)
