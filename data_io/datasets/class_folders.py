"""Read a folder with one subfolder of images per class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from data_io.datasets.data_set import (
    ACCEPTED_FORMS,
    DataSet,
    ImageRows,
    build_data_set,
    counted,
    id_below,
)
from data_io.datasets.layout import Reading
from data_io.datasets.tree import Tree, folder_below

# Folders that many archives put around the class folders of a part.
WRAPPERS = ("images", "image", "imgs", "img", "photos", "data")
NUM_NAMED = 3
"""Number of folders that a note names."""


def has_class_folders(tree: Tree) -> bool:
    """Return whether a folder of the root has photographs."""
    return tree.has_class_folders()


def has_repeated_folders(tree: Tree, folder: str = "") -> bool:
    """Return whether most folders in class folders have a name that other classes have too.

    Such folders (front, back; 1, 2) may be views of one class.
    """
    classes = classes_of(tree, folder)
    num_parents = Counter(PurePosixPath(name).name.casefold() for name in classes if "/" in name)
    num_repeated = sum(count for count in num_parents.values() if count > 1)
    return 2 * num_repeated > num_parents.total()


def read_class_folders(tree: Tree, reading: Reading) -> DataSet:
    """Read class folders; the class of an image is the path of its folder.

    Args:
        tree: the folder.
        reading: how to read it.

    Returns:
        The data set.

    Raises:
        ValueError: there is no image in a folder.
    """
    rows = class_folder_rows(tree)
    if tree.files() and not rows.found:
        raise ValueError(
            f"{tree.root}: {counted(len(tree.files()), 'photograph')}, but no folder per class, "
            f"so they have no labels (search, extract and whiten need none). {ACCEPTED_FORMS}"
        )
    notes = folder_notes(tree)
    return build_data_set(
        tree.root, {"train": rows}, merge_labels=reading.merge_labels, notes=tuple(notes)
    )


def read_top_folders(tree: Tree, reading: Reading) -> DataSet:
    """Read class folders; the class of an image is the folder of the root that it is below.

    Args:
        tree: the folder.
        reading: how to read it.

    Returns:
        The data set.

    Raises:
        ValueError: there is no image in a folder.
    """
    rows = class_folder_rows(tree, top_only=True)
    return build_data_set(tree.root, {"train": rows}, merge_labels=reading.merge_labels)


def class_folder_rows(
    tree: Tree, folder: str = "", top_only: bool = False, keep_loose: bool = False
) -> ImageRows:
    """List the images below a folder with their classes.

    Args:
        tree: an image's id is its path below the root, without suffix.
        folder: the folder of the root that contains the class folders; "" = the root.
        top_only: the class is the class folder; otherwise it is the whole path below `folder`.
        keep_loose: keep images that are in no class folder, without a label.

    Returns:
        The rows of the list.
    """
    rows = ImageRows(skipped=tree.skipped(folder))
    base = class_base(tree, folder)
    for file in tree.files(folder):
        class_name = class_of(file, base, top_only)
        if class_name or keep_loose:
            rows.add(id_below(tree.root, file), file, class_name)
        else:
            rows.skipped.append((str(file), "not in the folder of a class"))
    return rows


def class_base(tree: Tree, folder: str) -> Path:
    """Return the folder that contains the class folders of a part, such as train/images.

    Args:
        tree: the data.
        folder: the folder of the part; "" = the root, which is returned as it is.

    Returns:
        The folder, or the only folder in it, if it has the name of a part or a name such as images.
    """
    base = tree.root / folder
    if not folder:
        return base
    firsts = {file.relative_to(base).parts[0] for file in tree.files(folder)}
    only = firsts.pop() if len(firsts) == 1 else ""
    is_wrapper = only.casefold() in (folder.casefold(), *WRAPPERS)
    has_classes = any(file.parent != base / only for file in tree.files(folder))
    return base / only if is_wrapper and has_classes else base


def class_of(file: Path, folder: Path, top_only: bool = False) -> str:
    """Return the class of an image by its path.

    Args:
        file: the image file.
        folder: the folder that contains the class folders.
        top_only: the class is the first folder, not the whole path.

    Returns:
        The class; "" if the image is in no class folder.
    """
    below = folder_below(folder, file)
    return below.partition("/")[0] if top_only else below


def folder_notes(tree: Tree, folder: str = "") -> Iterator[str]:
    """Yield a line for each oddity of the class folders below a folder of the root."""
    direct = tree.direct_files(folder)
    if direct:
        yield f"{counted(len(direct), 'photograph')} beside the class folders: no class"
    empty = [path for path, reason in tree.skipped(folder) if reason == "empty class"]
    if empty:
        yield f"{counted(len(empty), 'class folder')} without a photograph: {_named(empty)}"
    classes = classes_of(tree, folder)
    parents = {parent for name in classes for parent in map(str, PurePosixPath(name).parents)}
    mixed = sorted(parents & classes)
    if mixed:
        yield (
            f"{counted(len(mixed), 'class folder')} with photographs and with folders of "
            f"photographs, which are classes too: {_named(mixed)}"
        )
    elif any("/" in name for name in classes):
        yield "folders in folders: a class is the whole path of a folder"


def classes_of(tree: Tree, folder: str) -> set[str]:
    """Return the names of the classes below a folder of the root."""
    base = class_base(tree, folder)
    return {class_of(file, base) for file in tree.files(folder)} - {""}


def _named(paths: Sequence[str]) -> str:
    names = [PurePosixPath(path).name for path in paths[:NUM_NAMED]]
    return ", ".join([*names, *(["..."] if len(paths) > NUM_NAMED else [])])
