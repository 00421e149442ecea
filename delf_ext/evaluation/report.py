"""Write a report: one HTML file with the comparison, charts and what each method retrieved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from data_io.files.artifacts import write_text
from data_io.files.names import html_text
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
from delf_ext.evaluation.pictures import DrawMatch, sections_html
from delf_ext.evaluation.report_page import DEFINITIONS, INLIERS_DEFINITION, PAGE, STYLE
from delf_ext.evaluation.thumbnails import PictureSource

MAX_LABEL_LETTERS = 60  # above a bar
CHART_LEFT_PX = 8
CHART_WIDTH_PX = 400
BAR_STEP_PX = 42


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
    remarks: Sequence[str] = (),
    draw_match: DrawMatch | None = None,
) -> Path:
    """Write a report into one HTML file that needs no other file.

    Args:
        path: of the HTML file.
        title: of the page.
        results: those with a `ranking` get pictures, those with `evidence` numbers of inliers.
        query: images of all queries.
        gallery: images of the whole gallery.
        truth: of these queries and this gallery.
        class_names: name of label i.
        max_queries: queries with pictures: best, worst and random ones by the last result's AP.
        top: images to show per query and method.
        seed: of the bootstrap and of the random queries.
        facts: more entries for the header, such as data and model.
        remarks: lines below the comparison, such as what was left out and why.
        draw_match: (query id, gallery id) -> a picture or None; called for each shown query and the
            first image of the last result.

    Returns:
        The path.

    Raises:
        ValueError: the results cannot be compared, or a ranking is not of these images.
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
    definitions = DEFINITIONS
    if any(result.evidence for result in results):
        definitions = DEFINITIONS | INLIERS_DEFINITION
    facts_html = "".join(
        f"<div><dt>{html_text(name)}</dt><dd>{html_text(value)}</dd></div>"
        for name, value in header.items()
    )
    definitions_html = "".join(
        f"<dt>{html_text(name)}</dt><dd>{html_text(text)}</dd>"
        for name, text in definitions.items()
    )
    common, _ = common_hits(results)
    page = PAGE.substitute(
        title=html_text(title),
        style=STYLE,
        facts=facts_html,
        notes=html_text(" ".join(notes(rows))),
        remarks=_list(remarks),
        table=_table(rows),
        charts=_chart("mAP", rows, _map_of) + _chart("Recall@1", rows, _recall_of),
        pictures=sections_html(source, results, common, max_queries, top, seed, draw_match),
        definitions=definitions_html,
    )
    write_text(path, page)
    return Path(path)


def _require_same_images(
    result: Evaluated, query: ImageList, gallery: ImageList, truth: GroundTruth
) -> None:
    for known, source in ((query.ids, "list of queries"), (truth.query_ids, "ground truth")):
        unknown = sorted(set(result.hits.query_ids.tolist()) - set(known.tolist()))
        if unknown:
            raise ValueError(
                f"{result.name}: query {unknown[0]} is not in the {source} of this report."
            )
    if result.ranking is not None and result.ranking.gallery_ids.tolist() != gallery.ids.tolist():
        raise ValueError(
            f"{result.name}: its ranking is over another gallery than the one of this report."
        )
    if truth.num_gallery != len(gallery):
        raise ValueError(
            f"ground truth is of {truth.num_gallery} gallery images, "
            f"this report's gallery has {len(gallery)}."
        )


def _list(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{html_text(line)}</li>" for line in lines)
    return f"<ul class='note'>{items}</ul>" if items else ""


def _table(rows: Sequence[ComparisonRow]) -> str:
    head = "".join(f"<th scope='col'>{html_text(name) or 'Method'}</th>" for name in COLUMNS)
    body = []
    for row in rows:
        name, *cells = table_cells(row)
        columns = "".join(f"<td>{html_text(cell)}</td>" for cell in cells)
        body.append(f"<tr><th scope='row'>{html_text(name)}</th>{columns}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _map_of(row: ComparisonRow) -> tuple[float, Interval]:
    return row.mean_average_precision, row.map_interval


def _recall_of(row: ComparisonRow) -> tuple[float, Interval]:
    return row.recall_at_1, row.recall_interval


def _chart(
    name: str,
    rows: Sequence[ComparisonRow],
    value_of: Callable[[ComparisonRow], tuple[float, Interval]],
) -> str:
    """Draw horizontal bars on a scale from 0 to 1, with their 95 % intervals, as SVG."""
    height = BAR_STEP_PX * len(rows) + 26
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _x(tick)
        parts.append(f"<line class='grid' x1='{x}' x2='{x}' y1='0' y2='{height - 20}'/>")
        parts.append(
            f"<text class='tick' x='{x}' y='{height - 5}' text-anchor='middle'>{tick:g}</text>"
        )
    for number, row in enumerate(rows):
        parts += _bar(row.name, *value_of(row), y=BAR_STEP_PX * number + 29)
    values = "; ".join(f"{row.name} {value_of(row)[0]:.3f}" for row in rows)
    return (
        f"<div class='panel'><h3>{html_text(name)} with 95 % interval</h3>"
        f"<svg viewBox='0 0 {CHART_LEFT_PX + CHART_WIDTH_PX + 60} {height}' role='img'"
        f" aria-label='{html_text(name)}: {html_text(values)}'>{''.join(parts)}</svg></div>"
    )


def _bar(name: str, value: float, interval: Interval, y: int) -> list[str]:
    low, high = interval
    label = name
    if len(name) > MAX_LABEL_LETTERS:
        # The end of a name says what was done to the ranking.
        label = f"{name[:10]} … {name[13 - MAX_LABEL_LETTERS :]}"
    return [
        f"<text x='{CHART_LEFT_PX}' y='{y - 12}'>{html_text(label)}</text>",
        f"<rect class='bar' x='{CHART_LEFT_PX}' y='{y - 7}' width='{CHART_WIDTH_PX * value:.1f}'"
        " height='14' rx='2'/>",
        f"<path class='whisker' fill='none' d='M{_x(low)} {y - 5}v10m0 -5H{_x(high)}m0 -5v10'/>",
        f"<text x='{CHART_LEFT_PX + CHART_WIDTH_PX + 14}' y='{y + 5}'>{value:.3f}</text>",
    ]


def _x(value: float) -> str:
    return f"{CHART_LEFT_PX + CHART_WIDTH_PX * value:.1f}"
