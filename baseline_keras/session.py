"""The official contract: a checkpoint and a report per epoch, and `infer`, every reference for every query by cosine."""

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

PARTS = (
    "recipe.json",
    "facts.json",
    "metrics",
    "checkpoint",
)  # what a run is continued or loaded from

Answer = list[tuple[int, tuple[str, list[str]]]]


class Session:
    """Binds itself to the platform. A checkpoint is a copy of the run directory, without features and events."""

    def __init__(self, run_dir: str | Path, epochs: int) -> None:
        self.run_dir, self.epochs = Path(run_dir), epochs
        self.embedder: BaselineEmbedder | None = None
        binding.bind(save=self.save, load=self.load, infer=self.infer)

    def save(self, dir_name: str, *_: Any) -> None:
        _copy_parts(self.run_dir, Path(dir_name))

    def load(self, dir_name: str, *_: Any) -> None:
        """For `infer`, and into the run directory for what trains on."""
        self.embedder = load_embedder(dir_name)
        _copy_parts(Path(dir_name), self.run_dir)

    def epoch_ended(self, epoch: int, loss: float, accuracy: float) -> None:
        """epoch: counted from 0, as the official code names its checkpoints."""
        binding.report(
            summary=True, epoch=epoch, epoch_total=self.epochs, loss=loss, acc=accuracy, step=epoch
        )
        binding.save(epoch)

    def infer(self, queries: Sequence[str], db: Sequence[str], **_: Any) -> Answer:
        assert self.embedder is not None, "infer comes after load"
        return infer(self.embedder, queries, db)


def infer(embedder: BaselineEmbedder, queries: Sequence[str], db: Sequence[str]) -> Answer:
    """`[(0, ('query_0', ['refer_12', ...])), ...]` for two lists of paths; names without extension, nearest first.

    An unreadable reference comes last, an unreadable query gets the references in their own order; both are printed.
    """
    query, gallery = _readable(queries), _readable(db)
    names = [Path(path).stem for path in db]
    found: dict[str, list[str]] = {}
    if len(query) and len(gallery):
        last = [Path(path).stem for path, _ in gallery.skipped]
        similarities = extract(embedder, query).embeddings @ extract(embedder, gallery).embeddings.T
        for query_id, row in zip(query.ids, similarities, strict=True):
            found[str(query_id)] = gallery.ids[np.argsort(-row, kind="stable")].tolist() + last
    return [
        (i, (name, found.get(name, names)))
        for i, name in enumerate(Path(path).stem for path in queries)
    ]


def _readable(paths: Sequence[str]) -> ImageList:
    images = check_images(
        ImageList(
            np.array([Path(path).stem for path in paths]), np.array([str(path) for path in paths])
        )
    )
    for path, reason in images.skipped:
        print(f"not readable: {path}: {reason}")
    return images


def _copy_parts(source: Path, target: Path) -> None:
    """Copy folders as a whole, so that no other epoch's file stays in them."""
    if source.resolve() == target.resolve():
        return
    target.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        part = source / name
        shutil.rmtree(target / name, ignore_errors=True)
        shutil.copytree(part, target / name) if part.is_dir() else shutil.copy2(part, target / name)
