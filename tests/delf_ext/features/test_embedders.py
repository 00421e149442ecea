"""An untrained trunk and a trained run as embedders, and what their digests tell apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from data_io.artifacts import write_json
from delf_ext.config import LossConfig, ModelConfig, RunConfig
from delf_ext.features.embedders import network_embedder, read_run_config, run_embedder, weights_digest, zero_shot_embedder
from delf_ext.models.backbones import Backbone
from delf_ext.models.dual_head import DualHead
from delf_ext.models.pooling import POOLINGS, pool
from pretrained.convert import write_checkpoint

ENDPOINT, SIZE_PX = "resnet_v1_50/block1", 32
MODEL = ModelConfig(endpoint=ENDPOINT, image_size=SIZE_PX, num_classes=3)
RUN = RunConfig(model=MODEL, loss=LossConfig(train_logits=True, train_sim=True))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, SIZE_PX, SIZE_PX, 3), np.uint8)


@pytest.fixture(scope="module")
def trunk() -> Backbone:
    backbone = Backbone(ENDPOINT)
    backbone(tf.zeros([1, SIZE_PX, SIZE_PX, 3]))
    return backbone


@pytest.fixture(scope="module")
def checkpoint(trunk: Backbone, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "block1.ckpt"
    write_checkpoint(path, {variable.name.removesuffix(":0"): variable.numpy() for variable in trunk.variables})
    return str(path)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_zero_shot_is_the_pooled_end_point_at_unit_length(trunk: Backbone, checkpoint: str, pixels: np.ndarray, pooling: str):
    embedder, report = zero_shot_embedder(checkpoint, ENDPOINT, "slim", pooling, SIZE_PX)
    expected = pool(trunk(pixels)[ENDPOINT], pooling).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(embedder.embed(pixels), expected, atol=1e-5)
    assert (embedder.name, embedder.image_size) == (f"zero-shot {ENDPOINT} {pooling}", SIZE_PX)
    assert len(report.matched) == len(trunk.variables) and not report.missing


def test_digests_of_a_trunk_tell_all_that_changes_its_embeddings_apart(trunk: Backbone, checkpoint: str, tmp_path: Path):
    other = tmp_path / "other.ckpt"
    weights = {variable.name.removesuffix(":0"): variable.numpy() for variable in trunk.variables}
    weights["resnet_v1_50/conv1/BatchNorm/beta"] = weights["resnet_v1_50/conv1/BatchNorm/beta"] + np.eye(64, dtype=np.float32)[0]
    write_checkpoint(other, weights)
    usual = (checkpoint, ENDPOINT, "slim", "avg", SIZE_PX)
    asked = [
        usual,
        (str(other), ENDPOINT, "slim", "avg", SIZE_PX),
        (checkpoint, f"{ENDPOINT}/unit_3/bottleneck_v1", "slim", "avg", SIZE_PX),
        (checkpoint, ENDPOINT, "keras", "avg", SIZE_PX),
        (checkpoint, ENDPOINT, "slim", "gem", SIZE_PX),
        (checkpoint, ENDPOINT, "slim", "avg", 2 * SIZE_PX),
    ]
    digests = [zero_shot_embedder(*arguments)[0].digest for arguments in asked]
    assert len(set(digests)) == len(asked)
    assert zero_shot_embedder(*usual)[0].digest == digests[0]


def test_a_wrong_pooling_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match=r"unknown pooling 'max' \(--pooling\)"):
        zero_shot_embedder("absent.ckpt", ENDPOINT, "slim", "max", SIZE_PX)


def test_the_digest_of_weights_changes_when_one_number_does(trunk: Backbone):
    before = weights_digest(trunk)
    assert weights_digest(trunk) == before and len(before) == 12
    for variable in (trunk.variables[0], trunk.variables[-1]):
        value = variable.numpy()
        changed = value.copy()
        changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(9))
        variable.assign(changed)
        assert weights_digest(trunk) != before
        variable.assign(value)
    assert weights_digest(trunk) == before


@pytest.fixture(scope="module")
def network() -> DualHead:
    return DualHead(MODEL).build_variables()


def test_a_network_embeds_what_it_computes(network: DualHead, pixels: np.ndarray):
    embedder = network_embedder(network, "mine")
    np.testing.assert_allclose(embedder.embed(pixels), network(pixels)[0], atol=1e-5)
    assert (embedder.name, embedder.image_size, embedder.digest) == ("mine", SIZE_PX, network_embedder(network, "yours").digest)


def test_the_same_weights_in_another_configuration_have_another_digest(network: DualHead):
    """Neither the layout nor the skip connection has a variable of its own."""
    digests = {network_embedder(network, "").digest}
    for options in ({"layout": "keras"}, {"skipcon_attn": True}):
        other = DualHead(ModelConfig(endpoint=ENDPOINT, image_size=SIZE_PX, num_classes=3, **options)).build_variables()
        other.set_weights(network.get_weights())
        digests.add(network_embedder(other, "").digest)
    assert len(digests) == 3


def test_a_run_directory_gives_its_network_back(tmp_path: Path, network: DualHead, pixels: np.ndarray):
    run_dir = tmp_path / "mine"
    write_json(run_dir / "config.json", RUN.to_dict())
    with pytest.raises(ValueError, match="no checkpoint; the run has saved nothing yet"):
        run_embedder(run_dir)
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(network=network), str(run_dir / "checkpoint" / "best"), max_to_keep=1, checkpoint_name="best"
    )
    manager.save(12)
    embedder = run_embedder(run_dir)
    assert embedder.name == "dual_head mine (best-12)"
    assert embedder.digest == network_embedder(network, "").digest
    np.testing.assert_allclose(embedder.embed(pixels), network(pixels)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"config\.json: not found\."),
        ('{"model": {', r"config\.json: not readable as JSON"),
        ("[]", r"config\.json: not a run's configuration \(RunConfig must be a mapping"),
        (json.dumps({"dropout": 0.5}), r"config\.json: not a run's configuration \(unknown key dropout in RunConfig\. Known: "),
        (json.dumps(RUN.to_dict() | {"dev_percent": "half"}), r"config\.json: not a run's configuration \('<=' not supported"),
        (json.dumps(RUN.to_dict() | {"dev_percent": 2}), r"config\.json: not a run's configuration \(--dev_percent is a share"),
    ],
    ids=["missing", "half-written", "a list", "another system", "another type", "refused value"],
)
def test_a_directory_that_holds_no_usable_configuration_is_named(tmp_path: Path, content: str | None, message: str):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=f"^{tmp_path}/{message}"):
        read_run_config(tmp_path)
