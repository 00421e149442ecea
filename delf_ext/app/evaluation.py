"""Measure a model on labelled queries, before and after re-ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_io.datasets import DataSet
from data_io.duplicates import find_duplicates
from data_io.progress import Log, quiet
from data_io.records import ImageList
from data_io.saved_again import saved_again_notes
from delf_ext.app.data import load_named
from delf_ext.app.evaluation_lists import common_lists, require_answers
from delf_ext.app.measured import Measured
from delf_ext.app.reranking import (
    Chain,
    Request,
    Reranker,
    chain_name,
    for_embedding,
    ranking_notes,
    reserve,
)
from delf_ext.app.trained_on import trained_queries
from delf_ext.evaluation.comparison import Evaluated
from delf_ext.evaluation.hits import hits_of
from delf_ext.features.embedder import AnyEmbedder
from delf_ext.features.extraction import BATCH_SIZE, NO_TIME_LEFT
from delf_ext.pipeline import embed, num_ranked, rank, score, truth_of
from delf_ext.recipes.part import BatchSize, Seed, coerced
from delf_ext.recipes.schema import TestTime
from delf_ext.reranking.deadline import Deadline


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
