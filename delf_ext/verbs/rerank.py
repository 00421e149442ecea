"""rerank: better rankings by geometry or any chain of re-rankers; figures before and after, a page of matches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.artifacts import save_record, write_json
from data_io.datasets import DataSet
from data_io.messages import shown_path
from data_io.progress import say
from data_io.records import GroundTruth, ImageList
from delf_ext.app.evaluation import Measured, common_lists, measure, measure_reranked
from delf_ext.app.reranking import (
    Reranker,
    finish_in_time,
    first_skipped,
    for_embedding,
    ranking_notes,
    reserve,
)
from delf_ext.app.results import write_page
from delf_ext.app.verification import Pairs, match_drawer, verification_figures, verified_pairs
from delf_ext.config import UsageError
from delf_ext.evaluation.comparison import compare, format_table
from delf_ext.evaluation.match_histogram import draw_match_histogram
from delf_ext.pipeline import KEPT_PER_QUERY
from delf_ext.reranking.geometric import GeometricConfig
from delf_ext.verbs.data import load
from delf_ext.verbs.models import batch_size_of, open_one, require_one
from delf_ext.verbs.requests import request_of

SHOWN = (("mAP", "mAP"), ("R@1", "recall_at_1"))  # per group


def run(flags: Any) -> None:
    request = request_of(flags, default="geometric")
    deadline, chain = request.deadline, request.chain
    if not flags.out:
        raise UsageError(
            "rerank writes features, ranking, figures and page into --out=FOLDER: pass it."
        )
    if not chain:
        raise UsageError("rerank needs a --method, such as geometric:100.")
    require_one(flags)
    out, data, model = Path(flags.out), load(flags), open_one(flags).model
    query, gallery = common_lists(data, [model], say)
    labelled = require_relevant(query, gallery)
    reranker = Reranker(request, gallery, out / "local", say)
    early = for_embedding(deadline)
    plain = measure(
        model,
        query,
        gallery,
        batch_size_of(flags),
        test_time=request.test_time,
        labelled=labelled,
        deadline=early,
        log=say,
    )
    for line in first_skipped(plain.retrieval.skipped, "skipped"):
        say(line)
    data_name = shown_path(flags.data) if flags.data else data.name
    begun_s, result = deadline.clock(), out / "ranking.npz"
    save_record(result, plain.ranking.cut(KEPT_PER_QUERY))
    before = plain.figures(data_name, flags.seed) if labelled else None

    def improve_and_write() -> None:
        reranked = measure_reranked(plain, reranker, chain, reserve(deadline, begun_s, times=4))
        save_record(result, reranked.ranking.cut(KEPT_PER_QUERY))
        for line in ranking_notes(reranked.ranking, deadline):
            say(line)
        evidence = reranked.evaluated.evidence
        for reason, number in (evidence.reasons() if evidence else {}).items():
            say(f"{number} queries keep their ranking: {reason}")
        if before is None:
            say("no labels: nothing to score, and no page")
        else:
            show([plain, reranked], before, reranker, data, out, flags)

    finish_in_time(improve_and_write, deadline, result, say)


def require_relevant(query: ImageList, gallery: ImageList) -> bool:
    """Return whether all have labels. Raises: ValueError where they have, and no query has an image in the gallery."""
    if query.labels is None or gallery.labels is None:
        return False
    truth = GroundTruth.from_labels(query, gallery)
    if not any(len(rows) for rows in truth.relevant):
        raise ValueError(
            f"none of the {len(query)} queries has an image with its label in the gallery: nothing to find."
        )
    return True


def show(
    measured: list[Measured],
    before: dict[str, Any],
    reranker: Reranker,
    data: DataSet,
    out: Path,
    flags: Any,
) -> None:
    """Print the table, write figures and histogram of inliers; the page where time is not limited."""
    say("\n" + format_table(compare([one.evaluated for one in measured], flags.seed)))
    results = {"before": before, "after": measured[-1].figures(before["data"], flags.seed)}
    for group in before.get("groups", {}):
        changes = [
            f"{what} {before['groups'][group][key]:.4f} -> {results['after']['groups'][group][key]:.4f}"
            for what, key in SHOWN
        ]
        say(f"group {group}: {', '.join(changes)}")
    pairs = verified_pairs(measured[-1])
    if any(len(inliers) for inliers, _ in pairs.values()):
        results["verification"] = verification_figures(pairs, reranker.config)
        for name, value in results["verification"].items():
            say(
                f"verification {name}: {value:.4f}"
                if isinstance(value, float)
                else f"verification {name}: {value}"
            )
        draw_histogram(out / "inliers.png", pairs, reranker.config)
    write_json(out / "metrics.json", results)
    say(f"figures: {shown_path(out / 'metrics.json')}")
    if flags.report and not reranker.deadline.is_limited:
        drawer = (
            match_drawer(measured[-1], reranker.local, reranker.config) if reranker.local else None
        )
        page = write_page(
            out / "report" / "index.html", measured, data, before["data"], flags.seed, drawer
        )
        say(f"report: {shown_path(page)}")


def draw_histogram(path: Path, pairs: Pairs, config: GeometricConfig) -> None:
    """Draw the inliers of one extractor: the sum of two has no threshold."""
    if len(config.verify) > 1:
        return
    try:
        draw_match_histogram(
            path, pairs["matching"][0], pairs["other"][0], config.verify[0].accepted_from
        )
        say(f"histogram of inliers: {shown_path(path)}")
    except ValueError as error:  # the extra is not installed: the figures are in metrics.json
        say(f"no histogram: {error}")
