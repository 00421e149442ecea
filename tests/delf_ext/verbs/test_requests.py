"""--method, --time_budget and --query_copies through the front door, on a tiny network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dual_main
from data_io.artifacts import load_record
from data_io.records import Ranking
from data_io.synthetic.dataset import DrawConfig
from delf_ext.app.reranking import name_of, reserve
from delf_ext.config import UsageError
from delf_ext.recipes import schema
from delf_ext.reranking.chain import parse_chain
from delf_ext.reranking.deadline import Deadline
from delf_ext.verbs.flags import new_flags
from delf_ext.verbs.requests import local_settings, request_of
from delf_ext.verbs.verb_table import VERBS

TINY = [
    "--image_size=32",
    "--resnet_type=resnet_v1_50/block1",
    "--batch_size=8",
    "--mixed_precision=off",
    "--layout=slim",
]
LOCAL = [
    "--local_layer=block1",
    "--local_image_size=64",
    "--local_scales=1",
    "--local_rotations=0",
    "--descriptor_dim=16",
]
CHAIN = "--method=dba:3,aqe:2@3,k_reciprocal:4,2"


@pytest.fixture(scope="module")
def place(make_place: Callable[[DrawConfig], Path]) -> Path:
    return make_place(
        DrawConfig(num_classes=4, num_train=8, num_queries=6, num_gallery=16, image_size_px=64),
    )


def run(place: Path, verb: str, *flags: str) -> None:
    """Run a verb on the drawn products, small by those of the flags above that it takes."""
    small = [flag for flag in (*TINY, *LOCAL) if flag[2:].partition("=")[0] in VERBS[verb].flags]
    model = [f"--data={place}/products", f"--pretrained_model={place}/trunk.ckpt"]
    dual_main.main([verb, *model, *small, *flags])


def flags_of(*arguments: str) -> Any:
    values = new_flags()
    values(["mandoo", *arguments])
    return values


def test_rerank_by_a_chain_without_local_features(place: Path, tmp_path: Path, capsys) -> None:
    run(place, "rerank", CHAIN, f"--out={tmp_path}")
    printed = capsys.readouterr().out
    assert "aqe:2@3, searched again (6 of 6 queries)" in printed
    assert "k-reciprocal 4,2,0.3 (6 of 6 queries)" in printed
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert "verification" not in figures and figures["after"]["model"].endswith(
        "dba:3@0, aqe:2@3, k_reciprocal:4,2,0.3",
    )
    assert (tmp_path / "report" / "index.html").is_file() and not (tmp_path / "local").exists()
    assert load_record(tmp_path / "ranking.npz", Ranking).complete.all()


def test_a_chain_that_ends_in_geometry(place: Path, tmp_path: Path, capsys) -> None:
    run(place, "rerank", "--method=aqe:2,geometric:3", f"--out={tmp_path}", "--min_inliers=5")
    assert "top 3 re-ranked geometrically by inliers" in capsys.readouterr().out
    verified = json.loads((tmp_path / "metrics.json").read_text())["verification"]
    assert verified["matching_pairs"] + verified["other_pairs"] == 6 * 3


def test_evaluate_and_compare_take_the_same_chains(place: Path, tmp_path: Path, capsys) -> None:
    run(place, "evaluate", CHAIN, f"--json={tmp_path}/one.json")
    run(
        place,
        "compare",
        f"{CHAIN};aqe:2;geometric:3",
        f"--json={tmp_path}/all.json",
        f"--out={tmp_path}/page",
    )
    one, rows = (
        json.loads((tmp_path / "one.json").read_text()),
        json.loads((tmp_path / "all.json").read_text()),
    )
    assert [row["model"].partition(" + ")[2] for row in rows] == [
        "",
        *(one["model"].partition(" + ")[2], "aqe:2@0", "geometric:3"),
    ]
    assert rows[1] == one and "mAP - first" in capsys.readouterr().out
    assert (tmp_path / "page" / "index.html").is_file()


def test_copies_of_queries_change_queries_only(place: Path, tmp_path: Path) -> None:
    for name, flags in (("plain", []), ("copies", ["--query_copies=mirror,turn180"])):
        run(place, "evaluate", f"--json={tmp_path}/{name}.json", *flags)
    files = [tmp_path / f"{name}.json" for name in ("plain", "copies")]
    plain, copies = (json.loads(file.read_text()) for file in files)
    assert plain["mAP"] != copies["mAP"] and plain["num_queries"] == copies["num_queries"]


def test_infer_writes_the_plain_answer_first_and_the_better_one_over_it(
    place: Path,
    tmp_path: Path,
    monkeypatch,
) -> None:
    written: list[list] = []
    from delf_ext.verbs import infer

    monkeypatch.setattr(
        infer,
        "write_text",
        lambda path, text: written.append(json.loads(path.with_suffix(".json").read_text())),
    )
    run(place, "infer", CHAIN, f"--out={tmp_path}/a.json", "--time_budget=1000")
    monkeypatch.undo()
    run(place, "infer", f"--out={tmp_path}/plain.json")
    assert len(written) == 2
    assert written[0] == json.loads((tmp_path / "plain.json").read_text()) != written[1]
    assert written[1] == json.loads((tmp_path / "a.json").read_text())
    for _, (_, references) in written[1]:
        assert len(references) == len(set(references)) == 16


def test_infer_without_time_answers_in_the_order_of_the_references(
    place: Path,
    tmp_path: Path,
    capsys,
) -> None:
    run(place, "infer", CHAIN, f"--out={tmp_path}/a.json", "--time_budget=0")
    answer = json.loads((tmp_path / "a.json").read_text())
    assert [number for number, _ in answer] == list(range(6))
    assert all(len(set(names)) == 16 for _, (_, names) in answer)
    assert "references stand in their own order: no time left" in capsys.readouterr().out


def test_infer_cuts_where_everything_is_too_much(
    place: Path,
    tmp_path: Path,
    monkeypatch,
    capsys,
) -> None:
    monkeypatch.setattr("delf_ext.pipeline.PLACES_IN_MEMORY", 6 * 15)
    monkeypatch.setattr("delf_ext.pipeline.KEPT_PER_QUERY", 5)
    run(place, "infer", CHAIN, f"--out={tmp_path}/a.json")
    assert all(
        len(set(names)) == 5 for _, (_, names) in json.loads((tmp_path / "a.json").read_text())
    )
    assert "6 queries, each with 5 of 16 references" in capsys.readouterr().out


@pytest.mark.parametrize("method", [CHAIN, "--method=geometric:3,aqe:2"])
def test_no_time_after_embedding_leaves_the_plain_ranking(
    place: Path,
    tmp_path: Path,
    method: str,
    capsys,
    monkeypatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("delf_ext.verbs.rerank.for_embedding", lambda deadline: None)
        run(place, "rerank", method, f"--out={tmp_path}/none", "--time_budget=0")
    assert "6 of 6 queries keep an earlier ranking" in capsys.readouterr().out
    run(place, "rerank", method, f"--out={tmp_path}/much", "--time_budget=1e9")
    run(place, "rerank", method, f"--out={tmp_path}/all", "--noreport")
    none, much, everything = (
        load_record(tmp_path / name / "ranking.npz", Ranking) for name in ("none", "much", "all")
    )
    assert not none.complete.any()
    assert none.provenance.startswith("exact cosine, top 16; ")
    assert (none.scores <= 1.001).all()
    assert much.complete.all()
    assert (much.rows == everything.rows).all()
    assert (much.scores == everything.scores).all()
    assert not (tmp_path / "much" / "report").exists()  # pages take time


@pytest.mark.parametrize("verb", ["rerank", "evaluate"])
def test_no_time_to_embed_is_said_in_one_line(
    place: Path,
    tmp_path: Path,
    verb: str,
    capsys,
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(place, verb, CHAIN, f"--out={tmp_path}", "--time_budget=0")
    assert ended.value.code == 1
    assert (
        capsys.readouterr().err.strip()
        == "error: no time left to embed the first of 6 images: the time budget is too short."
    )


def test_what_was_not_embedded_in_time_is_said(
    place: Path,
    tmp_path: Path,
    capsys,
    monkeypatch,
) -> None:
    clock = iter([0.0, *np.arange(1000.0)])  # each look at the clock is a second later
    monkeypatch.setattr(
        "delf_ext.app.evaluation.for_embedding",
        lambda _: Deadline(3.5, lambda: next(clock)),
    )
    run(place, "evaluate", f"--json={tmp_path}/cut.json")
    assert (
        "8 photographs were not embedded in time: everything that follows is of the others"
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
        (["evaluate", "--method=aqe:0"], "--method takes aqe:num_expand@alpha"),
        (
            ["evaluate", "--method=geometric"],
            "geometric keeps local features: pass --out=FOLDER, or --run_dir.",
        ),
        (["infer", "--time_budget=-1"], "--time_budget must be at least 0 seconds. Received -1.0."),
        (["infer", "--time_budget=soon"], "--time_budget"),
        (
            ["evaluate", "--query_copies=mirror,blur"],
            "unknown copy 'blur' (--query_copies, TestTime.copies). "
            "Known: mirror, flip, turn45, turn90, turn180, turn270, turn315.",
        ),
        (
            ["evaluate", "--method=geometric:3", "--out=y", "--local_scales=1,big"],
            "--local_scales is a list of numbers",
        ),
        (
            ["evaluate", "--method=geometric:3", "--out=y", "--max_features=0"],
            "--max_features must be at least 1. Received 0.",
        ),
        (["compare", "--method=;"], "compare needs two systems or more"),
    ],
)
def test_usage_errors(place: Path, arguments: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        run(place, arguments[0], *arguments[1:])
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_geometry_without_a_folder_is_refused_before_anything_is_opened(capsys) -> None:
    """Neither the data nor the weights exist: nothing was looked for."""
    flags = ["--data=nowhere", "--pretrained_model=no.ckpt", "--method=aqe:2,geometric:5"]
    with pytest.raises(SystemExit) as ended:
        dual_main.main(["evaluate", *flags])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "geometric keeps local features: pass --out=FOLDER, or --run_dir." in error


def test_names_are_of_the_methods_as_written() -> None:
    assert name_of(parse_chain("dba:10,aqe:5@3")) == "dba:10@0, aqe:5@3"
    assert reserve(Deadline(5.0, lambda: 7.0), 4.0, times=2) == 12.0


# --- flags to a request


def test_what_the_flags_leave_open_is_left_to_the_recipe() -> None:
    request = request_of(flags_of())
    assert request.chains is None and request.test_time is None
    assert not request.deadline.is_limited and request.local.kinds == ("delf",)
    assert request_of(flags_of(), default="").chains == ((),)


def test_a_flag_without_a_value_switches_off_what_the_recipe_asks_for() -> None:
    request = request_of(flags_of("--method=", "--query_copies="))
    assert request.chains == ((),)
    assert request.test_time == schema.TestTime((), queries_only=True)


def test_several_methods_are_several_chains() -> None:
    request = request_of(flags_of("--method=aqe:2;dba:3,geometric:5"), several=True)
    assert request.chains == (parse_chain("aqe:2"), parse_chain("dba:3,geometric:5"))
    assert request.needs_local_features
    with pytest.raises(UsageError, match="this takes one --method; `compare` takes several"):
        _ = request.chain


def test_copies_are_of_queries_alone() -> None:
    request = request_of(flags_of("--query_copies=mirror,turn45"))
    assert request.test_time == schema.TestTime(("mirror", "turn45"), queries_only=True)


def test_local_settings_are_what_the_flags_say() -> None:
    settings = local_settings(
        flags_of(
            "--local_features=both",
            "--run_dir=runs/a",
            "--local_rotations=0,90",
            "--local_scales=1",
            "--max_features=7",
            "--min_inliers=5",
            "--geometry_model=homography",
            "--seed=3",
        )
    )
    assert settings.kinds == ("delf", "sift") and settings.model == "runs/a"
    assert settings.delf.rotations_deg == (0.0, 90.0) and settings.delf.scales == (1.0,)
    assert settings.delf.max_features == 7 and settings.descriptor_dim == 0
    assert [way.accepted_from for way in settings.geometric.verify] == [5, 5]
    assert {way.ransac.model for way in settings.geometric.verify} == {"homography"}
    assert {way.ransac.seed for way in settings.geometric.verify} == {3}


def test_min_inliers_has_a_default_of_its_own_for_each_kind() -> None:
    settings = local_settings(flags_of("--local_features=both"))
    assert [way.accepted_from for way in settings.geometric.verify] == [23, 12]


@pytest.mark.parametrize(
    ("flags", "model"),
    [
        (["--local_model=a", "--run_dir=b", "--pretrained_model=c"], "a"),
        (["--run_dir=b", "--pretrained_model=c"], "b"),
        (["--pretrained_model=c"], "c"),
        ([], ""),
    ],
)
def test_delfs_trunk_is_the_nearest_model_that_is_named(flags: list[str], model: str) -> None:
    assert local_settings(flags_of(*flags)).model == model
