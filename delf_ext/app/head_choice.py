"""Choose the kind of a head and its settings by cross-validation on stored embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from data_io.directions import directions
from delf_ext.app.head_folds import Fold
from delf_ext.evaluation.comparison import ComparisonRow, Evaluated, compare
from delf_ext.evaluation.hits import Hits, concatenate, hits_of_similarities
from delf_ext.evaluation.intervals import paired_bootstrap
from delf_ext.evaluation.metrics import average_precisions, separations
from delf_ext.features.reductions.build import fit
from delf_ext.features.reductions.projection import Projection
from delf_ext.features.reductions.scatter import Scatter
from delf_ext.recipes import schema
from delf_ext.recipes.adapted_parts import LinearReduction

DIMS = (64, 128, 256)
NO_HEAD = "no head"
WITHIN = "within-class whitening"
LDA = "LDA"
KINDS: Mapping[str, tuple[LinearReduction, ...]] = {
    "PCA": tuple(schema.Pca(dims) for dims in DIMS),
    "PCA-whitening": (
        *(schema.PcaWhitening(dims, 0.0) for dims in DIMS[:2]),
        *(schema.PcaWhitening(dims, 0.3) for dims in DIMS),
    ),
    # It takes longest: it does not reduce the dimension.
    WITHIN: tuple(map(schema.WithinClassWhitening, (0.03, 0.1, 0.3, 0.6))),
    LDA: tuple(map(schema.Lda, (0.01, 0.03, 0.1, 0.3, 0.6, 0.9))),
}
"""Kind -> the settings that are tried."""
WITH_LABELS = (WITHIN, LDA)
"""Kinds that pull together, class by class, what they are fitted on."""
SIGNIFICANT = 0.05
"""Largest p of a head that is better than none; divided by the number of kinds that are tried."""


@dataclass(frozen=True, eq=False)
class Choice:
    """Result of a cross-validation.

    Attributes:
        reduction: what to fit; None if no head is better than none beyond noise.
        kind: its kind; "no head" for None.
        rows: table: no head, then each kind. In each fold, a kind has the settings that are best
            in the other folds, so its figures are not of queries that chose them.
        settings: kind -> the settings that are best in all folds.
        tried: (kind, settings, mAP over all folds) of each candidate.
        near: kinds that may be chosen: they do more than pull the gallery together.
    """

    reduction: LinearReduction | None
    kind: str
    rows: list[ComparisonRow]
    settings: Mapping[str, LinearReduction]
    tried: tuple[tuple[str, LinearReduction, float], ...]
    near: tuple[str, ...] = tuple(KINDS)

    def row(self, kind: str) -> ComparisonRow:
        """Return the row of a kind."""
        return next(row for row in self.rows if row.name == self.title(kind))

    def title(self, kind: str) -> str:
        """Return how the table names a kind: with its settings."""
        return kind if kind == NO_HEAD else f"{kind} ({shown_settings(self.settings[kind])})"


def shown_settings(reduction: LinearReduction) -> str:
    """Return the settings of a reduction: "dims 128, shrinkage 0.1"."""
    names = ("dims", "shrinkage")
    values = [(name, getattr(reduction, name, 0)) for name in names]
    return ", ".join(f"{name} {value:g}" for name, value in values if value) or "shrinkage 0"


def choose_head(
    ids: np.ndarray,
    embeddings: np.ndarray,
    labels: np.ndarray,
    folds: Sequence[Fold],
    seed: int,
    step: Callable[[], object] = lambda: None,
    junk_groups: np.ndarray | None = None,
    tried: Mapping[str, Sequence[LinearReduction]] = KINDS,
) -> Choice:
    """Judge all candidates on the same queries, and compare the best of each kind with no head.

    Args:
        ids: str [N].
        embeddings: float32 [N, D], unit length.
        labels: int [N].
        folds: from `folds_for`.
        seed: seed of the bootstrap.
        step: called after each fold.
        junk_groups: str [N], such as cameras: photographs of the query's class and group do not
            count. None = all count.
        tried: kind -> the settings that are tried.

    Returns:
        The choice.

    Raises:
        ValueError: no query has another photograph of its class to find.
    """
    gallery_is_fitted = any(np.isin(fold.gallery, fold.fit).any() for fold in folds)
    largest = min(min(len(fold.fit) for fold in folds) - 1, embeddings.shape[1])
    kinds = {
        kind: [one for one in candidates if getattr(one, "dims", 0) <= max(largest, DIMS[0])]
        for kind, candidates in tried.items()
    }
    hits: dict[LinearReduction | None, list[Hits]] = {None: []}
    fitted = np.zeros(0, np.int64)
    for fold in folds:
        if not np.array_equal(fold.fit, fitted):
            fitted = fold.fit
            scatter = Scatter(embeddings[fitted], labels[fitted])
            # Fitting takes most of the time: folds of one fit share it.
            fit_once = cache(partial(fit, scatter=scatter))
        judge = _Judge(ids, embeddings, labels, fold, junk_groups, fit_once)
        hits[None].append(judge.hits(None))
        for candidates in kinds.values():
            for candidate in candidates:
                hits.setdefault(candidate, []).append(judge.hits(candidate))
        step()
    return _chosen(kinds, hits, seed, gallery_is_fitted)


class _Judge:
    """Measure reductions on one fold; they share the covariances."""

    def __init__(
        self,
        ids: np.ndarray,
        embeddings: np.ndarray,
        labels: np.ndarray,
        fold: Fold,
        junk_groups: np.ndarray | None,
        fit_once: Callable[[LinearReduction], Projection],
    ) -> None:
        self.query_ids = ids[fold.query]
        self.query = directions(embeddings[fold.query])
        self.gallery = directions(embeddings[fold.gallery])
        self.is_junk = fold.query[:, np.newaxis] == fold.gallery
        same_class = labels[fold.query][:, np.newaxis] == labels[fold.gallery]
        if junk_groups is not None:
            same_group = junk_groups[fold.query][:, np.newaxis] == junk_groups[fold.gallery]
            self.is_junk |= same_class & same_group
        self.is_relevant = same_class & ~self.is_junk
        self.fit_once = fit_once

    def hits(self, reduction: LinearReduction | None) -> Hits:
        query, gallery = self.query, self.gallery
        if reduction is not None:
            projection = self.fit_once(reduction)
            query, gallery = projection(query), projection(gallery)
        similarities = query @ gallery.T
        return hits_of_similarities(self.query_ids, similarities, self.is_relevant, self.is_junk)


def _chosen(
    kinds: Mapping[str, Sequence[LinearReduction]],
    hits: Mapping[LinearReduction | None, list[Hits]],
    seed: int,
    gallery_is_fitted: bool,
) -> Choice:
    precisions = {one: [average_precisions(part) for part in parts] for one, parts in hits.items()}
    if np.isnan(np.concatenate(precisions[None])).all():
        raise ValueError(
            "no query has another photograph of its class to find: adapt needs more photographs "
            "of each class."
        )
    settings: dict[str, LinearReduction] = {}
    results = [Evaluated(NO_HEAD, concatenate(hits[None]))]
    for kind, candidates in kinds.items():
        settings[kind] = _best(candidates, precisions)
        parts = []
        for number in range(len(hits[None])):
            # Settings that these queries have not chosen.
            best = _best(candidates, precisions, without=number)
            parts.append(hits[best][number])
        title = f"{kind} ({shown_settings(settings[kind])})"
        results.append(Evaluated(title, concatenate(parts)))
    rows = compare(results, seed)
    near = [
        kind
        for kind, result in zip(kinds, results[1:], strict=True)
        if not gallery_is_fitted or kind not in WITH_LABELS or _separates(result, results[0], seed)
    ]
    kind = _best_kind(list(kinds), results, rows, near, seed)
    tried = tuple(
        (name, one, float(np.nanmean(np.concatenate(precisions[one]))))
        for name, candidates in kinds.items()
        for one in candidates
    )
    return Choice(settings.get(kind), kind, rows, settings, tried, tuple(near))


def _separates(result: Evaluated, no_head: Evaluated, seed: int) -> bool:
    """Return whether queries are clearly nearer to their class than without a head.

    A head that is fitted on the labels of the gallery puts the photographs of a class at one
    place, whatever the labels mean. Even a query at random then has a higher average precision,
    because they are found together, early or late (seen: LDA is clearly better for labels at
    random, in 5 of 16 draws). Their mean place does not change by that.
    """
    gap = paired_bootstrap(separations(result.hits), separations(no_head.hits), seed)
    return gap.mean > 0 and gap.p_value < SIGNIFICANT / len(KINDS)


def _best_kind(
    kinds: Sequence[str],
    results: Sequence[Evaluated],
    rows: Sequence[ComparisonRow],
    near: Sequence[str],
    seed: int,
) -> str:
    """Return the kind of highest mAP among `near`; NO_HEAD if it may be no better than none.

    LDA replaces within-class whitening if it is better than none and a paired test finds no
    difference between the two: its embeddings are shorter. It is also better in a gallery of
    photographs without labels, which a cross-validation does not show (seen: five photographs of
    each product, mAP .57 and .48).
    """
    row_of = dict(zip(kinds, rows[1:], strict=True))

    def is_better(kind: str) -> bool:
        gap = row_of[kind].difference
        return gap is not None and gap.mean > 0 and gap.p_value < SIGNIFICANT / len(kinds)

    kind = max(near, key=lambda kind: row_of[kind].mean_average_precision, default=NO_HEAD)
    if kind == WITHIN and LDA in near and is_better(LDA):
        pair = [results[1 + kinds.index(name)] for name in (LDA, WITHIN)]
        gap = compare(pair, seed)[1].difference
        if gap is not None and gap.p_value >= SIGNIFICANT:
            kind = LDA
    return kind if kind in near and is_better(kind) else NO_HEAD


def _best(
    candidates: Sequence[LinearReduction],
    precisions: Mapping[LinearReduction | None, list[np.ndarray]],
    without: int | None = None,
) -> LinearReduction:
    """Return the candidate of highest mAP over the folds but one; of equal ones, the first."""

    def score(candidate: LinearReduction) -> float:
        parts = precisions[candidate]
        others = [part for number, part in enumerate(parts) if number != without] or parts
        values = np.concatenate(others)
        return float(np.nanmean(values)) if not np.isnan(values).all() else 0.0

    return max(candidates, key=score)
