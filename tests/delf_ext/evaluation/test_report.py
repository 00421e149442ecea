from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.records import GlobalFeatures, GroundTruth, ImageList, Ranking
from delf_ext.evaluation.comparison import Evaluated
from delf_ext.evaluation.hits import hits_of
from delf_ext.evaluation.report import write_report
from delf_ext.index.exact import search
from delf_ext.reranking.evidence import Evidence

CLASS_NAMES = ("tea", "<b>milk & honey</b>", "rice")
VOID = {"meta", "img", "br", "wbr", "line", "rect", "path"}


class Page(HTMLParser):
    """Parser that collects tags and texts, and fails on a wrong closing tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def of_class(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for _, attrs in self.tags if name in (attrs.get("class") or "").split()]


class Scene:
    """3 classes, 9 queries and 12 gallery images of colour noise, 40 x 20 px.

    Query 0 is also gallery image 0, which is junk.
    """

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        self.paths = [str(folder / f"{row}.png") for row in range(21)]
        for path in self.paths:
            Image.fromarray(rng.integers(0, 255, (20, 40, 3), np.uint8)).save(path)
        labels = np.arange(21) % 3
        gallery_paths = [self.paths[0], *self.paths[10:]]
        self.query = ImageList([f"q/{row}" for row in range(9)], self.paths[:9], labels[:9])
        self.gallery = ImageList(
            [f"g'{row}\"" for row in range(12)], gallery_paths, [0, *labels[10:]]
        )
        self.truth = GroundTruth.from_labels(self.query, self.gallery)

    def result(self, name: str, seed: int) -> Evaluated:
        rng = np.random.default_rng(seed)
        vectors = rng.standard_normal((21, 4))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        ranking = search(
            GlobalFeatures(self.query.ids, vectors[:9]),
            GlobalFeatures(self.gallery.ids, vectors[9:]),
        )
        return Evaluated(name, hits_of(ranking, self.truth), 0, ranking)

    def write(self, folder: Path, results: list[Evaluated], **options) -> tuple[str, Page]:
        path = write_report(
            folder / "r" / "index.html",
            "Tea & <rice>",
            results,
            self.query,
            self.gallery,
            self.truth,
            CLASS_NAMES,
            **options,
        )
        text = path.read_text(encoding="utf-8")
        return text, Page(text)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_page_refers_to_no_other_file(scene: Scene, tmp_path: Path) -> None:
    text, page = scene.write(tmp_path, [scene.result("a", 1)])
    assert "http" not in text and "@import" not in text and "url(" not in text
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    for tag, attrs in page.tags:
        if tag == "img":
            assert attrs["src"].startswith("data:image/jpeg;base64,") and attrs["alt"]
            picture = Image.open(io.BytesIO(base64.b64decode(attrs["src"].split(",")[1])))
            assert picture.size == (40, 20)  # its own proportions, and never enlarged


def test_frames_marks_and_titles_show_relevance(scene: Scene, tmp_path: Path) -> None:
    result = scene.result("a", 1)
    text, page = scene.write(tmp_path, [result], max_queries=9, top=4)
    hits = page.of_class("hit")
    misses = page.of_class("miss")
    expected = sum(int((positions < 4).sum()) for positions in result.hits.positions)
    assert len(hits) == expected > 0 and len(hits) + len(misses) == 9 * 4
    assert all(tile["title"].endswith("· relevant") for tile in hits)
    assert all(tile["title"].endswith("· not relevant") for tile in misses)
    assert (text.count(">✓</span>"), text.count(">✗</span>")) == (len(hits), len(misses))
    assert {tile["title"].split(" · ")[1] for tile in hits} <= set(CLASS_NAMES)
    alts = [attrs["alt"] for tag, attrs in page.tags if tag == "img"]
    assert (
        sum(": " in alt and alt.startswith("rank ") for alt in alts) == 36
        and "query q/0, tea" in alts
    )


def test_junk_is_not_shown(scene: Scene, tmp_path: Path) -> None:
    result = scene.result("a", 1)
    assert result.ranking is not None and 0 in result.ranking.rows[0]
    only_first = Evaluated("a", result.hits.take([0]), 0, result.ranking)
    _, page = scene.write(tmp_path, [only_first], top=12)
    tiles = page.of_class("tile")
    assert len(tiles) == 11 and not any(tile["title"].startswith("g'0\"") for tile in tiles)


def test_all_texts_are_escaped(scene: Scene, tmp_path: Path) -> None:
    results = [scene.result("<script>alert(1)</script>", 1), scene.result("b 'quoted' $title", 2)]
    text, page = scene.write(tmp_path, results, facts={"data": "<i>x</i> & y"})
    assert "<script" not in text and "<i>" not in text and "<b>milk" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "Tea &amp; &lt;rice&gt;" in text
    assert "b &#x27;quoted&#x27; $title" in text and "&lt;i&gt;x&lt;/i&gt; &amp; y" in text
    assert any(tile["title"].startswith("g'") for tile in page.of_class("tile"))


def test_unreadable_image_is_a_grey_tile_with_its_reason(scene: Scene, tmp_path: Path) -> None:
    Path(scene.paths[0]).write_bytes(b"")
    Path(scene.paths[12]).unlink()
    text, page = scene.write(tmp_path, [scene.result("a", 1)], top=12)
    labels = [tile["aria-label"] for tile in page.of_class("unreadable")]
    assert "query q/0, tea: empty file" in labels
    assert any(label.startswith("rank ") and label.endswith("file not found") for label in labels)
    assert ">empty file</span>" in text


def test_sections_show_best_worst_and_random_queries_of_the_last_result(
    scene: Scene, tmp_path: Path
) -> None:
    results = [scene.result("first", 1), scene.result("last", 2)]
    text, _ = scene.write(tmp_path, results, max_queries=6)
    precisions = [float(value) for value in re.findall(r"last <span>AP ([0-9.]+)</span>", text)]
    best = precisions[:2]
    worst = precisions[2:4]
    others = precisions[4:]
    assert (
        len(precisions) == 6
        and best[0] >= best[1] >= max(others)
        and worst[0] <= worst[1] <= min(others)
    )
    assert [
        text.index(f"<h2>{heading} queries</h2>") for heading in ("Best", "Worst", "Random")
    ] == sorted(
        text.index(f"<h2>{heading} queries</h2>") for heading in ("Best", "Worst", "Random")
    )
    assert text == scene.write(tmp_path, results, max_queries=6)[0]
    assert text != scene.write(tmp_path, results, max_queries=6, seed=3)[0]


def test_header_table_and_charts_show_the_comparison(scene: Scene, tmp_path: Path) -> None:
    results = [scene.result("first", 1), scene.result("second", 2)]
    text, page = scene.write(tmp_path, results, seed=7, facts={"data": "noise"})
    mean = float(
        np.nanmean(
            [float(value) for value in re.findall(r"second <span>AP ([0-9.]+)</span>", text)]
        )
    )
    for fact in (
        "<dt>data</dt><dd>noise</dd>",
        "<dt>seed</dt><dd>7</dd>",
        "<dt>gallery images</dt><dd>12</dd>",
    ):
        assert fact in text
    charts = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg"]
    assert len(charts) == 2 and charts[1].startswith("Recall@1: first ")
    assert float(charts[0].rsplit(" ", 1)[1]) == pytest.approx(mean, abs=0.002)
    assert [tag for tag, attrs in page.tags if attrs.get("scope") == "row"] == ["th", "th"]
    assert (
        "prefers-color-scheme: dark" in text
        and "9 queries scored." in text
        and "<dt>R@k</dt>" in text
    )


def test_result_without_ranking_has_numbers_but_no_pictures(scene: Scene, tmp_path: Path) -> None:
    pictured = scene.result("pictured", 1)
    bare = scene.result("bare", 2)
    text, page = scene.write(tmp_path, [Evaluated("bare", bare.hits), pictured], top=3)
    assert "bare <span>AP" not in text and "<th scope='row'>bare</th>" in text
    assert len(page.of_class("tile")) == 9 * 3


def evidence_of(result: Evaluated) -> Evidence:
    """Return evidence of the first three places: 40 inliers, accepted; 3 inliers; not verified."""
    assert result.ranking is not None
    shape = len(result.ranking.rows), 3
    columns = [
        np.broadcast_to(np.array(values), shape).copy()
        for values in ([40, 3, -1], [True, False, False], [30.0, 0.0, 0.0])
    ]
    return Evidence(
        result.ranking.query_ids, result.ranking.rows[:, :3].copy(), *columns, np.full(shape[0], "")
    )


def test_tiles_show_inliers_before_and_after(scene: Scene, tmp_path: Path) -> None:
    before = scene.result("global", 1)
    after = scene.result("re-ranked", 2)
    evidence = evidence_of(after)
    results = [replace(before, evidence=evidence), replace(after, evidence=evidence)]
    text, page = scene.write(tmp_path, results, max_queries=9, top=12)
    junk_in_front = (
        sum(0 in rows[:1] for rows in evidence.rows[:1]),
        sum(0 in rows[1:2] for rows in evidence.rows[:1]),
    )
    # An image has the same badge at any place.
    assert len(page.of_class("accepted")) == 2 * (9 - junk_in_front[0])
    assert len(page.of_class("rejected")) == 2 * (9 - junk_in_front[1])
    titles = [tile["title"] for tile in page.of_class("tile")]
    assert sum(" · 40 inliers, accepted · " in title for title in titles) == len(
        page.of_class("accepted")
    )
    assert sum(" · 3 inliers, rejected · " in title for title in titles) == len(
        page.of_class("rejected")
    )
    assert "aria-hidden='true'>40</span>" in text and "<dt>Inliers</dt>" in text


def test_page_without_evidence_does_not_mention_inliers(scene: Scene, tmp_path: Path) -> None:
    text, page = scene.write(tmp_path, [scene.result("a", 1)])
    assert (
        not page.of_class("inliers")
        and not page.of_class("match")
        and "<dt>Inliers</dt>" not in text
    )


def test_match_pictures_show_the_first_result_of_the_last_ranking(
    scene: Scene, tmp_path: Path
) -> None:
    asked: list[tuple[str, str]] = []

    def draw(query_id: str, gallery_id: str) -> Image.Image | None:
        asked.append((query_id, gallery_id))
        return None if query_id == "q/3" else Image.new("RGB", (300, 80), "teal")

    first = scene.result("first", 1)
    last = scene.result("last", 2)
    _, page = scene.write(tmp_path, [first, last], max_queries=9, draw_match=draw)
    assert last.ranking is not None
    expected = {}
    for query_id, rows in zip(last.ranking.query_ids, last.ranking.rows):
        expected[query_id] = scene.gallery.ids[
            [row for row in rows if not (query_id == "q/0" and row == 0)][0]
        ]
    assert dict(asked) == expected and len(asked) == 9
    pictures = page.of_class("match")
    assert len(pictures) == 8 and {attrs["alt"] for attrs in pictures} >= {
        f"what q/0 and {expected['q/0']} share"
    }
    for attrs in pictures:
        assert Image.open(io.BytesIO(base64.b64decode(attrs["src"].split(",")[1]))).size == (
            300,
            80,
        )


def test_refusals_name_the_result(scene: Scene, tmp_path: Path) -> None:
    result = scene.result("a", 1)
    assert result.ranking is not None
    others = Ranking(
        scene.query.ids,
        [f"x{row}" for row in range(12)],
        result.ranking.rows,
        result.ranking.scores,
    )
    with pytest.raises(ValueError, match="a: its ranking is over another gallery"):
        scene.write(tmp_path, [Evaluated("a", result.hits, 0, others)])
    scene.query = scene.query.take([0, 1])
    with pytest.raises(
        ValueError, match="a: query q/2 is not in the list of queries of this report"
    ):
        scene.write(tmp_path, [result])
    assert not (tmp_path / "r").exists()
