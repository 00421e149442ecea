"""Test training: new runs, resumed runs, runs that start from another run, and refusals."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from data_io.checkpoint_folder import CheckpointFolder
from data_io.datasets import DataSet, load_dataset
from data_io.photographs import digests_of
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.app.data import content_of, split
from delf_ext.app.evaluation import evaluate
from delf_ext.app.starting_weights import in_layout_of, parent_recipe
from delf_ext.app.training import resume, train
from delf_ext.app.training_settings import Settings
from delf_ext.features.embedder import Ensemble
from delf_ext.models.trunks.slim import SlimTrunk
from delf_ext.recipes import codec, schema
from delf_ext.recipes.changes import changed_settings, with_epochs
from delf_ext.recipes.codec import with_settings
from delf_ext.recipes.mandoo_dual import from_flags
from delf_ext.recipes.schema import Recipe, Trunk
from delf_ext.runs.opening import open_model
from delf_ext.runs.photographs import read_photographs
from delf_ext.runs.recipe_run import load_model, recipe_of
from delf_ext.runs.records import Facts
from delf_ext.runs.run_directory import NO_RUN, is_run, read_run, write_run
from delf_ext.runs.sources import RunSource, Runtime
from delf_ext.runs.training_lock import only_training
from delf_ext.training import loop
from pretrained.convert import write_checkpoint

SETTINGS = Settings(seed=3, mixed_precision="off")
FLOAT32 = Runtime(mixed_precision="off")


class Killed(BaseException):
    """Stands for a kill: not an Exception, so no handler of the program catches it."""


class KilledAfter:
    """Listener that kills the training after a number of epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def epoch_ended(self, epoch: int, step: int, means: Mapping[str, float]) -> None:
        if epoch == self.epochs:
            raise Killed

    def evaluated(self, step: int, metrics: Mapping[str, float], is_best: bool) -> None:
        pass


def killed(*_: Any, **__: Any) -> None:
    raise Killed


def weights_of(run_dir: Path, kind: str = "last") -> dict[str, np.ndarray]:
    run = read_run(run_dir)
    path = CheckpointFolder(run.checkpoints, kind).newest()
    assert path is not None
    model, _ = load_model(run, path)
    return {name: variable.numpy() for name, variable in model.named_variables().items()}


def step_of(run_dir: Path) -> int:
    return CheckpointFolder(run_dir / "checkpoint", "last").numbers()[-1]


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def copied(run_dir: Path, to: Path) -> Path:
    return Path(shutil.copytree(run_dir, to))


# --- a new run


def test_new_run_has_recipe_facts_checkpoints_and_events(trained: Any) -> None:
    found = {path.relative_to(trained.run_dir).as_posix() for path in trained.run_dir.rglob("*")}
    assert {"recipe.json", "facts.json", "checkpoint/last.json", "checkpoint/best.json"} <= found
    number = step_of(trained.run_dir)
    assert {f"checkpoint/last-{number}.index", f"checkpoint/best-{number}.index"} <= found
    assert len([name for name in found if name.startswith("events.out.tfevents.")]) == 1


def test_new_run_stores_the_recipe_with_the_decided_layout(trained: Any, tiny: Recipe) -> None:
    run = read_run(trained.run_dir)
    decided = with_settings(tiny, ["model.trunk.layout=slim"])
    assert run.kind == "recipe" and not run.is_old and recipe_of(run) == decided
    result = trained.result
    assert result.recipe == decided and result.run_dir == trained.run_dir
    assert result.source == RunSource(str(trained.run_dir))
    assert result.losses["loss"] > 0 and 0 <= result.losses["accuracy"] <= 1


def test_new_run_stores_facts_of_its_making(
    trained: Any, tiny: Recipe, products: Path, data: DataSet
) -> None:
    facts = read_run(trained.run_dir).facts
    parts = split(data.train, data, tiny.validation, seed=3)
    kept = [name for name in data.class_names[:6] if name not in parts.held_out]
    assert facts.data == str(products.absolute()) and facts.weights == ""
    assert facts.data_layout == "challenge"
    assert facts.class_names == tuple(kept) and facts.held_out == parts.held_out
    assert len(facts.class_names) == 4 and len(facts.held_out) == 2
    dense = {label: row for row, label in enumerate(np.unique(parts.train.labels).tolist())}
    labels = [dense[label] for label in parts.train.labels.tolist()]
    assert facts.data_digest == content_of(dataclasses.replace(parts.train, labels=labels))
    assert facts.settings == dataclasses.asdict(SETTINGS) and facts.seed == 3
    assert facts.infer == {"method": "aqe:2", "batch_size": 4}
    assert facts.history == ("made with seed 3",)
    assert facts.versions["tensorflow"] == tf.__version__
    assert facts.versions["numpy"] == np.__version__


def test_new_run_lists_its_photographs_by_content(trained: Any, data: DataSet) -> None:
    facts = read_run(trained.run_dir).facts
    photographs = read_photographs(trained.run_dir)
    assert photographs is not None
    assert tuple(photographs.trained) == facts.class_names
    assert tuple(photographs.held_out) == facts.held_out
    listed = {**photographs.trained, **photographs.held_out}
    assert listed == digests_of(data.train, data.class_names)


