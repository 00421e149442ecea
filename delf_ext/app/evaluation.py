"""Measure a model on labelled queries, before and after re-ranking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_io.datasets import DataSet, load_dataset
from data_io.duplicates import NUM_SHOWN, Duplicates, find_duplicates
from data_io.messages import shown_path, unlabelled_notes
from data_io.progress import Log, quiet
from data_io.records import GroundTruth, ImageList, Ranking
from data_io.saved_again import saved_again_notes
from delf_ext.app.evaluation_lists import evaluation_lists
from delf_ext.app.reranking import (
    Chain,
    Request,
    Reranker,
    chain_name,
    for_embedding,
    ranking_notes,
    reserve,
)
from delf_ext.app.trained_on import (
    TrainedQueries,
    require_untrained,
    trained_queries,
    was_trained,
)
from delf_ext.evaluation.comparison import Evaluated
from delf_ext.evaluation.hits import Hits, hits_of
from delf_ext.evaluation.intervals import score_interval
from delf_ext.evaluation.metrics import average_precisions, recalls_at_k, summarize
from delf_ext.features.embedder import AnyEmbedder, HeldBack, common_held_back
from delf_ext.features.extraction import BATCH_SIZE, NO_TIME_LEFT
from delf_ext.pipeline import (
    Retrieval,
    embed,
    num_ranked,
    rank,
    score,
    truth_of,
)
from delf_ext.recipes.part import BatchSize, Seed, coerced
from delf_ext.recipes.schema import TestTime
from delf_ext.reranking.deadline import Deadline


@dataclass(frozen=True, eq=False)
class Measured:
    """Result of one model, with or without re-ranking, on one data set.

    Attributes:
        evaluated: name of the model and positions of its relevant images.
        retrieval: embeddings of queries and gallery.
        ranking: gallery rows for each query; only the first places if all are too many for memory.
        truth: relevant gallery rows of each query.
        duplicates: gallery images that are a query's own photograph.
        trained: queries that the model was trained on.
    """

    evaluated: Evaluated
    retrieval: Retrieval
    ranking: Ranking
    truth: GroundTruth
    duplicates: Duplicates
    trained: TrainedQueries = TrainedQueries()

    def remarks(self, num_shown: int = NUM_SHOWN) -> Iterator[str]:
        """Yield lines for a report: queries that were trained on, and copies of queries.

        Args:
            num_shown: largest number of files of one kind with a line each.

        Yields:
            Lines without a line break.
        """
        yield from self.retrieval.failed_notes()
        yield from self.trained.notes(num_shown)
        yield from self.duplicates.notes(num_shown)

    def figures(self, data_name: str, seed: int) -> dict[str, Any]:
        """Return the figures as they are written to JSON.

        Args:
            data_name: name or path of the data set.
            seed: seed of the bootstrap.

        Returns:
            The main figures, all metrics under "metrics", and figures by group under "groups".
        """
        hits = self.evaluated.hits
        metrics = dict(summarize(hits))
        query = self.retrieval.query
        gallery = self.retrieval.gallery
        left_out = self.retrieval.left_out
        figures = {
            "mAP": metrics["mAP"],
            "mAP_ci95": list(score_interval(average_precisions(hits), seed)),
            **{f"recall_at_{k}": metrics[f"recall_at_{k}"] for k in (1, 5, 10)},
            "num_queries": int(metrics["num_queries"]),
            "num_gallery": len(gallery),
            "num_skipped": len(left_out.files),
            "model": self.evaluated.name,
            "data": data_name,
            "seed": seed,
            "num_files_seen": left_out.num_seen,
            "num_queries_without_label": len(query) - len(query.labelled()),
            "num_gallery_without_label": len(gallery) - len(gallery.labelled()),
            "num_failed_queries": int(self.retrieval.query_features.failed.sum()),
            "num_failed_gallery": int(self.retrieval.gallery_features.failed.sum()),
            "recall_at_1_ci95": list(score_interval(recalls_at_k(hits, 1), seed)),
            "model_digest": self.retrieval.query_features.digest,
            "metrics": metrics,
            "duplicates": self.duplicates.figures(),
            "training": self.trained.figures(),
            "skipped": [list(item) for item in left_out.files],
            "skipped_folders": [list(item) for item in left_out.folders],
        }
        by_group = {} if query.groups is None else _figures_by_group(hits, query.groups)
        if by_group:
            figures["groups"] = by_group
        return figures


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of `evaluate`.

    Attributes:
        plain: before re-ranking.
        final: after re-ranking; equal to `plain` without a chain.
        figures: the figures of `final`, as `--json` writes them.
    """

    plain: Measured
    final: Measured
    figures: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        """Return a figure, such as "mAP"."""
        return self.figures[name] if name in self.figures else self.figures["metrics"][name]


