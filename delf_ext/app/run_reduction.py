"""Fit the reduction of a trained recipe on its training images, and measure it on the dev split."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_io.files.artifacts import write_json
from data_io.files.contents import contents_of
from data_io.progress import Log
from data_io.records import ImageList
from delf_ext.app.adaptation_result import verdict_of
from delf_ext.app.data import Split
from delf_ext.app.head_choice import KINDS, Choice, choose_head, shown_settings
from delf_ext.app.head_folds import Fold
from delf_ext.app.labelled_embeddings import embed_usable
from delf_ext.config import UsageError
from delf_ext.evaluation.comparison import ComparisonRow, Evaluated, compare, format_table
from delf_ext.features.embedder import Adapted, Embedder, Ensemble
from delf_ext.features.extraction import BATCH_SIZE
from delf_ext.features.reductions.build import fit_reduction
from delf_ext.features.reductions.projection import Projection
from delf_ext.pipeline import Retrieval, embed, projected, score, truth_of
from delf_ext.recipes import codec, schema
from delf_ext.recipes.part import Part
from delf_ext.runs.fitted_reduction import FittedReduction, binding, read_fitted, write_fitted
from delf_ext.runs.records import Run
from delf_ext.runs.run_directory import jsonable

FIGURES = "reduction.json"
QUERY_PARTS = 2
"""Parts of the dev queries: the figures of one are of settings that the others chose."""


@dataclass(frozen=True, eq=False)
class Reducing:
    """What the reduction of a run is fitted on.

    Attributes:
        run: the run.
        config: the reduction of its recipe.
        model: its network or its members, without the reduction.
        digest: of the model, without precision and runtime.
        split: training images, dev queries and gallery.
        seed: of the bootstrap and the parts of the queries.
        log: called with each line of the result.
    """

    run: Run
    config: Part
    model: Embedder | Ensemble
    digest: str
    split: Split
    seed: int
    log: Log


def require_fitting(config: Part | None, num_images: int, num_classes: int, num_dev: int) -> None:
    """Raise an error before training if the reduction cannot be fitted on these images.

    Args:
        config: the reduction of the recipe; None = none.
        num_images: number of training images.
        num_classes: number of their classes.
        num_dev: number of dev queries.

    Raises:
        UsageError: it has more dimensions than the images can span.
        ValueError: it is to be chosen on a dev split without queries.
    """
    dims = getattr(config, "dims", 0)
    kind = type(config).__name__
    if isinstance(config, schema.Lda) and dims >= num_classes:
        raise UsageError(
            f"reduction {kind}: {num_classes} training classes span at most {num_classes - 1} "
            f"dimensions. Received dims={dims}. Pass a smaller one (--set reduction.dims=0: as "
            "many as there are)."
        )
    if dims >= num_images:
        raise UsageError(
            f"reduction {kind}: {num_images} training images span at most {num_images - 1} "
            f"dimensions. Received dims={dims}. Pass a smaller one (--set reduction.dims=...)."
        )
    if isinstance(config, schema.Chosen) and not num_dev:
        raise ValueError(
            "the reduction Chosen needs dev queries, but no held-out class has two images. Hold "
            "out more classes (--set validation.share=...), or name a reduction (--set "
            "reduction=Lda)."
        )


def fit_run_reduction(work: Reducing) -> None:
    """Fit the reduction of a run, print what it changes on the dev split, and write it.

    Nothing is done if the run has a reduction that was fitted on these weights and images.

    Args:
        work: what it is fitted on.

    Raises:
        ValueError: images cannot be read, or all embeddings failed.
    """
    run = work.run
    fitted_on = binding(work.digest, work.config, work.model, run.facts.data_digest)
    if _is_fitted(run, fitted_on):
        return
    images, embeddings = embed_usable(
        work.model, work.split.train, work.model.test_time, BATCH_SIZE, work.log
    )
    labels = images.known_labels("a reduction")
    dev = None
    if len(work.split.query):
        dev = embed(
            work.model, work.split.query, work.split.gallery, test_time=work.model.test_time
        )
    config: Part | None = work.config
    choice = None
    if isinstance(config, schema.Chosen):
        assert dev is not None
        choice = _choose(config, images, embeddings, dev, work)
        config = choice.reduction
    projection = None
    if config is not None:
        projection = fit_reduction(config, embeddings, labels)
        _log_rank(config, projection, work.log)
    if choice is not None:
        rows = choice.rows
        work.log(
            f"reductions on the dev split, fitted on the training images:\n{format_table(rows)}"
        )
        work.log(verdict_of(choice, len(images)))
    else:
        rows = _compare(work, config, projection, dev, len(images))
    write_json(run.path / "metrics" / FIGURES, _figures(config, rows, len(images)))
    write_fitted(run.path, FittedReduction(fitted_on, config, projection))


def _is_fitted(run: Run, fitted_on: str) -> bool:
    try:
        fitted = read_fitted(run.path)
    except ValueError:
        # It is fitted again.
        return False
    return fitted is not None and fitted.fitted_on == fitted_on


def _log_rank(config: Part, projection: Projection, log: Log) -> None:
    dims = getattr(config, "dims", 0)
    if projection.dims < dims:
        log(
            f"reduction {type(config).__name__}: {dims} dimensions were asked for, but the "
            f"embeddings span {projection.dims}: these are kept"
        )


def _compare(
    work: Reducing,
    config: Part | None,
    projection: Projection | None,
    dev: Retrieval | None,
    num_images: int,
) -> list[ComparisonRow]:
    """Measure the embeddings of the dev split without and with the reduction."""
    assert config is not None
    title = f"{type(config).__name__} ({shown_settings(config)})"  # type: ignore[arg-type]
    if dev is None:
        work.log(f"reduction {title}: fitted on {num_images} training images; no dev split")
        return []
    truth = truth_of(dev)
    reduced = projected(Adapted(title, work.model, projection), dev)
    results = [
        Evaluated("without reduction", score(dev, truth)),
        Evaluated(title, score(reduced, truth)),
    ]
    rows = compare(results, work.seed)
    work.log(
        f"reduction {title}, fitted on {num_images} training images, on the dev split:\n"
        f"{format_table(rows)}"
    )
    return rows


def _figures(config: Part | None, rows: Sequence[ComparisonRow], num_images: int) -> dict:
    return {
        "reduction": codec.to_json(config),
        "num_images": num_images,
        "rows": jsonable([dataclasses.asdict(row) for row in rows]),
    }


# --- a choice on the dev split


def _choose(
    config: schema.Chosen,
    images: ImageList,
    embeddings: np.ndarray,
    dev: Retrieval,
    work: Reducing,
) -> Choice:
    """Choose among the candidates: fitted on the training images, judged on the dev queries."""
    parts = [
        (images, embeddings),
        (dev.gallery, dev.gallery_features.embeddings),
        (dev.query, dev.query_features.embeddings),
    ]
    contents = [contents_of(part.paths.tolist()) for part, _ in parts]
    # An image that is in several lists is one row: so a gallery of training images is known as one.
    row_of: dict[str, int] = {}
    for content in sum(contents, []):
        row_of.setdefault(content, len(row_of))
    first = np.unique([row_of[content] for content in sum(contents, [])], return_index=True)[1]
    joined = np.concatenate([vectors for _, vectors in parts])[first]
    labels = np.concatenate([part.known_labels("a reduction") for part, _ in parts])[first]
    ids = np.concatenate([part.ids for part, _ in parts])[first]
    # Further copies of one image in a list would be searched, or found, twice.
    fit, gallery, query = [np.unique([row_of[content] for content in part]) for part in contents]
    # A copy of a training image says nothing about new photographs.
    query = query[~np.isin(query, fit)] if not np.isin(query, fit).all() else query
    failed = ~joined.any(axis=1)
    query = query[~failed[query]]
    gallery = gallery[~failed[gallery]]
    order = np.random.default_rng(work.seed).permutation(len(query))
    folds = [
        Fold(fit, query[np.sort(order[number::QUERY_PARTS])], gallery)
        for number in range(min(QUERY_PARTS, len(query)))
    ]
    tried = {
        kind: candidates
        for kind, candidates in KINDS.items()
        if not config.kinds or type(candidates[0]).__name__ in config.kinds
    }
    work.log(
        f"choosing a reduction on {len(query)} dev queries ({work.split.description}): "
        f"{', '.join(tried)}"
    )
    return choose_head(ids, joined, labels, folds, work.seed, tried=tried)
