"""Connect the training to NSML as the 2018 challenge asked.

A session saves and reports after each epoch. `infer` ranks all gallery images for each query by
cosine.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from baseline_keras import binding
from baseline_keras.features import BaselineEmbedder, extract, load_embedder
from data_io.images import check_images
from data_io.records import ImageList
from delf_ext.runs.photographs import PHOTOGRAPHS

# What a checkpoint of the session contains: enough to resume the run and to load its model.
PARTS = ("recipe.json", "facts.json", PHOTOGRAPHS, "metrics", "checkpoint")

Answer = list[tuple[int, tuple[str, list[str]]]]


class Session:
    """Session of NSML, whose functions it registers.

    A checkpoint is a copy of the run directory, without events.

    Attributes:
        run_dir: the run directory.
        epochs: of the whole training.
        embedder: the loaded baseline; None before `load`.
    """

    def __init__(self, run_dir: str | Path, epochs: int) -> None:
        self.run_dir = Path(run_dir)
        self.epochs = epochs
        self.embedder: BaselineEmbedder | None = None
        binding.bind(save=self.save, load=self.load, infer=self.infer)

    def save(self, dir_name: str, *_: Any) -> None:
        """Copy the run directory to a folder that NSML gives."""
        _copy_parts(self.run_dir, Path(dir_name))

    def load(self, dir_name: str, *_: Any) -> None:
        """Load the model for `infer`, and copy the checkpoint to the run directory to resume."""
        self.embedder = load_embedder(dir_name)
        _copy_parts(Path(dir_name), self.run_dir)

    def epoch_ended(self, epoch: int, loss: float, accuracy: float) -> None:
        """Report the figures of an epoch and save a checkpoint.

        Args:
            epoch: counted from 0, as in the official code's names of checkpoints.
            loss: mean of the epoch.
            accuracy: mean of the epoch.
        """
        binding.report(
            summary=True, epoch=epoch, epoch_total=self.epochs, loss=loss, acc=accuracy, step=epoch
        )
        binding.save(epoch)

    def infer(self, queries: Sequence[str], db: Sequence[str], **_: Any) -> Answer:
        """Rank the gallery for each query; see the function `infer`."""
        assert self.embedder is not None, "call load before infer"
        return infer(self.embedder, queries, db)


def infer(embedder: BaselineEmbedder, queries: Sequence[str], db: Sequence[str]) -> Answer:
    """Rank the gallery for each query, in the form that the 2018 challenge asked for.

    A gallery image that cannot be read comes last. A query that cannot be read gets the gallery in
    the order of `db`. Both are printed.

    Args:
        embedder: the trained baseline.
        queries: paths of the queries.
        db: paths of the gallery images.

    Returns:
        `[(0, ('query_0', ['refer_12', ...])), ...]`: file names without extension, nearest first.
    """
    query = _readable(queries)
    gallery = _readable(db)
    gallery_names = [Path(path).stem for path in db]
    rankings: dict[str, list[str]] = {}
    if len(query) and len(gallery):
        unreadable = [Path(path).stem for path, _ in gallery.skipped]
        similarities = extract(embedder, query).embeddings @ extract(embedder, gallery).embeddings.T
        for query_id, row in zip(query.ids, similarities, strict=True):
            nearest_first = np.argsort(-row, kind="stable")
            rankings[str(query_id)] = gallery.ids[nearest_first].tolist() + unreadable
    query_names = [Path(path).stem for path in queries]
    return [
        (number, (name, rankings.get(name, gallery_names)))
        for number, name in enumerate(query_names)
    ]


def _readable(paths: Sequence[str]) -> ImageList:
    ids = np.array([Path(path).stem for path in paths])
    images = check_images(ImageList(ids, np.array([str(path) for path in paths])))
    for path, reason in images.skipped:
        print(f"cannot be read: {path}: {reason}")
    return images


def _copy_parts(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve():
        return
    target.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        part = source / name
        # Otherwise files of other epochs would stay in the folder.
        shutil.rmtree(target / name, ignore_errors=True)
        if part.is_dir():
            shutil.copytree(part, target / name)
        elif name != PHOTOGRAPHS or part.exists():
            shutil.copy2(part, target / name)
