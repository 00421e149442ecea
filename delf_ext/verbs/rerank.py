"""Re-rank the results of one model, and measure them before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.datasets import DataSet
from data_io.files.artifacts import save_record
from data_io.messages import shown_path, skipped_lines
from data_io.progress import say
from delf_ext.app.evaluation import measure, measure_reranked
from delf_ext.app.evaluation_lists import common_lists, require_answers
from delf_ext.app.measured import Measured
from delf_ext.app.reranking import (
    Request,
    Reranker,
    finish_in_time,
    for_embedding,
    ranking_notes,
    reserve,
)
from delf_ext.app.results import write_page
from delf_ext.app.verification import Pairs, match_drawer, verification_figures, verified_pairs
from delf_ext.config import require
from delf_ext.evaluation.comparison import compare, format_table
from delf_ext.evaluation.match_histogram import draw_match_histogram
from delf_ext.pipeline import KEPT_PER_QUERY
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.geometric import GeometricConfig
from delf_ext.verbs.data import load, name_of
from delf_ext.verbs.models import batch_size_of, open_with
from delf_ext.verbs.printing import MAIN_METRICS, show_mostly_skipped, write_figures
from delf_ext.verbs.requests import request_of


def run(flags: Any) -> None:
    """Write the plain ranking to --out, then replace it by the re-ranked one and write the figures.

    Raises:
        UsageError: if --out is missing, --method is empty, or the flags name no single model.
        ValueError: if no labelled query has a relevant image in the gallery.
    """
    request = _request(flags)
    out = Path(flags.out)
    data, model = open_with(load, flags)
    query, gallery = common_lists(data, [model], say, flags.allow_trained_photographs)
    labelled = query.labels is not None and gallery.labels is not None
    if labelled:
        require_answers(query, gallery, flags.duplicates, data.class_names)
    reranker = Reranker(request, gallery, out / "local", say)
    early = for_embedding(request.deadline)
    plain = measure(
        model,
        query,
        gallery,
        batch_size_of(flags),
        request.test_time,
        labelled,
        early,
        flags.duplicates,
        data.class_names,
        say,
    )
    for line in (*plain.remarks(), *skipped_lines(plain.retrieval.skipped)):
        say(line)
    begun_s = request.deadline.clock()
    ranking_path = out / "ranking.npz"
    save_record(ranking_path, plain.ranking.cut(KEPT_PER_QUERY))
    before = plain.figures(name_of(data, flags), flags.seed) if labelled else None

    def improve() -> None:
        # Keep back time to write the results: four times what writing took above.
        reserve_s = reserve(request.deadline, begun_s, times=4)
        reranked = measure_reranked(plain, reranker, request.chain, reserve_s)
        save_record(ranking_path, reranked.ranking.cut(KEPT_PER_QUERY))
        _print_notes(reranked, request.deadline)
        if before is None:
            say("the data have no labels: no figures and no page")
            return
        _write_results(plain, reranked, before, reranker.config, out)
        # The page takes time, so it is not written under a time budget.
        if flags.report and not request.deadline.is_limited:
            _write_page(plain, reranked, reranker, data, before["data"], out, flags.seed)

    finish_in_time(improve, request.deadline, ranking_path, say)
    show_mostly_skipped(plain.retrieval)


def _request(flags: Any) -> Request:
    request = request_of(flags, default="geometric")
    require(
        bool(flags.out),
        "rerank writes features, ranking, figures and page into --out=FOLDER: pass it.",
    )
    require(bool(request.chain), "rerank needs a --method, such as geometric:100.")
    return request


def _print_notes(reranked: Measured, deadline: Deadline) -> None:
    for line in ranking_notes(reranked.ranking, deadline):
        say(line)
    evidence = reranked.evaluated.evidence
    if evidence is not None:
        for reason, count in evidence.reasons().items():
            say(f"{count} queries keep their ranking: {reason}")


def _write_results(
    plain: Measured,
    reranked: Measured,
    before: dict[str, Any],
    config: GeometricConfig,
    out: Path,
) -> None:
    """Print a table, and write the figures and a histogram of inliers.

    Args:
        plain: the measured ranking before re-ranking.
        reranked: the measured ranking after it.
        before: the figures of `plain`.
        config: settings of geometric verification.
        out: folder for the files.
    """
    table = format_table(compare([plain.evaluated, reranked.evaluated], before["seed"]))
    say(f"\n{table}")
    results = {"before": before, "after": reranked.figures(before["data"], before["seed"])}
    for group, old in before.get("groups", {}).items():
        new = results["after"]["groups"][group]
        changes = [
            f"{title} {old[name]:.4f} -> {new[name]:.4f}" for name, title in MAIN_METRICS.items()
        ]
        say(f"group {group}: {', '.join(changes)}")
    pairs = verified_pairs(reranked)
    if any(len(num_inliers) for num_inliers, _ in pairs.values()):
        results["verification"] = verification_figures(pairs, config)
        for name, value in results["verification"].items():
            text = f"{value:.4f}" if isinstance(value, float) else str(value)
            say(f"verification {name}: {text}")
        _draw_histogram(out / "inliers.png", pairs, config)
    write_figures(out / "metrics.json", results)


def _draw_histogram(path: Path, pairs: Pairs, config: GeometricConfig) -> None:
    """Draw a histogram of inliers. Two extractors have no common threshold: draw none."""
    if len(config.verify) > 1:
        return
    threshold = config.verify[0].accepted_from
    try:
        draw_match_histogram(path, pairs["matching"][0], pairs["other"][0], threshold)
    except ValueError as error:
        say(f"no histogram: {error}")
        return
    say(f"histogram of inliers: {shown_path(path)}")


def _write_page(
    plain: Measured,
    reranked: Measured,
    reranker: Reranker,
    data: DataSet,
    data_name: str,
    out: Path,
    seed: int,
) -> None:
    drawer = None
    if reranker.local:
        drawer = match_drawer(reranked, reranker.local, reranker.config)
    path = out / "report" / "index.html"
    page = write_page(path, [plain, reranked], data, data_name, seed, drawer)
    say(f"report: {shown_path(page)}")
