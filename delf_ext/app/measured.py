"""Define the measurement of one model on one data set, and its figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_io.duplicates import NUM_SHOWN, Duplicates
from data_io.records import GroundTruth, Ranking
from delf_ext.app.trained_on import TrainedQueries
from delf_ext.evaluation.comparison import Evaluated
from delf_ext.evaluation.hits import Hits
from delf_ext.evaluation.intervals import score_interval
from delf_ext.evaluation.metrics import average_precisions, recalls_at_k, summarize
from delf_ext.pipeline import Retrieval


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
