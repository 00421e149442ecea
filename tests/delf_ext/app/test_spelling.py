"""Figures do not depend on the current folder, nor on how the path of the data is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_io.datasets import DataSet, load_dataset
from data_io.tables.csv_rows import csv_text
from delf_ext.app.data import content_of
from delf_ext.app.evaluation import evaluate
from delf_ext.features.embedder import Embedder

COLOUR = Embedder("colour", 32, "v1", lambda images: images.mean(axis=(1, 2)) - 127.0)


@pytest.fixture
def folder(several: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the gallery and three queries of it, once as a copy, once as a link."""
    photos = tmp_path / "real" / "photos"
    lists = {"gallery": several.gallery, "query": several.gallery.take([0, 7, 13])}
    for split, images in lists.items():
        for path, label in zip(images.paths, images.known_labels("test"), strict=True):
            target = photos / split / str(label) / Path(path).name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    copy = next((photos / "query").rglob("*.*"))
    copy.unlink()
    copy.symlink_to(next((photos / "gallery" / copy.parent.name).iterdir()))
    rows = [("path", "label", "split")]
    for file in sorted(photos.rglob("*.*")):
        split, label, _ = file.relative_to(photos).parts
        # Queries by absolute path, the gallery by relative path.
        path = str(file) if split == "query" else str(file.relative_to(photos.parent))
        rows.append((path, label, split))
    (photos.parent / "list.csv").write_text(csv_text(rows))
    (tmp_path / "link").symlink_to(photos.parent)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spellings(folder: Path, name: str) -> Iterator[str]:
    yield str(folder / "real" / name)
    yield f"real/{name}"
    yield f"./real/../real/{name}"
    yield f"link/{name}"
    if not name.endswith(".csv"):
        yield f"real/{name}/"
    os.chdir(folder / "real")
    yield name
    yield f"./{name}"


def without_paths(figures: dict[str, Any]) -> dict[str, Any]:
    duplicates = {**figures["duplicates"], "copies": len(figures["duplicates"]["copies"])}
    return {**figures, "data": "", "duplicates": duplicates}


@pytest.mark.parametrize("name", ["photos", "list.csv"])
def test_figures_do_not_depend_on_the_spelling_of_the_data(folder: Path, name: str) -> None:
    results = []
    for spelling in spellings(folder, name):
        data = load_dataset(spelling)
        figures = evaluate(COLOUR, spelling, seed=1).figures
        results.append((without_paths(figures), content_of(data.query), content_of(data.gallery)))
    assert all(result == results[0] for result in results)
    first = results[0][0]
    assert first["duplicates"]["num_queries"] == first["num_queries"] == 3
    assert np.isfinite(first["mAP"])
