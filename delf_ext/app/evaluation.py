"""Evaluate and compare: the figures of models on labelled queries, before and after re-ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_io.datasets import DataSet, load_dataset
from data_io.progress import Log, quiet
from data_io.records import GroundTruth, ImageList, Ranking
from delf_ext.app.data import evaluation_lists
from delf_ext.app.reranking import (
    Chain,
    Request,
    Reranker,
    for_embedding,
    name_of,
    ranking_notes,
    require_folder,
    reserve,
)
from delf_ext.evaluation.comparison import Evaluated
from delf_ext.evaluation.intervals import bootstrap_interval
from delf_ext.evaluation.metrics import Hits, average_precisions, hits_of, recalls_at_k, summarize
from delf_ext.features.embedder import AnyEmbedder, HeldBack, common_held_back
from delf_ext.features.extraction import BATCH_SIZE, NO_TIME_LEFT
from delf_ext.pipeline import (
    Retrieval,
    embed,
    rank,
    score,
    truth_of,
    width_in_memory,
)
from delf_ext.recipes.schema import TestTime
from delf_ext.reranking.deadline import Deadline


@dataclass(frozen=True, eq=False)
class Measured:
    """One model on one data set: what it retrieved, how good that was, and against which truth."""

    evaluated: Evaluated
    retrieval: Retrieval
    ranking: Ranking
    truth: GroundTruth

    def figures(self, data_name: str, seed: int) -> dict[str, Any]:
        """Return the main figures on top, every other metric under "metrics"."""
        hits = self.evaluated.hits
        metrics = dict(summarize(hits))
        result = {
            "mAP": metrics["mAP"],
            "mAP_ci95": list(bootstrap_interval(average_precisions(hits), seed)),
            **{f"recall_at_{k}": metrics[f"recall_at_{k}"] for k in (1, 5, 10)},
            "num_queries": int(metrics["num_queries"]),
            "num_gallery": len(self.retrieval.gallery),
            "num_skipped": self.evaluated.num_skipped,
            "model": self.evaluated.name,
            "data": data_name,
            "seed": seed,
            "recall_at_1_ci95": list(bootstrap_interval(recalls_at_k(hits, 1), seed)),
            "model_digest": self.retrieval.query_features.digest,
            "metrics": metrics,
            "skipped": [list(item) for item in self.retrieval.skipped],
        }
        groups = self.retrieval.query.groups
        by_group = {} if groups is None else _figures_by_group(hits, groups)
        if by_group:
            result["groups"] = by_group
        return result


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` returns. plain: before re-ranking; final: after it, the same without a chain.

    figures: of `final`, as `--json` writes them.
    """

    plain: Measured
    final: Measured
    figures: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        """Return a figure, such as "mAP"."""
        return self.figures[name] if name in self.figures else self.figures["metrics"][name]


def lists_of(
    data: DataSet, models: Sequence[AnyEmbedder], log: Log = quiet
) -> tuple[ImageList, ImageList]:
    """Return queries and gallery for all models, and say which they are.

    Raises: UsageError when the data name no queries and the models held back different images.
    """
    has_lists = len(data.query) and len(data.gallery)
    held_back = HeldBack() if has_lists else common_held_back(models, data.name)
    query, gallery, what = evaluation_lists(
        data, held_back.validation, held_back.seed, held_back.names
    )
    for model in models:
        log(f"{model.name}: {len(query)} queries in a gallery of {len(gallery)}: {what}")
    return query, gallery