def common_lists(
    data: DataSet,
    models: Sequence[AnyEmbedder],
    log: Log = quiet,
    allow_trained_photographs: bool = False,
) -> tuple[ImageList, ImageList]:
    """Return the queries and the gallery that all models are measured on.

    Args:
        data: its queries and gallery are used if it has them; else the images that training held
            back; else each image is searched in all others.
        models: the models to measure.
        log: called with one line for each model.
        allow_trained_photographs: measure also if queries are photographs that a model was
            trained on.

    Returns:
        Queries and gallery.

    Raises:
        UsageError: if the data has no queries and the models held back different images.
        ValueError: if there is nothing to find, a held-out class would be a trained one, or a
            query photograph was trained on and that is not allowed.
    """
    has_lists = len(data.query) and len(data.gallery)
    held_back = HeldBack() if has_lists else common_held_back(models, data.name)
    query, gallery, source = evaluation_lists(data, held_back)
    all_found = [trained_queries(model, query, data.class_names) for model in models]
    for model, found in zip(models, all_found, strict=True):
        line = f"{model.name}: {len(query)} queries in a gallery of {len(gallery)}: {source}"
        if was_trained(model) and query.labels is not None:
            line += (
                f"; {found.num_trained_classes} of {found.num_classes} query classes were "
                "trained on"
            )
        log(line)
    for model, found in zip(models, all_found, strict=True):
        require_untrained(model, found, allow_trained_photographs)
    for line in unlabelled_notes(query, gallery):
        log(line)
    return query, gallery


def require_answers(
    query: ImageList,
    gallery: ImageList,
    duplicates: str,
    class_names: Sequence[str],
    remedy: str = "Pass --duplicates=count to count copies.",
) -> None:
    """Raise ValueError, before the long work, if copies are an error or nothing can be found.

    Args:
        query: images to search with.
        gallery: images to search in.
        duplicates: see `find_duplicates`.
        class_names: name of label i, for the message.
        remedy: what to do if only copies can be found, for the message.

    Raises:
        ValueError: a list has no labels, copies are refused, or no query has a relevant image.
    """
    found = find_duplicates(query, gallery, duplicates)
    truth = GroundTruth.from_labels(query, gallery, found.junk)
    if any(len(rows) for rows in truth.relevant):
        return
    if found.num_only_copies:
        raise ValueError(
            f"all relevant images of the {found.num_only_copies} queries are copies of them, so "
            f"there is nothing to find. {remedy}"
        )
    examples = [
        f"{what} has {class_names[images.labels[images.has_label][0]]!r}"
        for what, images in (("a query", query), ("a gallery image", gallery))
        if images.labels is not None and images.has_label.any()
    ]
    raise ValueError(
        f"none of the {len(query)} queries has another photograph with its label in the gallery, "
        f"so there is nothing to find ({', '.join(examples)}). Check the labels of the data."
    )


def measure(
    model: AnyEmbedder,
    query: ImageList,
    gallery: ImageList,
    batch_size: int = BATCH_SIZE,
    test_time: TestTime | None = None,
    labelled: bool = True,
    deadline: Deadline | None = None,
    duplicates: str = "exclude",
    class_names: Sequence[str] = (),
    log: Log = quiet,
) -> Measured:
    """Embed, rank and score. A ranking too large for memory is scored in blocks, then cut.

    Args:
        model: an embedder or an ensemble.
        query: images to search with.
        gallery: images to search in.
        batch_size: images per call of the model.
        test_time: which copies of the images are embedded too; None = as the model's recipe says.
        labelled: whether labels are required; if not, unlabelled images have no relevant image.
        deadline: images that are not embedded in time are skipped.
        duplicates: what to do with copies of a query in the gallery, see `find_duplicates`.
        class_names: name of each label, to find the classes that the model was trained on.
        log: called with each line of the result.

    Returns:
        The measurement.

    Raises:
        ValueError: if labels are required and missing, or if copies are an error.
        TimeoutError: if nothing was embedded in time.
    """
    test_time = model.test_time if test_time is None else test_time
    retrieval = embed(model, query, gallery, batch_size, test_time, deadline)
    num_late = sum(reason == NO_TIME_LEFT for _, reason in retrieval.skipped)
    if num_late:
        log(
            f"time budget: {num_late} images were not embedded in time; "
            "all figures are of the others"
        )
    if retrieval.warning:
        log(retrieval.warning)
    ranking = rank(retrieval, num_ranked(retrieval))
    found = find_duplicates(retrieval.query, retrieval.gallery, duplicates)
    truth = truth_of(retrieval, labelled, found.junk)
    if not retrieval.warning and duplicates != "count":
        for line in saved_again_notes(retrieval.query, retrieval.gallery, ranking, truth.junk):
            log(line)
    is_complete = ranking.rows.shape[1] == len(retrieval.gallery)
    hits = hits_of(ranking, truth) if is_complete else score(retrieval, truth)
    evaluated = Evaluated(model.name, hits, len(retrieval.left_out.files), ranking)
    trained = trained_queries(model, retrieval.query, class_names)
    return Measured(evaluated, retrieval, ranking, truth, found, trained)


