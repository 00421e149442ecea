"""Test that any file name passes through every output in one escape, and can be read back."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_io.files import names
from data_io.files.artifacts import load_record, read_json, save_record, write_json
from data_io.files.names import escaped, html_text, print_any_name, shown, unescaped
from data_io.messages import shown_path, skipped_lines
from data_io.records import ImageList
from data_io.tables.csv_rows import csv_text

KOREAN = os.fsdecode("사진.jpg".encode("cp949"))
# Letters of look-alikes of the escape are drawn often, and so are bytes that are not UTF-8.
LETTERS = st.sampled_from("\\\\\\xuU05cbe8d\udcbb\udce7\ud800é😀\n")
NAMES = st.text(LETTERS | st.characters(exclude_categories=[]), max_size=12)


@given(NAMES)
@example(r"\xbb.jpg")
@example("\\x5cxbb")
@example("\\\udcbb")
@example("\\x\udcbb")
@example(KOREAN)
def test_the_escape_is_text_and_gives_the_name_back(name: str) -> None:
    text = escaped(name)
    text.encode("utf-8")
    assert unescaped(text) == name
    assert unescaped(shown(name)) == name
    assert not set(shown(name)) & {chr(number) for number in range(32)}


@given(NAMES, st.sampled_from(["ascii", "cp949", "utf-8", "latin-1"]))
def test_a_terminal_of_any_encoding_shows_a_name_that_can_be_read_back(
    name: str, encoding: str
) -> None:
    printed = shown(name).encode(encoding, errors=names.ERRORS).decode(encoding)
    assert unescaped(printed) == name


@given(NAMES, NAMES)
def test_different_names_have_different_escapes(one: str, other: str) -> None:
    assert (escaped(one) == escaped(other)) == (one == other)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (KOREAN, r"\xbb\xe7\xc1\xf8.jpg"),
        ("사진.jpg", "사진.jpg"),
        (r"C:\photos\a.jpg", r"C:\photos\a.jpg"),
        (r"\xbb.jpg", r"\x5cxbb.jpg"),
        ("\ud800", r"\ud800"),
    ],
)
def test_a_name_that_is_text_does_not_change(name: str, text: str) -> None:
    assert escaped(name) == text


@given(st.lists(NAMES, max_size=4))
def test_json_and_csv_give_names_back(tmp_path_factory: pytest.TempPathFactory, row: list) -> None:
    path = tmp_path_factory.mktemp("names") / "x.json"
    value = {"files": row, **{name: 1 for name in row}}
    write_json(path, value)
    assert read_json(path) == value
    text = csv_text([["first", *row]])
    text.encode("utf-8")
    (cells,) = csv.reader(io.StringIO(text, ""))
    assert list(map(unescaped, cells)) == ["first", *row]


@given(st.lists(NAMES.filter(lambda name: "\0" not in name), min_size=1, max_size=4, unique=True))
def test_a_record_gives_names_back(tmp_path_factory: pytest.TempPathFactory, ids: list) -> None:
    path = tmp_path_factory.mktemp("names") / "images.npz"
    save_record(path, ImageList(np.array(ids), np.array(ids), skipped=((KOREAN, "empty"),)))
    with np.load(path) as stored:
        assert all(text.encode("utf-8") is not None for text in stored["paths"])
    read = load_record(path, ImageList)
    assert read.ids.tolist() == ids and read.skipped == ((KOREAN, "empty"),)


def test_html_and_messages_name_the_bytes(tmp_path: Path) -> None:
    assert html_text(f"<{KOREAN}>") == r"&lt;\xbb\xe7\xc1\xf8.jpg&gt;"
    assert shown_path(Path(KOREAN)) == r"\xbb\xe7\xc1\xf8.jpg"
    assert list(skipped_lines([("a\nb.jpg", "empty")])) == [r"skipped a\u000ab.jpg: empty"]


def test_printing_on_an_ascii_terminal_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    bytes_ = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(bytes_, encoding="ascii"))
    print_any_name()
    print(KOREAN, "é", flush=True)
    assert bytes_.getvalue() == rb"\xbb\xe7\xc1\xf8.jpg \u00e9" + b"\n"
