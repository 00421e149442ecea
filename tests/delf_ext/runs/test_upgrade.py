"""Test runs of format 1: recipe, facts, weights and errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from data_io.checkpoint_folder import readable_prefix
from delf_ext.app.training import resume
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.recipes import schema
from delf_ext.recipes.schema import Recipe
from delf_ext.runs.opening import open_model
from delf_ext.runs.recipe_run import load_model, recipe_of
from delf_ext.runs.run_directory import read_run
from delf_ext.runs.sources import Runtime
from delf_ext.runs.upgrade import new_name, old_checkpoint

CONFIG: dict[str, Any] = {
    "system": "dual_head",
    "data": "/photos",
    "pretrained_model": "/weights/resnet_v1_50.ckpt",
    "dev_percent": 0.25,
    "dev_split": "random",
    "dev_querynum": 30,
    "dev_referencenum": 2,
    "first_images": 0,
    "seed": 3,
    "deterministic": True,
    "mixed_precision": "off",
    "class_names": ["a", "b", "c"],
    "model": {
        "endpoint": "resnet_v1_50/block1/unit_1/bottleneck_v1",
        "layout": "slim",
        "image_size": 32,
        "num_classes": 3,
        "similarity_head": True,
        "stop_gradient_sim": True,
        "skipcon_attn": False,
        "logit_concat_sim": True,
        "weight_decay": 0.0,
        "freeze_batch_norm": False,
        "batch_norm_decay": 0.9,
    },
    "loss": {
        "train_logits": True,
        "train_sim": True,
        "train_sim_dist": False,
        "train_max_neg": False,
        "train_triplet": False,
        "train_max_neg_topk": 5,
        "margin": 0.3,
        "logits_weight": 1.0,
        "sim_weight": 0.5,
        "sim_dist_weight": 1.0,
        "max_neg_weight": 1.0,
        "triplet_weight": 1.0,
    },
    "training": {
        "epochs": 7,
        "batch_size": 8,
        "images_per_class": 0,
        "lr": 0.001,
        "classifier_lr_factor": 10.0,
        "lr_schedule": "cosine",
        "freeze_backbone": False,
        "eval_every_steps": 4,
        "checkpoint_every_steps": 50,
        "augmentation": ["crop", "noise"],
    },
}
"""All keys of config.json as the first version wrote it."""


class Slots(tf.Module):
    """Module with the old attribute names, which become the keys of a checkpoint."""

    def __init__(self, **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def old_network(model: EmbeddingModel) -> Slots:
    """Return the model with the attribute names of the first version."""
    logits, similarity = model.heads.by_name["logits"], model.heads.by_name["similarity"]
    hidden, output_layer = (layer.linear for layer in similarity.neck)
    heads = Slots(
        attention=model.heads.attention,
        logits=Slots(classifier=logits.classifier),
        similarity=Slots(hidden=hidden, output_layer=output_layer),
    )
    return Slots(backbone=model.trunk, heads=heads)


def save(network: Slots, folder: Path, kind: str, number: int) -> None:
    """Save as the first version did: with a CheckpointManager in checkpoint/KIND."""
    optimizers = {f"{name}_optimizer": tf.keras.optimizers.Adam() for name in ("slow", "fast")}
    optimizers["slow_optimizer"].build(network.heads.similarity.hidden.trainable_variables)
    optimizers["fast_optimizer"].build(network.heads.logits.classifier.trainable_variables)
    step = tf.Variable(number, dtype=tf.int64, trainable=False, name="step")
    training_state = {**optimizers, "step": step} if kind == "last" else {}
    checkpoint = tf.train.Checkpoint(network=network, **training_state)
    manager = tf.train.CheckpointManager(checkpoint, str(folder / kind), 2, checkpoint_name=kind)
    manager.save(checkpoint_number=number)


@pytest.fixture(scope="module")
def old_run_template(model: EmbeddingModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("old") / "[2024] w*?"
    (path / "checkpoint").mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(CONFIG))
    save(old_network(model), path / "checkpoint", "last", 6)
    save(old_network(model), path / "checkpoint", "best", 3)
    return path


@pytest.fixture
def old_run(old_run_template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(old_run_template, tmp_path / "old [1]"))


def test_fixture_has_the_checkpoint_keys_of_format_1(old_run_template: Path) -> None:
    """The expected keys are those of a run that the first version trained."""
    prefix = readable_prefix(old_run_template / "checkpoint" / "best" / "best-3")
    keys = tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
    heads = {key for key in keys if key.startswith("network/heads/")}
    layers = {
        "attention/hidden": ("kernel",),
        "attention/norm": ("beta", "gamma", "moving_mean", "moving_variance"),
        "attention/score": ("kernel", "bias"),
        "logits/classifier": ("kernel", "bias"),
        "similarity/hidden": ("kernel", "bias"),
        "similarity/output_layer": ("kernel", "bias"),
    }
    value = ".ATTRIBUTES/VARIABLE_VALUE"
    pairs = [(layer, role) for layer, roles in layers.items() for role in roles]
    assert heads == {f"network/heads/{layer}/{role}/{value}" for layer, role in pairs}
    trunk = "network/backbone/_tf1_style_var_store/_vars/resnet_v1_50.Sconv1.Sweights"
    assert f"{trunk}/{value}" in keys


def test_old_run_embeds_as_its_weights_and_stays_unchanged(
    old_run: Path,
    expected: np.ndarray,
    photographs: np.ndarray,
) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in old_run.rglob("*"))
    opened = open_model(old_run, Runtime(mixed_precision="off"), store=False)
    np.testing.assert_allclose(opened.embed(photographs), expected, atol=1e-6)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in old_run.rglob("*")) == before
    assert opened.name == "mandoo_dual old [1] (best-3)" and opened.image_size == 32


def test_all_weights_of_an_old_run_are_loaded(old_run: Path, model: EmbeddingModel) -> None:
    loaded, name = load_model(read_run(old_run))
    variables = loaded.named_variables()
    expected = model.named_variables()
    assert name == "best-3" and variables.keys() == expected.keys()
    for key, variable in expected.items():
        np.testing.assert_array_equal(variables[key].numpy(), variable.numpy(), err_msg=key)


def test_config_json_becomes_recipe_and_facts(old_run: Path, tiny: Recipe) -> None:
    run = read_run(old_run)
    recipe = recipe_of(run)
    assert run.is_old and run.kind == "recipe" and isinstance(recipe, Recipe)
    assert recipe.model.heads == tiny.model.heads and recipe.model.embedding == ("similarity",)
    assert (recipe.model.trunk.layout, recipe.model.trunk.batch_norm_decay) == ("slim", 0.9)
    assert [term.weight for term in recipe.losses] == [1.0, 0.5]
    assert recipe.stages == (schema.Stage(7, schema.CosineDecay()),)
    assert recipe.validation == schema.RandomClasses(4, 0.25, 30, 2)
    assert recipe.input == schema.Input(32, (schema.Crop(), schema.Noise()))
    assert (recipe.optimizer.lr, recipe.sampling) == (0.001, schema.Pairs(8))
    facts = run.facts
    assert (facts.data, facts.class_names, facts.seed) == ("/photos", ("a", "b", "c"), 3)
    assert facts.weights == "/weights/resnet_v1_50.ckpt"
    assert facts.settings == {"seed": 3, "deterministic": True, "mixed_precision": "off"}


def test_last_checkpoint_is_used_without_a_best_one(
    old_run: Path,
    expected: np.ndarray,
    photographs: np.ndarray,
) -> None:
    shutil.rmtree(old_run / "checkpoint" / "best")
    opened = open_model(old_run, Runtime(mixed_precision="off"), store=False)
    np.testing.assert_allclose(opened.embed(photographs), expected, atol=1e-6)
    assert opened.name.endswith("(last-6)")


def test_absolute_paths_in_a_copied_run_are_ignored(old_run: Path) -> None:
    note = old_run / "checkpoint" / "best" / "checkpoint"
    note.write_text('model_checkpoint_path: "/elsewhere/checkpoint/best/best-3"\n')
    assert old_checkpoint(old_run / "checkpoint") == old_run / "checkpoint/best/best-3"


def test_resuming_an_old_run_is_an_error_that_suggests_from_run(old_run: Path) -> None:
    with pytest.raises(ValueError) as caught:
        resume(old_run)
    assert str(caught.value) == (
        f"{old_run}: an earlier version made this run. It can be opened and evaluated, "
        f"and a new run can start from its weights: --from_run={old_run}"
    )


# --- errors


def test_old_run_without_checkpoint_is_an_error(old_run: Path) -> None:
    shutil.rmtree(old_run / "checkpoint")
    with pytest.raises(ValueError) as caught:
        open_model(old_run)
    hint = "the run has not saved one yet. Pass --resume to continue its training."
    assert str(caught.value) == f"{old_run / 'checkpoint'}: no checkpoint; {hint}"


def write_config(old_run: Path, **changes: Any) -> None:
    (old_run / "config.json").write_text(json.dumps({**CONFIG, **changes}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"system": "other"}, "system is 'other'"),
        ({"system": None}, "system is None"),
        ({"model": {}}, "'endpoint'"),
        ({"class_names": 3}, "class_names must be a list. Received 3"),
        ({"dev_percent": 7.0}, "--dev_percent must be at least 0 and below 1. Received 7.0"),
    ],
)
def test_wrong_configuration_is_an_error_with_the_reason(
    old_run: Path,
    changes: dict[str, Any],
    reason: str,
) -> None:
    write_config(old_run, **changes)
    with pytest.raises(ValueError) as caught:
        read_run(old_run)
    assert (
        str(caught.value)
        == f"{old_run / 'config.json'}: not the configuration of a run ({reason})."
    )


@pytest.mark.parametrize("content", ["[]", "3", '{"model": 3}'])
def test_config_json_of_another_shape_is_an_error(old_run: Path, content: str) -> None:
    (old_run / "config.json").write_text(content)
    with pytest.raises(ValueError) as caught:
        read_run(old_run)
    message = f"{old_run / 'config.json'}: not the configuration of a run (system is None)."
    assert str(caught.value) == message


def test_half_written_configuration_is_an_error(old_run: Path) -> None:
    (old_run / "config.json").write_text('{"system": "dual')
    with pytest.raises(ValueError, match=r"config\.json: not readable as JSON \(.*half-written"):
        read_run(old_run)


def test_weights_of_another_network_are_an_error(old_run: Path) -> None:
    write_config(old_run, class_names=["a", "b"])
    with pytest.raises(ValueError) as caught:
        load_model(read_run(old_run))
    prefix = old_run / "checkpoint" / "best" / "best-3"
    beginning = f"{prefix}: damaged, or of another network than config.json ("
    assert str(caught.value).startswith(beginning) and "\n" not in str(caught.value)
    write_config(old_run, model={**CONFIG["model"], "endpoint": "resnet_v1_50/block1"})
    with pytest.raises(ValueError) as missing:
        load_model(read_run(old_run))
    assert "it has no resnet_v1_50/block1/unit_2/bottleneck_v1/conv1/" in str(missing.value)


def test_error_for_damaged_old_checkpoint_is_one_line(old_run: Path) -> None:
    (data,) = (old_run / "checkpoint" / "best").glob("*.data*")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(ValueError) as caught:
        load_model(read_run(old_run))
    prefix = old_run / "checkpoint" / "best" / "best-3"
    beginning = f"{prefix}: damaged, or of another network than config.json ("
    assert str(caught.value).startswith(beginning) and "\n" not in str(caught.value)


# --- parameter names, and the official baseline

STORE = "network/backbone/_tf1_style_var_store/_vars"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("network/heads/attention/norm/gamma/.ATTRIBUTES/VARIABLE_VALUE", "attention/norm/gamma"),
        ("network/heads/attention/score/bias/.ATTRIBUTES/VARIABLE_VALUE", "attention/conv2/bias"),
        (
            f"{STORE}/vgg_16.Sconv1.Sweights/.ATTRIBUTES/VARIABLE_VALUE",
            "vgg_16/conv1/weights",
        ),
        ("step/.ATTRIBUTES/VARIABLE_VALUE", None),
        ("slow_optimizer/_variables/1/.ATTRIBUTES/VARIABLE_VALUE", None),
        (
            "network/heads/logits/classifier/kernel/.OPTIMIZER_SLOT/a/m/.ATTRIBUTES/VARIABLE_VALUE",
            None,
        ),
        ("_CHECKPOINTABLE_OBJECT_GRAPH", None),
    ],
)
def test_new_name(
    key: str,
    expected: str | None,
) -> None:
    assert new_name(key) == expected


def test_old_run_of_the_baseline_is_read(tmp_path: Path) -> None:
    config = {
        "system": "keras_baseline",
        "data": "/photos",
        "seed": 4,
        "class_names": ["a", "b"],
        "image_size": 32,
        "num_classes": 2,
        "epochs": 3,
        "batch_size": 8,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    run = read_run(tmp_path)
    assert run.kind == "keras_baseline" and run.is_old and run.facts.seed == 4
    assert run.recipe == {"image_size": 32, "num_classes": 2, "epochs": 3, "batch_size": 8}
    assert run.facts.class_names == ("a", "b")
