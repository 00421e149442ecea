from __future__ import annotations

from delf_ext.nsml import tables


def test_korean_takes_two_columns_and_a_cell_one_line() -> None:
    assert tables.table(["Memo", "Size"], [["첫 시도", "1\n B"], ["second", "2 B"]]).splitlines() == [
        "Memo     Size",
        "첫 시도  1 B",
        "second   2 B",
    ]


def test_long_cells_are_cut_but_not_the_first() -> None:
    name = "n" * 99
    _, line = tables.table(["Name", "Args"], [[name, "a" * 99]]).splitlines()
    assert line == f"{name}  {'a' * 59}…"
    _, line = tables.table(["Name", "Args"], [["1", "가" * 99]]).splitlines()
    assert line == f"1     {'가' * 29}…"


def test_a_table_without_rows_has_its_header() -> None:
    assert tables.table(["Name", "Args"], []) == "Name  Args"
