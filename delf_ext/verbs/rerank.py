"""rerank: the first of each ranking verified by local features and geometry; figures before and after, a page of matches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_io.artifacts import save_record, write_json
from data_io.datasets import DataSet
from data_io.images import ImageError, decode_image
from data_io.records import GroundTruth, ImageKeypoints, ImageList, LocalFeatures
from delf_ext.config import UsageError
from delf_ext.evaluation.comparison import Evaluated, compare, format_table
from delf_ext.evaluation.match_histogram import choose_threshold, draw_match_histogram
from delf_ext.evaluation.match_pictures import draw_match, stack
from delf_ext.geometry.verification import Verification, verify
from delf_ext.reranking.geometric import GeometricConfig, pair_key
from delf_ext.verbs.data import evaluation_lists, load
from delf_ext.verbs.evaluate import Measured, figures, write_page
from delf_ext.verbs.local import extract_both, extractors_of, kinds_of, verify_from_flags
from delf_ext.verbs.systems import one_system

SHOWN = (("mAP", "mAP"), ("R@1", "recall_at_1"))  # per group
Local = Sequence[tuple[LocalFeatures, LocalFeatures]]  # per extractor: of queries, of gallery


def run(flags: Any) -> None:
    from delf_ext.pipeline import embed, rerank

    if not flags.out:
        raise UsageError("rerank writes features, ranking, figures and page into --out=FOLDER: pass it.")
    out, config, data, (model, run_config) = Path(flags.out), config_from_flags(flags), load(flags), one_system(flags)
    query, gallery, what = evaluation_lists(data, run_config)
    print(f"{model.name}: {len(query)} queries in a gallery of {len(gallery)}: {what}", flush=True)
    require_relevant(query, gallery)
    extractors = extractors_of(flags, gallery, out / "local")  # before the long work: it may refuse a flag
    retrieval = embed(model, query, gallery, flags.batch_size)
    for path, reason in retrieval.skipped[:5]:
        print(f"skipped {path}: {reason}")
    local = [extract_both(extractor, retrieval.query, retrieval.gallery, out / "local", flags) for extractor in extractors]
    reranked = rerank(retrieval, [pair[0] for pair in local], [pair[1] for pair in local], config)
    save_record(out / "ranking.npz", reranked.after)
    print(f"{out / 'ranking.npz'}: {reranked.after.provenance}")
    for reason, number in reranked.evidence.reasons().items():
        print(f"{number} queries keep their ranking: {reason}")
    if reranked.truth is None or reranked.hits_before is None or reranked.hits_after is None:
        print("no labels: nothing to score, and no page")
        return
    skipped, name = len(retrieval.skipped), f"{model.name} + {flags.local_features}, {flags.geometry_model}"
    measured = [
        Measured(Evaluated(title, hits, skipped, ranking, reranked.evidence), retrieval, ranking, reranked.truth)
        for title, hits, ranking in (
            (model.name, reranked.hits_before, reranked.before),
            (name, reranked.hits_after, reranked.after),
        )
    ]
    show(measured, local, config, data, out, flags)


def require_relevant(query: ImageList, gallery: ImageList) -> None:
    """Raises: ValueError where all have labels and no query has an image of its own in the gallery."""
    if query.labels is not None and gallery.labels is not None:
        truth = GroundTruth.from_labels(query, gallery)
        if not any(len(rows) for rows in truth.relevant):
            raise ValueError(f"none of the {len(query)} queries has an image with its label in the gallery: nothing to find.")


def show(measured: list[Measured], local: Local, config: GeometricConfig, data: DataSet, out: Path, flags: Any) -> None:
    """Table, figures, histogram of inliers, page."""
    print()
    print(format_table(compare([one.evaluated for one in measured], flags.seed)))
    name = str(flags.data or data.name)
    results = [figures(one, name, flags.seed) for one in measured]
    for group in results[0].get("groups", {}):
        changes = [
            f"{what} {results[0]['groups'][group][key]:.4f} -> {results[1]['groups'][group][key]:.4f}" for what, key in SHOWN
        ]
        print(f"group {group}: {', '.join(changes)}")
    pairs = verified_pairs(measured[-1])
    write_json(
        out / "metrics.json", {"before": results[0], "after": results[1], "verification": verification_figures(pairs, config)}
    )
    draw_histogram(out / "inliers.png", pairs, config)
    if flags.report:
        page = write_page(
            out / "report" / "index.html", measured, data, name, flags.seed, match_drawer(measured[-1], local, config)
        )
        print(f"report: {page.absolute()}")


def verified_pairs(measured: Measured) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(inliers, accepted) of the pairs that show the same thing ("matching"), and of the "other" ones; junk in neither."""
    evidence, truth = measured.evaluated.evidence, measured.truth
    assert evidence is not None
    pairs: dict[str, list[tuple[int, bool]]] = {"matching": [], "other": []}
    for row in range(len(evidence.query_ids)):
        part = truth.of(evidence.query_ids[row : row + 1])
        for gallery_row, found in evidence.inliers_of(row).items():
            if gallery_row not in part.junk[0]:
                pairs["matching" if gallery_row in part.relevant[0] else "other"].append(found)
    return {kind: tuple(np.array(found).reshape(-1, 2).T) for kind, found in pairs.items()}  # type: ignore[misc]


