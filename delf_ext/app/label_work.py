"""Embed queries and gallery, and label the queries some at a time, so that they fit in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data_io.records import ImageList
from delf_ext.app.label_scores import Classes, Evidence, collect, probabilities
from delf_ext.app.label_splits import Gallery
from delf_ext.app.labels import Labels, labels_of
from delf_ext.features.embedder import Adapted, AnyEmbedder
from delf_ext.features.logits import Logits, logits_of_images
from delf_ext.pipeline import Retrieval, embed
from delf_ext.recipes.label_parts import Labelling

SCORES_PER_BLOCK = 2**22
"""Queries of a block times classes."""


@dataclass(frozen=True, eq=False)
class Work:
    """The model and how it is called.

    Attributes:
        model: from `one_pass`.
        batch_size: images per call.
        seed: of random choices.
    """

    model: AnyEmbedder
    batch_size: int
    seed: int

    def embed(self, query: ImageList, gallery: ImageList) -> Retrieval:
        """Embed queries and gallery without the head."""
        base = self.model.base if isinstance(self.model, Adapted) else self.model
        return embed(base, query, gallery, self.batch_size, self.model.test_time)

    def logits(self, images: ImageList) -> Logits:
        """Return the logits of images, averaged over their copies."""
        return logits_of_images(self.model, images, self.model.test_time, self.batch_size)


@dataclass(frozen=True, eq=False)
class Blocks:
    """Evidence of the queries, some at a time.

    Attributes:
        work: the model.
        plain: embeddings of queries and gallery, without the head.
        gallery: the labelled gallery.
        logits: of the queries; None if they are not needed.
        junk: for each query the gallery rows that do not count.
    """

    work: Work
    plain: Retrieval
    gallery: Gallery
    logits: Logits | None
    junk: Sequence[np.ndarray]

    def __len__(self) -> int:
        return max(1, SCORES_PER_BLOCK // len(self.gallery.names))

    def evidence(self, rows: np.ndarray, k: int) -> Evidence:
        """Return the evidence of some of the queries.

        Args:
            rows: int [n] of the queries.
            k: number of nearest images.

        Returns:
            The evidence of n queries.
        """
        query = self.plain.query_features.take(rows)
        classes = self.classes
        if isinstance(self.work.model, Adapted):
            query = self.work.model.projected(query)
        logits = None if self.logits is None else self.logits.take(rows)
        return collect(query, classes, k, logits, [self.junk[row] for row in rows])

    @cached_property
    def classes(self) -> Classes:
        """The gallery with the head of the model."""
        gallery = self.gallery
        features = gallery.features
        if isinstance(self.work.model, Adapted):
            features = self.work.model.projected(features)
        return Classes(gallery.names, features, gallery.labels)


def true_labels(blocks: Blocks) -> np.ndarray:
    """Return the class of each query among those of the gallery, int64 [Q]; -1 for none."""
    labels = blocks.plain.query.labels
    if labels is None:
        return np.full(len(blocks.plain.query), -1)
    known = np.unique(blocks.gallery.images.known_labels("classify"))
    places = np.minimum(np.searchsorted(known, labels), len(known) - 1)
    return np.where(known[places] == labels, places, -1)


def give_labels(
    blocks: Blocks, labelling: Labelling, levels_of: Mapping[str, Sequence[str]]
) -> Labels:
    """Give all queries their labels, some queries at a time.

    Args:
        blocks: the queries and the gallery.
        labelling: method and settings.
        levels_of: name of a coarser level -> for each class of the data its label there.

    Returns:
        The labels; none for a query whose embedding failed.
    """
    num_queries = len(blocks.plain.query)
    k = labelling.vote.neighbours if labelling.uses_vote else 1
    originals = np.unique(blocks.gallery.images.known_labels("classify"))
    levels = {name: [of[label] for label in originals] for name, of in levels_of.items()}
    parts = []
    for start in range(0, num_queries, len(blocks)):
        rows = np.arange(start, min(start + len(blocks), num_queries))
        table = probabilities(blocks.evidence(rows, k), labelling)
        parts.append(labels_of(table, originals, levels))
    labels = Labels.joined(parts)
    return labels.without(blocks.plain.query_features.failed)
