"""Read CUB-200-2011.

Source: Wah et al. 2011, "The Caltech-UCSD Birds-200-2011 Dataset"; Oh Song et al. 2016,
arXiv:1511.06452: train on classes 1 to 100; each image of the others is searched in the rest.
"""

from __future__ import annotations

from data_io.datasets.data_set import DataSet, ImageRows, build_data_set
from data_io.datasets.layout import Reading
from data_io.datasets.named_files import NamedFiles
from data_io.datasets.text_lists import text_rows
from data_io.datasets.tree import Tree

LAST_TRAINING_CLASS = 100


def is_birds(tree: Tree) -> bool:
    """Return whether the folder has the lists of CUB-200-2011."""
    return tree.has("images.txt", "image_class_labels.txt", "classes.txt")


def read_birds(tree: Tree, reading: Reading) -> DataSet:
    """Read images.txt, image_class_labels.txt and classes.txt.

    Args:
        tree: the folder.
        reading: how to read it.

    Returns:
        The data set.

    Raises:
        ValueError: a list is wrong, an image has no class, or no image exists.
    """
    name_of = dict(text_rows(tree.root / "classes.txt", 2))
    class_of = dict(text_rows(tree.root / "image_class_labels.txt", 2))
    lists = {"train": ImageRows(), "gallery": ImageRows()}
    files = NamedFiles(tree.root / "images.txt", tree.root / "images")
    for image, path in text_rows(tree.root / "images.txt", 2):
        number = class_of.get(image, "")
        if number not in name_of or not number.isdecimal():
            raise ValueError(
                f"{tree.root / 'image_class_labels.txt'}: no class of image {image} ({path}) that "
                "classes.txt names. Unpack the data set again."
            )
        split = "train" if int(number) <= LAST_TRAINING_CLASS else "gallery"
        files.add(split, path, name_of[number], lists[split])
    notes = files.notes()
    return build_data_set(tree.root, lists, merge_labels=reading.merge_labels, notes=notes)
