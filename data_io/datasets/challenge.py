"""Read the tree of the challenge (NAVER AI Hackathon 2018)."""

from __future__ import annotations

from pathlib import Path

from data_io.datasets.class_folders import class_folder_rows, folder_notes
from data_io.datasets.data_set import DataSet, ImageRows, build_data_set
from data_io.datasets.mismatch import mismatch
from data_io.datasets.tree import Tree
from data_io.files.folders import image_files
from data_io.files.names import escaped
from data_io.tables.csv_rows import Table, read_table
from data_io.tables.spelling import nfc, shortened, spelling_key, visible


def is_challenge_tree(path: Path) -> bool:
    """Return whether the folder has the training or the test images of the challenge."""
    return (path / "train" / "train_data").is_dir() or (path / "test" / "test_data").is_dir()


def read_challenge_tree(root: Path, merge_labels: bool = False) -> DataSet:
    """Read train/train_data, test/test_data/query and test/test_data/reference.

    If there is a test/test_labels.csv, queries and gallery have labels. A test image that is not in
    it stays in its list without a label.

    Args:
        root: the folder.
        merge_labels: join labels that differ only in how they are written.

    Returns:
        The data set.

    Raises:
        ValueError: there is no image, or test_labels.csv contradicts itself.
    """
    train = root / "train" / "train_data"
    test = root / "test"
    label_file = test / "test_labels.csv"
    table = read_table(label_file, ("id", "label")) if label_file.is_file() else None
    class_of = _classes(label_file, table) if table is not None else None
    query = _test_rows(test / "test_data" / "query", class_of)
    gallery = _test_rows(test / "test_data" / "reference", class_of)
    notes: list[str] = []
    if table is not None and class_of is not None:
        names = [row["id"] for _, row in table.rows if row["id"]]
        notes = [*table.notes, *_unmatched_notes(label_file, names, [query, gallery])]
    train_rows = ImageRows()
    if train.is_dir():
        train_rows = class_folder_rows(Tree(train))
        notes += [f"{train.name}: {note}" for note in folder_notes(Tree(train))]
    splits = {"train": train_rows, "query": query, "gallery": gallery}
    return build_data_set(root, splits, merge_labels=merge_labels, notes=notes)


def _written(image_id: str) -> tuple[str, str]:
    """Return an id as a table can have it: as it is, or with escapes for bytes that are no text."""
    return nfc(image_id), nfc(escaped(image_id))


def _test_rows(folder: Path, class_of: dict[str, str] | None) -> ImageRows:
    if not folder.is_dir():
        return ImageRows()
    rows = ImageRows(labelled=class_of is not None, sorted_by_class=False)
    class_of = class_of or {}
    files = image_files(folder, rows.skipped)
    _require_distinct_stems(files)
    for file in files:
        names = _written(file.stem)
        class_name = next((class_of[name] for name in names if name in class_of), "")
        rows.add(file.stem, file, class_name)
    return rows


def _unmatched_notes(label_file: Path, names: list[str], lists: list[ImageRows]) -> list[str]:
    """Return a line that counts the names without an image.

    Raises:
        ValueError: most names have no image and most images no label, or a list gets no label.
    """
    ids = [image_id for rows in lists for image_id in rows.rows]
    known = {name for image_id in ids for name in _written(image_id)}
    unmatched = [name for name in names if nfc(name) not in known]
    if not unmatched:
        return []
    has_label = [[bool(row.class_name) for row in rows.found.values()] for rows in lists]
    left_out = any(flags and not any(flags) for flags in has_label)
    is_few = len(unmatched) > len(names) / 2 and sum(map(sum, has_label)) < len(ids) / 2
    if left_out or is_few:
        matched = len(names) - len(unmatched)
        raise ValueError(
            f"{label_file}: {matched or 'none'} of its {len(names)} names are those of the "
            f"{len(ids)} test images. {mismatch(unmatched, ids)} Write the names of the images "
            "without folder and ending in the column id."
        )
    return [
        f"{label_file.name}: {len(unmatched)} of {len(names)} names have no image, such as "
        f"{shortened(unmatched[0])}"
    ]


def _require_distinct_stems(files: list[Path]) -> None:
    """Raise ValueError if two files have the same name apart from folder and ending."""
    first_of: dict[str, Path] = {}
    for file in files:
        first = first_of.setdefault(file.stem, file)
        if first is not file:
            raise ValueError(
                f"{file}: {first.name} has the same name apart from its ending, and an answer of "
                f"the challenge has no endings. Rename or delete {file} or {first}."
            )


def _classes(path: Path, table: Table) -> dict[str, str]:
    """Return the class of each id, in normal form C; ids with an empty label are left out."""
    class_of: dict[str, str] = {}
    for line, row in table.rows:
        class_name = row["label"] if visible(row["label"]).strip() else ""
        first = class_of.setdefault(nfc(row["id"]), class_name)
        if spelling_key(first) != spelling_key(class_name):
            raise ValueError(f"{path}, line {line}: a second label for {row['id']}; keep one.")
    return {image_id: name for image_id, name in class_of.items() if name}
