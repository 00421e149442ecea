"""Test that class names that differ only in how they are written are found and joined."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from data_io.datasets import load_dataset
from data_io.datasets.class_names import joined_names
from data_io.tables.spelling import spelling_key

NFC = unicodedata.normalize("NFC", "사과")
NFD = unicodedata.normalize("NFD", "사과")


@pytest.mark.parametrize(
    ("first", "other", "cause"),
    [
        ("Milk", "MILK", "upper and lower case"),
        ("Straße", "STRASSE", "upper and lower case"),
        ("oat milk", "oat  milk", "white space"),
        ("oat milk", "oatmilk", "white space"),
        ("oat milk", "oat\u00a0milk", "white space"),
        (NFC, NFD, "Unicode normal form"),
        ("Fruit/é", "Fruit/e\u0301", "Unicode normal form"),
        ("p01", "ｐ０１", "full and half width"),
        ("ガム", "ｶﾞﾑ", "full and half width"),
        ("p01", "p01\u200b", "invisible characters"),
        ("p01", "\ufeffp01", "invisible characters"),
        ("p01", "p\u00ad01", "invisible characters"),
        ("p01", "p01\ufe0f", "invisible characters"),
        ("p01", "p\u200e01", "invisible characters"),
        ("p01", "p01\x00", "invisible characters"),
        ("10", "10.0", "leading zeros or a final .0"),
        ("0", "00", "leading zeros or a final .0"),
        ("7", "007.00", "leading zeros or a final .0"),
        ("123456", "1.23456E+05", "leading zeros or a final .0"),
        ("-1", "-1.0", "leading zeros or a final .0"),
        ("a-1", "a\u20131", "typographic dashes or quotes"),
        ("a-1", "a\u20111", "typographic dashes or quotes"),
        ("it's", "it\u2019s", "typographic dashes or quotes"),
        ("p 01", "Ｐ01\u200b", "several differences"),
    ],
)
def test_two_spellings_are_refused_with_the_cause_or_joined(
    first: str, other: str, cause: str
) -> None:
    counts = {first: 2, "something else": 1, other: 3}
    with pytest.raises(ValueError) as caught:
        joined_names(Path("p.csv"), counts, merge=False)
    message = str(caught.value)
    assert message.startswith("p.csv: labels that differ only in how they are written (1): ")
    assert f": {cause}. Correct them, or pass --merge_labels to join them." in message
    assert "(2 images)" in message and "(3 images)" in message and message.isprintable()
    spelling_of, notes = joined_names(Path("p.csv"), counts, merge=True)
    assert spelling_of[first] == spelling_of[other] in (first, other)
    assert spelling_of["something else"] == "something else"
    assert len(notes) == 1 and notes[0].startswith("joined labels: ")


def test_different_names_stay_apart() -> None:
    names = [
        "1",
        "11",
        "1 1",
        "1.1",
        "1.10",
        "1e3",
        "1000",
        "a-b",
        "ab",
        "a_b",
        "a/b",
        "사과",
        "사",
    ]
    names += ["milk-1", "milk-01", "+", "", "."]
    assert joined_names(Path("p.csv"), dict.fromkeys(names, 1), merge=False)[1] == []


def test_the_chosen_spelling_is_plain_and_does_not_depend_on_the_order_or_the_counts() -> None:
    for names in (["p01", "p01\u200b", "P01"], ["P01", "p01\u200b", "p01"]):
        spelling_of, _ = joined_names(Path("p"), {name: len(name) for name in names}, merge=True)
        assert set(spelling_of.values()) == {"P01"}
    assert set(joined_names(Path("p"), {NFD: 9, NFC: 1}, merge=True)[0].values()) == {NFC}
    assert spelling_key(NFC) == spelling_key(NFD)


def test_only_the_first_groups_are_shown() -> None:
    counts = {name: 1 for number in range(7) for name in (f"a{number}", f"A{number}")}
    with pytest.raises(ValueError, match="written .7.: .*'A4' .*; and 2 more. Correct") as caught:
        joined_names(Path("p"), counts, merge=False)
    assert "A5" not in str(caught.value)
    assert joined_names(Path("p"), counts, merge=True)[1][-1] == "joined labels: 7 in all"


def test_class_folders_of_two_normal_forms_are_refused_or_joined(tmp_path: Path) -> None:
    for name in (f"query/{NFD}/0.jpg", f"gallery/{NFC}/1.jpg", "gallery/tea/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="how they are written .1.: '사과' in NFC"):
        load_dataset(tmp_path)
    data = load_dataset(tmp_path, merge_labels=True)
    assert data.class_names == ("tea", NFC)
    assert data.query.labels.tolist() == [1] and data.gallery.labels.tolist() == [0, 1]
    assert len(data.notes) == 1
