"""The page to show a colleague: one HTML file with the comparison, a chart, and what each method retrieved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from data_io.artifacts import write_text
from data_io.records import GroundTruth, ImageList
from delf_ext.evaluation.comparison import (
    COLUMNS,
    ComparisonRow,
    Evaluated,
    Interval,
    common_hits,
    compare,
    notes,
    table_cells,
)
from delf_ext.evaluation.pictures import DrawMatch, PictureSource, sections_html

LABEL = 60  # letters above a bar
STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1c2430; --soft: #5b6675; --line: #dfe3e8;
  --empty: #d4d8de; --good: #15803d; --bad: #c62828; --bar: #4a6fa5; }
@media (prefers-color-scheme: dark) { :root { --page: #14171c; --card: #1d2128; --ink: #e7eaee; --soft: #9ba6b4; --line: #323944;
  --empty: #3a414c; --good: #3fbf6f; --bad: #ff6b60; --bar: #7ea3d8; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { margin: 0 0 12px; font-size: 28px; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 40px 0 4px; font-size: 20px; }
h3 { margin: 0 0 4px; font-size: 13px; font-weight: 600; overflow-wrap: anywhere; }
h3 span, .note, footer { color: var(--soft); font-weight: 400; }
.note { margin: 0 0 12px; }
.facts { display: flex; flex-wrap: wrap; gap: 8px 28px; margin: 0; }
.facts dt { color: var(--soft); font-size: 12px; }
.facts dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.panel, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px; margin: 0 0 12px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: 7px 10px; text-align: right; border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
th:first-child { text-align: left; padding-left: 0; white-space: normal; min-width: 9em; }
thead th, td:nth-child(3), td:nth-child(5), td:nth-child(10) { color: var(--soft); font-weight: 400; font-size: 13px; }
td:nth-child(2) { font-weight: 600; }
.charts { display: flex; flex-wrap: wrap; gap: 12px; }
.charts .panel { flex: 1 1 380px; }
svg { display: block; width: 100%; height: auto; max-width: 640px; }
svg text { fill: var(--ink); font-size: 13px; } svg .tick { fill: var(--soft); font-size: 11px; }
svg .bar { fill: var(--bar); } svg .grid { stroke: var(--line); } svg .whisker { stroke: var(--ink); stroke-width: 1.6; }
.card { display: flex; gap: 20px; }
.asked { flex: 0 0 120px; font-size: 13px; overflow-wrap: anywhere; }
.asked p { margin: 6px 0 0; line-height: 1.35; color: var(--soft); }
.asked b { color: var(--ink); }
.asked img, .asked .unreadable { width: 120px; height: 120px; border-radius: 8px; }
.answers { flex: 1; min-width: 0; display: grid; gap: 12px; }
.strip { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: 8px; }
.tile { position: relative; border: 3px solid; border-radius: 8px; overflow: hidden; width: 118px; height: 118px; }
.tile.hit { border-color: var(--good); } .tile.miss { border-color: var(--bad); }
img { width: 112px; height: 112px; object-fit: contain; display: block; background: var(--page); }
.unreadable { width: 112px; height: 112px; display: grid; place-items: center; padding: 6px; text-align: center; font-size: 11px;
  line-height: 1.25; background: var(--empty); overflow: hidden; overflow-wrap: anywhere; }
.mark, .rank {
  position: absolute; top: 0; min-width: 18px; height: 18px; font-size: 12px; line-height: 18px; text-align: center; }
.mark { right: 0; color: var(--card); font-weight: 700; border-bottom-left-radius: 6px; }
.hit .mark { background: var(--good); } .miss .mark { background: var(--bad); }
.rank { left: 0; background: var(--card); color: var(--ink); border-bottom-right-radius: 6px; padding: 0 3px; }
.inliers { position: absolute; right: 0; bottom: 0; min-width: 22px; padding: 0 5px; font-size: 11px; line-height: 18px;
  text-align: center; border-top-left-radius: 6px; background: var(--bar); color: var(--card); font-weight: 700; }
.inliers.rejected { background: var(--card); color: var(--soft); font-weight: 400; }
.match { width: auto; height: auto; max-width: 100%; border-radius: 8px; }
footer { border-top: 1px solid var(--line); margin-top: 48px; font-size: 13px; }
footer dt { color: var(--ink); font-weight: 600; }
footer dd { margin: 0 0 6px; }
@media (max-width: 640px) { .card { flex-direction: column; } main { padding: 20px 12px 40px; } }
@media print { .card, .panel { break-inside: avoid; } }
"""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body><main>
<header><h1>$title</h1><dl class="facts">$facts</dl></header>
<section><h2>Comparison</h2><p class="note">$notes</p><div class="panel scroll">$table</div>
<div class="charts">$charts</div></section>
$pictures
<footer><h2>What the numbers mean</h2><dl>$definitions</dl></footer>
</main></body>
</html>
""")

DEFINITIONS = {
    "Average precision (AP), mAP": "Per query, the sum over the relevant images of the precision at their rank, divided by the"
    " number of relevant images in the gallery; one that was not ranked adds nothing. mAP is its mean over queries.",
    "R@k": "Share of queries with at least one relevant image among the first k (the challenge's Recall@k).",
    "Last rank": "Mean rank, counted from 1, at which a query's last relevant image has been found; where the ranking ends"
    " before, the size of the gallery. Lower is better.",
    "95 %": "Percentile bootstrap over queries, 2,000 draws. “mAP - first” is the difference to the first line on the same"
    " draws, p its two-sided bootstrap p-value.",
    "Not scored": "Queries without a relevant image in the gallery are left out and counted. Junk, such as the query's own"
    " photograph in the gallery, is taken out of a ranking before anything is counted or shown.",
    "Frames": "✓ in a green frame: relevant. ✗ in a red frame: not relevant. Point at a picture for id, label and score.",
}

INLIERS = {
    "Inliers": "The number in a picture's lower corner: how many local features of the query one transform lays onto this image."
    " On a coloured ground enough of them to be accepted and moved to the front, on a plain one too few."
}


def write_report(
    path: str | Path,
    title: str,
    results: Sequence[Evaluated],
    query: ImageList,
    gallery: ImageList,
    truth: GroundTruth,
    class_names: Sequence[str],
    max_queries: int = 24,
    top: int = 8,
    seed: int = 0,
    facts: Mapping[str, str] | None = None,
    draw_match: DrawMatch | None = None,
) -> Path:
    """Writes one self-contained HTML file and returns its path; the pictures show `max_queries` spread by the last result's AP.

    results: those with a `ranking` get pictures. class_names: name of label i. facts: more for the header, e.g. data, model.
    An image that cannot be read becomes a grey tile with its reason. A result with `evidence` shows its numbers of inliers.
    draw_match: (query id, gallery id) -> a picture or None, asked for each shown query and the last result's first image.
    Raises: ValueError where the results cannot be compared, or a ranking is not of these queries and this gallery.
    """
    for result in results:
        _require_same_images(result, query, gallery, truth)
    rows = compare(results, seed)
    source = PictureSource(query, gallery, truth, class_names)
    header = {
        **(facts or {}),
        "queries": str(rows[0].num_queries),
        "gallery images": str(len(gallery)),
        "seed": str(seed),
    }
    definitions = DEFINITIONS | (INLIERS if any(result.evidence for result in results) else {})
    page = PAGE.substitute(
        title=escape(title),
        style=STYLE,
        facts="".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
            for name, value in header.items()
        ),
        notes=escape(" ".join(notes(rows))),
        table=_table(rows),
        charts=_chart(
            "mAP", rows, lambda row: row.mean_average_precision, lambda row: row.map_interval
        )
        + _chart("Recall@1", rows, lambda row: row.recall_at_1, lambda row: row.recall_interval),
        pictures=sections_html(
            source, results, common_hits(results)[0], max_queries, top, seed, draw_match
        ),
        definitions="".join(
            f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in definitions.items()
        ),
    )
    write_text(path, page)
    return Path(path)


def _require_same_images(
    result: Evaluated, query: ImageList, gallery: ImageList, truth: GroundTruth
) -> None:
    for known, where in ((query.ids, "list of queries"), (truth.query_ids, "ground truth")):
        unknown = sorted(set(result.hits.query_ids.tolist()) - set(known.tolist()))
        if unknown:
            raise ValueError(
                f"{result.name}: query {unknown[0]} is not in the {where} of this report."
            )
    if result.ranking is not None and result.ranking.gallery_ids.tolist() != gallery.ids.tolist():
        raise ValueError(
            f"{result.name}: its ranking is over another gallery than the one of this report."
        )
    if truth.num_gallery != len(gallery):
        raise ValueError(
            f"ground truth is of {truth.num_gallery} gallery images, this report's gallery has {len(gallery)}."
        )


def _table(rows: Sequence[ComparisonRow]) -> str:
    head = "".join(f"<th scope='col'>{escape(name) or 'Method'}</th>" for name in COLUMNS)
    body = []
    for row in rows:
        name, *cells = table_cells(row)
        body.append(
            f"<tr><th scope='row'>{escape(name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _chart(
    name: str,
    rows: Sequence[ComparisonRow],
    value_of: Callable[[ComparisonRow], float],
    interval_of: Callable[[ComparisonRow], Interval],
) -> str:
    """Horizontal bars on a scale from 0 to 1 with their 95 % intervals."""
    left, width, step = 8, 400, 42
    height = step * len(rows) + 26

    def x(value: float) -> str:
        return f"{left + width * value:.1f}"

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(
            f"<line class='grid' x1='{x(tick)}' x2='{x(tick)}' y1='0' y2='{height - 20}'/>"
        )
        parts.append(
            f"<text class='tick' x='{x(tick)}' y='{height - 5}' text-anchor='middle'>{tick:g}</text>"
        )
    for number, row in enumerate(rows):
        value, (low, high), y = value_of(row), interval_of(row), step * number + 29
        label = (
            row.name if len(row.name) <= LABEL else f"{row.name[:10]} … {row.name[13 - LABEL :]}"
        )  # what was done stands last
        parts.append(f"<text x='{left}' y='{y - 12}'>{escape(label)}</text>")
        parts.append(
            f"<rect class='bar' x='{left}' y='{y - 7}' width='{width * value:.1f}' height='14' rx='2'/>"
        )
        parts.append(
            f"<path class='whisker' fill='none' d='M{x(low)} {y - 5}v10m0 -5H{x(high)}m0 -5v10'/>"
        )
        parts.append(f"<text x='{left + width + 14}' y='{y + 5}'>{value:.3f}</text>")
    described = "; ".join(f"{row.name} {value_of(row):.3f}" for row in rows)
    return (
        f"<div class='panel'><h3>{escape(name)} with 95 % interval</h3><svg viewBox='0 0 {left + width + 60} {height}' role='img'"
        f" aria-label='{escape(name)}: {escape(described)}'>{''.join(parts)}</svg></div>"
    )
