from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from data_io.files.artifacts import digest_of, write_json, write_text
from delf_ext.nsml import records, store
from delf_ext.nsml.leaderboard import board, show
from delf_ext.nsml.submission import Result

ANSWERS = {"query_0": "a", "refer_0": "a"}
METRICS = dict.fromkeys(
    ["mAP@1000", "mAP", "mAP@R", "recall_at_1", "recall_at_5", "recall_at_10", "mean_last_rank"],
    0.25,
)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MANDOO_HOME", str(tmp_path))
    monkeypatch.setenv("MANDOO_USER", "you")
    store.dataset_folder("products").mkdir(parents=True)
    write_text(store.answers_file("products"), "id,label\nquery_0,a\nrefer_0,a\n")
    return records.create(records.Session("", "products", "main.py", ())).name


def record(
    session: str, number: int, mean_ap: float = 0.5, recall: float = 0.5, **changes: object
) -> Result:
    metrics = METRICS | {"mAP@1000": mean_ap, "recall_at_1": recall}
    result = Result(
        session,
        "best",
        number,
        False,
        "scored",
        "",
        metrics,
        12.34,
        3600.0,
        1e9 - number,
        digest_of(ANSWERS),
    )
    result = replace(result, **changes)
    write_json(
        store.session_folder(session) / "submissions" / str(number) / "result.json", asdict(result)
    )
    return result


def test_board_sorts_by_map_then_recall_then_time(session: str) -> None:
    other = records.create(records.Session("", "products", "main.py", ())).name
    fourth = record(session, 1, 0.5, 0.5)
    first = record(session, 2, 0.9, 0.1)
    third = record(other, 3, 0.5, 0.5)
    second = record(other, 4, 0.5, 0.6)
    assert board("products").rows == (first, second, third, fourth)


def test_board_counts_failed_submissions_but_not_trials(session: str) -> None:
    record(session, 1, status="failed", metrics={})
    record(session, 2, status="valid", metrics={})
    record(session, 4, status="failed", metrics={}, test=True)
    # A submission without a result still runs, or was interrupted.
    store.session_folder(session).joinpath("submissions", "3").mkdir()
    ranked = board("products")
    assert (ranked.rows, ranked.num_failed, ranked.num_outdated) == ((), 1, 0)


def test_board_leaves_out_scores_on_an_earlier_push(
    session: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record(session, 1)
    write_text(store.answers_file("products"), "id,label\nquery_0,b\nrefer_0,b\n")
    new = record(session, 2, answers=digest_of({"query_0": "b", "refer_0": "b"}))
    assert (board("products").rows, board("products").num_outdated) == ((new,), 1)
    show("products")
    assert (
        "1 not shown: scored before products was pushed again, so not comparable\n"
        in capsys.readouterr().out
    )


def test_damaged_result_is_reported_and_skipped(
    session: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good = record(session, 1)
    bad_metrics = (
        json.dumps(asdict(good) | {"metrics": METRICS | {"mAP@1000": "best"}}),
        json.dumps(asdict(good) | {"metrics": None}),
    )
    for number, text in (
        (6, bad_metrics[0]),
        (7, bad_metrics[1]),
        (2, "{"),
        (3, "[]"),
        (4, '{"session": "x"}'),
        (5, '{"unknown": 1}'),
    ):
        write_text(
            store.session_folder(session) / "submissions" / str(number) / "result.json", text
        )
    assert board("products").rows == (good,)
    assert capsys.readouterr().out.count("result.json: skipped, because it is damaged (") == 6


def test_show_prints_a_table_and_writes_json(
    session: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    record(session, 1, 0.98765, 1.0)
    record(session, 2, status="failed", metrics={})
    show("products", json=str(tmp_path / "board.json"))
    header, line, counts = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "Rank"
    assert header.split() == [
        *(
            "Rank",
            "Session",
            "Checkpoint",
            "mAP@1000",
            "Recall@1",
            "Recall@5",
            "Recall@10",
            "Elapsed",
            "Submitted",
        )
    ]
    expected = ["1", "you/products/1", "best", "0.9877", "1.0000", "0.2500", "0.2500", "12.3", "s"]
    assert line.split()[: len(expected)] == expected and counts == "1 scored, 1 failed"
    assert [
        entry["metrics"]["mAP@1000"] for entry in json.loads((tmp_path / "board.json").read_text())
    ] == [0.98765]
    show("products", full=True)
    assert capsys.readouterr().out.splitlines()[0].split()[7:10] == ["mAP", "mAP@R", "Last"]


def test_board_refuses_an_unknown_data_set(session: str) -> None:
    with pytest.raises(ValueError, match="no data set elsewhere \\(known: products\\)"):
        board("elsewhere")
