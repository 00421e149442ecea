"""The challenge's answer: every reference for every query, in time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data_io.datasets import DataSet
from delf_ext.app.answers import Answer, answers, in_gallery_order
from delf_ext.app.reranking import Request, Reranker
from delf_ext.app.searching import search
from delf_ext.features.embedder import Embedder
from delf_ext.reranking.chain import parse_chain
from delf_ext.reranking.deadline import Deadline

COLOUR = Embedder("colour", 32, "v1", lambda images: images.mean(axis=(1, 2)) - 127.0)


def answered(data: DataSet, request: Request, said: list[str] | None = None) -> list[Answer]:
    log = (said if said is not None else []).append
    reranker = Reranker(request, data.gallery, None)
    return list(answers(COLOUR, data.query, data.gallery, 4, request, reranker, log))


def test_the_plain_answer_has_all_references_by_nearness(data: DataSet) -> None:
    (answer,) = answered(data, Request())
    hits = search(COLOUR, data.query, data.gallery, top_k=None)
    names = dict(zip(data.gallery.paths.tolist(), data.gallery.ids.tolist(), strict=True))
    ranked = [[names[hit.path] for hit in hits.of(row)] for row in range(3)]
    assert answer == list(enumerate(zip(data.query.ids.tolist(), ranked, strict=True)))
    assert answer[0][1][0].startswith("query_") and answer[0][1][1][0].startswith("refer_")


def test_a_better_answer_follows_the_plain_one(data: DataSet) -> None:
    said: list[str] = []
    plain, better = answered(data, Request(chains=(parse_chain("k_reciprocal:3,2"),)), said)
    assert [plain] == answered(data, Request(chains=((),)))
    for (_, (name, references)), (_, (again, others)) in zip(plain, better, strict=True):
        assert name == again and sorted(references) == sorted(others)
    assert said[-1].startswith("ranking: ")


def test_without_time_references_are_in_their_own_order(data: DataSet) -> None:
    said: list[str] = []
    (answer,) = answered(data, Request(Deadline(0.0)), said)
    assert answer == in_gallery_order(data.query, data.gallery)
    assert [names for _, (_, names) in answer] == [data.gallery.ids.tolist()] * 3
    (line,) = said
    assert line.endswith(
        "no time left to embed the first of 3 images: the time budget is too short.",
    )


def test_what_cannot_be_read_comes_last_or_gets_all_references(
    data: DataSet,
    tmp_path: Path,
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("no image")

    def without(images, row: int):
        paths = images.paths.copy()
        paths = np.array(
            [str(broken) if place == row else path for place, path in enumerate(paths)],
        )
        return dataclasses.replace(images, paths=paths)

    damaged = dataclasses.replace(
        data,
        query=without(data.query, 1),
        gallery=without(data.gallery, 4),
    )
    said: list[str] = []
    (answer,) = answered(damaged, Request(), said)
    everything = data.gallery.ids.tolist()
    assert answer[1] == (1, (str(data.query.ids[1]), everything))
    for row in (0, 2):
        names = answer[row][1][1]
        assert names[-1] == everything[4] and sorted(names) == sorted(everything)
    assert said[0].startswith(f"placed last: {broken}: ")


def test_where_all_references_are_too_much_the_first_are_given(
    data: DataSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (whole,) = answered(data, Request())
    monkeypatch.setattr("delf_ext.pipeline.PLACES_IN_MEMORY", 10)
    monkeypatch.setattr("delf_ext.pipeline.KEPT_PER_QUERY", 5)
    (cut,) = answered(data, Request())
    assert cut == [(row, (name, names[:5])) for row, (name, names) in whole]