def measure_reranked(
    measured: Measured, reranker: Reranker, chain: Chain, reserve_s: float = 0.0
) -> Measured:
    """Re-rank with a chain and measure again.

    Args:
        measured: the measurement before re-ranking.
        reranker: applies the chain.
        chain: the steps.
        reserve_s: seconds to leave before the deadline.

    Returns:
        A new measurement; if its ranking is cut, the figures are of the part that is kept.
    """
    ranking, evidence = reranker(measured.retrieval, measured.ranking, chain, reserve_s)
    evaluated = Evaluated(
        f"{measured.evaluated.name} + {chain_name(chain)}",
        hits_of(ranking, measured.truth),
        measured.evaluated.num_skipped,
        ranking,
        evidence,
    )
    return replace(measured, evaluated=evaluated, ranking=ranking)


def evaluate(
    model: AnyEmbedder,
    data: DataSet | str | Path,
    *,
    request: Request | None = None,
    folder: Path | None = None,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    duplicates: str = "exclude",
    allow_trained_photographs: bool = False,
    data_name: str = "",
    log: Log = quiet,
) -> Evaluation:
    """Measure a model on labelled queries.

    Args:
        model: from `open_model`.
        data: a data set or its path. Its queries and gallery are used if it has them; else the
            images that training held back; else each image is searched in all others.
        request: a chain of re-ranking steps and a deadline; None = as the model's recipe says.
        folder: where geometric steps store local features.
        batch_size: images per call of the model.
        seed: seed of the bootstrap.
        duplicates: what to do with copies of a query in the gallery: "exclude" leaves them out of
            its ranking, "count" counts them, "error" refuses them.
        allow_trained_photographs: measure also if queries are photographs that the model was
            trained on.
        data_name: name of the data in the figures; "" = its path or own name.
        log: called with each line of the result.

    Returns:
        Measurements before and after re-ranking, and the figures.

    Raises:
        UsageError: if the request does not fit the model, or a number is out of range.
        ValueError: if the data cannot be read or has no labels, if copies are an error, or if a
            query photograph was trained on and that is not allowed.
        TimeoutError: if nothing was embedded in time.
    """
    coerced(batch_size, BatchSize, "batch_size")
    coerced(seed, Seed, "seed")
    request = (request or Request()).of(model)
    chain = request.chain
    data, data_name = load_named(data, data_name, log)
    query, gallery = common_lists(data, [model], log, allow_trained_photographs)
    require_answers(query, gallery, duplicates, data.class_names)
    reranker = Reranker(request, gallery, folder, log)
    early = for_embedding(request.deadline)
    plain = measure(
        model,
        query,
        gallery,
        batch_size,
        request.test_time,
        deadline=early,
        duplicates=duplicates,
        class_names=data.class_names,
        log=log,
    )
    for line in plain.remarks():
        log(line)
    started_s = request.deadline.clock()
    figures = plain.figures(data_name, seed)
    if not chain:
        return Evaluation(plain, plain, figures)
    # The figures are computed once more after re-ranking, and written.
    reserve_s = reserve(request.deadline, started_s, times=3)
    final = measure_reranked(plain, reranker, chain, reserve_s)
    for line in ranking_notes(final.ranking, request.deadline):
        log(line)
    return Evaluation(plain, final, final.figures(data_name, seed))


def load_named(data: DataSet | str | Path, name: str, log: Log = quiet) -> tuple[DataSet, str]:
    """Load a data set and choose its name in the figures.

    Args:
        data: a data set, or its path.
        name: the name; "" = the path, else the name of the data set.
        log: called with each line about how the data were read.

    Returns:
        The data set and the name.
    """
    if isinstance(data, DataSet):
        return data, name or data.name
    loaded = load_dataset(data)
    log(f"data: {loaded.read_as}")
    for note in loaded.notes:
        log(note)
    return loaded, name or shown_path(data)


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
