"""Check the training loop on a network cut after its first unit and eight 32 px images."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from data_io.batches import feature_batches
from data_io.checkpoint_folder import CheckpointFolder
from data_io.files.artifacts import read_json
from delf_ext.config import UsageError
from delf_ext.models.embedding_model import EmbeddingModel, read_weights
from delf_ext.recipes import schema
from delf_ext.recipes.schema import Head, LossTerm, RateFactor, Recipe, Stage
from delf_ext.training import loop
from delf_ext.training.finite import NotFinite
from delf_ext.training.loop import RunSettings, format_duration, stage_of, train

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
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    base = np.where(LABELS == 0, 60, 190)[:, None, None, None]
    return np.clip(base + rng.normal(0, 20, (8, 32, 32, 3)), 0, 255).astype(np.float32)


def built_model(seed: int = 0, model: schema.Model = RECIPE.model) -> EmbeddingModel:
    tf.keras.utils.set_random_seed(seed)
    return EmbeddingModel(model, 2).build_variables()


def with_epochs(epochs: int, every_steps: int = 0, **changes: Any) -> Recipe:
    """Return RECIPE with other epochs, steps between evaluations, and fields."""
    validation = schema.Given(every_steps) if every_steps else None
    changes = {"stages": (Stage(epochs),), "validation": validation, **changes}
    return dataclasses.replace(RECIPE, **changes)


def run(
    images: np.ndarray, run_dir: Path, recipe: Recipe = RECIPE, seed: int = 0, **options: Any
) -> tuple[EmbeddingModel, dict[str, float]]:
    """Train RECIPE; return the model and the means of the last epoch."""
    model = built_model(seed, recipe.model)
    settings = RunSettings(run_dir, **{"log": print, "checkpoint_every_steps": 1, **options})
    return model, train(recipe, model, batches_of(images), len(PLAN), settings)


def batches_of(images: np.ndarray) -> loop.EpochBatches:
    def batches(epoch: int, first_step: int) -> tf.data.Dataset:
        return feature_batches(images, LABELS, PLAN, first_step)

    return batches


def weights(model: EmbeddingModel, group: str = "") -> dict[str, np.ndarray]:
    return {
        parameter.name: parameter.variable.numpy()
        for parameter in model.parameters()
        if parameter.group.startswith(group)
    }


def assert_equal(actual: EmbeddingModel, expected: Mapping[str, np.ndarray]) -> None:
    for name, value in weights(actual).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


def metrics_in_turn(*values: float, name: str = "mAP") -> Callable[[], dict[str, float]]:
    """Return an evaluation that returns one value after the other."""
    remaining = iter(values)
    others = {"mAP": 0.0, "recall_at_1": 0.0, "mean_last_rank": 1.0}
    return lambda: {**others, name: next(remaining)}


def curve_names(run_dir: Path) -> set[str]:
    (events,) = run_dir.glob("events.*")
    iterator = tf.compat.v1.train.summary_iterator(str(events))
    return {value.tag for event in iterator for value in event.summary.value}


class Listener:
    """A listener that records the means of each epoch, and the weights of a model if it has one."""

    def __init__(self, model: EmbeddingModel | None = None) -> None:
        self.model = model
        self.means: list[Mapping[str, float]] = []
        self.weights = [] if model is None else [weights(model)]

    def epoch_ended(self, epoch: int, step: int, means: Mapping[str, float]) -> None:
        self.means.append(means)
        if self.model is not None:
            self.weights.append(weights(self.model))

    def evaluated(self, step: int, metrics: Mapping[str, float], is_best: bool) -> None: ...


# --- one stage


def test_loss_falls_and_curves_are_written(images: np.ndarray, tmp_path: Path, capsys):
    listener = Listener()
    _, last = run(images, tmp_path, with_epochs(8), listener=listener)
    shown = capsys.readouterr().out
    assert "Epoch 3/8" in shown and shown.count("images_per_s:") == 8
    assert last["loss"] < 0.7 * listener.means[0]["loss"]
    assert set(last) == {"loss", "logits", "sim", "accuracy", "images_per_s"}
    assert {f"train/{name}" for name in last} <= curve_names(tmp_path)


class Killed(Exception):
    """Stands for the end of the process."""


def kill() -> dict[str, float]:
    raise Killed


@pytest.fixture(scope="module")
def two_epochs(
    images: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, np.ndarray]]:
    """Return the weights before an uninterrupted run of RECIPE, and after each of two epochs."""
    return run_staged(images, tmp_path_factory.mktemp("two"), with_epochs(2))


def test_resumed_run_equals_an_uninterrupted_run(
    images: np.ndarray, tmp_path: Path, two_epochs: list[dict[str, np.ndarray]]
):
    with pytest.raises(Killed):
        run(images, tmp_path / "cut", with_epochs(2, every_steps=3), evaluate=kill)
    lines: list[str] = []
    # The seed gives other initial weights, so the right ones are from disk.
    options = {"log": lines.append, "evaluate": metrics_in_turn(0.5, 0.4)}
    resumed, _ = run(images, tmp_path / "cut", with_epochs(2, 3), 99, resume=True, **options)
    # The evaluation that was cut off is done again.
    assert lines[0] == "continuing at step 2 of 4"
    assert lines[1].startswith("\nstep 3: dev mAP 0.5000")
    assert_equal(resumed, two_epochs[2])


def test_run_without_resume_ignores_checkpoints_and_a_finished_one_is_only_evaluated(
    images: np.ndarray, tmp_path: Path, two_epochs: list[dict[str, np.ndarray]]
):
    run(images, tmp_path, seed=8)
    whole, _ = run(images, tmp_path, with_epochs(2))
    assert_equal(whole, two_epochs[2])
    calls: list[int] = []

    def evaluate() -> dict[str, float]:
        calls.append(1)
        return {"mAP": 0.5}

    again, logs = run(images, tmp_path, with_epochs(2), 5, resume=True, evaluate=evaluate)
    assert_equal(again, two_epochs[2])
    assert calls == [1]
    assert logs == {}
    assert CheckpointFolder(tmp_path / "checkpoint", "best").numbers() == [4]


def test_best_weights_are_saved(
    images: np.ndarray, tmp_path: Path, two_epochs: list[dict[str, np.ndarray]]
):
    lines: list[str] = []
    recipe = with_epochs(2, every_steps=1)
    evaluate = metrics_in_turn(0.2, 0.9, 0.4, 0.3)
    run(images, tmp_path, recipe, evaluate=evaluate, log=lines.append)
    best = CheckpointFolder(tmp_path / "checkpoint", "best").newest()
    assert best is not None and best.name == "best-2"
    loaded = built_model(5)
    read_weights(loaded, best)
    assert_equal(loaded, two_epochs[1])
    other_metrics = "recall_at_1 0.0000 mean_last_rank 1.0000"
    assert lines == [
        f"\nstep 1: dev mAP 0.2000 {other_metrics} (best so far, kept)",
        f"\nstep 2: dev mAP 0.9000 {other_metrics} (best so far, kept)",
        f"\nstep 3: dev mAP 0.4000 {other_metrics}",
        f"\nstep 4: dev mAP 0.3000 {other_metrics}",
    ]
    assert "dev/mAP" in curve_names(tmp_path)


def test_selection_by_mean_last_rank_saves_the_lowest(images: np.ndarray, tmp_path: Path):
    recipe = with_epochs(2, every_steps=1, task=schema.Retrieval("mean_last_rank"))
    evaluate = metrics_in_turn(50.0, 20.0, 70.0, 30.0, name="mean_last_rank")
    lines: list[str] = []
    run(images, tmp_path, recipe, evaluate=evaluate, log=lines.append)
    note = read_json(tmp_path / "checkpoint" / "best.json")
    assert note == {"checkpoints": [2], "facts": {"mean_last_rank": 20.0}}
    assert lines[2] == "\nstep 3: dev mean_last_rank 70.0000 mAP 0.0000 recall_at_1 0.0000"


def test_end_of_a_run_is_evaluated_once(images: np.ndarray, tmp_path: Path):
    """The run has 4 steps: it is evaluated at 3 and 4, or only at 4."""
    for every_steps, expected in ((3, 2), (4, 1)):
        calls: list[int] = []

        def evaluate(calls: list[int] = calls) -> dict[str, float]:
            calls.append(1)
            return {"mAP": 0.5}

        run(images, tmp_path / str(every_steps), with_epochs(2, every_steps), evaluate=evaluate)
        assert len(calls) == expected


def test_only_the_heads_of_a_frozen_trunk_change(images: np.ndarray, tmp_path: Path):
    trunk = dataclasses.replace(TRUNK, frozen=("trunk",))
    config = dataclasses.replace(RECIPE.model, trunk=trunk)
    model = built_model(model=config)
    maps = model.trunk(images)[model.trunk.endpoint].numpy()
    before = weights(model)
    trainable = {parameter.name for parameter in model.parameters() if parameter.variable.trainable}
    recipe = with_epochs(1, model=config)
    train(recipe, model, batches_of(maps), len(PLAN), RunSettings(tmp_path, print))
    after = weights(model)
    for name in weights(model, "trunk/"):
        np.testing.assert_array_equal(before[name], after[name])
    heads = trainable - set(weights(model, "trunk/"))
    assert len(heads) == 11
    assert all(np.any(before[name] != after[name]) for name in heads)


# --- listeners


class Recorder:
    """A listener that records its calls, and copies the checkpoint in each."""

    def __init__(self, run_dir: Path, copies: Path) -> None:
        self.last = CheckpointFolder(run_dir / "checkpoint", "last")
        self.copies = copies
        self.calls: list[tuple] = []

    def epoch_ended(self, epoch: int, step: int, means: Mapping[str, float]) -> None:
        self.calls.append(("epoch", epoch, step, sorted(means)))
        self.last.copy_newest(self.copies / f"epoch-{epoch}")

    def evaluated(self, step: int, metrics: Mapping[str, float], is_best: bool) -> None:
        self.calls.append(("dev", step, metrics["mAP"], is_best))
        if is_best:
            self.last.copy_newest(self.copies / f"best-{step}")


def test_listener_is_called_and_training_resumes_from_its_copy_of_a_checkpoint(
    images: np.ndarray, tmp_path: Path, two_epochs: list[dict[str, np.ndarray]]
):
    recorder = Recorder(tmp_path / "run", tmp_path / "copies")
    evaluate = metrics_in_turn(0.3, 0.2, 0.5, 0.4)
    options = {"evaluate": evaluate, "listener": recorder, "checkpoint_every_steps": 99}
    run(images, tmp_path / "run", with_epochs(2, every_steps=1), **options)
    names = ["accuracy", "images_per_s", "logits", "loss", "sim"]
    assert recorder.calls == [
        ("dev", 1, 0.3, True),
        ("dev", 2, 0.2, False),
        ("epoch", 1, 2, names),
        ("dev", 3, 0.5, True),
        ("dev", 4, 0.4, False),
        ("epoch", 2, 4, names),
    ]
    folders = list(recorder.copies.iterdir())
    copied = {folder.name: CheckpointFolder(folder, "last").numbers() for folder in folders}
    assert copied == {"best-1": [1], "epoch-1": [2], "best-3": [3], "epoch-2": [4]}
    # The last checkpoint is copied too.
    reader = tf.train.load_checkpoint(str(recorder.copies / "epoch-2" / "last-4"))
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("weights/")]
    assert len(names) == len(two_epochs[2])
    assert all(np.isfinite(reader.get_tensor(name)).all() for name in names)
    copy = CheckpointFolder(recorder.copies / "epoch-1", "last")
    copy.copy_newest(tmp_path / "fork" / "checkpoint")
    forked, _ = run(images, tmp_path / "fork", with_epochs(2), seed=7, resume=True)
    assert_equal(forked, two_epochs[2])


# --- several stages


def run_staged(images: np.ndarray, run_dir: Path, recipe: Recipe) -> list[dict[str, np.ndarray]]:
    """Train; return the weights before training, then after each epoch."""
    model = built_model(0, recipe.model)
    listener = Listener(model)
    settings = RunSettings(run_dir, print, listener=listener)
    train(recipe, model, batches_of(images), len(PLAN), settings)
    return listener.weights


def named(weights: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name: value for name, value in weights.items() if name.startswith(prefix)}


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(value, right[name]) for name, value in left.items())


def test_stage_trains_only_its_groups(
    images: np.ndarray,
    tmp_path: Path,
):
    stages = (Stage(2, trains=HEADS), Stage(1))
    snapshots = run_staged(images, tmp_path, with_epochs(3, stages=stages))
    trunk = [named(weights, "resnet_v1_50/") for weights in snapshots]
    assert same(trunk[0], trunk[1])
    assert same(trunk[0], trunk[2])
    assert not same(trunk[2], trunk[3])
    for head in HEADS:
        of_head = [named(weights, f"{head}/") for weights in snapshots]
        assert not any(same(before, after) for before, after in zip(of_head, of_head[1:]))


def test_trunk_uses_the_schedule_of_the_stage_that_trains_it(
    images: np.ndarray,
    tmp_path: Path,
):
    """Its rate falls to nearly 0 after the first of its two epochs."""
    decay = schema.StepDecay(every_epochs=1, factor=1e-12)
    optimizer = schema.Adam(1e-3, (RateFactor("trunk", 0.5),))
    stages = (Stage(2, trains=HEADS), Stage(2, decay))
    recipe = with_epochs(4, stages=stages, optimizer=optimizer)
    trunk = [named(weights, "resnet_v1_50/") for weights in run_staged(images, tmp_path, recipe)]
    assert same(trunk[0], trunk[2])
    assert not same(trunk[2], trunk[3])
    for name, value in trunk[4].items():
        np.testing.assert_allclose(value, trunk[3][name], rtol=1e-6, atol=1e-9)


COSINES = (Stage(2, schema.CosineDecay(), HEADS), Stage(2, schema.CosineDecay(1)))


@pytest.fixture(scope="module")
def in_stages(
    images: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, np.ndarray], Path]:
    """Return the weights of an uninterrupted run, and copies best-1 to best-8 of its state."""
    folder = tmp_path_factory.mktemp("whole")
    recorder = Recorder(folder / "run", folder / "copies")
    evaluate = metrics_in_turn(*(number / 10 for number in range(8)))
    recipe = with_epochs(4, every_steps=1, stages=COSINES)
    model, _ = run(images, folder / "run", recipe, evaluate=evaluate, listener=recorder)
    return weights(model), folder / "copies"


@pytest.mark.parametrize("stop_at", [3, 4, 5])
def test_run_resumes_before_at_and_after_the_end_of_a_stage(
    images: np.ndarray,
    tmp_path: Path,
    in_stages: tuple[dict[str, np.ndarray], Path],
    stop_at: int,
):
    """Stage one ends with step 4. Schedules and moments equal those of an uninterrupted run."""
    expected, copies = in_stages
    state = CheckpointFolder(copies / f"best-{stop_at}", "last")
    state.copy_newest(tmp_path / "checkpoint")
    lines: list[str] = []
    recipe = with_epochs(4, stages=COSINES)
    resumed, _ = run(images, tmp_path, recipe, 99, resume=True, log=lines.append)
    assert lines[0] == f"continuing at step {stop_at} of 8"
    assert_equal(resumed, expected)


def test_two_equal_stages_give_the_result_of_one_long_stage(
    images: np.ndarray, tmp_path: Path, two_epochs: list[dict[str, np.ndarray]]
):
    two, _ = run(images, tmp_path / "two", with_epochs(2, stages=(Stage(1), Stage(1))))
    assert_equal(two, two_epochs[2])


@pytest.mark.parametrize(
    ("epoch", "stage"),
    [(0, 0), (1, 0), (2, 1), (3, 2), (5, 2), (6, 2), (99, 2)],
)
def test_stage_of_returns_the_stage_of_an_epoch(epoch: int, stage: int):
    stages = (Stage(2), Stage(1, schema.CosineDecay()), Stage(3, schema.StepDecay()))
    assert stage_of(stages, epoch) is stages[stage]


def test_invalid_recipe_is_refused_before_files_are_written(
    images: np.ndarray,
    tmp_path: Path,
):
    changes_by_message = {
        r"^NPair is not built yet\. Built: ": {"losses": (LossTerm(schema.NPair(), "logits"),)},
    }
    for message, changes in changes_by_message.items():
        with pytest.raises(UsageError, match=message):
            run(images, tmp_path, with_epochs(1, **changes))
    assert list(tmp_path.iterdir()) == []


# --- averages, plateaus, several batches in an update


def test_averages_are_saved_and_evaluated_but_not_trained_from(images: np.ndarray, tmp_path: Path):
    """The slow version averages the weights after each step by hand."""
    recipe = with_epochs(3, every_steps=1)
    states: list[dict[str, np.ndarray]] = []
    model = built_model()
    settings = RunSettings(
        tmp_path / "plain", print, lambda: {"mAP": float(len(states.append(weights(model)) or "1"))}
    )
    expected = weights(model)
    train(recipe, model, batches_of(images), len(PLAN), settings)
    assert len(states) == 6
    for number, state in enumerate(states, start=1):
        kept = min(0.9, (1 + number) / (10 + number))
        expected = {name: kept * expected[name] + (1 - kept) * state[name] for name in state}

    averaged = dataclasses.replace(recipe, averaging=schema.Ema(0.9))
    evaluated: list[dict[str, np.ndarray]] = []
    model = built_model()
    evaluations = iter(range(1, 7))

    def evaluate() -> dict[str, float]:
        evaluated.append(weights(model))
        return {"mAP": float(next(evaluations))}

    settings = RunSettings(tmp_path / "ema", print, evaluate)
    train(averaged, model, batches_of(images), len(PLAN), settings)
    opened = built_model(9)
    for prefix in ("last", "best"):
        newest = CheckpointFolder(tmp_path / "ema" / "checkpoint", prefix).newest()
        assert newest is not None
        read_weights(opened, newest)
        for found in (weights(opened), evaluated[-1], weights(model)):
            for name, value in found.items():
                np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5)


PARTS: dict[str, dict[str, Any]] = {
    "ema and plateau with a frozen stem": {
        "averaging": schema.Ema(0.9),
        "stages": (Stage(3, schema.Plateau(1, 0.1)),),
        "model": dataclasses.replace(
            RECIPE.model, trunk=dataclasses.replace(TRUNK, frozen=("trunk/stem",))
        ),
    },
    "swa and two batches in an update": {
        "averaging": schema.Swa(1, 1),
        "batches_per_update": 2,
        "optimizer": schema.AdamW(1e-3),
    },
}


@pytest.mark.parametrize("part", PARTS)
def test_run_with_a_state_of_its_own_resumes_equal(images: np.ndarray, tmp_path: Path, part: str):
    """The evaluations depend on the step alone, and are worse than the first one."""
    recipe = with_epochs(3, every_steps=2, **PARTS[part])

    def run_until(run_dir: Path, kill_at: int, seed: int, **options: Any) -> EmbeddingModel:
        counts = iter(range(1, 99))

        def evaluate() -> dict[str, float]:
            if next(counts) == kill_at:
                raise Killed
            return {"mAP": 0.5}

        return run(images, run_dir, recipe, seed, evaluate=evaluate, **options)[0]

    whole = weights(run_until(tmp_path / "whole", 0, 0))
    with pytest.raises(Killed):
        run_until(tmp_path / "cut", 2, 0)
    assert_equal(run_until(tmp_path / "cut", 0, 99, resume=True), whole)


def test_plateau_lowers_the_rate_of_all_optimizers(images: np.ndarray, tmp_path: Path):
    recipe = with_epochs(3, every_steps=1, stages=(Stage(3, schema.Plateau(2, 0.5)),))
    model = built_model()
    prepared = loop.prepare(recipe, model, len(PLAN), tmp_path, print)
    lines: list[str] = []
    settings = RunSettings(tmp_path, lines.append, lambda: {"mAP": 0.5}, prepared=prepared)
    train(recipe, model, batches_of(images), len(PLAN), settings)
    # Evaluations 3 and 5 of 6 end a wait of two; the step after 6 would have the same rate.
    assert [line.rpartition(" now ")[2] for line in lines if "no better" in line] == [
        "0.5 of the first one",
        "0.25 of the first one",
    ]
    rates = sorted(float(group.optimizer.learning_rate) for group in prepared.groups)
    np.testing.assert_allclose(rates, [0.25e-3, 2.5e-3], rtol=1e-6)


def test_plateau_follows_evaluations_after_epochs_in_its_own_stages(
    images: np.ndarray, tmp_path: Path
):
    """Stages 2 and 4 are equal, but only 4 shares the plateau."""
    stages = (Stage(1), Stage(1, None), Stage(1, schema.Plateau(1, 0.5)), Stage(1, None))
    recipe = with_epochs(4, stages=stages, validation=schema.Given(0))
    lines: list[str] = []
    run(images, tmp_path, recipe, log=lines.append, evaluate=lambda: {"mAP": 0.5})
    assert [line for line in lines if "no better" in line] == [
        "no better value in 1 evaluation: the learning rate is now 0.5 of the first one"
    ]
    assert [line[:8] for line in lines if "dev mAP" in line] == [
        f"\nstep {step}:" for step in (2, 4, 6, 8)
    ]


def test_plateau_without_a_dev_split_is_refused(images: np.ndarray, tmp_path: Path):
    recipe = with_epochs(1, every_steps=1, stages=(Stage(1, schema.Plateau()),))
    with pytest.raises(UsageError, match="Plateau follows the evaluation on the dev split"):
        run(images, tmp_path, recipe)
    assert not (tmp_path / "checkpoint").exists()


# --- estimates of time


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
def test_format_duration(seconds: float, text: str):
    assert format_duration(seconds) == text


class SlowMachine(loop.Throughput):
    """Throughput of a machine that trains 0.5 images per second."""

    images_per_s = 0.5  # type: ignore[assignment]


def estimates(images: np.ndarray, run_dir: Path, epochs: int, **options: Any) -> list[str]:
    lines: list[str] = []
    run(images, run_dir, with_epochs(epochs), log=lines.append, **options)
    return [line for line in lines if "images/s" in line]


def test_long_run_logs_an_estimate_once(
    images: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """By hand: 2 steps of 4 images at 0.5 images/s take 16 s, and 4 epochs take 64 s."""
    monkeypatch.setattr(loop, "Throughput", SlowMachine)
    monkeypatch.setattr(loop, "LONG_RUN_S", 40.0)
    monkeypatch.setattr(loop, "VERY_LONG_RUN_S", 50.0)
    start = "\n0.5 images/s: an epoch takes about 16 s on this machine, "
    hint = ". For minutes instead of hours: --debug"
    assert estimates(images, tmp_path / "long", 4) == [f"{start}4 epochs 64 s{hint}"]
    assert estimates(images, tmp_path / "short", 2) == []


def test_costs_of_stages_weigh_pixels_and_the_way_back():
    """A stage that trains only heads, one at the size of the recipe, and one at 4 x the pixels."""
    stages = (Stage(2, trains=HEADS), Stage(1), Stage(1, None, size_px=64))
    costs = loop.relative_costs(with_epochs(4, stages=stages))
    assert [cost / costs[0] for cost in costs] == [1, 3, 12]


def test_estimate_of_a_resumed_epoch_is_of_a_whole_epoch(
    images: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(loop, "Throughput", SlowMachine)
    monkeypatch.setattr(loop, "LONG_RUN_S", 40.0)
    monkeypatch.setattr(loop, "VERY_LONG_RUN_S", 50.0)
    monkeypatch.setattr(loop, "ESTIMATE_AFTER_STEPS", 1)
    with pytest.raises(Killed):
        run(images, tmp_path, with_epochs(3, every_steps=1), evaluate=kill)
    (line,) = estimates(images, tmp_path, 3, resume=True)
    assert "an epoch takes about 16 s" in line and line.endswith(", 3 epochs 48 s")


# --- numbers that are not finite


def test_first_loss_that_is_not_finite_stops_the_training(images: np.ndarray, tmp_path: Path):
    model = built_model()

    class Spoiler(Listener):
        """Spoils a weight after step 2 was evaluated and saved."""

        def epoch_ended(self, epoch: int, step: int, means: Mapping[str, float]) -> None:
            model.named_variables()["logits/classifier/bias"].assign([np.nan, 0.0])

    settings = RunSettings(
        tmp_path,
        print,
        evaluate=metrics_in_turn(0.5, 0.6),
        listener=Spoiler(),
        checkpoint_every_steps=1,
    )
    recipe = with_epochs(2, every_steps=2)
    with pytest.raises(NotFinite) as caught:
        train(recipe, model, batches_of(images), len(PLAN), settings)
    last = tmp_path / "checkpoint" / "last-2"
    assert str(caught.value).startswith("training stopped at step 3: loss nan, logits nan, sim ")
    assert f"The last good checkpoint, {last}, is kept. Likely remedies: " in str(caught.value)
    assert CheckpointFolder(tmp_path / "checkpoint", "best").numbers() == [2]
    assert CheckpointFolder(tmp_path / "checkpoint", "last").numbers() == [1, 2]
    read_weights(model, last)
    assert all(np.isfinite(value).all() for value in weights(model).values())


def test_gradient_that_is_not_finite_stops_the_training_before_it_is_saved(
    images: np.ndarray, tmp_path: Path
):
    # Rectifiers hide NaN from the loss, but not from the gradients.
    spoilt = images.copy()
    spoilt[PLAN[1, 0]] = np.nan
    with pytest.raises(NotFinite, match=r"^training stopped at step 2: .* is not finite any more"):
        run(spoilt, tmp_path, with_epochs(2, every_steps=1), evaluate=metrics_in_turn(0.5, 0.6))
    assert CheckpointFolder(tmp_path / "checkpoint", "last").numbers() == [0, 1]
    model = built_model()
    for path in (tmp_path / "checkpoint").glob("*.index"):
        read_weights(model, path.with_suffix(""))
        assert all(np.isfinite(value).all() for value in weights(model).values())


def test_dropout_is_equal_after_a_resume(images: np.ndarray, tmp_path: Path):
    heads = (
        RECIPE.model.heads[0],
        dataclasses.replace(
            RECIPE.model.heads[1],
            neck=(schema.Dense(16, "relu", dropout=0.5), schema.Dropout(0.3), schema.Dense(8)),
        ),
    )
    recipe = with_epochs(1, model=dataclasses.replace(RECIPE.model, heads=heads))
    whole, _ = run(images, tmp_path / "whole", recipe)
    run_dir = Path(shutil.copytree(tmp_path / "whole", tmp_path / "cut"))
    # As if the process had been killed after step 1 of 2.
    for path in (run_dir / "checkpoint").glob("last-2*"):
        path.write_bytes(b"")
    resumed, _ = run(images, run_dir, recipe, resume=True)
    expected = weights(whole)
    for name, value in weights(resumed).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_trained_pooling_batch_norm_and_prelu_are_equal_after_a_resume(
    images: np.ndarray, tmp_path: Path
):
    """The head of the Lotte winner: GeM, linear layer, batch norm, PReLU; ArcFace on it."""
    neck = schema.Dense(8, "prelu", "batch")
    head = Head("main", schema.Gem(trainable=True), (neck,), schema.Cosine())
    rate = schema.Adam(1e-3, (RateFactor("pool", 100),))
    recipe = Recipe(
        "lotte",
        schema.Model(TRUNK, (head,)),
        (LossTerm(schema.ArcFace(class_weights="log", adaptive_power=0.25)),),
        rate,
        (Stage(2),),
        schema.Input(32),
        schema.Shuffled(4),
        validation=None,
    )
    whole, _ = run(images, tmp_path / "whole", recipe, images_per_class=(4, 4))
    run_dir = Path(shutil.copytree(tmp_path / "whole", tmp_path / "cut"))
    for path in (run_dir / "checkpoint").glob("last-4*"):
        path.write_bytes(b"")
    resumed, _ = run(images, run_dir, recipe, resume=True, images_per_class=(4, 4))
    expected = weights(whole)
    for name, value in weights(resumed).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    roles = {name.removeprefix("main/") for name in expected if name.startswith("main/")}
    norm = {f"dense1_norm/{n}" for n in ("gamma", "beta", "moving_mean", "moving_variance")}
    assert roles == norm | {
        "gem/p",
        "dense1/kernel",
        "dense1/bias",
        "dense1_prelu/alpha",
        "classifier/kernel",
    }
    # Adam moves p by about its learning rate, 0.1, in each of four steps.
    assert 0.2 < abs(float(expected["main/gem/p"]) - 3.0) < 0.6
    assert np.any(expected["main/dense1_norm/moving_mean"])
    groups = {one.name: one.group for one in whole.parameters()}
    assert groups["main/gem/p"] == "main/pool"
