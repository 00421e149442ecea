"""Draw a product data set, with known geometry and without a download.

A config plans the photographs and tables of a tree. `DrawConfig` is the challenge: its test
products come from the same distribution as the training products, but from other classes.
`LotteConfig` is the Lotte competition: test and training photographs show the same products, but
are taken in another way. `data_io.synthetic.products` draws a product,
`data_io.synthetic.photographs` photographs it.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from data_io.cores import num_cores
from data_io.files.artifacts import atomic_path, read_json, write_json, write_text
from data_io.synthetic.lotte import LotteConfig
from data_io.synthetic.photographs import render_photograph
from data_io.synthetic.products import draw_product
from data_io.synthetic.shots import DrawConfig, Shot
from data_io.tables.csv_rows import csv_text

# Increase it when the same config draws other pictures.
DRAWING_VERSION = 1
# With fewer images a new process costs more time than it saves.
MIN_IMAGES_PER_WORKER = 200
CONFIG_FILE = "drawn.json"
AnyConfig = DrawConfig | LotteConfig


def draw_dataset(
    out: str | Path, config: AnyConfig, progress: bool = True, workers: int | None = None
) -> Path:
    """Draw the data set, unless the folder already contains it.

    A `DrawConfig` writes train/train_data/<class>/<class>_<view>.jpg,
    test/test_data/{query/query_<i>,reference/refer_<i>}.jpg, test/test_labels.csv (id and label of
    queries and references), geometry.csv (id, label and the nine numbers of image_from_product, row
    by row); a `LotteConfig` writes the tree in `data_io.synthetic.lotte`. drawn.json is written
    last: a folder without it is incomplete and is drawn again. The same config gives the same bytes
    for any number of workers, with the same version of Pillow.

    Args:
        out: the folder.
        config: the tree and its sizes.
        progress: show a progress bar on a terminal.
        workers: number of processes; None takes one per core, and one for a small data set.

    Returns:
        The folder.

    Raises:
        ValueError: the folder contains another data set or other files, or cannot be written.
    """
    out = Path(out)
    shots = config.shots()
    header = {
        "version": DRAWING_VERSION,
        "config": dataclasses.asdict(config),
        "product_size_px": config.image_size_px,
    }
    try:
        if _is_complete(out, header):
            return out
        _refuse_other_files(out, {shot.path for shot in shots} | set(config.TABLES))
        for folder in {(out / shot.path).parent for shot in shots}:
            folder.mkdir(parents=True, exist_ok=True)
        homographies = _take_all(out, config, shots, progress, workers or _num_workers(len(shots)))
        for name, rows in config.tables(homographies).items():
            write_text(out / name, csv_text(rows))
        write_json(out / CONFIG_FILE, header)
    except OSError as error:
        raise ValueError(
            f"{out}: cannot be written ({error}). "
            "Make room or choose another folder, then run again."
        ) from error
    return out


def _is_complete(out: Path, header: dict[str, object]) -> bool:
    if not (out / CONFIG_FILE).exists():
        return False
    stored = read_json(out / CONFIG_FILE)
    if stored != header:
        raise ValueError(
            f"{out}: contains a data set drawn as {stored}, not {header}. "
            "Choose another folder or delete this one."
        )
    return True


def _refuse_other_files(out: Path, expected: Collection[str]) -> None:
    """Raise an error if the folder has other files: they would become part of the data set."""
    for folder, _, names in os.walk(out):
        for name in names:
            path = (Path(folder) / name).relative_to(out).as_posix()
            if path not in expected and not name.startswith("."):
                raise ValueError(
                    f"{out}: contains {path}, which does not belong to this drawn data set. "
                    "Choose an empty folder or delete this one."
                )


def _num_workers(num_images: int) -> int:
    return max(1, min(num_cores(), num_images // MIN_IMAGES_PER_WORKER))


def _take_all(
    out: Path, config: AnyConfig, shots: list[Shot], progress: bool, workers: int
) -> dict[str, list[float]]:
    """Take all photographs, class by class; return path -> the nine numbers of its homography."""
    by_class: dict[int, list[Shot]] = {}
    for shot in shots:
        by_class.setdefault(shot.class_index, []).append(shot)
    homographies: dict[str, list[float]] = {}
    # With None, tqdm shows a bar on a terminal only.
    disable = None if progress else True
    with tqdm(total=len(shots), desc="drawing", unit="img", disable=disable) as bar:
        for taken in _take_classes(out, config, list(by_class.values()), workers):
            homographies.update(taken)
            bar.update(len(taken))
    return homographies


def _take_classes(
    out: Path, config: AnyConfig, classes: list[list[Shot]], workers: int
) -> Iterator[dict[str, list[float]]]:
    if workers == 1:
        yield from (take_class(out, config, shots) for shots in classes)
        return
    # A fork can hang, because TensorFlow has threads.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent)
    try:
        jobs = [pool.submit(take_class, out, config, shots) for shots in classes]
        for job in as_completed(jobs):
            yield job.result()
    except BrokenProcessPool:
        raise ValueError(
            f"{out}: a drawing process was killed (out of memory?). Run again; "
            "draw_dataset(..., workers=1) needs less memory."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this worker when its parent ends; otherwise it would wait for ever if that is killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def take_class(out: Path, config: AnyConfig, shots: list[Shot]) -> dict[str, list[float]]:
    """Draw the product of one class and take its photographs.

    Args:
        out: folder of the data set.
        config: the sizes.
        shots: the photographs, all of one class.

    Returns:
        Path -> the nine numbers of image_from_product, row by row.
    """
    homographies = {}
    product = draw_product(config.seed, shots[0].class_index, config.image_size_px)
    for shot in shots:
        rng = np.random.default_rng([config.seed, shot.class_index, shot.view])
        pixels, image_from_product = render_photograph(
            product, rng, config.image_size_px, shot.look
        )
        # The file is replaced atomically, because another process may read the finished folder.
        with atomic_path(out / shot.path) as temporary:
            Image.fromarray(pixels).save(temporary, "JPEG", quality=int(rng.integers(60, 96)))
        homographies[shot.path] = image_from_product.ravel().tolist()
    return homographies
