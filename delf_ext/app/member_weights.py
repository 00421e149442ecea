"""Choose the weights of the members of an ensemble on their dev split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data_io.datasets import DataSet
from data_io.files.artifacts import write_json
from data_io.progress import Log
from delf_ext.app.held_out import held_out_lists
from delf_ext.app.training_settings import Settings
from delf_ext.evaluation.comparison import p_text
from delf_ext.evaluation.hits import hits_of_similarities
from delf_ext.evaluation.intervals import paired_bootstrap
from delf_ext.evaluation.metrics import average_precisions
from delf_ext.features.embedder import AnyEmbedder, common_held_back
from delf_ext.pipeline import embed, truth_of
from delf_ext.recipes import schema
from delf_ext.recipes.members import planned
from delf_ext.runs.opening import open_model
from delf_ext.runs.recipe_run import chosen_weights, contents_of_models
from delf_ext.runs.records import MEMBER_WEIGHTS, Run
from delf_ext.runs.sources import RunSource, Runtime

SHARES_OF_TWO = np.linspace(0.05, 0.95, 19)
FACTORS = (0.25, 0.5, 2.0, 4.0)
"""Factors of one member's share in a round, with more than two members."""
MAX_ROUNDS = 3
SIGNIFICANT = 0.05


@dataclass(frozen=True, eq=False)
class Judged:
    """Dev queries and gallery, with the similarities of each member.

    Attributes:
        query_ids: str [Q].
        similarities: float32 [M, Q, G], cosines of each of the M members.
        is_relevant: bool [Q, G].
        is_junk: bool [Q, G].
    """

    query_ids: np.ndarray
    similarities: np.ndarray
    is_relevant: np.ndarray
    is_junk: np.ndarray

    def precisions(self, shares: np.ndarray) -> np.ndarray:
        """Return the average precision of each query for concatenated, weighted embeddings.

        The cosine of concatenated unit vectors with weights w is the mean of the members' cosines
        with the shares w ** 2.

        Args:
            shares: float [M], sum 1.

        Returns:
            float [Q]; NaN without a relevant image.
        """
        joined = np.tensordot(shares.astype(np.float32), self.similarities, axes=1)
        hits = hits_of_similarities(self.query_ids, joined, self.is_relevant, self.is_junk)
        return average_precisions(hits)


def choose_member_weights(
    run: Run, recipe: schema.EnsembleRecipe, data: DataSet, settings: Settings, log: Log
) -> None:
    """Choose the weights on the dev split and write them, if the recipe asks for that.

    With folds, the queries of all folds are pooled: each is embedded by the models that held it
    out. Nothing is done if weights were chosen for these models before.

    Args:
        run: the run of the ensemble.
        recipe: its recipe.
        data: the data set.
        settings: seed of the bootstrap, and precision.
        log: called with each line of the result.

    Raises:
        UsageError: the members held out different images.
    """
    if not recipe.choose_weights:
        return
    models = planned(recipe, settings.seed)
    folders = [model.run or str(run.path / "members" / model.name) for model in models]
    if chosen_weights(run, folders):
        return
    groups: dict[int | None, list[str]] = {}
    for model, folder in zip(models, folders, strict=True):
        groups.setdefault(model.fold, []).append(folder)
    runtime = Runtime(mixed_precision=settings.mixed_precision)
    judged = []
    for group in groups.values():
        opened = [open_model(RunSource(folder), runtime, log=log) for folder in group]
        judged.append(_judged(opened, data, recipe.name))
    weights = _decide([member.name for member in recipe.members], judged, settings.seed, log)
    facts = {"weights": weights.tolist(), "models": contents_of_models(folders)}
    write_json(run.path / MEMBER_WEIGHTS, facts)


def _judged(models: Sequence[AnyEmbedder], data: DataSet, name: str) -> Judged:
    """Embed the common dev split of one model of each member."""
    parts = held_out_lists(data, common_held_back(models, name))
    if parts is None or not len(parts.query):
        raise ValueError(f"{name}: the dev split of the members has no queries to choose weights.")
    similarities = []
    for model in models:
        found = embed(model, parts.query, parts.gallery, test_time=model.test_time)
        vectors = (found.query_features.embeddings, found.gallery_features.embeddings)
        similarities.append(vectors[0] @ vectors[1].T)
        model.release()
    truth = truth_of(found)
    masks = []
    for rows_of_query in (truth.relevant, truth.junk):
        mask = np.zeros(similarities[0].shape, bool)
        for query, rows in enumerate(rows_of_query):
            mask[query, rows] = True
        masks.append(mask)
    return Judged(found.query.ids, np.stack(similarities), *masks)


def _decide(names: Sequence[str], judged: Sequence[Judged], seed: int, log: Log) -> np.ndarray:
    """Search for weights; without a clear gain, return equal ones."""
    equal = np.full(len(names), 1 / len(names))

    def precisions(shares: np.ndarray) -> np.ndarray:
        return np.concatenate([part.precisions(shares) for part in judged])

    shares = search_shares(lambda shares: float(np.nanmean(precisions(shares))), len(names))
    gap = paired_bootstrap(precisions(shares), precisions(equal), seed)
    weights = np.sqrt(shares * len(names)).round(3)
    listed = ", ".join(f"{name} {weight:g}" for name, weight in zip(names, weights, strict=True))
    is_clear = gap.mean > 0 and gap.p_value < SIGNIFICANT
    verdict = "these are used" if is_clear else "which may be chance: equal weights are used"
    num_queries = sum(len(part.query_ids) for part in judged)
    log(
        f"weights of the members: {listed}; on {num_queries} dev queries, mAP {gap.mean:+.4f} "
        f"compared with equal weights (p {p_text(gap.p_value)}), {verdict}"
    )
    return weights if is_clear else np.ones(len(names))


def search_shares(score: Callable[[np.ndarray], float], num_members: int) -> np.ndarray:
    """Search the simplex of shares: a grid for two members, else one share after the other.

    Args:
        score: function of shares, float [M] of sum 1; higher is better.
        num_members: M, at least 2.

    Returns:
        The best shares that were tried, float [M]; without a gain, equal ones.
    """
    best = np.full(num_members, 1 / num_members)
    best_score = score(best)
    if num_members == 2:
        for share in SHARES_OF_TWO:
            tried = np.array([share, 1 - share])
            if (value := score(tried)) > best_score:
                best, best_score = tried, value
        return best
    for _ in range(MAX_ROUNDS):
        before = best_score
        for member in range(num_members):
            start = best
            for factor in FACTORS:
                tried = start.copy()
                tried[member] *= factor
                tried /= tried.sum()
                if (value := score(tried)) > best_score:
                    best, best_score = tried, value
        if best_score == before:
            break
    return best
