"""A run directory on disk: written, read, recognised, and refused in one line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
STRANGE = "[2024] w*?"


@pytest.fixture(params=["run", STRANGE])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


def refusal(path: Path) -> str:
    with pytest.raises(ValueError) as caught:
        read_run(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- written and read


def test_a_run_is_read_as_it_was_written(path: Path) -> None:
    written = write_run(path, "recipe", RECIPE, FACTS)
    assert written == read_run(path) == read_run(str(path)) == Run(path, "recipe", RECIPE, FACTS)
    assert recipe_of(written) == RECIPES["mandoo_dual"] and not written.is_old
    assert (written.checkpoints, written.features) == (path / "checkpoint", path / "features")
    assert sorted(file.name for file in path.iterdir()) == ["facts.json", "recipe.json"]
    stored = json.loads((path / "recipe.json").read_text())
    assert stored == {"format": FORMAT, "kind": "recipe", "recipe": RECIPE}


def test_a_run_can_be_of_any_kind(path: Path) -> None:
    assert write_run(path, "my_system", [1, {"a": None}], Facts()) == read_run(path)


def test_facts_that_are_missing_have_their_defaults(path: Path) -> None:
    write_run(path, "recipe", RECIPE, FACTS)
    (path / "facts.json").write_text('{"settings": {"seed": 7}}')
    facts = read_run(path).facts
    assert facts == Facts(settings={"seed": 7}) and facts.seed == 7
    assert Facts().seed == 0


# --- refused


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    remedy = "Pass the directory of a trained run, or train it first."
    for path in (tmp_path, tmp_path / "none"):
        assert refusal(path) == f"{path / 'recipe.json'}: not found. {remedy}"


@pytest.mark.parametrize("name", ["recipe.json", "facts.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_half_written_file_is_refused_by_name(path: Path, name: str, share: float) -> None:
    write_run(path, "recipe", RECIPE, FACTS)
    content = (path / name).read_text()
    (path / name).write_text(content[: int(share * len(content))])
    found = refusal(path)
    assert found.startswith(f"{path / name}: not ") and found.count(str(path)) == 1
    assert "it may be half-written" in found


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"format": 2, "kind": "recipe"}'])
def test_a_file_that_is_no_recipe_of_a_run_is_refused(path: Path, content: str) -> None:
    write_run(path, "recipe", RECIPE, FACTS)
    (path / "recipe.json").write_text(content)
    message = "not the recipe of a run: it must hold format, kind and recipe."
    assert refusal(path) == f"{path / 'recipe.json'}: {message} {RESTORE}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"dta": 3}', "unknown key dta in Facts. Known: class_names, commit, data, data_digest, "),
        ("[]", "Facts must be a mapping with some of: class_names, "),
        ('{"class_names": 3}', "class_names must be a list. Received 3"),
    ],
)
def test_a_file_that_is_no_facts_of_a_run_is_refused(path: Path, content: str, reason: str) -> None:
    write_run(path, "recipe", RECIPE, FACTS)
    (path / "facts.json").write_text(content)
    assert refusal(path).startswith(f"{path / 'facts.json'}: not the facts of a run ({reason}")


def test_facts_that_are_missing_altogether_are_refused_by_name(path: Path) -> None:
    write_run(path, "recipe", RECIPE, FACTS)
    (path / "facts.json").unlink()
    with pytest.raises(ValueError) as caught:
        read_facts(path)
    message = "not the facts of a run (not found)."
    assert str(caught.value) == f"{path / 'facts.json'}: {message} {RESTORE}"


@pytest.mark.parametrize("version", [FORMAT + 1, 1, "2"])
def test_a_run_of_another_format_is_refused(path: Path, version: object) -> None:
    write_run(path, "recipe", RECIPE, FACTS)
    stored = json.loads((path / "recipe.json").read_text())
    (path / "recipe.json").write_text(json.dumps({**stored, "format": version}))
    formats = f"(format {version}; this one reads {FORMAT})"
    message = f"made by another version of mandoo {formats}. Update mandoo."
    assert refusal(path) == f"{path}: {message}"


def test_a_run_of_an_unknown_kind_is_refused_with_the_known_ones(path: Path) -> None:
    write_run(path, "my_system", {}, Facts())
    with pytest.raises(ValueError) as caught:
        open_model(path)
    known = "Known: recipe, keras_baseline, ensemble."
    assert str(caught.value) == f"{path}: holds a run of kind 'my_system'. {known}"


def test_a_recipe_that_cannot_be_read_is_refused_by_file_and_place(path: Path) -> None:
    broken = json.loads(json.dumps(RECIPE))
    broken["optimizer"]["lr"] = "fast"
    run = write_run(path, "recipe", broken, Facts())
    with pytest.raises(ValueError) as caught:
        recipe_of(run)
    message = "optimizer: Adam.lr must be a number. Received 'fast'."
    assert str(caught.value) == f"{path / 'recipe.json'}.{message}"


# --- recognised


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("recipe.json", True),
        ("config.json", True),
        ("checkpoint", True),
        ("facts.json", False),
        ("photo.jpg", False),
        ("", False),
    ],
)
def test_a_run_or_its_beginning_is_recognised(path: Path, name: str, expected: bool) -> None:
    path.mkdir()
    if name:
        (path / name).write_text("")
    assert is_run(path) is expected


def test_a_folder_that_does_not_exist_is_no_run(tmp_path: Path) -> None:
    assert not is_run(tmp_path / "none")


# --- weights


def write_weights(prefix: Path, content: bytes = b"weights") -> Path:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{prefix}.index").write_bytes(b"index")
    Path(f"{prefix}.data-00000-of-00001").write_bytes(content)
    return prefix


@pytest.mark.parametrize("name", ["best-5", STRANGE, "a.b"])
def test_weights_are_known_by_content_and_not_by_path(tmp_path: Path, name: str) -> None:
    first = checkpoint_digest(write_weights(tmp_path / "one" / name))
    assert checkpoint_digest(write_weights(tmp_path / STRANGE / "renamed")) == first
    assert len(first) == 24 and int(first, 16) >= 0
    assert checkpoint_digest(write_weights(tmp_path / "two" / name, b"weightz")) != first


@pytest.mark.parametrize("name", ["best-5", STRANGE])
def test_other_files_beside_the_weights_do_not_count(tmp_path: Path, name: str) -> None:
    prefix = write_weights(tmp_path / name)
    first = checkpoint_digest(prefix)
    write_weights(tmp_path / f"{name}0")  # best-50 is not best-5
    Path(f"{prefix}.json").write_text("{}")
    assert checkpoint_digest(prefix) == first


def test_a_checkpoint_of_one_file_has_a_digest(tmp_path: Path) -> None:
    (tmp_path / "v1.ckpt").write_bytes(b"weights")
    first = checkpoint_digest(tmp_path / "v1.ckpt")
    (tmp_path / "v1.ckpt").write_bytes(b"others")
    assert checkpoint_digest(tmp_path / "v1.ckpt") != first


def test_weights_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        checkpoint_digest(tmp_path / "best-5")
    assert str(caught.value) == f"{tmp_path / 'best-5'}: no such checkpoint."


# --- results


@pytest.mark.parametrize(
    ("data_name", "method", "expected"),
    [
        ("grocery", "", "grocery-7cb48c"),
        ("grocery", "aqe:5@3,k_reciprocal:20", "grocery-7cb48c-aqe-5@3-k_reciprocal-20"),
        ("my photos/2024 [*]", "", "my-photos-2024--7cb48c"),
    ],
)
def test_a_result_is_named_after_data_and_method(
    data_name: str,
    method: str,
    expected: str,
) -> None:
    """7cb48c: printf '["q1", "g1"]' | sha256sum."""
    assert result_name(data_name, ["q1", "g1"], method) == expected


def test_two_data_sets_of_one_name_have_results_of_two_names() -> None:
    assert result_name("d", ["a"]) != result_name("d", ["b"])


@given(data_name=st.text(), method=st.text())
def test_any_name_of_a_result_is_a_file_name(data_name: str, method: str) -> None:
    name = result_name(data_name, [], method)
    assert "/" not in name and "\0" not in name and not set("*?[]: ") & set(name)


# --- what made a run


def test_versions_are_of_python_and_the_packages_that_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = run_directory.versions()
    assert {"python", "numpy", "tensorflow"} <= found.keys()
    monkeypatch.setattr(run_directory, "PACKAGES", ("numpy", "no-such-package"))
    assert [*run_directory.versions()] == ["python", "numpy"]


def test_outside_a_clone_there_is_no_commit(
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
