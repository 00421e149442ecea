"""Check batch norms that are folded in training against those of inference."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.models.trunks.slim import SlimTrunk

END_POINT = "resnet_v1_50/block1/unit_1/bottleneck_v1"


@pytest.mark.parametrize("layout", ["slim", "v1.5"])
def test_outputs_and_gradients_equal_those_of_batch_norms(layout: str):
    """The trunk without training has TF-Slim's batch norms: the slow version."""
    trunk = SlimTrunk(END_POINT, layout, weight_decay=0.0, freeze_batch_norm=True)
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, (2, 40, 40, 3)), tf.float32)
    trunk(images)
    rng = np.random.default_rng(1)
    for variable in trunk.variables:
        if "BatchNorm" in variable.name:
            variable.assign(rng.uniform(0.5, 2.0, variable.shape))
    before = [variable.numpy() for variable in trunk.variables]
    kinds = []

    def gradients(training: bool) -> list[np.ndarray]:
        @tf.function
        def graph() -> list[tf.Tensor]:
            with tf.GradientTape() as tape:
                features = trunk(images, training=training)[END_POINT]
                loss = tf.reduce_mean(tf.square(features)) + tf.reduce_mean(features)
            return [features, *tape.gradient(loss, trunk.trainable_variables)]

        found = [value.numpy() for value in graph()]
        kinds.append([op.type for op in graph.get_concrete_function().graph.get_operations()])
        return found

    for name, folded, plain in zip(
        ["features", *(variable.name for variable in trunk.trainable_variables)],
        gradients(True),
        gradients(False),
        strict=True,
    ):
        scale = np.abs(plain).max()
        assert scale > 0
        np.testing.assert_allclose(folded / scale, plain / scale, atol=1e-4, err_msg=name)
    # Folded: each gradient of a bias; else none.
    assert [ops.count("BiasAddGrad") for ops in kinds] == [5, 0]
    after = [variable.numpy() for variable in trunk.variables]
    assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))
