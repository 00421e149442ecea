"""rerank: rankings made better, by geometry or any chain of re-rankers; figures before and after, a page of matches."""

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
from delf_ext.evaluation.comparison import compare, format_table
from delf_ext.evaluation.match_histogram import choose_threshold, draw_match_histogram
from delf_ext.evaluation.match_pictures import draw_match, stack
from delf_ext.geometry.verification import Verification, verify
from delf_ext.reranking.geometric import GeometricConfig, pair_key
from delf_ext.verbs.data import load
from delf_ext.verbs.evaluate import Measured, announced, figures, improve, measure, write_page
from delf_ext.verbs.methods import Request, Reranker, ended_by, for_embedding, reserve, tell, tell_skipped
from delf_ext.verbs.systems import one_system

SHOWN = (("mAP", "mAP"), ("R@1", "recall_at_1"))  # per group
Local = Sequence[tuple[LocalFeatures, LocalFeatures]]  # per extractor: of queries, of gallery


def run(flags: Any) -> None:
    from delf_ext.pipeline import KEPT_PER_QUERY

    request = Request.of(flags, default="geometric")
    deadline, chain = request.deadline, request.chains[0]
    if not flags.out:
        raise UsageError("rerank writes features, ranking, figures and page into --out=FOLDER: pass it.")
    if not chain:
        raise UsageError("rerank needs a --method, such as geometric:100.")
    out, data, (model, run_config) = Path(flags.out), load(flags), one_system(flags)
    query, gallery = announced(model, data, run_config)
    labelled = require_relevant(query, gallery)
    reranker = Reranker(flags, request, gallery, out / "local")
    early = for_embedding(deadline)
    plain = measure(model, query, gallery, flags.batch_size, request.query_copies, labelled, early)
    tell_skipped(plain.retrieval.skipped, "skipped")
    begun_s, result = deadline.clock(), out / "ranking.npz"
    save_record(result, plain.ranking.cut(KEPT_PER_QUERY))
    before = figures(plain, str(flags.data or data.name), flags.seed) if labelled else None
    with ended_by(deadline, result):
        reranked = improve(plain, reranker, chain, reserve(deadline, begun_s, times=4))
        save_record(result, reranked.ranking.cut(KEPT_PER_QUERY))
        tell(reranked.ranking, deadline)
        evidence = reranked.evaluated.evidence
        for reason, number in (evidence.reasons() if evidence else {}).items():
            print(f"{number} queries keep their ranking: {reason}")
        if before is None:
            print("no labels: nothing to score, and no page")
        else:
            show([plain, reranked], before, reranker, data, out, flags)


def require_relevant(query: ImageList, gallery: ImageList) -> bool:
    """Whether all have labels. Raises: ValueError where they have, and no query has an image of its own in the gallery."""
    if query.labels is None or gallery.labels is None:
        return False
    truth = GroundTruth.from_labels(query, gallery)
    if not any(len(rows) for rows in truth.relevant):
        raise ValueError(f"none of the {len(query)} queries has an image with its label in the gallery: nothing to find.")
    return True


def show(measured: list[Measured], before: dict[str, Any], reranker: Reranker, data: DataSet, out: Path, flags: Any) -> None:
    """Table, figures, histogram of inliers; the page where time is not limited."""
    print()
    print(format_table(compare([one.evaluated for one in measured], flags.seed)))
    results = {"before": before, "after": figures(measured[-1], before["data"], flags.seed)}
    for group in before.get("groups", {}):
        changes = [
            f"{what} {before['groups'][group][key]:.4f} -> {results['after']['groups'][group][key]:.4f}" for what, key in SHOWN
        ]
        print(f"group {group}: {', '.join(changes)}")
    pairs = verified_pairs(measured[-1]) if measured[-1].evaluated.evidence is not None else {}
    if any(len(inliers) for inliers, _ in pairs.values()):
        results["verification"] = verification_figures(pairs, reranker.config)
        draw_histogram(out / "inliers.png", pairs, reranker.config)
    write_json(out / "metrics.json", results)
    if flags.report and not reranker.deadline.is_limited:
        drawer = match_drawer(measured[-1], reranker.local, reranker.config) if reranker.local else None
        page = write_page(out / "report" / "index.html", measured, data, before["data"], flags.seed, drawer)
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
