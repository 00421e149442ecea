"""Test requests, deadlines and the lines about a ranking."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from data_io.records import ImageList, Ranking
from delf_ext.app import reranking
from delf_ext.app.local_settings import LocalSettings
from delf_ext.app.reranking import (
    Request,
    Reranker,
    chain_name,
    finish_in_time,
    for_embedding,
    ranking_notes,
    require_folder,
    reserve,
)
from delf_ext.config import UsageError
from delf_ext.features.embedder import Embedder
from delf_ext.recipes import schema
from delf_ext.reranking.chain import parse_chain
from delf_ext.reranking.deadline import Deadline

AQE = parse_chain("aqe:5")
DBA = parse_chain("dba:3")
COPIES = schema.TestTime(("mirror",), queries_only=True)
MODEL = Embedder("m", 32, "v1", lambda images: images, test_time=COPIES, ranking="aqe:5")
PLAIN = Embedder("m", 32, "v1", lambda images: images)


@pytest.mark.parametrize(
    ("chains", "test_time", "expected"),
    [
        (None, None, ((AQE,), COPIES)),
        ((DBA,), None, ((DBA,), COPIES)),
        (((),), None, (((),), COPIES)),
        (None, schema.TestTime(), ((AQE,), schema.TestTime())),
        ((AQE, DBA), schema.TestTime(("flip",)), ((AQE, DBA), schema.TestTime(("flip",)))),
    ],
)
def test_request_takes_missing_values_from_the_models_recipe(
    chains: tuple | None,
    test_time: schema.TestTime | None,
    expected: tuple,
) -> None:
    given = Request(Deadline(5.0), chains, test_time, LocalSettings(min_inliers=3))
    request = given.of(MODEL)
    assert (request.chains, request.test_time) == expected
    assert request.deadline is given.deadline and request.local is given.local


def test_model_without_a_chain_is_ranked_plainly() -> None:
    request = Request().of(PLAIN)
    assert request.chain == () and request.test_time == schema.TestTime()


def test_recipe_with_an_unknown_chain_is_refused() -> None:
    with pytest.raises(UsageError, match="--method: unknown step 'center'. Steps: dba, aqe, "):
        Request().of(dataclasses.replace(PLAIN, ranking="center,aqe:5"))


def test_chain_refuses_several_chains() -> None:
    assert Request().chain == Request(chains=()).chain == () and Request(chains=(AQE,)).chain == AQE
    with pytest.raises(UsageError) as caught:
        Request(chains=(AQE, DBA)).chain  # noqa: B018
    assert (
        str(caught.value) == "only one chain is allowed here (--method); `compare` takes several."
    )


def test_geometric_step_needs_local_features_and_a_folder(tmp_path: Path) -> None:
    geometric = Request(chains=(AQE, parse_chain("dba:2,geometric:3")))
    assert geometric.needs_local_features and not Request(chains=(AQE,)).needs_local_features
    assert not Request().needs_local_features
    require_folder(geometric, tmp_path)
    require_folder(Request(chains=(AQE,)), None)
    with pytest.raises(UsageError) as caught:
        Reranker(geometric, ImageList([], []), None)
    message = (
        "the geometric step stores local features: pass a folder (--out=FOLDER or --run_dir=RUN)."
    )
    assert str(caught.value) == message


def test_missing_trunk_is_refused_at_once_without_a_time_limit(tmp_path: Path) -> None:
    geometric = Request(chains=(parse_chain("geometric:3"),))
    with pytest.raises(UsageError, match="DELF needs a trunk: pass --local_model, --run_dir or "):
        Reranker(geometric, ImageList([], []), tmp_path)
    limited = dataclasses.replace(geometric, deadline=Deadline(10.0))
    assert Reranker(limited, ImageList([], []), tmp_path).local == []


# --- time


def test_embedding_leaves_time_for_later_work() -> None:
    now = [100.0]
    deadline = Deadline(20.0, lambda: now[0])
    assert for_embedding(deadline).remaining_s() == pytest.approx(0.85 * 20)
    unlimited = Deadline()
    assert for_embedding(unlimited) is unlimited


def test_reserve_is_a_multiple_of_the_time_used_before() -> None:
    assert reserve(Deadline(5.0, lambda: 7.0), 4.0, times=2) == 2.0 * 2 * (7.0 - 4.0)


def test_finish_in_time_ends_a_process_that_hangs() -> None:
    script = (
        "import time; from pathlib import Path; from delf_ext.reranking.deadline import Deadline\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from delf_ext.app.reranking import finish_in_time\n"
        "work = lambda: ThreadPoolExecutor().submit(time.sleep, 60).result()\n"
        "finish_in_time(work, Deadline(1.0), Path('ranking.npz'), print)"
    )
    started_s = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=50,
    )
    line = "time budget: 1 s are over; ranking.npz holds the ranking that was ready."
    assert process.returncode == 0 and process.stdout == f"{line}\n"
    assert time.monotonic() - started_s < 40


def test_finish_in_time_lets_work_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(code: int) -> None:
        raise AssertionError("ended")

    monkeypatch.setattr(reranking.os, "_exit", ended)
    finished: list[float] = []
    messages: list[str] = []
    for deadline in (Deadline(0.5), Deadline(), Deadline(0.0)):
        work = partial(finished.append, deadline.seconds)
        finish_in_time(work, deadline, Path("x"), messages.append)
    time.sleep(0.6)
    assert finished == [0.5, math.inf, 0.0] and messages == []


def test_finish_in_time_raises_what_work_raises() -> None:
    for deadline in (Deadline(60.0), Deadline()):
        with pytest.raises(ZeroDivisionError):
            finish_in_time(lambda: 1 / 0, deadline, Path("x"), print)


# --- lines about a ranking


def ranking(complete: list[bool] | None = None) -> Ranking:
    return Ranking(
        np.array(["a", "b"]),
        np.array(["x"]),
        np.array([[0], [0]]),
        np.ones((2, 1), np.float32),
        complete=complete,
        provenance="by hand",
    )


def test_ranking_notes_name_steps_incomplete_queries_and_time_left() -> None:
    assert list(ranking_notes(ranking(), Deadline())) == ["ranking: by hand"]
    lines = list(ranking_notes(ranking([True, False]), Deadline(10.0, lambda: 3.0)))
    assert lines == [
        "ranking: by hand",
        "time budget: 1 of 2 queries keep an earlier ranking at some step",
        "time budget: 10.0 of 10 s left",
    ]


def test_chain_name_is_the_chain_as_written() -> None:
    assert chain_name(parse_chain("dba:10,aqe:5@3")) == "dba:10@0, aqe:5@3" and chain_name(()) == ""