def verification_figures(pairs: dict[str, tuple[np.ndarray, np.ndarray]], config: GeometricConfig) -> dict[str, Any]:
    """Which share of matching and of other pairs was accepted, and the threshold that accepts 0.5 % of the others at most."""
    result: dict[str, Any] = {"accepted_from": [way.accepted_from for way in config.verify]}
    for kind, (_, accepted) in pairs.items():
        result |= {f"{kind}_pairs": len(accepted), f"accepted_{kind}": float(accepted.mean()) if len(accepted) else None}
    if len(config.verify) == 1 and len(pairs["other"][0]):
        result["threshold_at_half_a_percent"] = choose_threshold(pairs["other"][0])
    for name, value in result.items():
        print(f"verification {name}: {value:.4f}" if isinstance(value, float) else f"verification {name}: {value}")
    return result


def draw_histogram(path: Path, pairs: dict[str, tuple[np.ndarray, np.ndarray]], config: GeometricConfig) -> None:
    """Of one extractor: the sum of two has no threshold."""
    if len(config.verify) > 1 or not any(len(inliers) for inliers, _ in pairs.values()):
        return
    try:
        draw_match_histogram(path, pairs["matching"][0], pairs["other"][0], config.verify[0].accepted_from)
        print(f"histogram of inliers: {path}")
    except ValueError as error:  # the extra is not installed: the figures stand in metrics.json
        print(f"no histogram: {error}")


def match_drawer(measured: Measured, local: Local, config: GeometricConfig) -> Callable[[str, str], Image.Image | None]:
    """(query id, gallery id) -> the pair with its matches, a picture per extractor; None where a file cannot be read."""
    query, gallery = measured.retrieval.query, measured.retrieval.gallery
    path_of = [dict(zip(images.ids.tolist(), images.paths.tolist())) for images in (query, gallery)]

    def draw(query_id: str, gallery_id: str) -> Image.Image | None:
        known = [pair for pair in local if query_id in pair[0] and gallery_id in pair[1]]
        try:
            images = [decode_image(paths[name]) for paths, name in zip(path_of, (query_id, gallery_id))]
        except ImageError:
            return None
        keypoints = [(queries.of(query_id), galleries.of(gallery_id)) for queries, galleries in known]
        return draw_pair(images, keypoints, (query_id, gallery_id), config)[0] if known else None

    return draw


def draw_pair(
    images: Sequence[np.ndarray],
    keypoints: Sequence[tuple[ImageKeypoints, ImageKeypoints]],
    names: tuple[str, str],
    config: GeometricConfig,
) -> tuple[Image.Image, list[Verification]]:
    """A pair of photographs verified by each extractor's keypoints, drawn one under the other."""
    ways = config.verify * (len(keypoints) // len(config.verify))
    found = [verify(pair[0], [pair[1]], [pair_key(*names)], way)[0] for pair, way in zip(keypoints, ways)]
    title = "   ".join(names) if "".join(names).isascii() else "query   gallery"  # Pillow's own font has Latin letters only
    pictures = [draw_match(images[0], images[1], *pair, one, title, one.accepted) for pair, one in zip(keypoints, found)]
    return stack(pictures), found


def config_from_flags(flags: Any) -> GeometricConfig:
    """Raises: UsageError naming the flag that does not fit."""
    name, _, top_k = flags.method.partition(":")
    if name != "geometric" or (top_k and not (top_k.isascii() and top_k.isdecimal() and int(top_k))):
        raise UsageError(f"--method is geometric or geometric:TOP_K, at least 1. Received {flags.method!r}.")
    if flags.min_inliers < 0:
        raise UsageError(f"--min_inliers must not be negative. Received {flags.min_inliers}.")
    verify = tuple(verify_from_flags(kind, flags) for kind in kinds_of(flags))
    return GeometricConfig(top_k=int(top_k or GeometricConfig.top_k), order=flags.order_by, verify=verify)
