"""The pictures of a report: which queries to show, and each with what every method retrieved for it, as HTML."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from string import Template

import numpy as np
from PIL import Image

from data_io.images import ImageError, decode_image
from data_io.records import GroundTruth, ImageList
from delf_ext.evaluation.comparison import Evaluated
from delf_ext.evaluation.hits import Hits
from delf_ext.evaluation.metrics import average_precisions

THUMBNAIL_PX = 112
JPEG_QUALITY = 82

SECTION = Template("<section><h2>$heading</h2><p class='note'>$note</p>$cards</section>")
CARD = Template(
    "<article class='card'><div class='asked'>$query<p>$caption</p></div><div class='answers'>$answers</div></article>"
)
ANSWER = Template(
    "<div class='answer'><h3>$name <span>$score</span></h3><ol class='strip'>$tiles</ol></div>"
)
TILE = Template(
    "<li class='tile $kind' title='$title'>$picture<span class='mark' aria-hidden='true'>$mark</span>"
    "<span class='rank' aria-hidden='true'>$rank</span>$badge</li>"
)
BADGE = Template("<span class='inliers $kind' aria-hidden='true'>$number</span>")
MATCH = Template("<img class='match' src='$source' alt='$alt'>")

DrawMatch = Callable[[str, str], Image.Image | None]


@dataclass(frozen=True, eq=False)
class PictureSource:
    """Where pictures and their labels come from. Thumbnails are made once per file."""

    query: ImageList
    gallery: ImageList
    truth: GroundTruth
    class_names: Sequence[str]
    made: dict[str, str] = field(default_factory=dict)

    def label_of(self, images: ImageList, row: int) -> str:
        if images.labels is None:
            return "no label"
        label = int(images.labels[row])
        return (
            str(self.class_names[label]) if 0 <= label < len(self.class_names) else f"class {label}"
        )

    def picture(self, path: str, alt: str) -> str:
        """An <img> that holds its own bytes, or a grey tile with the reason why the file cannot be read."""
        if path not in self.made:
            try:
                self.made[path] = data_uri(path)
            except ImageError as error:
                self.made[path] = error.reason
        found = self.made[path]
        if found.startswith("data:"):
            return f"<img src='{found}' alt='{escape(alt)}'>"
        return f"<span class='unreadable' role='img' aria-label='{escape(alt)}: {escape(found)}'>{escape(found)}</span>"


def data_uri(path: str) -> str:
    """The image as a JPEG thumbnail of at most THUMBNAIL_PX, its proportions kept. Raises: ImageError."""
    thumbnail = Image.fromarray(decode_image(path))
    thumbnail.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return _encoded(thumbnail)


def _encoded(picture: Image.Image) -> str:
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()


def choose_queries(values: np.ndarray, max_queries: int, seed: int) -> dict[str, np.ndarray]:
    """Rows of a spread of queries by `values` [Q] (NaN: never chosen): a third best, a third worst, the rest at random.

    Returns: {"best": rows, "worst": rows, "random": rows}, no row twice; ties by row. Best and worst lead their lists, random
    rows stand in the order of the queries.
    """
    scored = np.flatnonzero(~np.isnan(values))
    by_value = scored[np.argsort(-values[scored], kind="stable")]
    third = min(max_queries, len(scored)) // 3
    best, worst = by_value[:third], by_value[len(by_value) - third :][::-1]
    others = by_value[third : len(by_value) - third]
    num_random = min(max_queries - 2 * third, len(others))
    chosen = (
        np.random.default_rng(seed).choice(others, num_random, replace=False)
        if num_random
        else others[:0]
    )
    return {"best": best, "worst": worst, "random": np.sort(chosen)}


def sections_html(
    source: PictureSource,
    results: Sequence[Evaluated],
    common: Sequence[Hits],
    max_queries: int,
    top: int,
    seed: int,
    draw_match: DrawMatch | None = None,
) -> str:
    """The sections of best, worst and random queries by the last result; `common`: each result's hits, the same queries.

    draw_match: (query id, gallery id) -> a picture of what they share, or None; asked for the last result's first image.
    """
    precisions = np.stack([average_precisions(hits) for hits in common])
    last = escape(results[-1].name)
    headings = {
        "best": (
            "Best queries",
            f"Highest average precision (AP) of {last}; equal ones in the order of the data.",
        ),
        "worst": ("Worst queries", f"Lowest average precision (AP) of {last}, worst first."),
        "random": (
            "Random queries",
            f"Drawn from all others with seed {seed}: what to expect on an ordinary photograph.",
        ),
    }
    cards = _Cards(source, results, top, draw_match)
    sections = []
    for kind, rows in choose_queries(precisions[-1], max_queries, seed).items():
        if len(rows):
            drawn = [cards.card(str(common[0].query_ids[row]), precisions[:, row]) for row in rows]
            heading, note = headings[kind]
            sections.append(SECTION.substitute(heading=heading, note=note, cards="".join(drawn)))
    return "".join(sections)


class _Cards:
    """One card per query. Finds a query's row by its id in each list, since a list may lack skipped images."""

    def __init__(
        self,
        source: PictureSource,
        results: Sequence[Evaluated],
        top: int,
        draw_match: DrawMatch | None,
    ) -> None:
        self.source, self.results, self.top, self.draw_match = source, results, top, draw_match
        self.query_row = _rows_by_id(source.query.ids)
        self.truth_row = _rows_by_id(source.truth.query_ids)
        self.ranking_rows = [
            _rows_by_id(result.ranking.query_ids) if result.ranking else {} for result in results
        ]
        self.evidence_rows = [
            _rows_by_id(result.evidence.query_ids) if result.evidence else {} for result in results
        ]

    def card(self, query_id: str, precisions: np.ndarray) -> str:
        row = self.query_row[query_id]
        label = self.source.label_of(self.source.query, row)
        answers = [self._answer(number, query_id, value) for number, value in enumerate(precisions)]
        return CARD.substitute(
            query=self.source.picture(
                str(self.source.query.paths[row]), f"query {query_id}, {label}"
            ),
            caption=f"<b>{escape(label)}</b><br>{escape(query_id).replace('/', '/<wbr>')}",
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
            name=escape(self.results[number].name),
            score=f"AP {precision:.3f}",
            tiles="".join(tiles),
        )

    def _first(self, number: int, query_id: str) -> list[tuple[int, float]]:
        """(gallery row, score) of what a result shows for a query, junk left out; nothing where it has no ranking."""
        ranking = self.results[number].ranking
        if ranking is None or query_id not in self.ranking_rows[number]:
            return []
        rows, scores = (
            column[self.ranking_rows[number][query_id]] for column in (ranking.rows, ranking.scores)
        )
        shown = np.flatnonzero(
            (rows >= 0) & ~np.isin(rows, self.source.truth.junk[self.truth_row[query_id]])
        )[: self.top]
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
        found, badge = "", ""
        if inliers is not None:
            number, kind = inliers[0], "accepted" if inliers[1] else "rejected"
            found, badge = (
                f"{number} inliers, {kind} · ",
                BADGE.substitute(kind=kind, number=number),
            )
        return TILE.substitute(
            kind="hit" if relevant else "miss",
            title=escape(f"{gallery.ids[row]} · {label} · score {score:.4f} · {found}{verdict}"),
            picture=self.source.picture(
                str(gallery.paths[row]), f"rank {rank}, {verdict}: {label}, {gallery.ids[row]}"
            ),
            mark="✓" if relevant else "✗",
            rank=rank,
            badge=badge,
        )

    def _match(self, query_id: str) -> str:
        """What the query shares with the first image of the last result that ranked it."""
        answers = [self._first(number, query_id) for number in range(len(self.results))]
        rows = [answer[0][0] for answer in answers if answer]
        if self.draw_match is None or not rows:
            return ""
        gallery_id = str(self.source.gallery.ids[rows[-1]])
        picture = self.draw_match(query_id, gallery_id)
        if picture is None:
            return ""
        return MATCH.substitute(
            source=_encoded(picture), alt=escape(f"what {query_id} and {gallery_id} share")
        )


def _rows_by_id(ids: np.ndarray) -> dict[str, int]:
    return {str(name): row for row, name in enumerate(ids)}
