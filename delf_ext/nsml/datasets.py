"""Data sets of the store: whatever data_io reads becomes the challenge's tree, and the labels of its test images lie apart."""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_io.artifacts import atomic_path
from data_io.csv_rows import csv_rows
from data_io.datasets import DataSet, load_dataset
from data_io.images import PROGRESS_FROM, check_images
from delf_ext.app.data import draw_products as draw_tree
from delf_ext.nsml import store
from delf_ext.nsml.challenge_tree import QUERY, REFERENCE, TEST, TRAIN, ChallengeTree, lay_out


@dataclass(frozen=True)
class Pushed:
    """What is in a data set. has_answers: submissions can be scored; pushed: Unix seconds.

    skipped: (path, reason) of every file left out; notes: what its owner should know, in lines.
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


def push(name: str, path: str | Path, overwrite: bool = False) -> Pushed:
    """Copies a data set into the store, in any form that data_io.datasets.load_dataset reads; whole or not at all.

    A challenge tree keeps its names. The images of other forms are numbered by a seeded permutation: query_<i>, refer_<j>.
    No label of a test image, and no file but images, lies below the folder that sessions see. Unreadable images are left out.
    Raises: ValueError when there is one of that name and not `overwrite`, when a session runs on it, on bad data or a full disk.
    """
    _require_free(name, overwrite)
    data = _readable(load_dataset(path))
    tree = lay_out(data, any(Path(path, folder).is_dir() for folder in (TRAIN, TEST)))
    _put(name, tree, overwrite)
    notes = tuple(_notes(data, bool(tree.labels)))
    return dataclasses.replace(_listed(name), skipped=data.skipped, notes=notes)


def draw(name: str, num_classes: int = 1000, seed: int = 0, overwrite: bool = False) -> Pushed:
    """Pushes drawn products; by default in the exact shape of the hackathon's first round. Raises: ValueError as `push`."""
    _require_free(name, overwrite)
    with _room_beside(
        name
    ) as room:  # not in a cache: the labels of its test images would stay there
        return push(name, draw_tree(room / name, num_classes, seed), overwrite)


def listing() -> list[Pushed]:
    """All data sets by name, counted anew."""
    folders = sorted(
        path for path in (store.home() / "datasets").glob("*") if store.NAME.fullmatch(path.name)
    )
    return [_listed(folder.name) for folder in folders]


def existing(name: str) -> Path:
    """The folder of a data set. Raises: ValueError naming those that are there, when it is none of them."""
    folder = store.dataset_folder(name)
    if not folder.is_dir():
        others = ", ".join(listed.name for listed in listing()) or "none"
        raise ValueError(
            f"no data set {name}: there are {others}. `nsml dataset push {name} PATH` or `--draw` makes it."
        )
    return folder


def remove(name: str) -> None:
    """Deletes a data set and its answers. Raises: ValueError when there is none of that name, or a session runs on it."""
    folder = existing(name)
    _require_unused(name)
    with _room_beside(name) as room, _alone(name):
        folder.rename(room / name)
        store.answers_file(name).unlink(missing_ok=True)


def answers_of(name: str) -> dict[str, str]:
    """Test image -> label; empty where the data set came without. Raises: ValueError when the file is damaged."""
    path = store.answers_file(name)
    return (
        {row["id"]: row["label"] for _, row in csv_rows(path, ("id", "label"))}
        if path.exists()
        else {}
    )


def _readable(data: DataSet) -> DataSet:
    """The data without the images that cannot be decoded; a gallery that is the train list is looked at once."""
    train = check_images(data.train, "checking training images")
    query = check_images(data.query, "checking queries")
    gallery = (
        train if data.gallery is data.train else check_images(data.gallery, "checking references")
    )
    return dataclasses.replace(data, train=train, query=query, gallery=gallery)


def _notes(data: DataSet, labelled: bool) -> Iterator[str]:
    if not len(data.query) or not len(data.gallery):
        yield "no queries or no references: sessions can train on it, but nothing can be submitted"
    elif not labelled:
        yield "no labels of the test images: submissions are checked and timed, but cannot be scored"
    for what, images, where, others in (
        ("references", data.gallery, "training images", data.train),
        ("queries", data.query, "training images", data.train),
        ("queries", data.query, "references", data.gallery),
    ):
        if shared := int(np.isin(images.paths, others.paths).sum()):
            yield f"{shared} of {len(images)} {what} are {where} too"


def _require_free(name: str, overwrite: bool) -> None:
    if store.dataset_folder(name).exists():
        if not overwrite:
            raise ValueError(
                f"data set {name} is there already: pass --overwrite to replace it, or choose another name."
            )
        _require_unused(name)


def _require_unused(name: str) -> None:
    running = ", ".join(
        session for session in store.session_names(name) if store.is_running(session)
    )
    if running:
        raise ValueError(f"data set {name} is in use by {running}: stop the session first.")


@contextmanager
def _room_beside(name: str) -> Iterator[Path]:
    """A hidden folder on the data sets' disk, deleted in the end. Raises: ValueError for what a full or foreign disk does."""
    above = store.dataset_folder(name).parent
    try:
        above.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=above) as room:
            yield Path(room)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"{above / name}: cannot be written ({reason}); it is as it was. Make room, then run again."
        ) from error


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """One process at a time puts or deletes: two at once could leave data of one push and answers of the other."""
    above = os.open(store.dataset_folder(name).parent, os.O_RDONLY)
    try:
        fcntl.flock(above, fcntl.LOCK_EX)
        yield
    finally:
        os.close(above)


def _put(name: str, tree: ChallengeTree, overwrite: bool) -> None:
    """Puts data and answers in place only when both are whole."""
    folder, answers = store.dataset_folder(name), store.answers_file(name)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("id", "label"), *sorted(tree.labels.items())])
    with _room_beside(name) as room:
        _copy(tree.sources, room / "new")
        answers.parent.mkdir(mode=0o700, exist_ok=True)
        with _alone(name), atomic_path(answers) as unpublished:
            _require_free(name, overwrite)  # another push may have been faster
            unpublished.write_text(text.getvalue(), encoding="utf-8")
            if folder.exists():
                folder.rename(room / "old")
            (room / "new").rename(folder)
        answers.chmod(0o600)


def _copy(sources: dict[str, str], folder: Path) -> None:
    for place in (TRAIN, QUERY, REFERENCE):
        (folder / place).mkdir(parents=True)
    quiet = len(sources) < PROGRESS_FROM or not sys.stderr.isatty()
    for place, source in tqdm(sources.items(), desc="pushing", unit="image", disable=quiet):
        (folder / place).parent.mkdir(exist_ok=True)
        shutil.copyfile(source, folder / place)


def _listed(name: str) -> Pushed:
    folder, answers = store.dataset_folder(name), store.answers_file(name)
    num_train, num_classes, num_queries, num_references = (
        sum(1 for _ in folder.glob(pattern))
        for pattern in (f"{TRAIN}/*/*", f"{TRAIN}/*", f"{QUERY}/*", f"{REFERENCE}/*")
    )
    has_answers = answers.exists() and answers.stat().st_size > len("id,label\n")
    return Pushed(
        name,
        num_train,
        num_classes,
        num_queries,
        num_references,
        has_answers,
        folder.stat().st_mtime,
    )