def test_new_run_logs_a_summary(trained: Any, data: DataSet, tiny: Recipe) -> None:
    parts = split(data.train, data, tiny.validation, seed=3)
    steps = -(-len(parts.train) // 8)
    lines = [line for line in trained.lines if "step" not in line or "training" in line]
    assert lines == [
        f"run directory: {trained.run_dir}",
        f"training mandoo_dual on {len(parts.train)} images of 4 classes for 1 epoch of {steps} "
        f"steps at {tiny.input.size_px} px; validation: {len(parts.query)} queries, dev split "
        "(block, 0.34 of the classes)",
        "mixed precision: off",
        "no --pretrained_model: the trunk starts from random weights",
    ]


def test_recipe_can_be_a_name_or_a_file_and_another_seed_gives_other_weights(
    trained: Any, tiny: Recipe, data: DataSet, tmp_path: Path
) -> None:
    message = "unknown recipe 'mandoo_duel'. Known: "
    assert refusal(lambda: train("mandoo_duel", data, tmp_path / "run")).startswith(message)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(codec.to_json(dataclasses.replace(tiny, name="mine"))))
    settings = dataclasses.replace(SETTINGS, seed=4)
    result = train(str(path), data, tmp_path / "run", settings=settings, data_path="/from/there")
    facts = read_run(tmp_path / "run").facts
    assert result.recipe.name == "mine" and facts.data == "/from/there"
    first, other = weights_of(trained.run_dir), weights_of(tmp_path / "run")
    assert not np.allclose(first["logits/classifier/kernel"], other["logits/classifier/kernel"])


def test_directory_with_a_run_is_refused_and_not_changed(
    trained: Any, tiny: Recipe, data: DataSet
) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in trained.run_dir.rglob("*"))
    advice = "Continue it with --resume, or choose another --run_dir."
    message = f"{trained.run_dir}: holds a run already. {advice}"
    assert refusal(lambda: train(tiny, data, trained.run_dir, settings=SETTINGS)) == message
    ensemble = schema.EnsembleRecipe("two", tuple(schema.Member(name, tiny) for name in "ab"))
    assert refusal(lambda: train(ensemble, data, trained.run_dir)) == message
    after = sorted((path.name, path.stat().st_mtime_ns) for path in trained.run_dir.rglob("*"))
    assert before == after


def test_trained_run_can_be_opened_and_evaluated(trained: Any, data: DataSet) -> None:
    found = evaluate(open_model(trained.result.source, FLOAT32), data)
    assert 0 < found["mAP"] <= 1 and (found["num_queries"], found["num_gallery"]) == (3, 9)


def test_max_images_limits_the_training_images(tiny: Recipe, data: DataSet, tmp_path: Path) -> None:
    lines: list[str] = []
    settings = dataclasses.replace(SETTINGS, max_images=12)
    recipe = dataclasses.replace(tiny, validation=None)
    train(recipe, data, tmp_path / "run", settings=settings, log=lines.append)
    assert any(line.startswith("training mandoo_dual on 12 images of ") for line in lines)
    assert any(line.endswith("; validation: none") for line in lines)
    run = read_run(tmp_path / "run")
    assert run.facts.held_out == () and not (run.checkpoints / "best.json").exists()


def test_frozen_trunk_keeps_its_weights_and_stores_feature_maps_that_resume_reuses(
    tiny: Recipe,
    products: Path,
    trained: Any,
    tmp_path: Path,
) -> None:
    mirrored = ['input.augment=[{"type": "MirrorLeftRight"}]']
    recipe = with_settings(tiny, ["model.trunk.frozen=trunk", *mirrored])
    lines: list[str] = []
    train(recipe, products, tmp_path / "run", settings=SETTINGS, log=lines.append)
    assert "the trunk is frozen and sees each image once: no augmentation" in lines
    maps = tmp_path / "run" / "features" / "trunk.npy"
    before = maps.stat().st_mtime_ns
    resume(tmp_path / "run", epochs=2)
    assert maps.stat().st_mtime_ns == before
    fresh = weights_of(tmp_path / "run")
    moved = weights_of(trained.run_dir)
    trunk = [name for name in fresh if name.startswith("resnet_v1_50/")]
    still = [name for name in trunk if np.allclose(fresh[name], fresh[name].ravel()[0])]
    assert {name.rpartition("/")[2] for name in still} == {
        "beta",
        "gamma",
        "moving_mean",
        "moving_variance",
    }
    assert not all(np.allclose(moved[name], moved[name].ravel()[0]) for name in still)
    assert np.abs(fresh["logits/classifier/bias"]).max() > 0


# --- weights


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, np.ndarray]]:
    trunk = SlimTrunk("resnet_v1_50/block1/unit_1/bottleneck_v1")
    trunk(tf.zeros([1, 32, 32, 3]))
    values = {variable.name.split(":")[0]: variable.numpy() for variable in trunk.variables}
    path = tmp_path_factory.mktemp("weights") / "[1] trunk.ckpt"
    write_checkpoint(path, values)
    return str(path), values


