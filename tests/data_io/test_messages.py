"""Test the lines that tell a user about files."""

from __future__ import annotations

from data_io.messages import skipped_lines, unlabelled_notes
from data_io.records import NO_LABEL, ImageList


def test_skipped_lines_name_the_first_files_and_count_all() -> None:
    skipped = [(f"{row}.jpg", "broken") for row in range(7)]
    assert list(skipped_lines(skipped, "placed last")) == [
        *(f"placed last {row}.jpg: broken" for row in range(5)),
        "placed last 7 files in all",
    ]


def test_skipped_lines_give_no_count_if_all_files_are_named() -> None:
    assert list(skipped_lines([("a.jpg", "broken")])) == ["skipped a.jpg: broken"]
    assert list(skipped_lines([])) == []


def test_unlabelled_notes_count_queries_and_gallery_images() -> None:
    query = ImageList(["a", "b"], ["a.jpg", "b.jpg"], [0, NO_LABEL])
    gallery = ImageList(["c", "d"], ["c.jpg", "d.jpg"], [NO_LABEL, 0])
    assert list(unlabelled_notes(query, gallery)) == [
        "1 of 2 queries have no label: they are not scored",
        "1 of 2 gallery images have no label: they stay in the rankings and are never right",
    ]
    no_labels = ImageList(["a"], ["a.jpg"])
    assert list(unlabelled_notes(no_labels, query.labelled())) == []
