"""Measure one trunk at one size with several poolings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_io.cores import num_cores
from data_io.duplicates import find_duplicates
from data_io.messages import skipped_lines
from data_io.progress import Log, quiet
from data_io.records import GlobalFeatures, ImageList
from data_io.stores.joined_embeddings import split_embeddings
from delf_ext.app.study_data import StudyLists
from delf_ext.evaluation.metrics import average_precisions, recalls_at_k
from delf_ext.evaluation.trunk_table import TrunkRow
from delf_ext.features.speed import images_per_second
from delf_ext.models.precision import uses_bfloat16
from delf_ext.pipeline import Retrieval, embed, score, truth_of
from delf_ext.recipes import schema
from delf_ext.recipes.trunk_names import LITE
from delf_ext.runs.shared_pass import SharedPass
from delf_ext.runs.sources import CheckpointSource, Runtime
from delf_ext.runs.weights import find_weights

if TYPE_CHECKING:
    from delf_ext.models.cost import Cost


@dataclass(frozen=True)
class Job:
    """One trunk at one size, with all poolings.

    Attributes:
        weights: name of the weights in the table.
        source: trunk, weights and size.
        shared: the opened trunk.
        runtime: library and precision; not "auto".
        keys: key of the row of each pooling.
    """

    weights: str
    source: CheckpointSource
    shared: SharedPass
    runtime: Runtime
    keys: tuple[str, ...]


def costs_of(jobs: Sequence[Job], log: Log) -> dict[tuple[str, int], Cost]:
    """Count the cost of each trunk at each size.

    The weights of each trunk are loaded first, so that wrong ones fail before long work.

    Args:
        jobs: what will be measured.
        log: called with the report of the weights of a checkpoint.

    Returns:
        (name of the weights, size in pixels) -> cost of the trunk with one pooling.

    Raises:
        ValueError: weights do not fit their trunk, or cannot be read.
    """
    from delf_ext.models.cost import model_cost
    from delf_ext.models.embedding_model import EmbeddingModel

    costs = {}
    models: dict[str, EmbeddingModel] = {}
    for job in jobs:
        source = job.source
        if job.weights not in models:
            head = schema.Head("pooled", schema.Average())
            model = EmbeddingModel(schema.Model(source.trunk, (head,), ("pooled",)), 0)
            model.build_variables()
            _, path = find_weights(source.trunk, source.path, quiet)
            report = model.trunk.load(path)
            # Weights in a package fit, and always have a classifier that is unused.
            if path not in LITE or report.missing or report.shape_mismatch:
                log(str(report))
            models[job.weights] = model
        costs[job.weights, source.size_px] = model_cost(models[job.weights], source.size_px)
    return costs


def measured_rows(
    job: Job,
    lists: StudyLists,
    batch_size: int,
    cost: Cost,
    log: Log,
    skipped_log: Log,
) -> Iterator[TrunkRow]:
    """Embed the images, and measure each pooling.

    Args:
        job: trunk, size and poolings.
        lists: queries and gallery.
        batch_size: images per call of the network.
        cost: of the trunk at this size.
        log: called with a warning if a pooling gives all images nearly one embedding.
        skipped_log: called with a line for each of the first files that cannot be read.

    Yields:
        The row of each pooling.
    """
    model = job.shared.model
    retrieval = embed(model, lists.query, lists.gallery, batch_size)
    images_per_s = images_per_second(model.embed, job.source.size_px, batch_size)
    model.release()
    for line in skipped_lines(retrieval.left_out.files):
        skipped_log(line)
    trunk = job.source.trunk
    for pooling, alone in zip(job.shared.poolings, _of_each_pooling(retrieval, job.shared)):
        if alone.warning:
            log(f"{job.weights}, {pooling}: {alone.warning}")
        precisions, recalls = _scores(alone, lists.query)
        yield TrunkRow(
            weights=job.weights,
            trunk="/".join(filter(None, (trunk.name, trunk.end_point))),
            pooling=pooling,
            size_px=job.source.size_px,
            average_precisions=precisions,
            recalls_at_1=recalls,
            images_per_s=images_per_s,
            gmac=cost.gmac,
            gmac_by_block={name: count / 1e9 for name, count in cost.macs.items()},
            megabytes=cost.megabytes,
            num_parameters=cost.num_parameters,
            dimension=alone.gallery_features.embeddings.shape[1],
            num_gallery=len(alone.gallery),
            runtime=job.runtime.name,
            precision=_precision(job.runtime),
            batch_size=batch_size,
            num_cores=num_cores(),
        )


def _precision(runtime: Runtime) -> str:
    if runtime.name == "openvino-int8":
        return "int8"
    return "bfloat16" if uses_bfloat16(runtime.mixed_precision) else "float32"


def _of_each_pooling(retrieval: Retrieval, shared: SharedPass) -> list[Retrieval]:
    """Split joined embeddings into a retrieval of each pooling."""
    query = _split(retrieval.query_features, shared)
    is_one_list = retrieval.query_features is retrieval.gallery_features
    gallery = query if is_one_list else _split(retrieval.gallery_features, shared)
    return [
        Retrieval(retrieval.query, retrieval.gallery, query_part, gallery_part)
        for query_part, gallery_part in zip(query, gallery)
    ]


def _split(features: GlobalFeatures, shared: SharedPass) -> list[GlobalFeatures]:
    parts = split_embeddings(features.embeddings, len(shared.poolings))
    return [
        GlobalFeatures(features.ids, part, digest, features.failed | ~part.any(axis=1))
        for part, digest in zip(parts, shared.digests)
    ]


Scores = tuple[float | None, ...]


def _scores(retrieval: Retrieval, query: ImageList) -> tuple[Scores, Scores]:
    """Return average precision and Recall@1 of each query of the list; None if it has none."""
    found = find_duplicates(retrieval.query, retrieval.gallery, "exclude")
    hits = score(retrieval, truth_of(retrieval, junk=found.junk))

    def per_query(values: np.ndarray) -> Scores:
        of_id = dict(zip(hits.query_ids.tolist(), values.tolist()))
        scores = (of_id.get(name, np.nan) for name in query.ids.tolist())
        return tuple(None if np.isnan(value) else value for value in scores)

    return per_query(average_precisions(hits)), per_query(recalls_at_k(hits, 1))
