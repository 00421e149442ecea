"""Draw pairs of images with their matches, and summarise all verified pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from data_io.images import ImageError, decode_image
from data_io.progress import Log, quiet
from data_io.records import ImageKeypoints, ImageList, LocalFeatures
from delf_ext.app.local_features import extractors_of
from delf_ext.app.local_settings import LocalSettings
from delf_ext.app.measured import Measured
from delf_ext.evaluation.match_histogram import choose_threshold
from delf_ext.evaluation.match_pictures import draw_match, stack
from delf_ext.geometry.verification import Verification, verify
from delf_ext.reranking.geometric import GeometricConfig, pair_key

Local = Sequence[tuple[LocalFeatures, LocalFeatures]]
"""Local features (of the queries, of the gallery) for each extractor."""
Pairs = dict[str, tuple[np.ndarray, np.ndarray]]
"""Verified pairs: "matching" and "other" -> (number of inliers [n], whether accepted [n])."""


def match(
    settings: LocalSettings, query: ImageList, candidate: ImageList, log: Log = quiet
) -> tuple[Image.Image, list[Verification]]:
    """Compare two images by their local features.

    Args:
        settings: which local features, and how they are verified.
        query: a list of one image.
        candidate: a list of one image.
        log: called with each log line.

    Returns:
        A picture with the matches, and the verification by each extractor.

    Raises:
        ImageError: if an image cannot be read.
        ValueError: if the extractors cannot be made.
    """
    images = [decode_image(query.paths[0]), decode_image(candidate.paths[0])]
    both = ImageList(np.array(["query", "gallery"]), np.concatenate([query.paths, candidate.paths]))
    keypoints = [
        (extractor.query.extract(images[:1])[0], extractor.gallery.extract(images[1:])[0])
        for extractor in extractors_of(settings, both, None, log=log)
    ]
    ids = (str(query.ids[0]), str(candidate.ids[0]))
    return draw_pair(images, keypoints, ids, settings.geometric)


def draw_pair(
    images: Sequence[np.ndarray],
    keypoints: Sequence[tuple[ImageKeypoints, ImageKeypoints]],
    ids: tuple[str, str],
    config: GeometricConfig,
) -> tuple[Image.Image, list[Verification]]:
    """Verify a pair of images with each extractor, and draw the results one below the other.

    Args:
        images: uint8 [H, W, 3] of the query and of the gallery image.
        keypoints: (of the query, of the gallery image) for each extractor.
        ids: ids of the query and of the gallery image.
        config: how pairs are verified, for each extractor.

    Returns:
        The picture, and the verification by each extractor.
    """
    verify_configs = config.verify * (len(keypoints) // len(config.verify))
    verifications = [
        verify(query, [gallery], [pair_key(*ids)], verify_config)[0]
        for (query, gallery), verify_config in zip(keypoints, verify_configs)
    ]
    # The built-in font of Pillow has Latin letters only.
    title = "   ".join(ids) if "".join(ids).isascii() else "query   gallery"
    pictures = [
        draw_match(images[0], images[1], query, gallery, verification, title, verification.accepted)
        for (query, gallery), verification in zip(keypoints, verifications)
    ]
    return stack(pictures), verifications


def match_drawer(
    measured: Measured, local: Local, config: GeometricConfig
) -> Callable[[str, str], Image.Image | None]:
    """Return a function that draws the matches of a query and a gallery image.

    Args:
        measured: gives the paths of the images.
        local: their local features.
        config: how pairs are verified.

    Returns:
        A function of (query id, gallery id). It returns None if an image cannot be read, or has
        no local features.
    """
    query_paths = _path_of_id(measured.retrieval.query)
    gallery_paths = _path_of_id(measured.retrieval.gallery)

    def draw(query_id: str, gallery_id: str) -> Image.Image | None:
        keypoints = [
            (queries.of(query_id), galleries.of(gallery_id))
            for queries, galleries in local
            if query_id in queries and gallery_id in galleries
        ]
        if not keypoints:
            return None
        try:
            images = [
                decode_image(query_paths[query_id]),
                decode_image(gallery_paths[gallery_id]),
            ]
        except ImageError:
            return None
        picture, _ = draw_pair(images, keypoints, (query_id, gallery_id), config)
        return picture

    return draw


def _path_of_id(images: ImageList) -> dict[str, str]:
    return dict(zip(images.ids.tolist(), images.paths.tolist()))


def verified_pairs(measured: Measured) -> Pairs:
    """Return the inliers of all verified pairs, with relevant and with other gallery images.

    Args:
        measured: after a geometric step.

    Returns:
        Inliers of "matching" and "other" pairs; pairs with junk images, and those of queries
        without a label, are left out. Empty if there was no geometric step.
    """
    evidence = measured.evaluated.evidence
    if evidence is None:
        return {}
    pairs: dict[str, list[tuple[int, bool]]] = {"matching": [], "other": []}
    query = measured.retrieval.query
    unlabelled = set(query.ids[~query.has_label].tolist())
    for query_row, query_id in enumerate(evidence.query_ids.tolist()):
        if query_id in unlabelled:
            continue
        truth = measured.truth.of(evidence.query_ids[query_row : query_row + 1])
        for gallery_row, inliers in evidence.inliers_of(query_row).items():
            if gallery_row in truth.junk[0]:
                continue
            kind = "matching" if gallery_row in truth.relevant[0] else "other"
            pairs[kind].append(inliers)
    return {kind: _columns(rows) for kind, rows in pairs.items()}


def _columns(rows: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    """Return (number of inliers [n], whether accepted [n])."""
    table = np.array(rows).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def verification_figures(pairs: Pairs, config: GeometricConfig) -> dict[str, Any]:
    """Return the share of accepted pairs, and a threshold that accepts 0.5 % of the other pairs.

    Args:
        pairs: from `verified_pairs`.
        config: how pairs were verified; the threshold is for a single extractor.

    Returns:
        Figures by name.
    """
    figures: dict[str, Any] = {"accepted_from": [verify.accepted_from for verify in config.verify]}
    for kind, (_, accepted) in pairs.items():
        figures[f"{kind}_pairs"] = len(accepted)
        figures[f"accepted_{kind}"] = float(accepted.mean()) if len(accepted) else None
    other_inliers = pairs["other"][0]
    if len(config.verify) == 1 and len(other_inliers):
        figures["threshold_at_half_a_percent"] = choose_threshold(other_inliers)
    return figures
