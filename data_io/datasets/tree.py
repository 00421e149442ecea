"""List a folder of data once, for the layouts that might read it."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from data_io.decoding.image_kinds import reason_not_image
from data_io.files.folders import image_files, visible_entries


class Tree:
    """A folder of data. Image files are listed when a layout first asks for them.

    Attributes:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[str, list[Path]] = {}
        self._skipped: dict[str, list[tuple[str, str]]] = {}

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """Names of the folders in the root, without hidden folders and system folders."""
        entries = [entry for entry in visible_entries(self.root) if os.path.isdir(entry.path)]
        return tuple(entry.name for entry in entries if not entry.name.startswith("."))

    def has(self, *names: str) -> bool:
        """Return whether the root has all of these files."""
        return all((self.root / name).is_file() for name in names)

    def files(self, folder: str = "") -> list[Path]:
        """Return the image files below a folder of the root, sorted; "" is the root itself."""
        if folder not in self._files:
            skipped: list[tuple[str, str]] = []
            self._files[folder] = image_files(self.root / folder, skipped)
            self._skipped[folder] = skipped
        return self._files[folder]

    def skipped(self, folder: str = "") -> list[tuple[str, str]]:
        """Return (path, reason) of what was left out below a folder of the root."""
        self.files(folder)
        return list(self._skipped[folder])

    @cached_property
    def loose(self) -> list[Path]:
        """Image files in the root itself, sorted; folders are not read."""
        files = [
            Path(entry.path)
            for entry in visible_entries(self.root)
            if not entry.name.startswith(".") and not os.path.isdir(entry.path)
        ]
        return [file for file in files if reason_not_image(str(file)) == ""]

    def direct_files(self, folder: str = "") -> list[Path]:
        """Return the image files in a folder of the root that are in none of its folders."""
        return [file for file in self.files(folder) if not folder_below(self.root / folder, file)]

    def has_class_folders(self, folder: str = "") -> bool:
        """Return whether a folder of the root has folders with image files."""
        return any(folder_below(self.root / folder, file) for file in self.files(folder))

    @cached_property
    def inner(self) -> Tree | None:
        """The only folder in the root, if the root has no photographs beside it."""
        if len(self.folders) != 1:
            return None
        inner = Tree(self.root / self.folders[0])
        has_content = inner.folders or any(inner.root.glob("*.[cC][sS][vV]"))
        return inner if has_content and not self.loose else None


def folder_below(folder: Path, file: Path) -> str:
    """Return the path of a file's folder below another folder, "" if it is that folder.

    Args:
        folder: a folder above the file; the path of the file begins with it.
        file: the file.

    Returns:
        The path, with slashes. (`Path.relative_to` takes ten times as long.)
    """
    above = os.fspath(folder)
    parent = os.path.dirname(os.fspath(file))
    below = parent if above == os.curdir else parent[len(above) :]
    return below.strip(os.sep).replace(os.sep, "/")


def trees_of(root: Path) -> list[Tree]:
    """Return the tree of a folder, and the trees of the single folders that wrap its content."""
    trees = [Tree(root)]
    while (inner := trees[-1].inner) is not None and len(trees) < 4:
        trees.append(inner)
    return trees
