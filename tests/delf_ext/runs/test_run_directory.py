"""Test how run directories are written, read and recognised."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_io.weight_kinds import TABLE_END
from delf_ext.recipes import codec
from delf_ext.recipes.registry import RECIPES
from delf_ext.runs import run_directory
from delf_ext.runs.opening import open_model
from delf_ext.runs.recipe_run import recipe_of
from delf_ext.runs.run_directory import (
    FORMAT,
    RESTORE,
    Facts,
    Run,
    checkpoint_digest,
    is_run,
    read_facts,
    read_run,
    result_name,
    write_run,
)

FACTS = Facts(
    data="/photos",
    data_digest="abc",
    class_names=("a", "ü"),
    held_out=("c",),
    weights="trunk.ckpt",
    settings={"seed": 3, "deterministic": True},
    infer={"method": "aqe:5"},
    history=("made with seed 3",),
    versions={"python": "3.11"},
    commit="abcdef0",
)
RECIPE = codec.to_json(RECIPES["mandoo_dual"])
# A directory name with characters that glob interprets.
STRANGE = "[2024] w*?"


@pytest.fixture(params=["run", STRANGE])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


def error_message(path: Path) -> str:
    with pytest.raises(ValueError) as caught:
        read_run(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- writing and reading


def test_run_round_trips(path: Path) -> None:
    written = write_run(path, "recipe", RECIPE, FACTS)
    assert written == read_run(path) == read_run(str(path)) == Run(path, "recipe", RECIPE, FACTS)
    assert recipe_of(written) == RECIPES["mandoo_dual"] and not written.is_old
    assert (written.checkpoints, written.features) == (path / "checkpoint", path / "features")
    assert sorted(file.name for file in path.iterdir()) == ["facts.json", "recipe.json"]
    stored = json.loads((path / "recipe.json").read_text())
    assert stored == {"format": FORMAT, "kind": "recipe", "recipe": RECIPE}


def test_run_of_any_kind_round_trips(path: Path) -> None:
    assert write_run(path, "my_system", [1, {"a": None}], Facts()) == read_run(path)


def test_missing_facts_get_their_defaults(path: Path) -> None:
    write_run(path, "recipe", RECIPE, FACTS)
    (path / "facts.json").write_text('{"settings": {"seed": 7}}')
    facts = read_run(path).facts
    assert facts == Facts(settings={"seed": 7}) and facts.seed == 7
    assert Facts().seed == 0


# --- errors


def test_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    remedy = "Pass the directory of a trained run, or train it first."
    for path in (tmp_path, tmp_path / "none"):
        assert error_message(path) == f"{path / 'recipe.json'}: not found. {remedy}"


@pytest.mark.parametrize("name", ["recipe.json", "facts.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_error_names_the_half_written_file(path: Path, name: str, share: float) -> None:
    write_run(path, "recipe", RECIPE, FACTS)
    content = (path / name).read_text()
    (path / name).write_text(content[: int(share * len(content))])
    message = error_message(path)
    assert message.startswith(f"{path / name}: not ") and message.count(str(path)) == 1
    assert "it may be half-written" in message


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"format": 2, "kind": "recipe"}'])
def test_recipe_json_without_its_keys_is_an_error(path: Path, content: str) -> None:
    write_run(path, "recipe", RECIPE, FACTS)
    (path / "recipe.json").write_text(content)
    message = "not the recipe of a run: it must hold format, kind and recipe."
    assert error_message(path) == f"{path / 'recipe.json'}: {message} {RESTORE}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"dta": 3}', "unknown key dta in Facts. Known: class_names, commit, data, data_digest, "),
        ("[]", "Facts must be a mapping with some of: class_names, "),
        ('{"class_names": 3}', "class_names must be a list. Received 3"),
    ],
)
def test_error_for_wrong_facts_names_the_reason(path: Path, content: str, reason: str) -> None:
    write_run(path, "recipe", RECIPE, FACTS)
    (path / "facts.json").write_text(content)
    assert error_message(path).startswith(
        f"{path / 'facts.json'}: not the facts of a run ({reason}"
    )


def test_missing_facts_json_is_an_error(path: Path) -> None:
    write_run(path, "recipe", RECIPE, FACTS)
    (path / "facts.json").unlink()
    with pytest.raises(ValueError) as caught:
        read_facts(path)
    assert str(caught.value) == f"{path / 'facts.json'}: not found. {RESTORE}"


@pytest.mark.parametrize("version", [FORMAT + 1, 1, "2"])
def test_run_of_another_format_is_an_error(path: Path, version: object) -> None:
    write_run(path, "recipe", RECIPE, FACTS)
    stored = json.loads((path / "recipe.json").read_text())
    (path / "recipe.json").write_text(json.dumps({**stored, "format": version}))
    formats = f"(format {version}; this one reads {FORMAT})"
    message = f"made by another version of mandoo {formats}. Update mandoo."
    assert error_message(path) == f"{path}: {message}"


def test_error_for_unknown_kind_lists_known_kinds(path: Path) -> None:
    write_run(path, "my_system", {}, Facts())
    with pytest.raises(ValueError) as caught:
        open_model(path)
    known = "Known: recipe, keras_baseline, ensemble, adapted."
    assert str(caught.value) == f"{path}: holds a run of kind 'my_system'. {known}"


def test_error_for_wrong_recipe_names_file_and_place(path: Path) -> None:
    broken = json.loads(json.dumps(RECIPE))
    broken["optimizer"]["lr"] = "fast"
    run = write_run(path, "recipe", broken, Facts())
    with pytest.raises(ValueError) as caught:
        recipe_of(run)
    message = "optimizer: Adam.lr must be a number. Received 'fast'."
    assert str(caught.value) == f"{path / 'recipe.json'}.{message}"


# --- is_run


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("recipe.json", True),
        ("config.json", True),
        ("checkpoint/last-50.index", True),
        # The state before the first step, without a recipe: killed while it was made.
        ("checkpoint/last-0.index", False),
        ("facts.json", False),
        ("photo.jpg", False),
        ("", False),
    ],
)
def test_is_run_recognises_finished_and_unfinished_runs(
    path: Path, name: str, expected: bool
) -> None:
    path.mkdir()
    if name:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text("")
    assert is_run(path) is expected


def test_is_run_is_false_for_a_missing_folder(tmp_path: Path) -> None:
    assert not is_run(tmp_path / "none")


# --- digests of checkpoints


def write_weights(prefix: Path, content: bytes = b"weights") -> Path:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{prefix}.index").write_bytes(b"index")
    Path(f"{prefix}.data-00000-of-00001").write_bytes(content)
    return prefix


@pytest.mark.parametrize("name", ["best-5", STRANGE, "a.b"])
def test_checkpoint_digest_depends_on_content_only(tmp_path: Path, name: str) -> None:
    first = checkpoint_digest(write_weights(tmp_path / "one" / name))
    assert checkpoint_digest(write_weights(tmp_path / STRANGE / "renamed")) == first
    assert len(first) == 24 and int(first, 16) >= 0
    assert checkpoint_digest(write_weights(tmp_path / "two" / name, b"weightz")) != first


@pytest.mark.parametrize("name", ["best-5", STRANGE])
def test_checkpoint_digest_ignores_other_files(tmp_path: Path, name: str) -> None:
    prefix = write_weights(tmp_path / name)
    first = checkpoint_digest(prefix)
    # best-50 is another checkpoint than best-5.
    write_weights(tmp_path / f"{name}0")
    Path(f"{prefix}.json").write_text("{}")
    assert checkpoint_digest(prefix) == first


def test_checkpoint_digest_of_a_single_file(tmp_path: Path) -> None:
    (tmp_path / "v1.ckpt").write_bytes(b"weights" + TABLE_END)
    first = checkpoint_digest(tmp_path / "v1.ckpt")
    (tmp_path / "v1.ckpt").write_bytes(b"others" + TABLE_END)
    assert checkpoint_digest(tmp_path / "v1.ckpt") != first


def test_checkpoint_digest_of_missing_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        checkpoint_digest(tmp_path / "best-5")
    assert str(caught.value).startswith(f"{tmp_path / 'best-5'}: no such checkpoint. ")


# --- names of results


@pytest.mark.parametrize(
    ("data_name", "method", "expected"),
    [
        ("grocery", "", "grocery-7cb48c"),
        ("grocery", "aqe:5@3,k_reciprocal:20", "grocery-7cb48c-aqe-5@3-k_reciprocal-20"),
        ("my photos/2024 [*]", "", "my-photos-2024--7cb48c"),
    ],
)
def test_result_name_contains_data_and_method(
    data_name: str,
    method: str,
    expected: str,
) -> None:
    """Source of 7cb48c: printf '["q1", "g1"]' | sha256sum."""
    assert result_name(data_name, ["q1", "g1"], method) == expected


def test_result_name_depends_on_the_images() -> None:
    assert result_name("d", ["a"]) != result_name("d", ["b"])


@given(data_name=st.text(), method=st.text())
def test_result_name_is_always_a_file_name(data_name: str, method: str) -> None:
    name = result_name(data_name, [], method)
    assert "/" not in name and "\0" not in name and not set("*?[]: ") & set(name)


# --- facts


def test_versions_lists_python_and_installed_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = run_directory.versions()
    assert {"python", "numpy", "tensorflow"} <= installed.keys()
    monkeypatch.setattr(run_directory, "PACKAGES", ("numpy", "no-such-package"))
    assert [*run_directory.versions()] == ["python", "numpy"]


def test_commit_is_empty_outside_a_clone(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(run_directory, "__file__", str(tmp_path / "module.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert run_directory.commit() == ""
    monkeypatch.setenv("PATH", "")
    assert run_directory.commit() == ""


def test_facts_are_frozen_and_hold_tuples() -> None:
    facts = Facts(class_names=["a"], history=["b"])  # type: ignore[arg-type]
    assert (facts.class_names, facts.history) == (("a",), ("b",))
    with pytest.raises(dataclasses.FrozenInstanceError):
        facts.data = "x"  # type: ignore[misc]
