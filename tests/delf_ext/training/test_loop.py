"""Training proper, on a network cut after its first block and eight 32 px pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from data_io.batches import feature_batches
from delf_ext.config import LossConfig, ModelConfig, TrainConfig
from delf_ext.models.checkpoints import load_network
from delf_ext.models.dual_head import DualHead
from delf_ext.training.loop import train
from delf_ext.training.objective import Objective
from delf_ext.training.schedules import learning_rate
from delf_ext.training.state import RunState, copy_last

MODEL = ModelConfig(endpoint="resnet_v1_50/block1", image_size=32, num_classes=2, freeze_batch_norm=True)
LOSS = LossConfig(train_logits=True, train_sim=True)
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
PLAN = np.array([[0, 1, 2, 4], [5, 6, 7, 3]])


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    rng = np.random.default_rng(0)
    base = np.where(LABELS == 0, 60, 190)[:, None, None, None]
    return np.clip(base + rng.normal(0, 20, (8, 32, 32, 3)), 0, 255).astype(np.float32)


def build(seed: int = 0) -> tuple[DualHead, Objective]:
    tf.keras.utils.set_random_seed(seed)
    network = DualHead(MODEL).build_variables()
    return network, Objective(network, LOSS, network.heads.classifier_variables)


def run(
    pictures: np.ndarray,
    run_dir: Path,
    epochs: int,
    resume: bool = False,
    evaluate_dev=None,
    seed: int = 0,
    listener=None,
    **settings,
):
    network, objective = build(seed)
    config = TrainConfig(epochs=epochs, batch_size=4, lr=1e-3, **{"checkpoint_every_steps": 1, **settings})
    logs = train(
        objective,
        network,
        lambda epoch, first: feature_batches(pictures, LABELS, PLAN, first),
        len(PLAN),
        config,
        run_dir,
        evaluate_dev,
        resume,
        listener,
    )
    return network, logs


def weights(network: DualHead) -> list[np.ndarray]:
    return [variable.numpy() for variable in network.variables]


def curve_names(run_dir: Path) -> set[str]:
    (events,) = run_dir.glob("events.*")
    return {value.tag for event in tf.compat.v1.train.summary_iterator(str(events)) for value in event.summary.value}


def test_the_loss_falls_and_curves_are_written(pictures: np.ndarray, tmp_path: Path, capsys) -> None:
    _, first = run(pictures, tmp_path / "a", epochs=1)
    _, last = run(pictures, tmp_path / "b", epochs=8)
    shown = capsys.readouterr().out
    assert "Epoch 3/8" in shown and shown.count("images_per_s:") == 1 + 8
    assert last["loss"] < 0.7 * first["loss"]
    assert set(last) == {"loss", "logits", "sim", "accuracy", "images_per_s"}
    assert "train/images_per_s" in curve_names(tmp_path / "b")


def test_a_resumed_run_ends_where_an_undisturbed_one_does(pictures: np.ndarray, tmp_path: Path) -> None:
    undisturbed, _ = run(pictures, tmp_path / "whole", epochs=2)

    class Killed(Exception):
        pass

    def killed_at_step_3() -> dict[str, float]:
        raise Killed

    with pytest.raises(Killed):
        run(pictures, tmp_path / "cut", epochs=2, evaluate_dev=killed_at_step_3, eval_every_steps=3)
    resumed, _ = run(pictures, tmp_path / "cut", epochs=2, resume=True, seed=99)  # other initial weights: all comes from disk
    for ours, theirs in zip(weights(resumed), weights(undisturbed), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(pictures: np.ndarray, tmp_path: Path, capsys) -> None:
    run(pictures, tmp_path, epochs=1)
    newest = sorted((tmp_path / "checkpoint" / "last").glob("last-2.data*"))[0]
    newest.write_bytes(newest.read_bytes()[:100])
    network, objective = build(1)
    objective.set_optimizers(tf.keras.optimizers.Adam(), tf.keras.optimizers.Adam())
    assert RunState(objective, network, tmp_path / "checkpoint").restore() == 1
    assert "last-2: not readable" in capsys.readouterr().out
    for data in (tmp_path / "checkpoint" / "last").glob("*.data*"):
        data.write_bytes(b"")
    with pytest.raises(ValueError, match="none of its checkpoints can be read; delete the folder"):
        RunState(objective, network, tmp_path / "checkpoint").restore()


def test_the_best_weights_are_kept_apart(pictures: np.ndarray, tmp_path: Path) -> None:
    maps = iter([0.2, 0.9, 0.4, 0.3])
    dev = lambda: {"mAP": next(maps), "recall_at_1": 0.0, "mean_last_rank": 1.0}  # noqa: E731
    run(pictures, tmp_path, epochs=2, evaluate_dev=dev, eval_every_steps=1)
    assert load_network(build(5)[0], tmp_path / "checkpoint") == "best-2"


def test_load_network_falls_back_to_last_and_names_an_empty_folder(pictures: np.ndarray, tmp_path: Path) -> None:
    trained, _ = run(pictures, tmp_path, epochs=1)
    loaded = build(7)[0]
    assert load_network(loaded, tmp_path / "checkpoint") == "last-2"
    for ours, theirs in zip(weights(loaded), weights(trained), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="no checkpoint; the run has saved nothing yet"):
        load_network(loaded, tmp_path / "nowhere")


def test_a_frozen_trunk_stays_and_its_heads_learn(pictures: np.ndarray, tmp_path: Path) -> None:
    network, _ = build()
    maps = network.backbone(pictures)[network.backbone.endpoint].numpy()
    trunk_before = [variable.numpy() for variable in network.backbone.variables]
    heads_before = [variable.numpy() for variable in network.heads.trainable_variables]
    objective = Objective(network.heads, LOSS, network.heads.classifier_variables)
    config = TrainConfig(epochs=1, batch_size=4, lr=1e-3)
    train(objective, network, lambda epoch, first: feature_batches(maps, LABELS, PLAN, first), len(PLAN), config, tmp_path)
    for before, variable in zip(trunk_before, network.backbone.variables, strict=True):
        np.testing.assert_array_equal(before, variable.numpy())
    assert all(np.any(a != v.numpy()) for a, v in zip(heads_before, network.heads.trainable_variables, strict=True))


def test_learning_rate_schedules() -> None:
    assert learning_rate(0.1, "constant", 10) == 0.1
    cosine = learning_rate(0.1, "cosine", 10)
    np.testing.assert_allclose([cosine(0), cosine(5), cosine(10)], [0.1, 0.05, 0.0], atol=1e-8)  # (1 + cos(pi t / T)) / 2


class Heard:
    """A listener that keeps a copy of the state whenever it may."""

    def __init__(self, run_dir: Path, kept: Path) -> None:
        self.run_dir, self.kept, self.said = run_dir, kept, []

    def epoch_ended(self, epoch: int, step: int, means) -> None:
        self.said.append(("epoch", epoch, step, sorted(means)))
        copy_last(self.run_dir / "checkpoint", self.kept / f"epoch-{epoch}")

    def evaluated(self, step: int, metrics, is_best: bool) -> None:
        self.said.append(("dev", step, metrics["mAP"], is_best))
        if is_best:
            copy_last(self.run_dir / "checkpoint", self.kept / f"best-{step}")


def test_a_listener_hears_of_epochs_and_evaluations(pictures: np.ndarray, tmp_path: Path) -> None:
    figures = iter([0.3, 0.2, 0.5, 0.4])

    def evaluate_dev() -> dict[str, float]:
        return {"mAP": next(figures), "recall_at_1": 0.0, "mean_last_rank": 1.0}

    heard = Heard(tmp_path / "run", tmp_path / "kept")
    run(pictures, tmp_path / "run", 2, evaluate_dev=evaluate_dev, listener=heard, eval_every_steps=1, checkpoint_every_steps=99)
    names = ["accuracy", "images_per_s", "logits", "loss", "sim"]
    first, second = ("epoch", 1, 2, names), ("epoch", 2, 4, names)
    assert heard.said == [
        ("dev", 1, 0.3, True),
        ("dev", 2, 0.2, False),
        first,
        ("dev", 3, 0.5, True),
        ("dev", 4, 0.4, False),
        second,
    ]
    kept = {folder.name: tf.train.latest_checkpoint(str(folder / "last")) for folder in (tmp_path / "kept").iterdir()}
    assert {name: Path(path).name for name, path in kept.items()} == {
        "best-1": "last-1", "epoch-1": "last-2", "best-3": "last-3", "epoch-2": "last-4"
    }  # fmt: skip


def test_training_goes_on_from_a_copy_of_its_state(pictures: np.ndarray, tmp_path: Path) -> None:
    """As undisturbed; and of the last step too, which the run saves once more, in place of the files that were copied."""
    heard = Heard(tmp_path / "run", tmp_path / "kept")
    whole, _ = run(pictures, tmp_path / "run", 2, listener=heard)
    reader = tf.train.load_checkpoint(str(tmp_path / "kept" / "epoch-2" / "last" / "last-4"))
    assert all(np.isfinite(reader.get_tensor(name)).all() for name in reader.get_variable_to_shape_map() if "network" in name)
    copy_last(tmp_path / "kept" / "epoch-1", tmp_path / "fork" / "checkpoint")
    forked, _ = run(pictures, tmp_path / "fork", 2, resume=True, seed=7)
    for one, other in zip(weights(whole), weights(forked), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no checkpoint in it"):
        copy_last(tmp_path / "nothing", tmp_path / "elsewhere")
