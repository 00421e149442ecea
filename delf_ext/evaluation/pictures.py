"""Choose queries for a report, and format what each method retrieved for them as HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from string import Template

import numpy as np
from PIL import Image

from data_io.files.names import html_text
from delf_ext.evaluation.comparison import Evaluated
from delf_ext.evaluation.hits import Hits
from delf_ext.evaluation.metrics import average_precisions
from delf_ext.evaluation.thumbnails import PictureSource, encoded

SECTION = Template("<section><h2>$heading</h2><p class='note'>$note</p>$cards</section>")
CARD = Template(
    "<article class='card'><div class='asked'>$query<p>$caption</p></div>"
    "<div class='answers'>$answers</div></article>"
)
ANSWER = Template(
    "<div class='answer'><h3>$name <span>$score</span></h3><ol class='strip'>$tiles</ol></div>"
)
TILE = Template(
    "<li class='tile $kind' title='$title'>$picture"
    "<span class='mark' aria-hidden='true'>$mark</span>"
    "<span class='rank' aria-hidden='true'>$rank</span>$badge</li>"
)
BADGE = Template("<span class='inliers $kind' aria-hidden='true'>$number</span>")
MATCH = Template("<img class='match' src='$source' alt='$alt'>")

# (query id, gallery id) -> picture of what the two images share, or None.
DrawMatch = Callable[[str, str], Image.Image | None]


def choose_queries(values: np.ndarray, max_queries: int, seed: int) -> dict[str, np.ndarray]:
    """Choose a third of best, a third of worst, and the rest of random queries.

    Args:
        values: float [Q]; a query that is NaN is never chosen.
        max_queries: of all three kinds together.
        seed: of the random choice.

    Returns:
        {"best": rows, "worst": rows, "random": rows}, int arrays, no row twice. Best and worst
        queries are first in their lists, ties by row; random rows ascend.
    """
    scored = np.flatnonzero(~np.isnan(values))
    by_value = scored[np.argsort(-values[scored], kind="stable")]
    third = min(max_queries, len(scored)) // 3
    worst = by_value[len(by_value) - third :][::-1]
    others = by_value[third : len(by_value) - third]
    num_random = min(max_queries - 2 * third, len(others))
    random = others[:0]
    if num_random:
        random = np.random.default_rng(seed).choice(others, num_random, replace=False)
    return {"best": by_value[:third], "worst": worst, "random": np.sort(random)}


def sections_html(
    source: PictureSource,
    results: Sequence[Evaluated],
    common: Sequence[Hits],
    max_queries: int,
    top: int,
    seed: int,
    draw_match: DrawMatch | None = None,
) -> str:
    """Format the sections of best, worst and random queries by the last result.

    Args:
        source: of pictures and labels.
        results: of all methods.
        common: hits of each result, over the same queries.
        max_queries: in all sections together.
        top: images to show per method.
        seed: of the random choice.
        draw_match: called for each query and the first image of the last result.

    Returns:
        HTML.
    """
    precisions = np.stack([average_precisions(hits) for hits in common])
    last = html_text(results[-1].name)
    headings = {
        "best": (
            "Best queries",
            f"Highest average precision (AP) of {last}; equal ones in the order of the data.",
        ),
        "worst": ("Worst queries", f"Lowest average precision (AP) of {last}, worst first."),
        "random": (
            "Random queries",
            f"Drawn from all others with seed {seed}: what to expect of an average image.",
        ),
    }
    cards = _Cards(source, results, top, draw_match)
    sections = []
    for kind, rows in choose_queries(precisions[-1], max_queries, seed).items():
        if len(rows):
            html = [cards.card(str(common[0].query_ids[row]), precisions[:, row]) for row in rows]
            heading, note = headings[kind]
            sections.append(SECTION.substitute(heading=heading, note=note, cards="".join(html)))
    return "".join(sections)


class _Cards:
    """Cards of queries. Rows are looked up by query id, as a list may lack skipped images."""

    def __init__(
        self,
        source: PictureSource,
        results: Sequence[Evaluated],
        top: int,
        draw_match: DrawMatch | None,
    ) -> None:
        self.source = source
        self.results = results
        self.top = top
        self.draw_match = draw_match
        self.query_row = _rows_by_id(source.query.ids)
        self.truth_row = _rows_by_id(source.truth.query_ids)
        self.ranking_rows = [
            _rows_by_id(result.ranking.query_ids) if result.ranking else {} for result in results
        ]
        self.evidence_rows = [
            _rows_by_id(result.evidence.query_ids) if result.evidence else {} for result in results
        ]

    def card(self, query_id: str, precisions: np.ndarray) -> str:
        """Format a query; `precisions` [methods]: its average precision under each method."""
        row = self.query_row[query_id]
        label = self.source.label_of(self.source.query, row)
        answers = [self._answer(number, query_id, value) for number, value in enumerate(precisions)]
        return CARD.substitute(
            query=self.source.picture(
                str(self.source.query.paths[row]), f"query {query_id}, {label}"
            ),
            caption=f"<b>{html_text(label)}</b><br>{html_text(query_id).replace('/', '/<wbr>')}",
            answers="".join([*answers, self._match(query_id)]),
        )

    def _answer(self, number: int, query_id: str, precision: float) -> str:
        if query_id not in self.ranking_rows[number]:
            return ""
        relevant = set(self.source.truth.relevant[self.truth_row[query_id]].tolist())
        inliers = self._inliers(number, query_id)
        tiles = [
            self._tile(rank, row, score, row in relevant, inliers.get(row))
            for rank, (row, score) in enumerate(self._first(number, query_id), start=1)
        ]
        return ANSWER.substitute(
            name=html_text(self.results[number].name),
            score=f"AP {precision:.3f}",
            tiles="".join(tiles),
        )

    def _first(self, number: int, query_id: str) -> list[tuple[int, float]]:
        """Return (gallery row, score) of the first images of a query, without junk."""
        ranking = self.results[number].ranking
        if ranking is None or query_id not in self.ranking_rows[number]:
            return []
        query_row = self.ranking_rows[number][query_id]
        rows = ranking.rows[query_row]
        scores = ranking.scores[query_row]
        junk = self.source.truth.junk[self.truth_row[query_id]]
        shown = np.flatnonzero((rows >= 0) & ~np.isin(rows, junk))[: self.top]
        return list(zip(rows[shown].tolist(), scores[shown].tolist(), strict=True))

    def _inliers(self, number: int, query_id: str) -> dict[int, tuple[int, bool]]:
        evidence = self.results[number].evidence
        if evidence is None or query_id not in self.evidence_rows[number]:
            return {}
        return evidence.inliers_of(self.evidence_rows[number][query_id])

    def _tile(
        self, rank: int, row: int, score: float, relevant: bool, inliers: tuple[int, bool] | None
    ) -> str:
        gallery = self.source.gallery
        label = self.source.label_of(gallery, row)
        verdict = "relevant" if relevant else "not relevant"
        inliers_text = ""
        badge = ""
        if inliers is not None:
            num_inliers, is_accepted = inliers
            kind = "accepted" if is_accepted else "rejected"
            inliers_text = f"{num_inliers} inliers, {kind} · "
            badge = BADGE.substitute(kind=kind, number=num_inliers)
        image_id = gallery.ids[row]
        return TILE.substitute(
            kind="hit" if relevant else "miss",
            title=html_text(f"{image_id} · {label} · score {score:.4f} · {inliers_text}{verdict}"),
            picture=self.source.picture(
                str(gallery.paths[row]), f"rank {rank}, {verdict}: {label}, {image_id}"
            ),
            mark="✓" if relevant else "✗",
            rank=rank,
            badge=badge,
        )

    def _match(self, query_id: str) -> str:
        """Draw the query and the first image of the last result that ranked it."""
        answers = [self._first(number, query_id) for number in range(len(self.results))]
        rows = [answer[0][0] for answer in answers if answer]
        if self.draw_match is None or not rows:
            return ""
        gallery_id = str(self.source.gallery.ids[rows[-1]])
        picture = self.draw_match(query_id, gallery_id)
        if picture is None:
            return ""
        return MATCH.substitute(
            source=encoded(picture), alt=html_text(f"what {query_id} and {gallery_id} share")
        )


def _rows_by_id(ids: np.ndarray) -> dict[str, int]:
    return {str(name): row for row, name in enumerate(ids)}
