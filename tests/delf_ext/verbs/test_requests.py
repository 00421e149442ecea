"""Test how flags become a request: --method, --query_copies and local features."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_io.photographs import Photographs
from delf_ext.app.reranking import chain_name, reserve
from delf_ext.config import UsageError
from delf_ext.recipes import schema
from delf_ext.recipes.adapted_parts import AdaptedRecipe, Base, CheckpointBase, OnnxBase, RunBase
from delf_ext.reranking.chain import parse_chain
from delf_ext.reranking.deadline import Deadline
from delf_ext.runs.adapted_run import Head, write_adapted
from delf_ext.runs.records import Facts
from delf_ext.verbs import requests
from delf_ext.verbs.requests import local_settings, request_of
from pretrained import lite_weights


def test_name_of_a_chain_shows_alpha_and_reserve_is_doubled() -> None:
    assert chain_name(parse_chain("dba:10,aqe:5@3")) == "dba:10@0, aqe:5@3"
    assert reserve(Deadline(5.0, lambda: 7.0), 4.0, times=2) == 12.0


def test_missing_flags_leave_the_choice_to_the_recipe(flags_of) -> None:
    request = request_of(flags_of())
    assert request.chains is None and request.test_time is None
    assert not request.deadline.is_limited
    assert request_of(flags_of(), default="").chains == ((),)


def test_an_empty_flag_switches_off_the_choice_of_the_recipe(flags_of) -> None:
    request = request_of(flags_of("--method=", "--query_copies="))
    assert request.chains == ((),)
    assert request.test_time == schema.TestTime((), queries_only=True)


def test_methods_separated_by_semicolons_are_several_chains(flags_of) -> None:
    request = request_of(flags_of("--method=aqe:2;dba:3,geometric:5"), several=True)
    assert request.chains == (parse_chain("aqe:2"), parse_chain("dba:3,geometric:5"))
    assert request.needs_local_features
    with pytest.raises(UsageError, match="only one chain is allowed here"):
        _ = request.chain


def test_query_copies_apply_only_to_queries(flags_of) -> None:
    request = request_of(flags_of("--query_copies=mirror,turn45"))
    assert request.test_time == schema.TestTime(("mirror", "turn45"), queries_only=True)


def test_local_settings_come_from_the_flags(flags_of) -> None:
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
    assert [verify.accepted_from for verify in settings.geometric.verify] == [5, 5]
    assert {verify.ransac.model for verify in settings.geometric.verify} == {"homography"}
    assert {verify.ransac.seed for verify in settings.geometric.verify} == {3}


def test_min_inliers_defaults_to_23_for_delf_and_12_for_sift(flags_of) -> None:
    settings = local_settings(flags_of("--local_features=both"))
    assert [verify.accepted_from for verify in settings.geometric.verify] == [23, 12]


@pytest.mark.parametrize(
    ("flags", "model"),
    [
        (["--local_model=a", "--run_dir=b", "--pretrained_model=c"], "a"),
        (["--run_dir=b", "--pretrained_model=c"], "b"),
        (["--pretrained_model=c"], "c"),
        ([], "lite2"),
    ],
)
def test_delf_takes_local_model_then_run_then_checkpoint(
    flags: list[str], model: str, flags_of
) -> None:
    assert local_settings(flags_of(*flags)).model == model


@pytest.mark.parametrize(
    ("flags", "kinds"),
    [
        ([], ("sift",)),
        (["--pretrained_model=lite1"], ("sift",)),
        (["--local_features=delf"], ("delf",)),
        (["--run_dir=b"], ("delf",)),
        (["--pretrained_model=c"], ("delf",)),
        (["--local_model=a", "--pretrained_model=lite1"], ("delf",)),
    ],
)
def test_local_features_are_sift_without_a_model_of_the_user(
    flags: list[str], kinds: tuple[str, ...], flags_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "find_spec", lambda name: name)
    monkeypatch.setattr(lite_weights, "find_spec", lambda name: None)
    assert local_settings(flags_of(*flags)).kinds == kinds
    monkeypatch.setattr(requests, "find_spec", lambda name: None)
    assert local_settings(flags_of(*flags)).kinds == ("delf",)


@pytest.mark.parametrize(
    ("base", "kinds"),
    [
        (CheckpointBase("lite2", schema.Trunk(), schema.Average(), 64), ("sift",)),
        (OnnxBase("/net.onnx"), ("sift",)),
        (RunBase("/runs/first"), ("delf",)),
    ],
)
def test_local_features_of_a_head_are_those_of_its_base(
    base: Base, kinds: tuple[str, ...], flags_of, tmp_path: Path
) -> None:
    recipe = AdaptedRecipe("head", base, "digest", None, "seen_classes")  # type: ignore[arg-type]
    write_adapted(tmp_path, Head(recipe, None, Facts(), Photographs()))
    settings = local_settings(flags_of(f"--run_dir={tmp_path}"))
    assert settings.kinds == kinds and settings.model == str(tmp_path)


def test_a_submission_keeps_delf_because_its_model_is_named_later(flags_of) -> None:
    local = request_of(flags_of(), is_submission=True).local
    assert (local.kinds, local.model) == (("delf",), "")


def test_copies_apply_to_both_sides_and_sizes_can_be_concatenated(flags_of) -> None:
    request = request_of(flags_of("--copies=mirror,x1.5"))
    assert request.test_time == schema.TestTime(("mirror",), (1.5,))
    request = request_of(flags_of("--copies=x1.5,mirror", "--concatenate_sizes"))
    assert request.test_time == schema.TestTime(("mirror",), (1.5,), "concatenation")
    request = request_of(flags_of("--query_copies=x0.8"))
    assert request.test_time == schema.TestTime((), (0.8,), queries_only=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--copies=mirror", "--query_copies=flip"], "pass one of them"),
        (["--query_copies=x1.5", "--concatenate_sizes"], "--concatenate_sizes needs sizes"),
        (["--copies=mirror", "--concatenate_sizes"], "name another size in scales"),
        (["--copies=y2"], "unknown copy 'y2'"),
    ],
)
def test_copies_that_do_not_fit_are_refused(flags_of, flags: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request_of(flags_of(*flags))
