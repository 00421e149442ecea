"""Draws a product data set in the challenge's tree, with known geometry: needs no download.

The test products are of the same population as the training products but of other classes, numbered after them: what counts is
to find products never trained on. `data_io.synthetic.products` draws a product, `data_io.synthetic.photographs` photographs it.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from data_io.artifacts import atomic_path, read_json, write_json, write_text
from data_io.synthetic.photographs import render_photograph
from data_io.synthetic.products import draw_product

DRAWING_VERSION = 1  # raise it when the same config draws other pictures
REFERENCES_PER_CLASS = 5  # at least, where the sizes allow: the challenge has 1,127 for 195 queries
MIN_IMAGES_PER_WORKER = 200  # below that a new process costs more than it saves
TRAIN, QUERY, REFERENCE = "train/train_data", "test/test_data/query", "test/test_data/reference"
GEOMETRY_COLUMNS = ["id", "label", *(f"h{row}{column}" for row in range(3) for column in range(3))]


@dataclass(frozen=True)
class DrawConfig:
    """Sizes of a drawn data set; by default the challenge's own. Raises: ValueError on sizes that cannot be laid out."""

    num_classes: int = 1000
    num_train: int = 7104
    num_queries: int = 195
    num_gallery: int = 1127
    image_size_px: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"{field.name} must be a whole number. Received {value!r}.")
        for name in ("num_classes", "num_queries", "num_gallery"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1. Received {getattr(self, name)}.")
        if self.num_train < self.num_classes:
            raise ValueError(
                f"num_train must be at least num_classes={self.num_classes}, one image each. Received {self.num_train}."
            )
        if not 32 <= self.image_size_px <= 2048:
            raise ValueError(f"image_size_px must lie in 32..2048. Received {self.image_size_px}.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in 0..2**32-1. Received {self.seed}.")

    @property
    def num_test_classes(self) -> int:
        """Every test class has a query and a reference, and several references where the gallery is large enough."""
        return min(self.num_queries, max(1, self.num_gallery // REFERENCES_PER_CLASS))


class Shot(NamedTuple):
    """One photograph to take: where it goes (relative to the data set), of which class, as which view."""

    path: str
    label: str
    class_index: int
    view: int
    hard: bool

    @property
    def id(self) -> str:
        """As data_io.datasets names it: `<class>/<class>_<view>`, `query_<i>`, `refer_<i>`."""
        return (
            self.path.removeprefix(TRAIN + "/")
            .removeprefix(QUERY + "/")
            .removeprefix(REFERENCE + "/")
            .removesuffix(".jpg")
        )


def share_out(total: int, num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Images per class: int64 [num_classes], each at least 1, `total` in all, about +-30 % around the mean."""
    weights = rng.uniform(0.7, 1.3, num_classes)
    exact = (total - num_classes) * weights / weights.sum()
    counts = np.floor(exact).astype(np.int64)
    leftover = total - num_classes - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:leftover]] += 1
    return counts + 1


def plan(config: DrawConfig) -> list[Shot]:
    """All photographs of a data set in order of class; the numbers in query_<i> and refer_<i> tell nothing about the class."""
    rng = np.random.default_rng([config.seed, 0, 0, 4])
    width = len(str(config.num_classes + config.num_test_classes - 1))
    shots = []
    for index, count in enumerate(share_out(config.num_train, config.num_classes, rng)):
        label = f"{index:0{width}d}"
        shots += [
            Shot(f"{TRAIN}/{label}/{label}_{view}.jpg", label, index, view, False)
            for view in range(count)
        ]
    references = share_out(config.num_gallery, config.num_test_classes, rng)
    queries = share_out(config.num_queries, config.num_test_classes, rng)
    names = {
        "refer": iter(rng.permutation(config.num_gallery)),
        "query": iter(rng.permutation(config.num_queries)),
    }
    folders = {"refer": REFERENCE, "query": QUERY}
    for index, (num_references, num_queries) in enumerate(
        zip(references, queries, strict=True), start=config.num_classes
    ):
        kinds = ["refer"] * num_references + ["query"] * num_queries
        shots += [
            Shot(
                f"{folders[kind]}/{kind}_{next(names[kind])}.jpg",
                f"{index:0{width}d}",
                index,
                view,
                kind == "query",
            )
            for view, kind in enumerate(kinds)
        ]
    return shots


def draw_dataset(
    out: str | Path, config: DrawConfig, progress: bool = True, workers: int | None = None
) -> Path:
    """Draws the data set into the folder `out`, unless it is there already.

    Writes train/train_data/<class>/<class>_<view>.jpg, test/test_data/{query/query_<i>,reference/refer_<i>}.jpg,
    test/test_labels.csv (id, label of queries and references), geometry.csv (id, label, the nine numbers of image_from_product
    row by row) and, last, drawn.json: a folder without it is unfinished and is drawn again. The same config gives the same bytes
    under the same Pillow, for any number of worker processes (default: one per core, none for small sets).
    Raises: ValueError when `out` holds another data set or other files, or cannot be written.
    """
    out, shots = Path(out), plan(config)
    wanted = {
        "version": DRAWING_VERSION,
        "config": dataclasses.asdict(config),
        "product_size_px": config.image_size_px,
    }
    try:
        if (out / "drawn.json").exists():
            if (found := read_json(out / "drawn.json")) != wanted:
                raise ValueError(
                    f"{out}: holds a data set drawn as {found}, not {wanted}. Choose another folder or delete this one."
                )
            return out
        _refuse_strangers(out, shots)
        for folder in {(out / shot.path).parent for shot in shots}:
            folder.mkdir(parents=True, exist_ok=True)
        homographies = _take_all(out, config, shots, progress, _num_workers(len(shots), workers))
        rows = [[shot.id, shot.label, *map(repr, homographies[shot.path])] for shot in shots]
        _write_csv(out / "geometry.csv", GEOMETRY_COLUMNS, rows)
        _write_csv(
            out / "test/test_labels.csv",
            ["id", "label"],
            sorted([shot.id, shot.label] for shot in shots if shot.path.startswith("test/")),
        )
        write_json(out / "drawn.json", wanted)
    except OSError as error:
        raise ValueError(
            f"{out}: cannot be written ({error}). Make room or choose another folder, then run again."
        ) from error
    return out


def _refuse_strangers(out: Path, shots: Iterable[Shot]) -> None:
    """A stranger would end up in the data set, and nothing of somebody else's is overwritten or deleted."""
    expected = {shot.path for shot in shots} | {"geometry.csv", "test/test_labels.csv"}
    for folder, _, names in os.walk(out):
        for name in names:
            path = (Path(folder) / name).relative_to(out).as_posix()
            if path not in expected and not name.startswith("."):
                raise ValueError(
                    f"{out}: holds {path}, which is not of this drawn data set. Choose an empty folder or delete this one."
                )


def _write_csv(path: Path, header: list[str], rows: Iterable[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(path, text.getvalue())


def _num_workers(num_images: int, workers: int | None) -> int:
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1. Received {workers}.")
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return workers or max(1, min(cores, num_images // MIN_IMAGES_PER_WORKER))


def _take_all(
    out: Path, config: DrawConfig, shots: list[Shot], progress: bool, workers: int
) -> dict[str, list[float]]:
    """Takes every photograph, class by class. Returns: per path the nine numbers of its homography."""
    by_class: dict[int, list[Shot]] = {}
    for shot in shots:
        by_class.setdefault(shot.class_index, []).append(shot)
    homographies: dict[str, list[float]] = {}
    with tqdm(
        total=len(shots), desc="drawing", unit="img", disable=None if progress else True
    ) as bar:
        for taken in _run(out, config, list(by_class.values()), workers):
            homographies.update(taken)
            bar.update(len(taken))
    return homographies


def _run(
    out: Path, config: DrawConfig, jobs: list[list[Shot]], workers: int
) -> Iterator[dict[str, list[float]]]:
    if workers == 1:
        yield from (take_class(out, config, job) for job in jobs)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork of TensorFlow's threads may hang
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent)
    try:
        for future in as_completed([pool.submit(take_class, out, config, job) for job in jobs]):
            yield future.result()
    except BrokenProcessPool:
        raise ValueError(
            f"{out}: a drawing process was killed (out of memory?). Run again, or with workers=1."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """A pool's workers outlive a parent that is killed, and would wait for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def take_class(out: Path, config: DrawConfig, shots: Iterable[Shot]) -> dict[str, list[float]]:
    """Draws the product of one class once, photographs it once per shot, and writes the files."""
    homographies, product = {}, None
    for shot in shots:
        if product is None:
            product = draw_product(config.seed, shot.class_index, config.image_size_px)
        rng = np.random.default_rng([config.seed, shot.class_index, shot.view])
        pixels, image_from_product = render_photograph(
            product, rng, config.image_size_px, shot.hard
        )
        with atomic_path(
            out / shot.path
        ) as temporary:  # another process may be reading the finished folder
            Image.fromarray(pixels).save(temporary, "JPEG", quality=int(rng.integers(60, 96)))
        homographies[shot.path] = image_from_product.ravel().tolist()
    return homographies
