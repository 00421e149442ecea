"""Re-rank the results of one model, and measure them before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.artifacts import save_record, write_json
from data_io.datasets import DataSet
from data_io.messages import shown_path, skipped_lines
from data_io.progress import say
from data_io.records import GroundTruth, ImageList
from delf_ext.app.evaluation import Measured, common_lists, measure, measure_reranked
from delf_ext.app.reranking import (
    Reranker,
    finish_in_time,
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
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.geometric import GeometricConfig
from delf_ext.verbs.data import load
from delf_ext.verbs.models import batch_size_of, open_one, require_one
from delf_ext.verbs.requests import request_of

GROUP_METRICS = {"mAP": "mAP", "recall_at_1": "R@1"}


def run(flags: Any) -> None:
    """Write the plain ranking to --out, then replace it by the re-ranked one and write the figures.

    Raises:
        UsageError: if --out is missing, --method is empty, or the flags name no single model.
        ValueError: if no labelled query has a relevant image in the gallery.
    """
    request = request_of(flags, default="geometric")
    deadline = request.deadline
    chain = request.chain
    if not flags.out:
        raise UsageError(
            "rerank writes features, ranking, figures and page into --out=FOLDER: pass it."
        )
    if not chain:
        raise UsageError("rerank needs a --method, such as geometric:100.")
    require_one(flags)
    out = Path(flags.out)
    data = load(flags)
    model = open_one(flags).model
    query, gallery = common_lists(data, [model], say)
    labelled = is_labelled(query, gallery)
    reranker = Reranker(request, gallery, out / "local", say)
    plain = measure(
        model,
        query,
        gallery,
        batch_size_of(flags),
        test_time=request.test_time,
        labelled=labelled,
        deadline=for_embedding(deadline),
        log=say,
    )
    for line in skipped_lines(plain.retrieval.skipped):
        say(line)
    begun_s = deadline.clock()
    ranking_path = out / "ranking.npz"
    save_record(ranking_path, plain.ranking.cut(KEPT_PER_QUERY))
    data_name = shown_path(flags.data) if flags.data else data.name
    before = plain.figures(data_name, flags.seed) if labelled else None

    def improve() -> None:
        # Keep back time to write the results: four times what writing took above.
        reranked = measure_reranked(plain, reranker, chain, reserve(deadline, begun_s, times=4))
        save_record(ranking_path, reranked.ranking.cut(KEPT_PER_QUERY))
        _print_notes(reranked, deadline)
        if before is None:
            say("the data have no labels: no figures and no page")
        else:
            write_results(plain, reranked, before, reranker, data, out, flags)

    finish_in_time(improve, deadline, ranking_path, say)


def _print_notes(reranked: Measured, deadline: Deadline) -> None:
    for line in ranking_notes(reranked.ranking, deadline):
        say(line)
    evidence = reranked.evaluated.evidence
    if evidence is not None:
        for reason, count in evidence.reasons().items():
            say(f"{count} queries keep their ranking: {reason}")


def is_labelled(query: ImageList, gallery: ImageList) -> bool:
    """Return whether queries and gallery both have labels.

    Args:
        query: the queries.
        gallery: the gallery images.

    Returns:
        False if one of them has none: then there is nothing to measure.

    Raises:
        ValueError: if both have labels, and no query has an image with its label in the gallery.
    """
    if query.labels is None or gallery.labels is None:
        return False
    truth = GroundTruth.from_labels(query, gallery)
    if not any(len(rows) for rows in truth.relevant):
        raise ValueError(
            f"no image in the gallery has the label of one of the {len(query)} queries: "
            "there is nothing to find. Check the labels of the data."
        )
    return True


def write_results(
    plain: Measured,
    reranked: Measured,
    before: dict[str, Any],
    reranker: Reranker,
    data: DataSet,
    out: Path,
    flags: Any,
) -> None:
    """Print a table, and write figures, histogram of inliers and page.

    The page takes time, so it is not written under a time budget.

    Args:
        plain: the measured ranking before re-ranking.
        reranked: the measured ranking after it.
        before: the figures of `plain`.
        reranker: holds the local features, if a step used them.
        data: names the classes on the page.
        out: folder for the files.
        flags: --seed and --report.
    """
    table = format_table(compare([plain.evaluated, reranked.evaluated], flags.seed))
    say(f"\n{table}")
    results = {"before": before, "after": reranked.figures(before["data"], flags.seed)}
    _print_groups(before, results["after"])
    pairs = verified_pairs(reranked)
    if any(len(num_inliers) for num_inliers, _ in pairs.values()):
        results["verification"] = verification_figures(pairs, reranker.config)
        for name, value in results["verification"].items():
            text = f"{value:.4f}" if isinstance(value, float) else str(value)
            say(f"verification {name}: {text}")
        draw_histogram(out / "inliers.png", pairs, reranker.config)
    figures_path = out / "metrics.json"
    write_json(figures_path, results)
    say(f"figures: {shown_path(figures_path)}")
    if flags.report and not reranker.deadline.is_limited:
        drawer = None
        if reranker.local:
            drawer = match_drawer(reranked, reranker.local, reranker.config)
        page = out / "report" / "index.html"
        write_page(page, [plain, reranked], data, before["data"], flags.seed, drawer)
        say(f"report: {shown_path(page)}")


def _print_groups(before: dict[str, Any], after: dict[str, Any]) -> None:
    for group, old in before.get("groups", {}).items():
        new = after["groups"][group]
        changes = [
            f"{title} {old[name]:.4f} -> {new[name]:.4f}" for name, title in GROUP_METRICS.items()
        ]
        say(f"group {group}: {', '.join(changes)}")


def draw_histogram(path: Path, pairs: Pairs, config: GeometricConfig) -> None:
    """Draw a histogram of inliers with the threshold, if one extractor was used.

    Without matplotlib, print how to install it.

    Args:
        path: of the PNG file.
        pairs: number of inliers of matching and of other pairs, and whether they were accepted.
        config: holds the threshold of the extractor; two extractors have no common threshold.
    """
    if len(config.verify) > 1:
        return
    threshold = config.verify[0].accepted_from
    try:
        draw_match_histogram(path, pairs["matching"][0], pairs["other"][0], threshold)
    except ValueError as error:
        say(f"no histogram: {error}")
        return
    say(f"histogram of inliers: {shown_path(path)}")
