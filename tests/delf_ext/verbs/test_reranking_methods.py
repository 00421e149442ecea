"""Test --method, --time_budget and --query_copies from the command line, with a tiny network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_io.files.artifacts import load_record
from data_io.records import Ranking
from data_io.synthetic.dataset import DrawConfig
from delf_ext.reranking.deadline import Deadline

CHAIN = "--method=dba:3,aqe:2@3,k_reciprocal:4,2"


@pytest.fixture(scope="module")
def place(make_place: Callable[[DrawConfig], Path]) -> Path:
    return make_place(
        DrawConfig(num_classes=4, num_train=8, num_queries=6, num_gallery=16, image_size_px=64)
    )


def test_rerank_with_a_chain_of_embedding_steps_needs_no_local_features(
    place: Path, tmp_path: Path, capsys, run_verb
) -> None:
    run_verb(place, "rerank", CHAIN, f"--out={tmp_path}")
    printed = capsys.readouterr().out
    assert "aqe:2@3, searched again (6 of 6 queries)" in printed
    assert "k-reciprocal 4,2,0.3 (6 of 6 queries)" in printed
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert "verification" not in figures and figures["after"]["model"].endswith(
        "dba:3@0, aqe:2@3, k_reciprocal:4,2,0.3",
    )
    assert (tmp_path / "report" / "index.html").is_file() and not (tmp_path / "local").exists()
    assert load_record(tmp_path / "ranking.npz", Ranking).complete.all()


def test_rerank_with_a_chain_that_ends_with_geometric_verifies_pairs(
    place: Path, tmp_path: Path, capsys, run_verb
) -> None:
    run_verb(place, "rerank", "--method=aqe:2,geometric:3", f"--out={tmp_path}", "--min_inliers=5")
    assert "top 3 re-ranked geometrically by inliers" in capsys.readouterr().out
    verified = json.loads((tmp_path / "metrics.json").read_text())["verification"]
    assert verified["matching_pairs"] + verified["other_pairs"] == 6 * 3


def test_evaluate_and_compare_give_the_same_figures_for_a_chain(
    place: Path, tmp_path: Path, capsys, run_verb
) -> None:
    run_verb(place, "evaluate", CHAIN, f"--json={tmp_path}/one.json")
    run_verb(
        place,
        "compare",
        f"{CHAIN};aqe:2;geometric:3",
        f"--json={tmp_path}/all.json",
        f"--out={tmp_path}/page",
    )
    one = json.loads((tmp_path / "one.json").read_text())
    rows = json.loads((tmp_path / "all.json").read_text())
    assert [row["model"].partition(" + ")[2] for row in rows] == [
        "",
        *(one["model"].partition(" + ")[2], "aqe:2@0", "geometric:3"),
    ]
    assert rows[1] == one and "mAP - first" in capsys.readouterr().out
    assert (tmp_path / "page" / "index.html").is_file()


def test_query_copies_change_the_scores_but_not_the_number_of_queries(
    place: Path, tmp_path: Path, run_verb
) -> None:
    for name, flags in (("plain", []), ("copies", ["--query_copies=mirror,turn180"])):
        run_verb(place, "rerank", "--method=aqe:1", f"--out={tmp_path}/{name}", *flags)
    plain, copies = (
        load_record(tmp_path / name / "ranking.npz", Ranking) for name in ("plain", "copies")
    )
    # Not the figures: those of six queries may be equal by chance.
    assert plain.scores.shape == copies.scores.shape
    assert not np.allclose(plain.scores, copies.scores)


@pytest.mark.parametrize("method", [CHAIN, "--method=geometric:3,aqe:2"])
def test_no_time_after_embedding_leaves_the_plain_ranking(
    place: Path, tmp_path: Path, method: str, capsys, monkeypatch, run_verb
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("delf_ext.verbs.rerank.for_embedding", lambda deadline: None)
        run_verb(place, "rerank", method, f"--out={tmp_path}/none", "--time_budget=0")
    assert "6 of 6 queries keep an earlier ranking" in capsys.readouterr().out
    run_verb(place, "rerank", method, f"--out={tmp_path}/much", "--time_budget=1e9")
    run_verb(place, "rerank", method, f"--out={tmp_path}/all", "--noreport")
    none, much, everything = (
        load_record(tmp_path / name / "ranking.npz", Ranking) for name in ("none", "much", "all")
    )
    assert not none.complete.any()
    assert none.provenance.startswith("exact cosine, top 16; ")
    assert (none.scores <= 1.001).all()
    assert much.complete.all()
    assert (much.rows == everything.rows).all()
    assert (much.scores == everything.scores).all()
    # Under a time budget no page is written.
    assert not (tmp_path / "much" / "report").exists()


@pytest.mark.parametrize("verb", ["rerank", "evaluate"])
def test_a_time_budget_too_short_to_embed_ends_with_one_line(
    place: Path, tmp_path: Path, verb: str, capsys, run_verb
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_verb(place, verb, CHAIN, f"--out={tmp_path}", "--time_budget=0")
    assert ended.value.code == 1
    assert (
        capsys.readouterr().err.strip()
        == "error: no time left to embed the first of 6 images: the time budget is too short."
    )


def test_images_not_embedded_in_time_are_counted_as_skipped(
    place: Path, tmp_path: Path, capsys, monkeypatch, run_verb
) -> None:
    # Each call of the clock returns one second more.
    clock = iter([0.0, *np.arange(1000.0)])
    monkeypatch.setattr(
        "delf_ext.app.evaluation.for_embedding",
        lambda _: Deadline(3.5, lambda: next(clock)),
    )
    run_verb(place, "evaluate", f"--json={tmp_path}/cut.json")
    assert (
        "8 images were not embedded in time; all figures are of the others"
        in capsys.readouterr().out
    )
    figures = json.loads((tmp_path / "cut.json").read_text())
    assert figures["num_skipped"] == 8 and figures["num_gallery"] == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["rerank", "--out=y", "--method=aqe:5;dba:5"],
            "this verb takes one --method; `compare` takes several",
        ),
        (["rerank", "--out=y", "--method="], "rerank needs a --method, such as geometric:100"),
        (
            ["evaluate", "--method=aqe:0"],
            "--method aqe:0: num_expand must be at least 1. Form: aqe:num_expand@alpha.",
        ),
        (
            ["evaluate", "--method=geometric"],
            "the geometric step stores local features: pass a folder "
            "(--out=FOLDER or --run_dir=RUN).",
        ),
        (
            ["infer", "--time_budget=-1"],
            "--time_budget must be at least 0. Received -1.0.",
        ),
        (["infer", "--time_budget=soon"], "--time_budget"),
        (
            ["evaluate", "--query_copies=mirror,blur"],
            "unknown copy 'blur' (--query_copies, --copies, TestTime.copies). "
            "Known: mirror, flip, turn45, turn90, turn180, turn270, turn315, and sizes "
            "such as x1.5.",
        ),
        (
            ["evaluate", "--method=geometric:3", "--out=y", "--local_scales=1,big"],
            "--local_scales is a list of numbers",
        ),
        (
            ["evaluate", "--method=geometric:3", "--out=y", "--max_features=0"],
            "--max_features must be at least 1 and at most 100000. Received 0.",
        ),
        (
            ["compare", "--method=;"],
            "compare needs two models, or one model and a re-ranking method",
        ),
    ],
)
def test_a_bad_value_is_refused_with_its_flag(
    place: Path, arguments: list[str], message: str, capsys, run_verb
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_verb(place, arguments[0], *arguments[1:])
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_geometric_without_a_folder_is_refused_before_data_are_read(refused) -> None:
    # Neither the data nor the weights exist.
    flags = ["--data=nowhere", "--pretrained_model=no.ckpt", "--method=aqe:2,geometric:5"]
    error = refused(2, "evaluate", *flags)
    assert (
        "the geometric step stores local features: pass a folder (--out=FOLDER or --run_dir=RUN)."
        in error
    )
