"""evaluate: the figures of one system on labelled queries, as a table on the screen and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_io.artifacts import save_record, write_json
from data_io.datasets import DataSet
from data_io.records import GroundTruth, ImageList, Ranking
from delf_ext.config import RunConfig
from delf_ext.evaluation.comparison import Evaluated
from delf_ext.evaluation.intervals import bootstrap_interval
from delf_ext.evaluation.metrics import Hits, average_precisions, hits_of, recalls_at_k, summarize
from delf_ext.evaluation.pictures import DrawMatch
from delf_ext.evaluation.report import write_report
from delf_ext.reranking.deadline import Deadline
from delf_ext.verbs.data import evaluation_lists, load
from delf_ext.verbs.methods import Chain, Request, Reranker, for_embedding, name_of, reserve, tell
from delf_ext.verbs.systems import load_run, one_system


@dataclass(frozen=True, eq=False)
class Measured:
    """One system on one data set: what it retrieved, how good that was, and against which truth."""

    evaluated: Evaluated
    retrieval: Any
    ranking: Ranking
    truth: GroundTruth


def run(flags: Any) -> None:
    request = Request.of(flags)
    deadline, chain = request.deadline, request.chains[0]
    data, (model, config) = load(flags), one_system(flags)
    query, gallery = announced(model, data, config)
    folder = flags.out or flags.run_dir
    reranker = Reranker(flags, request, gallery, Path(folder) / "local" if folder else None)
    measured = measure(model, query, gallery, flags.batch_size, request.query_copies, deadline=for_embedding(deadline))
    begun_s = deadline.clock()
    data_name = str(flags.data or data.name)
    result = figures(measured, data_name, flags.seed)
    if chain:
        measured = improve(measured, reranker, chain, reserve(deadline, begun_s, times=3))
        tell(measured.ranking, deadline)
        result = figures(measured, data_name, flags.seed)
    show(result)
    if flags.run_dir:
        leave_in_run(Path(flags.run_dir), measured, result, data, flags.report and not deadline.is_limited)
    if flags.json:
        write_json(flags.json, result)
        print(f"figures: {flags.json}")


def announced(model: Any, data: DataSet, config: RunConfig | None) -> tuple[ImageList, ImageList]:
    """Queries and gallery, after a line that says which."""
    query, gallery, what = evaluation_lists(data, config)
    print(f"{model.name}: {len(query)} queries in a gallery of {len(gallery)}: {what}", flush=True)
    return query, gallery


def measure(
    model: Any,
    query: ImageList,
    gallery: ImageList,
    batch_size: int,
    query_copies: Sequence[str] = (),
    labelled: bool = True,
    deadline: Deadline | None = None,
) -> Measured:
    """Embeds, ranks and scores. A ranking too large for memory is scored whole, and kept in its first places.

    deadline: what it leaves no time to embed is skipped, and a line says that all that follows is of the rest.
    Raises: ValueError without labels, unless they are not asked for; then nothing is relevant. TimeoutError where nothing is
    embedded in time.
    """
    from delf_ext.features.extraction import NO_TIME_LEFT
    from delf_ext.pipeline import embed, rank, score, truth_of, width_in_memory

    retrieval = embed(model, query, gallery, batch_size, query_copies, deadline)
    late = sum(reason == NO_TIME_LEFT for _, reason in retrieval.skipped)
    if late:
        print(f"time budget: {late} photographs were not embedded in time: everything that follows is of the others")
    ranking, truth = rank(retrieval, width_in_memory(retrieval)), truth_of(retrieval, labelled)
    hits = hits_of(ranking, truth) if ranking.rows.shape[1] == len(retrieval.gallery) else score(retrieval, truth)
    return Measured(Evaluated(model.name, hits, len(retrieval.skipped), ranking), retrieval, ranking, truth)


def improve(measured: Measured, reranker: Reranker, chain: Chain, reserve_s: float = 0.0) -> Measured:
    """What a chain of re-rankers makes of it; where the ranking is cut, figures after it are of the part that is kept."""
    ranking, evidence = reranker(measured.retrieval, measured.ranking, chain, reserve_s)
    name, skipped = f"{measured.evaluated.name} + {name_of(chain)}", measured.evaluated.num_skipped
    evaluated = Evaluated(name, hits_of(ranking, measured.truth), skipped, ranking, evidence)
    return Measured(evaluated, measured.retrieval, ranking, measured.truth)


def evaluate_run(run_dir: Path, data: DataSet, data_name: str, seed: int, batch_size: int) -> dict[str, Any]:
    """Scores a run and leaves everything in its directory; returns the figures."""
    model, config = load_run(run_dir)
    measured = measure(model, *announced(model, data, config), batch_size)
    result = figures(measured, data_name, seed)
    show(result)
    leave_in_run(run_dir, measured, result, data, report=True)
    return result


def leave_in_run(run_dir: Path, measured: Measured, result: dict[str, Any], data: DataSet, report: bool) -> None:
    """Features, ranking, figures and, with `report`, the page of pictures."""
    from delf_ext.pipeline import KEPT_PER_QUERY

    retrieval = measured.retrieval
    save_record(run_dir / "features" / "query.npz", retrieval.query_features)
    save_record(run_dir / "features" / "gallery.npz", retrieval.gallery_features)
    save_record(run_dir / "ranking.npz", measured.ranking.cut(KEPT_PER_QUERY))
    write_json(run_dir / "metrics.json", result)
    if report:
        page = write_page(run_dir / "report" / "index.html", [measured], data, result["data"], result["seed"])
        print(f"report: {page}")


def write_page(
    path: Path, measured: list[Measured], data: DataSet, data_name: str, seed: int, draw_match: DrawMatch | None = None
) -> Path:
    """The report over the queries and gallery of the first system. draw_match: pictures of matches, see write_report."""
    retrieval, facts = measured[0].retrieval, {"data": data_name, "seed": str(seed)}
    results = [one.evaluated for one in measured]
    title = f"mandoo on {data.name}"
    truth, names = measured[0].truth, data.class_names
    return write_report(
        path, title, results, retrieval.query, retrieval.gallery, truth, names, seed=seed, facts=facts, draw_match=draw_match
    )


def figures(measured: Measured, data_name: str, seed: int) -> dict[str, Any]:
    """What `--json` holds: the main figures on top, every other metric under "metrics"."""
    hits = measured.evaluated.hits
    metrics = dict(summarize(hits))
    result = {
        "mAP": metrics["mAP"],
        "mAP_ci95": list(bootstrap_interval(average_precisions(hits), seed)),
        **{f"recall_at_{k}": metrics[f"recall_at_{k}"] for k in (1, 5, 10)},
        "num_queries": int(metrics["num_queries"]),
        "num_gallery": len(measured.retrieval.gallery),
        "num_skipped": measured.evaluated.num_skipped,
        "model": measured.evaluated.name,
        "data": data_name,
        "seed": seed,
        "recall_at_1_ci95": list(bootstrap_interval(recalls_at_k(hits, 1), seed)),
        "metrics": metrics,
        "skipped": [list(item) for item in measured.retrieval.skipped],
    }
    groups = measured.retrieval.query.groups
    return result if groups is None else {**result, "groups": _by_group(hits, groups)}


def _by_group(hits: Hits, groups: np.ndarray) -> dict[str, dict[str, float]]:
    """mAP and Recall@1 of each group of queries (a camera, a shop) that has a scored query."""
    rows_of = {str(group): np.flatnonzero((groups == group) & (hits.num_relevant > 0)) for group in np.unique(groups)}
    parts = {group: dict(summarize(hits.take(rows))) for group, rows in rows_of.items() if len(rows)}
    return {group: {name: part[name] for name in ("mAP", "recall_at_1", "num_queries")} for group, part in parts.items()}


def show(result: dict[str, Any]) -> None:
    """The figures on the screen: mAP and R@1 with their intervals first."""
    over = f"95 % bootstrap over {result['num_queries']} queries, seed {result['seed']}"
    for title, name in (("mAP", "mAP"), ("R@1", "recall_at_1")):
        low, high = result[f"{name}_ci95"]
        print(f"{title:<20} {result[name]:.4f}  [{low:.4f}, {high:.4f}] {over}")
    for name, value in result["metrics"].items():
        if name not in ("mAP", "recall_at_1") and not math.isnan(value):
            print(f"{name:<20} {value:.4f}" if not name.startswith("num_") else f"{name:<20} {int(value)}")
    for group, part in result.get("groups", {}).items():
        print(f"group {group}: mAP {part['mAP']:.4f}, R@1 {part['recall_at_1']:.4f}, {int(part['num_queries'])} queries")
    for path, reason in result["skipped"][:5]:
        print(f"skipped {path}: {reason}")
    if result["num_skipped"]:
        print(f"skipped {result['num_skipped']} files in all")