def measure(
    model: AnyEmbedder,
    query: ImageList,
    gallery: ImageList,
    batch_size: int = BATCH_SIZE,
    test_time: TestTime | None = None,
    labelled: bool = True,
    deadline: Deadline | None = None,
    log: Log = quiet,
) -> Measured:
    """Embed, rank and score. A ranking too large for memory is scored whole, and kept in its first places.

    Args:
        model: an embedder or an ensemble.
        query: images to search with.
        gallery: images to search in.
        batch_size: images per call of the model.
        test_time: copies of the photographs; None = as the model's recipe says.
        labelled: labels are needed; without them nothing is relevant.
        deadline: what it leaves no time to embed is skipped, and a line says that all that follows is of the rest.
        log: called with each line worth reading.

    Raises:
        ValueError: without labels where they are needed. TimeoutError: where nothing is embedded in time.
    """
    test_time = model.test_time if test_time is None else test_time
    retrieval = embed(model, query, gallery, batch_size, test_time, deadline)
    late = sum(reason == NO_TIME_LEFT for _, reason in retrieval.skipped)
    if late:
        log(
            f"time budget: {late} photographs were not embedded in time: everything that follows is of the others"
        )
    ranking, truth = rank(retrieval, width_in_memory(retrieval)), truth_of(retrieval, labelled)
    hits = (
        hits_of(ranking, truth)
        if ranking.rows.shape[1] == len(retrieval.gallery)
        else score(retrieval, truth)
    )
    return Measured(
        Evaluated(model.name, hits, len(retrieval.skipped), ranking), retrieval, ranking, truth
    )


def improve(
    measured: Measured, reranker: Reranker, chain: Chain, reserve_s: float = 0.0
) -> Measured:
    """Re-rank with a chain; where the ranking is cut, figures after it are of the part that is kept."""
    ranking, evidence = reranker(measured.retrieval, measured.ranking, chain, reserve_s)
    name, skipped = f"{measured.evaluated.name} + {name_of(chain)}", measured.evaluated.num_skipped
    evaluated = Evaluated(name, hits_of(ranking, measured.truth), skipped, ranking, evidence)
    return replace(measured, evaluated=evaluated, ranking=ranking)


def evaluate(
    model: AnyEmbedder,
    data: DataSet | str | Path,
    *,
    request: Request | None = None,
    folder: Path | None = None,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    data_name: str = "",
    log: Log = quiet,
) -> Evaluation:
    """Measure a model on labelled queries.

    Args:
        model: from `open_model`.
        data: a data set or the path of one; its queries and gallery, else what the model's training held back, else
            each image against all others.
        request: a chain of re-rankers and a deadline.
        folder: where geometric steps keep local features.
        batch_size: images per call of the model.
        seed: of the bootstrap.
        data_name: as it is written into the figures.
        log: called with each line worth reading.

    Raises:
        ValueError: in one line, when data and model do not fit.
    """
    request = (request or Request()).of(model)
    chain = request.chain
    require_folder(request, folder)
    data, data_name = loaded_data(data, data_name)
    query, gallery = lists_of(data, [model], log)
    reranker = Reranker(request, gallery, folder, log)
    early = for_embedding(request.deadline)
    plain = final = measure(
        model, query, gallery, batch_size, request.test_time, deadline=early, log=log
    )
    begun_s = request.deadline.clock()
    result = plain.figures(data_name, seed)
    if chain:
        final = improve(plain, reranker, chain, reserve(request.deadline, begun_s, times=3))
        for line in ranking_notes(final.ranking, request.deadline):
            log(line)
        result = final.figures(data_name, seed)
    return Evaluation(plain, final, result)


def loaded_data(data: DataSet | str | Path, name: str) -> tuple[DataSet, str]:
    """Return the data set, and its name in the figures: `name`, else the path, else its own."""
    if isinstance(data, DataSet):
        return data, name or data.name
    return load_dataset(data), name or str(data)


def _figures_by_group(hits: Hits, groups: np.ndarray) -> dict[str, dict[str, float]]:
    """Return mAP and Recall@1 of each named group (a camera, a shop) with a scored query."""
    figures = {}
    for group in np.unique(groups):
        rows = np.flatnonzero((groups == group) & (hits.num_relevant > 0))
        if group.strip() and len(rows):
            metrics = dict(summarize(hits.take(rows)))
            figures[str(group)] = {
                name: metrics[name] for name in ("mAP", "recall_at_1", "num_queries")
            }
    return figures
