"""List the layouts of data folders, and choose the one of a folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from data_io.datasets.birds import is_birds, read_birds
from data_io.datasets.challenge import is_challenge_tree, read_challenge_tree
from data_io.datasets.class_folders import (
    has_class_folders,
    has_repeated_folders,
    read_class_folders,
    read_top_folders,
)
from data_io.datasets.grocery_store import has_grocery_tree, read_grocery
from data_io.datasets.in_shop import is_in_shop, read_in_shop
from data_io.datasets.layout import Layout
from data_io.datasets.lotte import is_lotte, read_lotte
from data_io.datasets.online_products import is_online_products, read_online_products
from data_io.datasets.photographs import is_never_assumed, read_photographs
from data_io.datasets.reid import is_reid_tree, read_reid_tree
from data_io.datasets.split_folders import (
    are_classes,
    data_sets_in,
    has_parts,
    has_query_and_gallery,
    has_repeated_parts,
    read_query_and_gallery,
    search_reader,
    searches,
)
from data_io.datasets.table_in_folder import has_table, read_table_in_folder
from data_io.datasets.tree import Tree, trees_of

AUTO = "auto"


def _search_layout(query: str, gallery: str, about: str) -> Layout:
    fits = searches(query, gallery)
    return Layout(f"{query}_in_{gallery}", about, fits, search_reader(query, gallery))


LAYOUTS = (
    Layout("grocery", "Grocery Store tree", has_grocery_tree, read_grocery, is_sure=True),
    Layout(
        "challenge",
        "challenge tree",
        lambda tree: is_challenge_tree(tree.root),
        lambda tree, reading: read_challenge_tree(tree.root, reading.merge_labels),
        is_sure=True,
    ),
    Layout("market1501", "Market-1501 tree", is_reid_tree, read_reid_tree, is_sure=True),
    Layout(
        "online_products",
        "Stanford Online Products",
        is_online_products,
        read_online_products,
        is_sure=True,
    ),
    Layout("birds", "CUB-200-2011", is_birds, read_birds, is_sure=True),
    Layout("in_shop", "In-shop Clothes Retrieval", is_in_shop, read_in_shop, is_sure=True),
    Layout("lotte", "Lotte competition tree", is_lotte, read_lotte, is_sure=True),
    Layout("csv", "the CSV file in the folder", has_table, read_table_in_folder),
    Layout(
        "class_folders",
        "folder per class",
        lambda tree: are_classes(tree) and has_class_folders(tree),
        read_class_folders,
    ),
    Layout(
        "top_folders",
        "one class per top folder, whatever folders are in it",
        lambda tree: not has_parts(tree) and has_repeated_folders(tree),
        read_top_folders,
    ),
    Layout(
        "splits",
        "folders of training, query and gallery images",
        has_query_and_gallery,
        read_query_and_gallery,
    ),
    Layout(
        "splits_top_folders",
        "training, query and gallery folders, one class per top folder in each",
        lambda tree: has_query_and_gallery(tree) and has_repeated_parts(tree),
        partial(read_query_and_gallery, top_only=True),
    ),
    _search_layout("val", "train", "the images of val are searched in train"),
    _search_layout("test", "train", "the images of test are searched in train"),
    _search_layout("val", "test", "the images of val are searched in test"),
    _search_layout("val", "val", "each image of val is searched in the others"),
    _search_layout("test", "test", "each image of test is searched in the others"),
    Layout("photographs", "photographs without labels", is_never_assumed, read_photographs),
)
BY_NAME = {layout.name: layout for layout in LAYOUTS}
NAMES = (AUTO, *BY_NAME)


def choose_layout(root: Path, name: str = AUTO) -> tuple[Layout, Tree]:
    """Choose how a folder is read.

    Args:
        root: the folder.
        name: name of a layout; "auto" finds the only one that fits.

    Returns:
        The layout, and the folder to read: `root`, or a single folder in it.

    Raises:
        ValueError: there is no such layout, or several fit.
    """
    trees = trees_of(root)
    if name != AUTO:
        if name not in BY_NAME:
            raise ValueError(f"data layout must be one of {', '.join(NAMES)}. Received {name!r}.")
        layout = BY_NAME[name]
        return layout, next((tree for tree in trees if layout.fits(tree)), trees[0])
    for tree in trees:
        sure = [layout for layout in LAYOUTS if layout.is_sure and layout.fits(tree)]
        if sure:
            return _only(sure, tree)
    # A folder that wraps a known layout is no class.
    for tree in trees:
        fitting = [layout for layout in LAYOUTS if not layout.is_sure and layout.fits(tree)]
        if {layout.name for layout in fitting} - {"class_folders", "top_folders"}:
            return _only(fitting, tree)
    inner = data_sets_in(trees[0])
    if inner:
        raise ValueError(
            f"{root}: each of these folders looks like a whole data set: {', '.join(inner)}. "
            f"Pass one of them as the data, such as {root / inner[0]}, or "
            "--data_layout=class_folders if they are classes."
        )
    fitting = [layout for layout in LAYOUTS if layout.fits(trees[0])]
    return _only(fitting or [BY_NAME["class_folders"]], trees[0])


def folder_of_archive(root: Path) -> Path:
    """Return the folder to read of an unpacked archive; a folder that wraps all of it is no class.

    Args:
        root: the folder that the archive was unpacked into.

    Returns:
        The outermost folder that has a layout other than class folders, else the innermost one.
    """
    trees = trees_of(root)
    others = [layout for layout in LAYOUTS if layout.name not in ("class_folders", "top_folders")]
    return next((tree for tree in trees if any(o.fits(tree) for o in others)), trees[-1]).root


def _only(layouts: list[Layout], tree: Tree) -> tuple[Layout, Tree]:
    if len(layouts) > 1:
        choices = " or ".join(f"--data_layout={layout.name} ({layout.about})" for layout in layouts)
        raise ValueError(f"{tree.root}: can be read in more than one way. Pass {choices}.")
    return layouts[0], tree
