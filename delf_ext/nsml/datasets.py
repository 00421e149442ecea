"""Push, list and delete the data sets of the store.

All forms that data_io reads become a challenge tree. Labels of test images are kept outside it.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data_io.datasets import DataSet, load_dataset
from data_io.datasets.layouts import AUTO
from data_io.files.artifacts import atomic_path
from data_io.files.contents import same_images
from data_io.files.locks import in_turn
from data_io.files.names import unescaped
from data_io.files.skipped_files import mostly_skipped
from data_io.images import PROGRESS_FROM, check_images
from data_io.messages import unlabelled_notes
from data_io.tables.csv_rows import csv_text, read_table
from delf_ext.app.data import draw_products
from delf_ext.nsml import records, store
from delf_ext.nsml.challenge_tree import QUERY, REFERENCE, TRAIN, ChallengeTree, lay_out


class Contents(NamedTuple):
    """Contents of a data set.

    Attributes:
        name: name of the data set.
        num_train: number of training images.
        num_classes: number of classes with training images.
        num_queries: number of queries.
        num_references: number of references.
        has_answers: whether there are labels of the test images, so that submissions can be scored.
        pushed: Unix seconds.
        skipped: (path, reason) of each image that was left out by `push`.
        notes: remarks of `push` about the data, one line each.
        read_as: how `push` read the data.
    """

    name: str
    num_train: int
    num_classes: int
    num_queries: int
    num_references: int
    has_answers: bool
    pushed: float
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    read_as: str = ""


def push(
    name: str,
    path: str | Path,
    overwrite: bool = False,
    merge_labels: bool = False,
    layout: str = AUTO,
) -> Contents:
    """Copy a data set to the store as a challenge tree.

    A challenge tree keeps its names. Images of other forms get the names query_<i> and refer_<j>
    in a random order with a fixed seed. The folder that sessions see contains no label of a test
    image, and no files but images. Images that cannot be decoded are left out. If the call fails,
    an earlier data set of that name is unchanged.

    Args:
        name: name of the data set.
        path: data in any form that `data_io.datasets.load_dataset` reads.
        overwrite: replace an earlier data set of that name.
        merge_labels: join labels that differ only in how they are written.
        layout: how to read a folder; "auto" finds out.

    Returns:
        Contents of the new data set.

    Raises:
        ValueError: There is a data set of that name and `overwrite` is False, a session runs on
            it, the data cannot be used, or the disk is full.
    """
    _require_free(name, overwrite)
    data = _without_unreadable(load_dataset(path, merge_labels=merge_labels, layout=layout))
    tree = lay_out(data, keep_names=data.layout == "challenge")
    _put(name, tree, overwrite)
    warning = mostly_skipped(data.skipped, data.paths)
    notes = (*_notes(data, bool(tree.labels)), *([warning] if warning else []))
    return _contents(name)._replace(skipped=data.skipped, notes=notes, read_as=data.read_as)


def draw(name: str, num_classes: int, seed: int = 0, overwrite: bool = False) -> Contents:
    """Draw products and push them.

    Args:
        name: name of the data set.
        num_classes: number of products.
        seed: seed of the drawing.
        overwrite: replace an earlier data set of that name.

    Returns:
        Contents of the new data set.

    Raises:
        ValueError: As in `push`.
    """
    _require_free(name, overwrite)
    # Not in a cache folder, because the labels of the test images would stay there.
    with _temporary_folder(name) as folder:
        return push(name, draw_products(folder / name, num_classes, seed), overwrite)


def listing() -> list[Contents]:
    """Return the contents of all data sets, sorted by name."""
    names = sorted(path.name for path in (store.home() / "datasets").glob("*"))
    return [_contents(name) for name in names if store.NAME.fullmatch(name)]


def existing(name: str) -> Path:
    """Return the folder of a data set that exists.

    Args:
        name: name of the data set.

    Returns:
        Path in the store.

    Raises:
        ValueError: There is no such data set.
    """
    folder = store.dataset_folder(name)
    if not folder.is_dir():
        known = ", ".join(contents.name for contents in listing()) or "none"
        raise ValueError(
            f"no data set {name} (known: {known}). "
            f"Create it with `nsml dataset push {name} PATH` or `nsml dataset push {name} --draw`."
        )
    return folder


def remove(name: str) -> None:
    """Delete a data set and its labels of test images.

    Args:
        name: name of the data set.

    Raises:
        ValueError: There is no such data set, or a session runs on it.
    """
    folder = existing(name)
    _require_unused(name)
    with _temporary_folder(name) as trash, _exclusive_access():
        folder.rename(trash / name)
        store.answers_file(name).unlink(missing_ok=True)


def answers_of(name: str) -> dict[str, str]:
    """Read the labels of a data set's test images.

    Args:
        name: name of the data set.

    Returns:
        Id of a test image -> label, "" for an image without one; empty if the data set was pushed
        without labels.

    Raises:
        ValueError: The file is damaged.
    """
    path = store.answers_file(name)
    if not path.exists():
        return {}
    return {unescaped(row["id"]): row["label"] for _, row in read_table(path, ("id", "label")).rows}


def _without_unreadable(data: DataSet) -> DataSet:
    """Return the data without images that cannot be decoded."""
    train = check_images(data.train, "checking training images")
    query = check_images(data.query, "checking queries")
    # If the gallery is the training list, its images are decoded only once.
    same_images = data.gallery is data.train
    gallery = train if same_images else check_images(data.gallery, "checking references")
    return dataclasses.replace(data, train=train, query=query, gallery=gallery)


def _notes(data: DataSet, has_labels: bool) -> Iterator[str]:
    yield from data.notes
    num_unlabelled = len(data.train) - len(data.train.labelled())
    if num_unlabelled:
        yield f"{num_unlabelled} training images have no label: left out"
    if not len(data.query) or not len(data.gallery):
        yield "no queries or no references: sessions can train, but not submit"
    elif not has_labels:
        yield "no labels of the test images: submissions are checked and timed, but not scored"
    else:
        yield from unlabelled_notes(data.query, data.gallery)
    for name, images, other_name, others in (
        ("references", data.gallery, "training images", data.train),
        ("queries", data.query, "training images", data.train),
        ("queries", data.query, "references", data.gallery),
    ):
        keys = same_images([*images.paths.tolist(), *others.paths.tolist()])
        num_shared = int(np.isin(keys[: len(images)], keys[len(images) :]).sum())
        if num_shared:
            yield f"{num_shared} of {len(images)} {name} are also {other_name}"


def _require_free(name: str, overwrite: bool) -> None:
    if store.dataset_folder(name).exists():
        if not overwrite:
            raise ValueError(
                f"data set {name} exists: pass --overwrite to replace it, or choose another name."
            )
        _require_unused(name)


def _require_unused(name: str) -> None:
    running = ", ".join(filter(records.is_running, store.session_names(name)))
    if running:
        raise ValueError(f"data set {name} is used by {running}: stop the session first.")


@contextmanager
def _temporary_folder(name: str) -> Iterator[Path]:
    """Yield a hidden folder on the disk of the data sets; convert disk errors to ValueError."""
    above = store.dataset_folder(name).parent
    try:
        above.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=above) as folder:
            yield Path(folder)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"cannot write {above / name} ({reason}); nothing was changed. "
            "Free some space and run again."
        ) from error


@contextmanager
def _exclusive_access() -> Iterator[None]:
    """Let only one process at a time put or delete data sets."""
    # Otherwise two pushes at once could leave the images of one and the labels of the other.
    with in_turn(store.home() / ".datasets.lock"):
        yield


def _put(name: str, tree: ChallengeTree, overwrite: bool) -> None:
    """Write images and labels to hidden places, then rename both."""
    folder = store.dataset_folder(name)
    answers = store.answers_file(name)
    text = csv_text([("id", "label"), *sorted(tree.labels.items())])
    with _temporary_folder(name) as temporary:
        _copy(tree.sources, temporary / "new")
        answers.parent.mkdir(mode=0o700, exist_ok=True)
        with _exclusive_access(), atomic_path(answers) as new_answers:
            # Another push may have ended while the images were copied.
            _require_free(name, overwrite)
            new_answers.write_text(text, encoding="utf-8")
            if folder.exists():
                folder.rename(temporary / "old")
            (temporary / "new").rename(folder)
        answers.chmod(0o600)


def _copy(sources: dict[str, str], folder: Path) -> None:
    for place in (TRAIN, QUERY, REFERENCE):
        (folder / place).mkdir(parents=True)
    # None hides the progress bar if there is no terminal.
    hidden = True if len(sources) < PROGRESS_FROM else None
    for place, source in tqdm(sources.items(), desc="pushing", unit="image", disable=hidden):
        (folder / place).parent.mkdir(exist_ok=True)
        shutil.copyfile(source, folder / place)


def _contents(name: str) -> Contents:
    folder = store.dataset_folder(name)
    answers = store.answers_file(name)
    patterns = (f"{TRAIN}/*/*", f"{TRAIN}/*", f"{QUERY}/*", f"{REFERENCE}/*")
    num_train, num_classes, num_queries, num_references = (
        sum(1 for _ in folder.glob(pattern)) for pattern in patterns
    )
    has_answers = answers.exists() and answers.stat().st_size > len("id,label\n")
    pushed = folder.stat().st_mtime
    return Contents(name, num_train, num_classes, num_queries, num_references, has_answers, pushed)