def test_weights_that_do_not_fit_write_no_run(
    checkpoint: tuple[str, dict[str, np.ndarray]],
    tiny: Recipe,
    data: DataSet,
    tmp_path: Path,
) -> None:
    wider = with_settings(tiny, ["model.trunk.end_point=block1"])
    with pytest.raises(ValueError, match="does not fit the trunk resnet_v1_50"):
        train(wider, data, tmp_path / "run", weights=checkpoint[0], settings=SETTINGS)
    missing = str(tmp_path / "none.ckpt")
    with pytest.raises(ValueError, match="none.ckpt: no such checkpoint"):
        train(tiny, data, tmp_path / "run", weights=missing, settings=SETTINGS)
    assert not is_run(tmp_path / "run")


def test_unknown_parameter_group_writes_no_run(tiny: Recipe, data: DataSet, tmp_path: Path) -> None:
    optimizer = schema.Adam(factors=(schema.RateFactor("head", 2.0),))
    recipe = dataclasses.replace(tiny, optimizer=optimizer)
    message = r"^a learning-rate factor names parameter group 'head'\. Known: trunk/"
    with pytest.raises(ValueError, match=message):
        train(recipe, data, tmp_path / "run", settings=SETTINGS)
    assert not is_run(tmp_path / "run")


# --- continued


