from __future__ import annotations

import pytest
from wcwidth import wcswidth

from delf_ext.nsml import tables


def test_korean_letters_take_two_columns_and_cells_one_line() -> None:
    assert tables.table(
        ["Memo", "Size"], [["첫 시도", "1\n B"], ["second", "2 B"]]
    ).splitlines() == [
        "Memo     Size",
        "첫 시도  1 B",
        "second   2 B",
    ]


def test_long_cells_are_cut_except_in_the_first_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    name = "n" * 99
    _, line = tables.table(["Name", "Args"], [[name, "a" * 99]]).splitlines()
    assert line == f"{name}  {'a' * 59}…"
    _, line = tables.table(["Name", "Args"], [["1", "가" * 99]]).splitlines()
    assert line == f"1     {'가' * 29}…"


def test_table_without_rows_has_a_header() -> None:
    assert tables.table(["Name", "Args"], []) == "Name  Args"


@pytest.mark.parametrize("columns", [80, 120, 160])
def test_longest_cells_are_cut_to_fit_the_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    row = ["you/ir_ph1_v2/12", "17 minutes ago", "--lr " * 50, "가" * 10**6, "short"]
    header, line = tables.table(
        ["Name", "Created", "Args", "Summary", "Description"], [row]
    ).splitlines()
    assert columns - 8 <= wcswidth(line) <= columns
    assert line.startswith("you/ir_ph1_v2/12  17 minutes ago  --lr --lr")
    assert line.endswith(" short") and line.count("…") == 2 and header.endswith("  Description")


def test_control_characters_in_cells_are_replaced() -> None:
    assert tables.table(["Memo"], [["\x1b[2Jgone\x00\udcff"]]).splitlines()[1] == "?[2Jgone??"
