"""Test the challenge's answer: every gallery image for every query, in time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data_io.datasets import DataSet
from data_io.images import load_image
from data_io.progress import quiet
from data_io.records import ImageList
from delf_ext.app.answers import Answer, answers, in_gallery_order
from delf_ext.app.reranking import Request, Reranker
from delf_ext.app.searching import search
from delf_ext.features.embedder import Embedder
from delf_ext.reranking.chain import parse_chain
from delf_ext.reranking.deadline import Deadline

COLOUR = Embedder("colour", 32, "v1", lambda images: images.mean(axis=(1, 2)) - 127.0)


def answered(data: DataSet, request: Request, lines: list[str] | None = None) -> list[Answer]:
    reranker = Reranker(request, data.gallery, None)
    log = quiet if lines is None else lines.append
    return list(answers(COLOUR, data.query, data.gallery, 4, request, reranker, log))


def test_plain_answer_has_the_whole_gallery_nearest_first(data: DataSet) -> None:
    (answer,) = answered(data, Request())
    hits = search(COLOUR, data.query, data.gallery, top_k=None)
    names = dict(zip(data.gallery.paths.tolist(), data.gallery.ids.tolist(), strict=True))
    ranked = [[names[hit.path] for hit in hits.of(row)] for row in range(3)]
    assert answer == list(enumerate(zip(data.query.ids.tolist(), ranked, strict=True)))
    assert answer[0][1][0].startswith("query_") and answer[0][1][1][0].startswith("refer_")


def test_re_ranked_answer_follows_the_plain_one(data: DataSet) -> None:
    lines: list[str] = []
    plain, better = answered(data, Request(chains=(parse_chain("k_reciprocal:3,2"),)), lines)
    assert [plain] == answered(data, Request(chains=((),)))
    for (_, (name, references)), (_, (again, others)) in zip(plain, better, strict=True):
        assert name == again and sorted(references) == sorted(others)
    assert lines[-1].startswith("ranking: ")


def test_answer_without_time_has_the_gallery_in_its_own_order(data: DataSet) -> None:
    lines: list[str] = []
    (answer,) = answered(data, Request(Deadline(0.0)), lines)
    assert answer == in_gallery_order(data.query, data.gallery)
    assert [names for _, (_, names) in answer] == [data.gallery.ids.tolist()] * 3
    (line,) = lines
    assert line.endswith(
        "no time left to embed the first of 3 images: the time budget is too short.",
    )


def test_unreadable_gallery_image_comes_last_and_unreadable_query_is_answered(
    data: DataSet,
    tmp_path: Path,
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("no image")

    def with_broken(images: ImageList, row: int) -> ImageList:
        paths = images.paths.tolist()
        paths[row] = str(broken)
        return dataclasses.replace(images, paths=np.array(paths))

    damaged = dataclasses.replace(
        data,
        query=with_broken(data.query, 1),
        gallery=with_broken(data.gallery, 4),
    )
    lines: list[str] = []
    (answer,) = answered(damaged, Request(), lines)
    everything = data.gallery.ids.tolist()
    assert answer[1] == (1, (str(data.query.ids[1]), everything))
    for row in (0, 2):
        names = answer[row][1][1]
        assert names[-1] == everything[4] and sorted(names) == sorted(everything)
    assert lines[0].startswith(f"placed last {broken}: ")


def test_answer_too_large_for_memory_is_cut(
    data: DataSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (whole,) = answered(data, Request())
    monkeypatch.setattr("delf_ext.pipeline.PLACES_IN_MEMORY", 10)
    monkeypatch.setattr("delf_ext.pipeline.KEPT_PER_QUERY", 5)
    (cut,) = answered(data, Request())
    assert cut == [(row, (name, names[:5])) for row, (name, names) in whole]


@pytest.mark.parametrize("method", ["", "aqe:1", "k_reciprocal:3,2"])
def test_answer_holds_each_reference_once_if_embeddings_failed(data: DataSet, method: str) -> None:
    def embed(images: np.ndarray) -> np.ndarray:
        vectors = COLOUR.embed(images)
        failed = np.isin(vectors[:, 0], bad)
        return np.where(failed[:, None], np.nan, vectors)

    rows = [0, 2]
    pixels = [load_image(path, 32) for path in data.gallery.paths[rows]]
    pixels.append(load_image(data.query.paths[1], 32))
    bad = COLOUR.embed(np.stack(pixels))[:, 0]
    model = Embedder("partly", 32, "v2", embed)
    request = Request(chains=(parse_chain(method),) if method else ())
    reranker = Reranker(request, data.gallery, None)
    lines: list[str] = []
    found = list(answers(model, data.query, data.gallery, 4, request, reranker, lines.append))
    everything = data.gallery.ids.tolist()
    for answer in found:
        assert [name for _, (name, _) in answer] == data.query.ids.tolist()
        assert all(sorted(references) == sorted(everything) for _, (_, references) in answer)
        assert answer[0][1][1][-2:] == [everything[row] for row in rows]
        assert answer[1][1][1] == everything
    assert lines[0].startswith("1 of 3 queries: the model's embedding is zero or not finite, so ")
    assert lines[1].startswith(f"2 of {len(everything)} gallery images: the model's embedding is ")
