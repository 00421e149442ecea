"""Read the tree of the challenge (NAVER AI Hackathon 2018)."""

from __future__ import annotations

from pathlib import Path

from data_io.csv_rows import csv_rows
from data_io.datasets.class_folders import class_folder_rows
from data_io.datasets.data_set import DataSet, ImageRows, build_data_set
from data_io.folders import image_files


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
    class_of = _read_test_labels(label_file) if label_file.is_file() else None
    query = _test_rows(test / "test_data" / "query", class_of)
    gallery = _test_rows(test / "test_data" / "reference", class_of)
    if class_of is not None:
        for image_id in sorted(class_of.keys() - query.rows.keys() - gallery.rows.keys()):
            reason = f"in {label_file.name}, but there is no such image"
            query.skipped.append((image_id, reason))
    train_rows = class_folder_rows(train, train) if train.is_dir() else ImageRows()
    splits = {"train": train_rows, "query": query, "gallery": gallery}
    return build_data_set(root, splits, merge_labels=merge_labels)


def _test_rows(folder: Path, class_of: dict[str, str] | None) -> ImageRows:
    if not folder.is_dir():
        return ImageRows()
    rows = ImageRows(labelled=class_of is not None, sorted_by_class=False)
    files = image_files(folder, rows.skipped)
    _require_distinct_stems(files)
    for file in files:
        rows.add(file.stem, file, (class_of or {}).get(file.stem, ""))
    return rows


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


def _read_test_labels(path: Path) -> dict[str, str]:
    class_of: dict[str, str] = {}
    for line, row in csv_rows(path, ("id", "label")):
        if class_of.setdefault(row["id"], row["label"]) != row["label"]:
            raise ValueError(f"{path}, line {line}: a second label for {row['id']}; keep one.")
    return {image_id: name for image_id, name in class_of.items() if name}
