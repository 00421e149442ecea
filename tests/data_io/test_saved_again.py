"""Test the warning about photographs that were saved again with other bytes."""

from __future__ import annotations

import numpy as np

from data_io.records import ImageList, Ranking
from data_io.saved_again import saved_again_notes

QUERY = ImageList(["q0", "q1"], ["q/0.jpg", "q/1.jpg"])
GALLERY = ImageList(["g0", "g1"], ["g/0.png", "g/1.png"])


def notes(scores: list[list[float]], junk: list[list[int]]) -> list[str]:
    rows = np.array([[0, 1], [1, 0]])
    ranking = Ranking(QUERY.ids, GALLERY.ids, rows, np.array(scores))
    return list(saved_again_notes(QUERY, GALLERY, ranking, [np.array(j, int) for j in junk]))


def test_equal_embeddings_are_counted_once_for_each_query() -> None:
    lines = notes([[1.0, 1.0], [0.9999, 0.5]], [[], []])
    assert lines == [
        "warning: 1 query has a gallery image with the same embedding, such as q/0.jpg and "
        "g/0.png: probably one photograph saved twice. It counts as a result; if it is one, "
        "delete a file."
    ]


def test_images_that_do_not_count_are_not_reported() -> None:
    assert notes([[1.0, 0.5], [1.0, 0.5]], [[0], [1]]) == []
    assert notes([[1.0, 1.0], [0.5, 0.5]], [[0], []])[0].startswith("warning: 1 query has")
