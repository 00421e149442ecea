"""Find the query's own photograph in the gallery, under whatever name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_io.duplicates import Duplicates, find_duplicates
from data_io.records import GroundTruth, ImageList


def listed(paths: list[Path | str], labels: list[int] | None) -> ImageList:
    ids = [f"{row}:{path}" for row, path in enumerate(paths)]
    column = None if labels is None else np.array(labels)
    return ImageList(np.array(ids), np.array(list(map(str, paths))), column)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder with photographs of the same size."""
    monkeypatch.chdir(tmp_path)
    for name in ("q0", "q1", "g0", "g1"):
        Path(name).write_text(name)
    return tmp_path


def put(kind: str, source: str, target: str) -> None:
    {"copy": shutil.copyfile, "symlink": os.symlink, "hard link": os.link}[kind](source, target)


@pytest.mark.parametrize("kind", ["copy", "symlink", "hard link", "absolute path", "same path"])
def test_the_own_photograph_is_junk_whatever_its_name(folder: Path, kind: str) -> None:
    own = {"absolute path": str(folder / "q0"), "same path": "q0"}.get(kind, "own")
    if own == "own":
        put(kind, "q0", own)
    query = listed(["q0", "q1"], [0, 1])
    gallery = listed([own, "g0", "g1"], [0, 0, 1])
    found = find_duplicates(query, gallery)
    assert [rows.tolist() for rows in found.junk] == [[0], []]
    assert found.pairs == (("q0", own),) and found.num_queries == 1
    assert found.num_only_copies == 0 and found.conflicts == ()
    assert list(found.notes()) == [
        "1 query has a copy in the gallery: these copies are left out of its ranking",
        f"copy: q0 = {own}",
    ]
    truth = GroundTruth.from_labels(query, gallery)
    assert [rows.tolist() for rows in truth.junk] == [[0], []]
    assert [rows.tolist() for rows in truth.relevant] == [[1], [2]]


@pytest.mark.parametrize(("kind", "junk"), [("copy", []), ("symlink", [0]), ("hard link", [0])])
def test_counting_copies_still_leaves_out_the_own_file(
    folder: Path, kind: str, junk: list[int]
) -> None:
    put(kind, "q0", "own")
    found = find_duplicates(listed(["q0"], [0]), listed(["own", "g0"], [0, 0]), "count")
    assert [rows.tolist() for rows in found.junk] == [junk]
    note = "1 query has a copy in the gallery: copies count (--duplicates=count)"
    assert next(found.notes()).startswith(note)


def test_copies_can_be_an_error(folder: Path) -> None:
    put("copy", "q0", "own")
    query, gallery = listed(["q0"], [0]), listed(["own", "g0"], [0, 0])
    with pytest.raises(ValueError, match="^1 queries have a copy.*q0 = own. Remove the copies"):
        find_duplicates(query, gallery, "error")
    assert not find_duplicates(query, listed(["g0"], [0]), "error").pairs
    with pytest.raises(ValueError, match="exclude, count, error. Received 'ignore'"):
        find_duplicates(query, gallery, "ignore")


def test_a_list_searched_in_itself_has_only_other_files_as_copies(folder: Path) -> None:
    put("copy", "q0", "own")
    for gallery in (None, "again"):
        images = listed(["q0", "q1", "own"], [0, 1, 0])
        other = images if gallery is None else listed(["q0", "q1", "own"], [0, 1, 0])
        found = find_duplicates(images, other)
        assert [rows.tolist() for rows in found.junk] == [[0, 2], [1], [0, 2]]
        assert found.pairs == (("q0", "own"), ("own", "q0"))
        # q0 and its copy find nothing else; q1 never had a relevant image.
        assert found.num_only_copies == 2


def test_a_query_whose_relevant_images_are_all_copies_is_said(folder: Path) -> None:
    put("copy", "q0", "own")
    found = find_duplicates(listed(["q0", "q1"], [0, 1]), listed(["own", "g1"], [0, 1]))
    assert found.num_only_copies == 1
    note = "1 query is not scored: all relevant images are copies of the query"
    assert note in list(found.notes())
    assert found.figures()["num_only_copies"] == 1


def test_a_photograph_with_several_labels_is_said(folder: Path) -> None:
    put("copy", "g0", "again")
    put("copy", "q0", "own")
    gallery = listed(["g0", "again", "own", "g1"], [0, 1, 1, -1])
    found = find_duplicates(listed(["q0"], [0]), gallery)
    assert found.conflicts == (("q0", "own"), ("g0", "again"))
    assert list(found.notes())[2:] == [
        "2 photographs have several labels; check the labels of the data",
        "several labels: q0 = own",
        "several labels: g0 = again",
    ]
    assert found.figures()["conflicting_labels"] == [["q0", "own"], ["g0", "again"]]


def test_a_report_lists_the_first_copies_and_the_figures_all() -> None:
    pairs = tuple((f"q{row}", f"g{row}") for row in range(8))
    found = Duplicates("exclude", (), (), pairs, 8, 0, ())
    assert list(found.notes(2)) == [
        "8 queries have a copy in the gallery: these copies are left out of their rankings",
        "copy: q0 = g0",
        "copy: q1 = g1",
        "... and 6 more",
    ]
    assert len(found.figures()["copies"]) == 8


def test_a_name_with_a_line_break_takes_one_line(folder: Path) -> None:
    put("copy", "q0", "g\n0")
    query = listed(["q0"], [0])
    gallery = listed(["g\n0", "g1"], [1, 0])
    lines = list(find_duplicates(query, gallery).notes())
    assert r"copy: q0 = g\u000a0" in lines and r"several labels: q0 = g\u000a0" in lines
    with pytest.raises(ValueError, match=r"the first: q0 = g\\u000a0\. Remove the copies"):
        find_duplicates(query, gallery, "error")
