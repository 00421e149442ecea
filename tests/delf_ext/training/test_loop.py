"""Training proper, on a network cut after its first unit and eight 32 px pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from data_io.artifacts import read_json
from data_io.batches import feature_batches
from data_io.checkpoint_folder import CheckpointFolder
from delf_ext.config import UsageError
from delf_ext.models.embedding_model import EmbeddingModel, read_weights
from delf_ext.recipes import schema
from delf_ext.recipes.schema import Head, LossTerm, RateFactor, Recipe, Stage
from delf_ext.training import loop
from delf_ext.training.loop import Progress, duration, stage_of, train

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
PLAN = np.array([[0, 1, 2, 4], [5, 6, 7, 3]])
TRUNK = schema.Trunk(end_point="block1/unit_1/bottleneck_v1", batch_norm="inference")
RECIPE = Recipe(
    "tiny",
    schema.Model(
        TRUNK,
        (
            Head("logits", schema.DelfAttention(), classifier=schema.Linear()),
            Head(
                "similarity",
                schema.DelfAttention(normalized=False),
                (schema.Dense(16, "relu"), schema.Dense(8)),
            ),
        ),
        ("similarity",),
    ),
    (
        LossTerm(schema.SoftmaxCrossEntropy(squared_error=True), "logits", name="logits"),
        LossTerm(schema.PairSimilarity(), "similarity", name="sim"),
    ),
    schema.Adam(1e-3, (RateFactor("attention", 10), RateFactor("classifier", 10))),
    (Stage(1),),
    schema.Input(32),
    schema.Pairs(4),
    validation=None,
)
HEADS = ("attention", "logits", "similarity")


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    rng = np.random.default_rng(0)
    base = np.where(LABELS == 0, 60, 190)[:, None, None, None]
    return np.clip(base + rng.normal(0, 20, (8, 32, 32, 3)), 0, 255).astype(np.float32)


def built(seed: int = 0, model: schema.Model = RECIPE.model) -> EmbeddingModel:
    tf.keras.utils.set_random_seed(seed)
    return EmbeddingModel(model, 2).build_variables()


def with_epochs(epochs: int, every_steps: int = 0, **changes: Any) -> Recipe:
    """RECIPE for so many epochs, evaluated every so many steps."""
    validation = schema.Given(every_steps) if every_steps else None
    changes = {"stages": (Stage(epochs),), "validation": validation, **changes}
    return dataclasses.replace(RECIPE, **changes)


def run(
    pictures: np.ndarray, run_dir: Path, recipe: Recipe = RECIPE, seed: int = 0, **progress: Any
) -> tuple[EmbeddingModel, dict[str, float]]:
    model = built(seed, recipe.model)
    progress = {"log": print, "checkpoint_every_steps": 1, **progress}

    def batches(epoch: int, first: int) -> tf.data.Dataset:
        return feature_batches(pictures, LABELS, PLAN, first)

    return model, train(recipe, model, batches, len(PLAN), Progress(run_dir, **progress))


def weights(model: EmbeddingModel, group: str = "") -> dict[str, np.ndarray]:
    own = [one for one in model.parameters() if one.group.startswith(group)]
    return {one.name: one.variable.numpy() for one in own}


def assert_equal(one: EmbeddingModel, other: EmbeddingModel) -> None:
    expected = weights(other)
    for name, value in weights(one).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


def figures(*values: float, name: str = "mAP") -> Callable[[], dict[str, float]]:
    """An evaluation that returns one value after the other."""
    left = iter(values)
    others = {"mAP": 0.0, "recall_at_1": 0.0, "mean_last_rank": 1.0}
    return lambda: {**others, name: next(left)}


def curve_names(run_dir: Path) -> set[str]:
    (events,) = run_dir.glob("events.*")
    found = tf.compat.v1.train.summary_iterator(str(events))
    return {value.tag for event in found for value in event.summary.value}


# --- one stage


def test_the_loss_falls_and_curves_are_written(pictures: np.ndarray, tmp_path: Path, capsys):
    _, first = run(pictures, tmp_path / "a")
    _, last = run(pictures, tmp_path / "b", with_epochs(8))
    shown = capsys.readouterr().out
    assert "Epoch 3/8" in shown and shown.count("images_per_s:") == 1 + 8
    assert last["loss"] < 0.7 * first["loss"]
    assert set(last) == {"loss", "logits", "sim", "accuracy", "images_per_s"}
    assert {f"train/{name}" for name in last} <= curve_names(tmp_path / "b")


class Killed(Exception):
    pass


def killed() -> dict[str, float]:
    raise Killed


def test_a_resumed_run_ends_where_an_undisturbed_one_does(pictures: np.ndarray, tmp_path: Path):
    undisturbed, _ = run(pictures, tmp_path / "whole", with_epochs(2))
    with pytest.raises(Killed):
        run(pictures, tmp_path / "cut", with_epochs(2, every_steps=3), evaluate=killed)
    lines: list[str] = []
    # Other initial weights: all comes from disk.
    resumed, _ = run(pictures, tmp_path / "cut", with_epochs(2), 99, resume=True, log=lines.append)
    assert lines[0] == "continuing at step 3 of 4"
    assert_equal(resumed, undisturbed)


def test_without_resume_what_is_on_disk_does_not_matter(pictures: np.ndarray, tmp_path: Path):
    first, _ = run(pictures, tmp_path)
    again, _ = run(pictures, tmp_path)
    assert_equal(first, again)


def test_a_finished_run_that_is_resumed_is_only_evaluated_again(
    pictures: np.ndarray,
    tmp_path: Path,
):
    first, _ = run(pictures, tmp_path)
    asked: list[int] = []

    def evaluate() -> dict[str, float]:
        asked.append(1)
        return {"mAP": 0.5}

    again, logs = run(pictures, tmp_path, seed=5, resume=True, evaluate=evaluate)
    assert_equal(first, again)
    assert asked == [1] and logs == {}
    assert CheckpointFolder(tmp_path / "checkpoint", "best").numbers() == [2]


def test_the_best_weights_are_kept_apart(pictures: np.ndarray, tmp_path: Path):
    lines: list[str] = []
    recipe = with_epochs(2, every_steps=1)
    evaluate = figures(0.2, 0.9, 0.4, 0.3)
    trained, _ = run(pictures, tmp_path, recipe, evaluate=evaluate, log=lines.append)
    best = CheckpointFolder(tmp_path / "checkpoint", "best").newest()
    assert best is not None and best.name == "best-2"
    loaded, after_two_steps = built(5), run(pictures, tmp_path / "short")[0]
    read_weights(loaded, best)
    assert_equal(loaded, after_two_steps)
    rest = "recall_at_1 0.0000 mean_last_rank 1.0000"
    assert lines == [
        f"\nstep 1: dev mAP 0.2000 {rest} (best so far, kept)",
        f"\nstep 2: dev mAP 0.9000 {rest} (best so far, kept)",
        f"\nstep 3: dev mAP 0.4000 {rest}",
        f"\nstep 4: dev mAP 0.3000 {rest}",
    ]
    assert "dev/mAP" in curve_names(tmp_path)


def test_selection_by_mean_last_rank_keeps_the_lowest(pictures: np.ndarray, tmp_path: Path):
    recipe = with_epochs(2, every_steps=1, task=schema.Retrieval("mean_last_rank"))
    evaluate, lines = figures(50.0, 20.0, 70.0, 30.0, name="mean_last_rank"), []
    run(pictures, tmp_path, recipe, evaluate=evaluate, log=lines.append)
    note = read_json(tmp_path / "checkpoint" / "best.json")
    assert note == {"checkpoints": [2], "facts": {"mean_last_rank": 20.0}}
    assert lines[2] == "\nstep 3: dev mean_last_rank 70.0000 mAP 0.0000 recall_at_1 0.0000"


def test_the_end_of_a_run_is_evaluated_once(pictures: np.ndarray, tmp_path: Path):
    """At step 3, and at 4, where it ends; a run that ends at an evaluation has no other."""
    for every_steps, expected in ((3, 2), (4, 1)):
        asked: list[int] = []

        def evaluate(asked: list[int] = asked) -> dict[str, float]:
            asked.append(1)
            return {"mAP": 0.5}

        run(pictures, tmp_path / str(every_steps), with_epochs(2, every_steps), evaluate=evaluate)
        assert len(asked) == expected


def test_a_frozen_trunk_stays_and_its_heads_learn(pictures: np.ndarray, tmp_path: Path):
    trunk = dataclasses.replace(TRUNK, frozen=("trunk",))
    config = dataclasses.replace(RECIPE.model, trunk=trunk)
    model = built(model=config)
    maps = model.trunk(pictures)[model.trunk.endpoint].numpy()
    before, trained = (
        weights(model),
        {one.name for one in model.parameters() if one.variable.trainable},
    )

    def batches(epoch: int, first: int) -> tf.data.Dataset:
        return feature_batches(maps, LABELS, PLAN, first)

    train(with_epochs(1, model=config), model, batches, len(PLAN), Progress(tmp_path, print))
    after = weights(model)
    for name in weights(model, "trunk/"):
        np.testing.assert_array_equal(before[name], after[name])
    heads = trained - set(weights(model, "trunk/"))
    assert len(heads) == 11 and all(np.any(before[name] != after[name]) for name in heads)


# --- listeners


class Heard:
    """A listener that keeps a copy of the state whenever it may."""

    def __init__(self, run_dir: Path, kept: Path) -> None:
        self.last = CheckpointFolder(run_dir / "checkpoint", "last")
        self.kept = kept
        self.said: list[tuple] = []

    def epoch_ended(self, epoch: int, step: int, means: Mapping[str, float]) -> None:
        self.said.append(("epoch", epoch, step, sorted(means)))
        self.last.copy_newest(self.kept / f"epoch-{epoch}")

    def evaluated(self, step: int, metrics: Mapping[str, float], is_best: bool) -> None:
        self.said.append(("dev", step, metrics["mAP"], is_best))
        if is_best:
            self.last.copy_newest(self.kept / f"best-{step}")


def test_a_listener_hears_of_epochs_and_evaluations(pictures: np.ndarray, tmp_path: Path):
    heard = Heard(tmp_path / "run", tmp_path / "kept")
    evaluate = figures(0.3, 0.2, 0.5, 0.4)
    options = {"evaluate": evaluate, "listener": heard, "checkpoint_every_steps": 99}
    run(pictures, tmp_path / "run", with_epochs(2, every_steps=1), **options)
    names = ["accuracy", "images_per_s", "logits", "loss", "sim"]
    assert heard.said == [
        ("dev", 1, 0.3, True),
        ("dev", 2, 0.2, False),
        ("epoch", 1, 2, names),
        ("dev", 3, 0.5, True),
        ("dev", 4, 0.4, False),
        ("epoch", 2, 4, names),
    ]
    folders = list(heard.kept.iterdir())
    kept = {folder.name: CheckpointFolder(folder, "last").numbers() for folder in folders}
    assert kept == {"best-1": [1], "epoch-1": [2], "best-3": [3], "epoch-2": [4]}


def test_training_continues_from_a_copy_of_its_state(pictures: np.ndarray, tmp_path: Path):
    """As undisturbed; the last step, which the run saves twice, can be copied too."""
    heard = Heard(tmp_path / "run", tmp_path / "kept")
    whole, _ = run(pictures, tmp_path / "run", with_epochs(2), listener=heard)
    reader = tf.train.load_checkpoint(str(tmp_path / "kept" / "epoch-2" / "last-4"))
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("weights/")]
    assert len(names) == len(whole.parameters())
    assert all(np.isfinite(reader.get_tensor(name)).all() for name in names)
    kept = CheckpointFolder(tmp_path / "kept" / "epoch-1", "last")
    kept.copy_newest(tmp_path / "fork" / "checkpoint")
    forked, _ = run(pictures, tmp_path / "fork", with_epochs(2), seed=7, resume=True)
    assert_equal(whole, forked)


# --- several stages


class Snapshots:
    """A listener that keeps the weights at the end of each epoch."""

    def __init__(self, model: EmbeddingModel) -> None:
        self.model = model
        self.taken = [weights(model)]

    def epoch_ended(self, epoch: int, step: int, means: Mapping[str, float]) -> None:
        self.taken.append(weights(self.model))

    def evaluated(self, step: int, metrics: Mapping[str, float], is_best: bool) -> None: ...


def run_staged(pictures: np.ndarray, run_dir: Path, recipe: Recipe) -> list[dict[str, np.ndarray]]:
    """Weights before training, then after each epoch."""
    model = built(0, recipe.model)
    listener = Snapshots(model)
    progress = Progress(run_dir, print, listener=listener)

    def batches(epoch: int, first: int) -> tf.data.Dataset:
        return feature_batches(pictures, LABELS, PLAN, first)

    train(recipe, model, batches, len(PLAN), progress)
    return listener.taken


def of(weights: dict[str, np.ndarray], start: str) -> dict[str, np.ndarray]:
    return {name: value for name, value in weights.items() if name.startswith(start)}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(value, other[name]) for name, value in one.items())


def test_a_stage_that_trains_the_heads_leaves_the_trunk_and_the_next_one_trains_it(
    pictures: np.ndarray,
    tmp_path: Path,
):
    stages = Stage(2, trains=HEADS), Stage(1)
    taken = run_staged(pictures, tmp_path, with_epochs(3, stages=stages))
    trunk = [of(weights, "resnet_v1_50/") for weights in taken]
    assert same(trunk[0], trunk[1]) and same(trunk[0], trunk[2]) and not same(trunk[2], trunk[3])
    for head in HEADS:
        parts = [of(weights, f"{head}/") for weights in taken]
        assert not any(same(before, after) for before, after in zip(parts, parts[1:]))


def test_the_trunk_follows_the_schedule_of_the_stage_that_trains_it(
    pictures: np.ndarray,
    tmp_path: Path,
):
    """Its rate falls to nothing after the first of its two epochs, however long it sat out."""
    decay = schema.StepDecay(every_epochs=1, factor=1e-12)
    optimizer = schema.Adam(1e-3, (RateFactor("trunk", 0.5),))
    stages = Stage(2, trains=HEADS), Stage(2, decay)
    recipe = with_epochs(4, stages=stages, optimizer=optimizer)
    trunk = [of(weights, "resnet_v1_50/") for weights in run_staged(pictures, tmp_path, recipe)]
    assert same(trunk[0], trunk[2]) and not same(trunk[2], trunk[3])
    for name, value in trunk[4].items():
        np.testing.assert_allclose(value, trunk[3][name], rtol=1e-6, atol=1e-9)


COSINES = Stage(2, schema.CosineDecay(), HEADS), Stage(2, schema.CosineDecay(1))


@pytest.fixture(scope="module")
def undisturbed(pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingModel:
    return run(pictures, tmp_path_factory.mktemp("whole"), with_epochs(4, stages=COSINES))[0]


@pytest.mark.parametrize("stop_at", [3, 4, 5])
def test_a_run_is_resumed_before_at_and_after_the_border_of_two_stages(
    pictures: np.ndarray, tmp_path: Path, undisturbed: EmbeddingModel, stop_at: int
):
    """Stage one ends with step 4; schedules and moments are those of an undisturbed run."""
    recipe = with_epochs(4, every_steps=stop_at, stages=COSINES)
    with pytest.raises(Killed):
        run(pictures, tmp_path, recipe, evaluate=killed)
    resumed, _ = run(pictures, tmp_path, with_epochs(4, stages=COSINES), 99, resume=True)
    assert_equal(resumed, undisturbed)


def test_stages_of_the_same_settings_are_one_long_stage(pictures: np.ndarray, tmp_path: Path):
    one, _ = run(pictures, tmp_path / "one", with_epochs(2))
    two, _ = run(pictures, tmp_path / "two", with_epochs(2, stages=(Stage(1), Stage(1))))
    assert_equal(one, two)


@pytest.mark.parametrize(
    ("epoch", "stage"),
    [(0, 0), (1, 0), (2, 1), (3, 2), (5, 2), (6, 2), (99, 2)],
)
def test_an_epoch_belongs_to_a_stage(epoch: int, stage: int):
    stages = Stage(2), Stage(1, schema.CosineDecay()), Stage(3, schema.StepDecay())
    assert stage_of(stages, epoch) is stages[stage]


def test_what_does_not_exist_or_is_not_built_is_refused_before_anything_is_written(
    pictures: np.ndarray,
    tmp_path: Path,
):
    refused = {
        r"^a stage names parameter group 'head'\. Known: trunk/block1, trunk/stem, attention, ": {
            "stages": (Stage(1), Stage(1, trains=("attention", "head")))
        },
        r"^Plateau is not built yet\. Built: ": {"stages": (Stage(1, schema.Plateau()),)},
        r"^NPair is not built yet\. Built: ": {"losses": (LossTerm(schema.NPair(), "logits"),)},
    }
    for message, changes in refused.items():
        with pytest.raises(UsageError, match=message):
            run(pictures, tmp_path, with_epochs(1, **changes))
    assert list(tmp_path.iterdir()) == []


# --- how long it takes


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (150.1, "3 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (100_000, "27.8 h"),
    ],
)
def test_durations(seconds: float, text: str):
    assert duration(seconds) == text


class Rate(loop.Throughput):
    """A machine that always trains 0.5 images in a second."""

    images_per_s = 0.5  # type: ignore[assignment]


def estimates(pictures: np.ndarray, run_dir: Path, epochs: int, **options: Any) -> list[str]:
    lines: list[str] = []
    run(pictures, run_dir, with_epochs(epochs), log=lines.append, **options)
    return [line for line in lines if "images/s" in line]


def test_a_long_run_says_once_what_an_epoch_takes(
    pictures: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """By hand: 2 steps of 4 images at 0.5 images/s are 16 s, 3 epochs 48 s; here 40 s are long, 50 s an hour."""
    monkeypatch.setattr(loop, "Throughput", Rate)
    monkeypatch.setattr(loop, "LONG_EPOCHS_S", 40.0)
    monkeypatch.setattr(loop, "HOUR_S", 50.0)
    takes = "\n0.5 images/s: an epoch takes about 16 s on this machine, "
    hint = ". For minutes instead of hours: --debug"
    assert estimates(pictures, tmp_path / "long", 3) == [f"{takes}3 epochs 48 s"]
    assert estimates(pictures, tmp_path / "longer", 4) == [f"{takes}4 epochs 64 s{hint}"]
    assert estimates(pictures, tmp_path / "short", 2) == []


def test_the_estimate_of_a_resumed_epoch_is_of_a_whole_one(
    pictures: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(loop, "Throughput", Rate)
    monkeypatch.setattr(loop, "LONG_EPOCHS_S", 40.0)
    monkeypatch.setattr(loop, "ESTIMATE_AFTER_STEPS", 1)
    with pytest.raises(Killed):
        run(pictures, tmp_path, with_epochs(3, every_steps=1), evaluate=killed)
    (line,) = estimates(pictures, tmp_path, 3, resume=True)
    assert "an epoch takes about 16 s" in line and "3 epochs 48 s" in line
