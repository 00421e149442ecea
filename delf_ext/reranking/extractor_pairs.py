"""Pair the local features of queries and gallery, one pair per extractor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from data_io.records import ImageKeypoints, LocalFeatures, Ranking
from delf_ext.geometry.verification import VerifyConfig

# Decoded images that stay in memory for the next queries: 45 MB at 1,000 features of 40-D.
CACHED_GALLERY_IMAGES = 256


@dataclass(frozen=True, eq=False)
class ExtractorPair:
    """Local features of one extractor.

    Attributes:
        query: features of the queries.
        gallery: features of the gallery.
        gallery_image: returns the features of a gallery image by its id, from a cache.
        verify: settings for this extractor.
    """

    query: LocalFeatures
    gallery: LocalFeatures
    gallery_image: Callable[[str], ImageKeypoints]
    verify: VerifyConfig


def extractor_pairs(
    ranking: Ranking,
    query_features: LocalFeatures | Sequence[LocalFeatures],
    gallery_features: LocalFeatures | Sequence[LocalFeatures],
    verify: Sequence[VerifyConfig],
) -> list[ExtractorPair]:
    """Pair the features of each extractor.

    Args:
        ranking: of these images.
        query_features: of one extractor or several.
        gallery_features: of the same extractors, in the same order.
        verify: settings for all extractors, or one for each.

    Returns:
        One pair per extractor.

    Raises:
        ValueError: the numbers differ, the features are of other images, or different models made
            the two of a pair.
    """
    queries = _as_list(query_features)
    galleries = _as_list(gallery_features)
    if not queries or len(queries) != len(galleries):
        raise ValueError(
            "one set of gallery features per set of query features. "
            f"Received {len(queries)} and {len(galleries)}."
        )
    if len(verify) not in (1, len(queries)):
        raise ValueError(
            "one way to verify, or one per extractor. "
            f"Received {len(verify)} for {len(queries)} extractors."
        )
    for query, gallery in zip(queries, galleries):
        _check_pair(ranking, query, gallery)
    ways = tuple(verify) * (len(queries) // len(verify))
    return [
        ExtractorPair(query, gallery, lru_cache(CACHED_GALLERY_IMAGES)(gallery.of), way)
        for query, gallery, way in zip(queries, galleries, ways)
    ]


def _as_list(features: LocalFeatures | Sequence[LocalFeatures]) -> list[LocalFeatures]:
    return [features] if isinstance(features, LocalFeatures) else list(features)


def _check_pair(ranking: Ranking, query: LocalFeatures, gallery: LocalFeatures) -> None:
    query_dim = query.descriptors.shape[1]
    gallery_dim = gallery.descriptors.shape[1]
    if query.space != gallery.space or query_dim != gallery_dim:
        raise ValueError(
            f"query features were made by model {query.space} ({query_dim}-D), "
            f"gallery features by {gallery.space} ({gallery_dim}-D): extract both with one model."
        )
    if len(ranking.gallery_ids) and not any(name in gallery for name in ranking.gallery_ids):
        raise ValueError(
            f"none of {len(ranking.gallery_ids)} gallery images has local features: "
            "were they extracted from others?"
        )
