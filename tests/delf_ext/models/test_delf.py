"""Test dense attention and descriptors of one pyramid level."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from delf_ext.features.local.whitening import learn_whitening
from delf_ext.models.attention import Attention
from delf_ext.models.delf import Delf
from delf_ext.models.trunks.slim import SlimTrunk

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3)).astype(np.float32)


def _features(backbone: SlimTrunk) -> np.ndarray:
    return backbone(PIXELS)["vgg_16/pool2"].numpy()


def test_attention_without_training_is_the_length_of_the_features() -> None:
    backbone = SlimTrunk("vgg_16/pool2")
    attention, descriptors = Delf(backbone, "vgg_16/pool2")(PIXELS)
    features = _features(backbone)
    assert attention.shape == (2, 16, 24) and descriptors.shape == (2, 16, 24, 128)
    np.testing.assert_allclose(attention, np.linalg.norm(features, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(
        descriptors, features / np.linalg.norm(features, axis=-1, keepdims=True), atol=1e-5
    )


def test_trained_attention_is_used() -> None:
    backbone, attention = SlimTrunk("vgg_16/pool2"), Attention()
    scores, _ = Delf(backbone, "vgg_16/pool2", attention)(PIXELS)
    np.testing.assert_allclose(
        scores, attention(tf.constant(_features(backbone)))[..., 0], rtol=1e-5
    )


def test_end_point_before_the_last_one_works() -> None:
    backbone = SlimTrunk("vgg_16/pool3")
    _, descriptors = Delf(backbone, "vgg_16/pool2")(PIXELS)
    assert descriptors.shape == (2, 16, 24, 128)


def test_whitening_in_the_graph_equals_its_numpy_twin() -> None:
    delf = Delf(SlimTrunk("vgg_16/pool2"), "vgg_16/pool2")
    plain = delf(PIXELS)[1].numpy().reshape(-1, 128)
    whitening = learn_whitening(plain, 16)
    delf.whiten(whitening.mean, whitening.projection)
    whitened = delf(PIXELS)[1].numpy().reshape(-1, 16)
    projected = (plain - whitening.mean) @ whitening.projection
    expected = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(whitened, expected, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(whitened, axis=1), 1.0, atol=1e-5)
