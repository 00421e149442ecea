"""Rank untrained trunks: measure each with several poolings and sizes, and keep the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_io.cores import num_cores
from data_io.datasets import DataSet
from data_io.files.artifacts import digest_of
from data_io.files.caches import cache_folder
from data_io.progress import Log, quiet
from delf_ext.app.data import load_named
from delf_ext.app.study_data import StudyLists, study_lists
from delf_ext.app.study_measurement import Job, costs_of, measured_rows
from delf_ext.app.study_rows import FORMAT, StudyRows
from delf_ext.config import UsageError, require
from delf_ext.evaluation.trunk_table import TrunkRow, TrunkTable, trunk_table
from delf_ext.features.extraction import BATCH_SIZE
from delf_ext.recipes.part import BatchSize, Seed, SidePx, coerced, one_of
from delf_ext.recipes.trunk_names import LITE
from delf_ext.runs.shared_pass import open_shared_pass
from delf_ext.runs.sources import (
    POOLINGS,
    CheckpointSource,
    Runtime,
    chosen_runtime,
    require_runtime,
)
from delf_ext.runs.weights import find_weights
from pretrained.lite_weights import package_file

ROWS_FILE = "trunks.json"
DEFAULT_POOLINGS = ("avg", "gem", "rmac")
DEFAULT_SIZES = (224, 320)


@dataclass(frozen=True, eq=False)
class TrunkStudy:
    """Result of `study_trunks`.

    Attributes:
        table: the rows, the best first.
        sources: weights -> what opens them.
        missing: name of weights that are not installed -> how to install them.
        data_name: name or path of the data.
        description: which images were measured.
    """

    table: TrunkTable
    sources: dict[str, CheckpointSource]
    missing: dict[str, str]
    data_name: str
    description: str

    def figures(self) -> dict[str, Any]:
        """Return the figures as `--json` writes them."""
        return {
            "data": self.data_name,
            "images": self.description,
            "seed": self.table.seed,
            "rows": self.table.figures(),
            "not_installed": self.missing,
            "conclusion": self.table.conclusion(),
        }


def study_trunks(
    sources: Sequence[CheckpointSource],
    data: DataSet | str | Path,
    *,
    poolings: Sequence[str] = DEFAULT_POOLINGS,
    sizes_px: Sequence[int] = DEFAULT_SIZES,
    runtime: Runtime = Runtime(),  # noqa: B008 frozen
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    own_queries: bool = False,
    folder: Path | None = None,
    data_name: str = "",
    log: Log = quiet,
) -> TrunkStudy:
    """Rank trunks without training on labelled images.

    The poolings of a trunk and size share one pass. Embeddings are kept in the user's cache, rows
    in `folder`: a second call measures only what is new.

    Args:
        sources: trunks and weights; their pooling and size are not used. Weights of a package that
            is not installed are left out.
        data: a data set or its path.
        poolings: keys of POOLINGS.
        sizes_px: sides of the input.
        runtime: library and precision that compute the embeddings.
        batch_size: images per call of the network.
        seed: seed of the choice of images and of the bootstrap.
        own_queries: measure on the queries and the gallery of the data, not on a dev split of its
            training images.
        folder: where the rows are kept; None = the user's cache folder.
        data_name: name of the data in the figures; "" = its path or own name.
        log: called with each line of the result.

    Returns:
        The table.

    Raises:
        UsageError: a pooling, size or runtime is unknown or out of range.
        ValueError: weights cannot be read or are of another trunk, or the data have nothing to
            find.
    """
    require_settings(sources, poolings, sizes_px, runtime)
    coerced(batch_size, BatchSize, "batch_size")
    coerced(seed, Seed, "seed")
    data, data_name = load_named(data, data_name, log)
    found, missing = _installed(sources, log)
    lists = study_lists(data, own_queries, seed)
    log(f"measured on: {lists.description}")
    rows = StudyRows((folder or cache_folder() / "study") / ROWS_FILE, log)
    jobs = _jobs(found, poolings, sizes_px, runtime, batch_size, lists)
    known = rows.read()
    todo = [job for job in jobs if any(key not in known for key in job.keys)]
    for new in _measured(todo, lists, batch_size, log):
        rows.add(new)
        known |= new
    table = trunk_table([known[key] for job in jobs for key in job.keys], seed)
    return TrunkStudy(table, found, missing, data_name, lists.description)


def _measured(
    jobs: Sequence[Job], lists: StudyLists, batch_size: int, log: Log
) -> Iterator[dict[str, TrunkRow]]:
    """Measure trunks, and yield the rows of each by their keys."""
    # Counting imports TensorFlow: stored rows are printed without it.
    costs = costs_of(jobs, log) if jobs else {}
    for number, job in enumerate(jobs, start=1):
        cost = costs[job.weights, job.source.size_px]
        at = f"{job.weights} at {job.source.size_px} px"
        log(f"{number} of {len(jobs)}: {at}, {cost.gmac:.2f} GMac")
        # The same files are skipped each time.
        skipped_log = log if number == 1 else quiet
        yield dict(zip(job.keys, measured_rows(job, lists, batch_size, cost, log, skipped_log)))


def require_settings(
    sources: Sequence[CheckpointSource],
    poolings: Sequence[str],
    sizes_px: Sequence[int],
    runtime: Runtime,
) -> None:
    """Check the settings of a study without reading a file.

    Args:
        sources: trunks and weights.
        poolings: keys of POOLINGS.
        sizes_px: sides of the input.
        runtime: library and precision that compute the embeddings.

    Raises:
        UsageError: a setting is unknown or out of range.
    """
    require(bool(sources), "a study needs at least one trunk.")
    require(bool(poolings), "--poolings needs at least one pooling.")
    require(bool(sizes_px), "--image_sizes needs at least one size.")
    for pooling in poolings:
        if pooling not in POOLINGS:
            raise UsageError(f"--poolings takes {one_of(POOLINGS)}. Received {pooling!r}.")
    for size_px in sizes_px:
        coerced(size_px, SidePx, "--image_sizes")
    for source in sources:
        require_runtime(source, runtime)


def _installed(
    sources: Sequence[CheckpointSource], log: Log
) -> tuple[dict[str, CheckpointSource], dict[str, str]]:
    """Return name -> source with the layout of its weights, and name -> why it is missing."""
    found: dict[str, CheckpointSource] = {}
    missing = {}
    for source in sources:
        if source.path in LITE:
            try:
                package_file(source.path)
            except ValueError as error:
                missing[source.path] = str(error)
                log(str(error))
                continue
        trunk, path = find_weights(source.trunk, source.path, log)
        name = Path(path).name
        name = path if name in found and found[name].path != source.path else name
        found[name] = dataclasses.replace(source, trunk=trunk)
    if not found:
        raise ValueError(next(iter(missing.values())))
    return found, missing


def _jobs(
    found: dict[str, CheckpointSource],
    poolings: Sequence[str],
    sizes_px: Sequence[int],
    runtime: Runtime,
    batch_size: int,
    lists: StudyLists,
) -> list[Job]:
    poolings = list(dict.fromkeys(poolings))
    jobs = []
    for weights, source in found.items():
        # As every verb: the embeddings are those that a search with the same flags would store.
        chosen = chosen_runtime(source, runtime)
        name = "tensorflow" if chosen.name == "auto" else chosen.name
        chosen = dataclasses.replace(chosen, name=name)
        for size_px in dict.fromkeys(sizes_px):
            sized = dataclasses.replace(source, size_px=size_px)
            shared = open_shared_pass(sized, poolings, chosen, lambda: lists.gallery)
            measured = [FORMAT, lists.digest, weights, name, batch_size, num_cores()]
            keys = tuple(digest_of([digest, *measured]) for digest in shared.digests)
            jobs.append(Job(weights, sized, shared, chosen, keys))
    return jobs
