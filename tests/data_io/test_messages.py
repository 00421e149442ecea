"""Test the lines that tell a user about files."""

from __future__ import annotations

from data_io.messages import skipped_lines


def test_skipped_lines_name_the_first_files_and_count_all() -> None:
    skipped = [(f"{row}.jpg", "broken") for row in range(7)]
    assert list(skipped_lines(skipped, "placed last")) == [
        *(f"placed last {row}.jpg: broken" for row in range(5)),
        "placed last 7 files in all",
    ]


def test_skipped_lines_give_no_count_if_all_files_are_named() -> None:
    assert list(skipped_lines([("a.jpg", "broken")])) == ["skipped a.jpg: broken"]
    assert list(skipped_lines([])) == []