def test_killed_and_resumed_run_ends_like_an_uninterrupted_one(
    tiny: Recipe, products: Path, tmp_path: Path
) -> None:
    """It continues with the same mixed batches."""
    parts = '[{"type": "RandomResizedCrop"}, {"type": "CutMix"}, {"type": "Mixup"}]'
    two = ["stages.0.epochs=2", "stages.0.schedule=CosineDecay", f"input.augment={parts}"]
    recipe = with_settings(tiny, two)
    train(recipe, products, tmp_path / "whole", settings=SETTINGS)
    with pytest.raises(Killed):
        train(recipe, products, tmp_path / "run", settings=SETTINGS, listener=KilledAfter(1))
    half = step_of(tmp_path / "run")
    picture = (tmp_path / "run" / "augmented.png").read_bytes()
    assert picture == (tmp_path / "whole" / "augmented.png").read_bytes()
    lines: list[str] = []
    result = resume(tmp_path / "run", log=lines.append)
    assert step_of(tmp_path / "run") == step_of(tmp_path / "whole") == 2 * half
    assert f"continuing at step {half} of {2 * half}" in lines
    whole, again = weights_of(tmp_path / "whole"), weights_of(tmp_path / "run")
    for name, value in whole.items():
        np.testing.assert_allclose(again[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    facts = read_run(tmp_path / "run").facts
    assert facts.history == ("made with seed 3", "resumed") and facts.seed == 3
    assert result.recipe == recipe_of(read_run(tmp_path / "whole"))


def test_run_killed_before_its_recipe_was_written_starts_again_with_equal_weights(
    trained: Any,
    tiny: Recipe,
    data: DataSet,
    tmp_path: Path,
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "facts.json").write_text("{")
    stale = CheckpointFolder(tmp_path / "run" / "checkpoint", "last")
    stale.save(0, lambda prefix: Path(f"{prefix}.index").write_bytes(b""))
    train(tiny, data, tmp_path / "run", settings=SETTINGS)
    assert read_run(tmp_path / "run").facts.history == ("made with seed 3",)
    first, same = weights_of(trained.run_dir), weights_of(tmp_path / "run")
    for name, value in first.items():
        np.testing.assert_allclose(same[name], value, atol=1e-6, err_msg=name)


def test_finished_run_can_be_trained_for_more_epochs_but_not_fewer(
    trained: Any, tmp_path: Path
) -> None:
    run_dir = copied(trained.run_dir, tmp_path / "run")
    done = step_of(run_dir)
    lines: list[str] = []
    resume(run_dir, epochs=2, log=lines.append)
    run = read_run(run_dir)
    recipe = recipe_of(run)
    assert isinstance(recipe, Recipe) and recipe.epochs == 2
    assert step_of(run_dir) == 2 * done and f"continuing at step {done} of {2 * done}" in lines
    assert "epochs in all: 2 instead of 1 (--epochs)" in lines
    assert run.facts.history == ("made with seed 3", "resumed, epochs 1 -> 2")
    before = read_run(trained.run_dir).facts
    assert dataclasses.replace(run.facts, history=before.history) == before
    stored = (run_dir / "recipe.json").read_bytes()
    message = "--epochs=1: the run is already trained for 2.0 epochs. Pass a larger number."
    assert refusal(lambda: resume(run_dir, epochs=1)) == message
    assert (run_dir / "recipe.json").read_bytes() == stored


def test_resumed_finished_run_keeps_its_weights(trained: Any, tmp_path: Path) -> None:
    run_dir = copied(trained.run_dir, tmp_path / "run")
    result = resume(run_dir)
    assert step_of(run_dir) == step_of(trained.run_dir) and result.losses == {}
    before = weights_of(trained.run_dir)
    after = weights_of(run_dir)
    assert all((before[name] == after[name]).all() for name in before)


CHANGED = "the data have changed since the run was made: "


def test_resume_refuses_changed_classes(trained: Any, products: Path, tmp_path: Path) -> None:
    run_dir = copied(trained.run_dir, tmp_path / "run")
    data = load_dataset(products)
    names = tuple("mug" if name == "1" else name for name in data.class_names)
    renamed = dataclasses.replace(data, class_names=names)
    found = refusal(lambda: resume(run_dir, data=renamed))
    assert found.startswith(f"{run_dir}: {CHANGED}class 1 is now named mug. Put them back ")
    assert "--accept_changed_data" in found and f"--from_run={run_dir}" in found
    fewer = dataclasses.replace(data, train=data.train.take(data.train.labels < 4))
    found = refusal(lambda: resume(run_dir, data=fewer))
    assert found.startswith(f"{run_dir}: {CHANGED}class 4 is lost; class 5 is lost. ")


@pytest.fixture(scope="module")
def concatenated(tiny: Recipe, data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on all six classes; the similarity head reads the logits too."""
    flags = {"train_logits": True, "train_sim": True, "logit_concat_sim": True, "dev_percent": 0}
    flags |= {"image_size": 32, "batch_size": 8, "epochs": 1}
    flags |= {"resnet_type": "resnet_v1_50/block1/unit_1/bottleneck_v1"}
    run_dir = tmp_path_factory.mktemp("concatenated") / "run"
    train(from_flags(flags), data, run_dir, settings=SETTINGS)
    return run_dir


@pytest.mark.parametrize("kind", ["renamed", "reordered", "lost", "added"])
def test_accepted_changes_keep_the_weights_of_each_class(
    kind: str,
    concatenated: Path,
    data: DataSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_dir = copied(concatenated, tmp_path / "run")
    names = data.class_names
    train_images = data.train
    new_name = dict(zip(names, names, strict=True))
    if kind == "renamed":
        new_name["1"] = "zz"
        data = dataclasses.replace(data, class_names=tuple(new_name[name] for name in names))
    elif kind == "reordered":
        labels = len(names) - 1 - train_images.labels
        train_images = dataclasses.replace(train_images, labels=labels)
        data = dataclasses.replace(data, class_names=names[::-1], train=train_images)
    elif kind == "lost":
        data = dataclasses.replace(data, train=train_images.take(train_images.labels != 2))
    else:
        # Some photographs of class 0 are put into a new class.
        labels = train_images.labels.copy()
        labels[np.flatnonzero(labels == 0)[:2]] = len(names)
        train_images = dataclasses.replace(train_images, labels=labels)
        data = dataclasses.replace(data, class_names=(*names, "new"), train=train_images)
    before = weights_of(run_dir)
    old = read_run(run_dir).facts.class_names
    counts: list[int] = []
    build = loop.Objective
    monkeypatch.setattr(loop, "Objective", lambda *args: [counts.extend(args[2]), build(*args)][1])
    resume(run_dir, data=data, accept_changed_data=kind != "reordered")
    after = weights_of(run_dir)
    facts = read_run(run_dir).facts
    added = ["new"] if kind == "added" else []
    kept = [name for name in old if kind != "lost" or name != "2"]
    assert list(facts.class_names) == [*(new_name[name] for name in kept), *added]
    # Losses that weigh classes get the images of each class as they are now.
    labels = [data.class_names.index(name) for name in facts.class_names]
    assert counts == [int(np.sum(data.train.labels == label)) for label in labels]
    rows = [old.index(name) for name in kept]
    classifier = "logits/classifier/kernel"
    np.testing.assert_array_equal(after[classifier][:, : len(kept)], before[classifier][:, rows])
    # The logits are the last inputs of the similarity head.
    dense = next(name for name in before if name.startswith("similarity/dense1/kernel"))
    start = before[dense].shape[0] - len(old)
    np.testing.assert_array_equal(after[dense][:start], before[dense][:start])
    now = after[dense][start : start + len(kept)]
    np.testing.assert_array_equal(now, before[dense][start:][rows])
    assert after[dense].shape[0] == start + len(kept) + len(added)
    # The next resume finds no change.
    resume(run_dir, data=data)


def test_resume_trains_on_after_accepted_changes(
    concatenated: Path, data: DataSet, tmp_path: Path
) -> None:
    run_dir = copied(concatenated, tmp_path / "run")
    fewer = dataclasses.replace(data, train=data.train.take(data.train.labels != 2))
    result = resume(run_dir, data=fewer, epochs=2, accept_changed_data=True)
    assert np.isfinite(result.losses["loss"])
    found = CheckpointFolder(run_dir / "checkpoint", "last")
    facts = read_run(run_dir).facts
    assert found.class_names(step_of(run_dir)) == facts.class_names and len(facts.class_names) == 5
    assert evaluate(open_model(run_dir, FLOAT32), data)["num_queries"] == 3


def test_renamed_files_keep_the_order_of_the_images(
    concatenated: Path, products: Path, tmp_path: Path
) -> None:
    run_dir = copied(concatenated, tmp_path / "run")
    moved = Path(shutil.copytree(products, tmp_path / "moved"))
    photographs = sorted((moved / "train" / "train_data").rglob("*.jpg"))
    photographs[0].rename(photographs[0].with_name("zz.jpg"))
    before = read_run(run_dir).facts
    resume(run_dir, data_path=str(moved))
    after = read_run(run_dir).facts
    assert after.data_digest == before.data_digest and after.data == str(moved)


def test_second_training_of_a_run_is_refused(
    trained: Any, tiny: Recipe, data: DataSet, tmp_path: Path
) -> None:
    run_dir = copied(trained.run_dir, tmp_path / "run")
    message = f"process {os.getpid()} is training this run; wait until it ends."
    with only_training(run_dir):
        assert refusal(lambda: resume(run_dir, data=data)) == f"{run_dir}: {message}"
    with only_training(tmp_path / "new"):
        found = refusal(lambda: train(tiny, data, tmp_path / "new", settings=SETTINGS))
    assert found == f"{tmp_path / 'new'}: {message}"
    assert not (tmp_path / "new").exists()


def test_unreadable_state_changes_no_file(trained: Any, data: DataSet, tmp_path: Path) -> None:
    run_dir = copied(trained.run_dir, tmp_path / "run")
    for path in (run_dir / "checkpoint").glob("last-*"):
        path.write_bytes(b"")
    before = {path: path.read_bytes() for path in run_dir.rglob("*.json")}
    found = refusal(lambda: resume(run_dir, data=data, epochs=5))
    assert "cannot be read" in found and f"--from_run={run_dir}" in found
    assert before == {path: path.read_bytes() for path in run_dir.rglob("*.json")}


def test_checkpoints_without_a_recipe_are_not_overwritten(
    trained: Any, tiny: Recipe, data: DataSet, tmp_path: Path
) -> None:
    run_dir = copied(trained.run_dir, tmp_path / "run")
    (run_dir / "recipe.json").unlink()
    before = sorted(path.name for path in (run_dir / "checkpoint").iterdir())
    found = refusal(lambda: train(tiny, data, run_dir, settings=SETTINGS))
    assert found.startswith(f"{run_dir}: holds a run already. ")
    assert before == sorted(path.name for path in (run_dir / "checkpoint").iterdir())


def test_trunk_starts_from_given_weights_also_if_killed_while_it_computes_feature_maps(
    checkpoint: tuple[str, dict[str, np.ndarray]],
    tiny: Recipe,
    data: DataSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, values = checkpoint
    lines: list[str] = []
    frozen = with_settings(tiny, ["model.trunk.frozen=trunk", "model.trunk.layout=v1.5"])
    with monkeypatch.context() as patch:
        patch.setattr("delf_ext.app.training_job.batches_of_feature_maps", killed)
        with pytest.raises(Killed):
            log = lines.append
            train(frozen, data, tmp_path / "run", weights=path, settings=SETTINGS, log=log)
    report = (tmp_path / "run" / "load_report.txt").read_text()
    assert f"{path}: {len(values)} variables matched, 0 missing, " in report
    assert report.removesuffix("\n") in lines
    # An earlier version saved no first state.
    shutil.rmtree(tmp_path / "run" / "checkpoint")
    resume(tmp_path / "run", data=data)
    found = weights_of(tmp_path / "run")
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    run = read_run(tmp_path / "run")
    recipe = recipe_of(run)
    assert isinstance(recipe, Recipe) and run.facts.weights == path
    assert (recipe.model.trunk.weights, recipe.model.trunk.layout) == (path, "v1.5")


def test_resume_refuses_other_kinds_of_runs(tiny: Recipe, tmp_path: Path) -> None:
    assert refusal(lambda: resume(tmp_path)) == f"{tmp_path / 'recipe.json'}: not found. {NO_RUN}"
    write_run(tmp_path, "keras_baseline", {}, Facts())
    message = "holds a run of kind 'keras_baseline'. Resume it with the command that made it."
    assert refusal(lambda: resume(tmp_path)) == f"{tmp_path}: {message}"


def test_resume_refuses_missing_data(trained: Any, tmp_path: Path) -> None:
    run_dir = copied(trained.run_dir, tmp_path / "run")
    run = read_run(run_dir)
    facts = dataclasses.replace(run.facts, data=str(tmp_path / "gone"))
    write_run(run_dir, run.kind, run.recipe, facts)
    assert refusal(lambda: resume(run_dir)).startswith(f"{tmp_path / 'gone'}: not found. ")


def test_resume_refuses_changed_images(trained: Any, products: Path, tmp_path: Path) -> None:
    run_dir = copied(trained.run_dir, tmp_path / "run")
    own = Path(shutil.copytree(products, tmp_path / "own"))
    photographs = sorted((own / "train" / "train_data").rglob("*.jpg"))
    kept = read_run(run_dir).facts.class_names
    trained_on = [path for path in photographs if path.parent.name in kept]
    shutil.copy(trained_on[1], trained_on[0])
    before = (run_dir / "facts.json").read_bytes()
    message = f"{CHANGED}class {trained_on[0].parent.name}: 1 image replaced. "
    found = refusal(lambda: resume(run_dir, data_path=str(own)))
    assert found.startswith(f"{run_dir}: {message}")
    assert (run_dir / "facts.json").read_bytes() == before


def test_run_killed_before_its_first_step_resumes_with_equal_weights(
    trained: Any,
    tiny: Recipe,
    data: DataSet,
    products: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("delf_ext.training.loop._fit", killed)
        with pytest.raises(Killed):
            train(tiny, data, tmp_path / "run", data_path=str(products), settings=SETTINGS)
    assert step_of(tmp_path / "run") == 0
    resume(tmp_path / "run")
    whole, resumed = weights_of(trained.run_dir), weights_of(tmp_path / "run")
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        np.testing.assert_allclose(resumed[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_from_run_and_weights_together_are_refused(
    trained: Any, tiny: Recipe, data: DataSet, tmp_path: Path
) -> None:
    found = refusal(
        lambda: train(tiny, data, tmp_path / "run", weights="w.ckpt", from_run=trained.run_dir)
    )
    assert found == (
        "training starts from a run (--from_run) or a checkpoint (--pretrained_model). "
        "Pass only one of them."
    )


def test_from_run_with_another_trunk_is_refused(
    trained: Any,
    tiny: Recipe,
    data: DataSet,
    tmp_path: Path,
) -> None:
    other = with_settings(tiny, ["model.trunk.name=vgg_16", "model.trunk.end_point=conv1"])
    found = refusal(
        lambda: train(other, data, tmp_path / "run", settings=SETTINGS, from_run=trained.run_dir)
    )
    assert found == (
        f"{trained.run_dir}: no weight of its trunk resnet_v1_50 fits the trunk vgg_16 of "
        "mandoo_dual. Pass --resnet_type=resnet_v1_50/block1/unit_1/bottleneck_v1, or choose "
        "another run to start from."
    )
    assert not is_run(tmp_path / "run")


# --- epochs and settings


def test_with_epochs_changes_the_last_stage(tiny: Recipe) -> None:
    staged = dataclasses.replace(
        tiny,
        stages=(schema.Stage(2), schema.Stage(3, schema.CosineDecay())),
    )
    assert with_epochs(staged, 9).stages == (schema.Stage(2), schema.Stage(7, schema.CosineDecay()))
    assert with_epochs(staged, 3).epochs == 3
    for epochs in (2, 0):
        message = f"--epochs must be above 2, the epochs of the earlier stages. Received {epochs}."
        assert refusal(lambda epochs=epochs: with_epochs(staged, epochs)) == message


def test_changed_settings_are_listed_by_their_paths(tiny: Recipe) -> None:
    assert changed_settings(tiny, dataclasses.replace(tiny, about=schema.About("other"))) == []
    new = with_settings(tiny, ["optimizer.lr=1e-5", "validation=null", "model.trunk.frozen=trunk"])
    assert changed_settings(tiny, new) == [
        "model.trunk.frozen.0: nothing -> trunk",
        "optimizer.lr: 0.0001 -> 1e-05",
        "validation.every_steps: 100 -> nothing",
        "validation.gallery_per_class: 20 -> nothing",
        "validation.max_queries: 300 -> nothing",
        "validation.share: 0.34 -> nothing",
        "validation.type: ClassBlock -> nothing",
    ]
    weights = with_settings(tiny, ["model.trunk.weights=a.ckpt"])
    assert changed_settings(tiny, weights) == ["model.trunk.weights: nothing -> a.ckpt"]
    assert changed_settings(weights, tiny) == ["model.trunk.weights: a.ckpt -> nothing"]
    # An empty value does not differ from a missing one.
    with_neck = with_settings(tiny, ['model.heads.logits.neck=[{"type": "Dense", "units": 8}]'])
    assert changed_settings(tiny, with_neck) == [
        "model.heads.0.neck.0.dropout: nothing -> 0.0",
        "model.heads.0.neck.0.type: nothing -> Dense",
        "model.heads.0.neck.0.units: nothing -> 8",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed must be at least 0 and at most 4294967295. Received -1."),
        ({"checkpoint_every_steps": 0}, "checkpoint_every_steps must be at least 1. Received 0."),
        ({"max_images": -1}, "max_images must be at least 0. Received -1."),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, int], message: str) -> None:
    assert refusal(lambda: Settings(**options)) == message


# --- started from another run


def test_from_run_copies_weights_that_fit(
    trained: Any,
    tiny: Recipe,
    data: DataSet,
    tmp_path: Path,
) -> None:
    lines: list[str] = []
    settings = ["optimizer.lr=1e-9", "optimizer.factors=[]", "model.trunk.batch_norm=inference"]
    recipe = with_settings(tiny, [*settings, "validation=null"])
    train(
        recipe,
        data,
        tmp_path / "run",
        from_run=trained.run_dir,
        settings=SETTINGS,
        log=lines.append,
    )
    old = weights_of(trained.run_dir, "best")
    new = weights_of(tmp_path / "run")
    other = [name for name in new if old[name].shape != new[name].shape]
    assert sorted(other) == ["logits/classifier/bias", "logits/classifier/kernel"]  # 6 classes now
    moving = [name for name in new if "/norm/moving_" in name]  # of the attention's batch norm
    for name in new.keys() - {*other, *moving}:
        np.testing.assert_allclose(new[name], old[name], atol=1e-6, err_msg=name)
    done = step_of(trained.run_dir)
    history = read_run(tmp_path / "run").facts.history
    count = f"{len(new) - 2} of {len(new)} variables"
    first = f"starts from {trained.run_dir} (best-{done}): {count}"
    assert history[:2] == ("made with seed 3", first)
    assert set(history[1:]) <= set(lines)
    assert {
        "optimizer.lr: 0.0001 -> 1e-09",
        "model.trunk.batch_norm: training -> inference",
        "validation.type: ClassBlock -> nothing",
    } <= set(history)
    assert step_of(tmp_path / "run") == 3 < 2 * done


def test_automatic_layout_is_taken_from_the_parent_run(
    trained: Any,
    tiny: Recipe,
    data: DataSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent = copied(trained.run_dir, tmp_path / "parent")
    run = read_run(parent)
    old = recipe_of(run)
    assert isinstance(old, Recipe)
    write_run(
        parent,
        run.kind,
        codec.to_json(with_settings(old, ["model.trunk.layout=v1.5"])),
        run.facts,
    )
    monkeypatch.setattr("delf_ext.training.loop._fit", killed)
    with pytest.raises(Killed):
        train(tiny, data, tmp_path / "run", from_run=parent, settings=SETTINGS)
    started = parent_recipe(tmp_path / "run")
    assert started.model.trunk.layout == "v1.5"
    other = Trunk("mobilenetv2", "keras", "")
    assert in_layout_of(parent, other) == other


def test_from_run_refuses_runs_without_weights_of_a_recipe(
    tiny: Recipe,
    data: DataSet,
    tmp_path: Path,
) -> None:
    def start() -> object:
        return train(tiny, data, tmp_path / "run", from_run=tmp_path / "parent")

    assert refusal(start) == f"{tmp_path / 'parent' / 'recipe.json'}: not found. {NO_RUN}"
    write_run(tmp_path / "parent", "keras_baseline", {}, Facts())
    message = (
        "holds a run of kind 'keras_baseline'. A run can start only from a run that "
        "was trained from a recipe."
    )
    assert refusal(start) == f"{tmp_path / 'parent'}: {message}"
    write_run(tmp_path / "parent", "recipe", codec.to_json(tiny), Facts())
    assert refusal(start).startswith(f"{tmp_path / 'parent' / 'checkpoint'}: no checkpoint; ")
    assert not is_run(tmp_path / "run")


# --- validation


@pytest.mark.parametrize(
    ("validation", "what", "classes"),
    [
        (schema.Given(100), "3 queries, queries and gallery of the data", 6),
        (schema.RandomClasses(100, 0.34), "dev split (random, 0.34 of the classes)", 4),
    ],
)
def test_other_validations_choose_the_best_weights(
    validation: schema.Validation,
    what: str,
    classes: int,
    tiny: Recipe,
    data: DataSet,
    tmp_path: Path,
) -> None:
    lines: list[str] = []
    recipe = dataclasses.replace(tiny, validation=validation)
    train(recipe, data, tmp_path / "run", settings=SETTINGS, log=lines.append)
    (line,) = (line for line in lines if line.startswith("training "))
    assert f" of {classes} classes for " in line and line.endswith(what)
    best = CheckpointFolder(tmp_path / "run" / "checkpoint", "best")
    assert 0 < best.facts()["mAP"] <= 1
    held_out = split(data.train, data, validation, seed=3).held_out
    assert read_run(tmp_path / "run").facts.held_out == held_out


def test_given_validation_without_queries_is_refused(
    tiny: Recipe,
    only_train: DataSet,
    tmp_path: Path,
) -> None:
    recipe = dataclasses.replace(tiny, validation=schema.Given())
    message = "products: validation Given needs queries and a gallery; the data has none."
    assert refusal(lambda: train(recipe, only_train, tmp_path / "run")) == message


@pytest.mark.parametrize("loss", ["train_sim", "train_triplet"])
def test_classes_of_one_image_are_refused_by_losses_that_compare(
    loss: str, only_train: DataSet, tmp_path: Path
) -> None:
    num_images = len(only_train.train)
    data = dataclasses.replace(
        only_train,
        train=dataclasses.replace(only_train.train, labels=np.arange(num_images)),
        class_names=tuple(f"c{number}" for number in range(num_images)),
    )
    recipe = from_flags({"train_logits": True, loss: True, "image_size": 32, "batch_size": 8})
    message = refusal(lambda: train(recipe, data, tmp_path / "run", settings=SETTINGS))
    assert "training classes has two images, and " in message
    assert "Check the labels of the data, or train with --train_logits alone." in message
    assert not (tmp_path / "run").exists()


# --- ensembles


@pytest.fixture(scope="module")
def pair(tiny: Recipe) -> schema.EnsembleRecipe:
    lower = with_settings(tiny, ["optimizer.lr=1e-5"])
    members = (schema.Member("first", tiny), schema.Member("second", lower))
    return schema.EnsembleRecipe("pair", members, schema.MeanEmbedding(), ranking="aqe:1")


def test_killed_ensemble_is_resumed_opened_and_evaluated(
    pair: schema.EnsembleRecipe,
    trained: Any,
    data: DataSet,
    products: Path,
    tmp_path: Path,
) -> None:
    """Two of its members are trained, the third is a finished run."""
    run_dir = tmp_path / "pair [1]"
    finished = schema.Member("finished", run=str(trained.run_dir))
    pair = dataclasses.replace(pair, members=(*pair.members, finished))

    def kill(line: str) -> None:
        if line == "member 2 of 3: second":
            raise Killed

    with pytest.raises(Killed):
        train(pair, products, run_dir, settings=SETTINGS, log=kill)
    assert is_run(run_dir / "members" / "first") and not is_run(run_dir / "members" / "second")
    weights = weights_of(run_dir / "members" / "first")
    assert refusal(lambda: train(pair, products, run_dir)).startswith(
        f"{run_dir}: holds a run already."
    )

    lines: list[str] = []
    result = resume(run_dir, log=lines.append)
    assert [member.run_dir.name for member in result.members] == ["first", "second"]
    assert "member 1 of 3: first: finished before" in lines
    again = weights_of(run_dir / "members" / "first")
    assert all((weights[name] == again[name]).all() for name in weights)

    run = read_run(run_dir)
    assert run.kind == "ensemble" and recipe_of(run) == pair
    assert run.facts.data == read_run(run_dir / "members" / "first").facts.data == str(products)
    opened = open_model(run_dir, FLOAT32)
    assert isinstance(opened, Ensemble) and opened.ranking == "aqe:1"
    assert len(opened.members) == 3
    found = evaluate(opened, data)
    assert 0 < found["mAP"] <= 1 and found["num_queries"] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"join": schema.MeanSimilarity()},
            "MeanSimilarity is not built yet. Built: Concatenate, MeanEmbedding.",
        ),
    ],
)
def test_unbuilt_ensemble_parts_are_refused_before_training(
    pair: schema.EnsembleRecipe,
    data: DataSet,
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    other = dataclasses.replace(pair, **changes)
    assert refusal(lambda: train(other, data, tmp_path / "run")) == message
    assert not (tmp_path / "run").exists()


def test_missing_weights_of_a_member_are_refused_before_the_first_is_trained(
    pair: schema.EnsembleRecipe, data: DataSet, tmp_path: Path
) -> None:
    first, last = pair.members
    recipe = with_settings(last.recipe, [f"model.trunk.weights={tmp_path / 'none.ckpt'}"])
    other = dataclasses.replace(pair, members=(first, dataclasses.replace(last, recipe=recipe)))
    with pytest.raises(ValueError, match=rf"^member {last.name}: .*none\.ckpt") as error:
        train(other, data, tmp_path / "run")
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_unusable_member_is_refused_before_training(
    pair: schema.EnsembleRecipe,
    tiny: Recipe,
    data: DataSet,
    tmp_path: Path,
) -> None:
    gone = schema.Member("gone", run=str(tmp_path / "gone"))
    other = dataclasses.replace(pair, members=(*pair.members, gone))
    found = refusal(lambda: train(other, data, tmp_path / "run"))
    assert found == f"{tmp_path / 'gone' / 'recipe.json'}: not found. {NO_RUN}"
    unbuilt = schema.Member("unbuilt", dataclasses.replace(tiny, task=schema.LabelPaths()))
    other = dataclasses.replace(pair, members=(*pair.members, unbuilt))
    found = refusal(lambda: train(other, data, tmp_path / "run"))
    assert found == "LabelPaths is not built yet. Built: Classification, Retrieval."
    assert not (tmp_path / "run").exists()


def test_ensemble_from_run_is_refused(
    pair: schema.EnsembleRecipe,
    trained: Any,
    data: DataSet,
    tmp_path: Path,
) -> None:
    found = refusal(lambda: train(pair, data, tmp_path / "run", from_run=trained.run_dir))
    message = "an ensemble cannot start from a run (--from_run). Train its members one by one."
    assert found == message


# --- data that cannot be trained on


def test_data_without_training_images_is_refused(
    tiny: Recipe,
    data: DataSet,
    tmp_path: Path,
) -> None:
    nothing = dataclasses.replace(data, train=data.train.take([], skipped=()))
    found = refusal(lambda: train(tiny, nothing, tmp_path / "run"))
    assert found == "the data has no training images."


def test_unreadable_images_are_skipped_and_logged(
    tiny: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = draw_dataset(tmp_path / "drawn", DrawConfig(3, 12, 1, 2, 32), progress=False)
    data = load_dataset(drawn)
    for path in data.train.paths[:7]:
        Path(path).write_text("no image")
    lines: list[str] = []
    recipe = dataclasses.replace(tiny, validation=None, sampling=schema.Shuffled(4))
    trained = train(recipe, data, tmp_path / "run", settings=SETTINGS, log=lines.append)
    assert trained.warning.startswith("warning: 7 of 12 files were skipped, most of them in ")
    assert lines[0].startswith(f"skipped {data.train.paths[0]}: ")
    assert lines[5] == "skipped 7 files in all" and " on 5 images of " in lines[7]
    for path in data.train.paths:
        Path(path).write_text("no image")
    found = refusal(lambda: train(recipe, data, tmp_path / "other"))
    assert found == "none of the training images could be read."


def test_training_on_one_class_is_refused(tiny: Recipe, data: DataSet, tmp_path: Path) -> None:
    one = dataclasses.replace(data, train=data.train.take(data.train.labels < 2))
    recipe = with_settings(tiny, ["validation.share=0.5"])
    message = (
        "training needs at least 2 classes. Received 1 (without the classes that are held back "
        "for validation)."
    )
    assert refusal(lambda: train(recipe, one, tmp_path / "run")) == message


def test_sampling_that_does_not_fit_the_classes_is_refused_before_building(
    tiny: Recipe,
    data: DataSet,
    tmp_path: Path,
) -> None:
    recipe = dataclasses.replace(tiny, sampling=schema.PxK(8, 2))
    message = (
        "batches of 8 classes x 2 images need 8 classes; there are 4 to train on. "
        "Make the batch smaller: --batch_size, or sampling.classes of the recipe."
    )
    assert refusal(lambda: train(recipe, data, tmp_path / "run")) == message
    assert not (tmp_path / "run").exists()
