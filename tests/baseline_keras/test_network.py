from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from baseline_keras.network import build_embedding, build_network, compile_network


def test_network_at_224_px_has_the_official_number_of_weights():
    # Computed by hand.
    # 3x3: 9*3*32+32 = 896; 9*32*32+32 = 9,248; 9*32*64+64 = 18,496; 9*64*64+64 = 36,928.
    # Sides: 224 same, 222 valid, 111 pooled, 111 same, 109 valid, 54 pooled.
    # Flat: 54*54*64 = 186,624. Dense: 186,624*512+512 = 95,552,000; 512*1000+1000 = 513,000.
    # Sum: 96,130,568.
    network = build_network(1000, 224)
    assert network.count_params() == 96_130_568
    sides = [
        layer.output_shape[1]
        for layer in network.layers
        if isinstance(layer, (tf.keras.layers.Conv2D, tf.keras.layers.MaxPooling2D))
    ]
    assert sides == [224, 222, 111, 111, 109, 54]
    (flat,) = (layer for layer in network.layers if isinstance(layer, tf.keras.layers.Flatten))
    assert flat.output_shape == (None, 186_624)
    assert network.output_shape == (None, 1000)


def test_layers_are_the_official_ones():
    expected = [
        ("Conv2D", {"filters": 32, "kernel_size": (3, 3), "padding": "same", "activation": "relu"}),
        (
            "Conv2D",
            {"filters": 32, "kernel_size": (3, 3), "padding": "valid", "activation": "relu"},
        ),
        ("MaxPooling2D", {"pool_size": (2, 2)}),
        ("Dropout", {"rate": 0.25}),
        ("Conv2D", {"filters": 64, "kernel_size": (3, 3), "padding": "same", "activation": "relu"}),
        (
            "Conv2D",
            {"filters": 64, "kernel_size": (3, 3), "padding": "valid", "activation": "relu"},
        ),
        ("MaxPooling2D", {"pool_size": (2, 2)}),
        ("Dropout", {"rate": 0.25}),
        ("Flatten", {}),
        ("Dense", {"units": 512, "activation": "relu"}),
        ("Dropout", {"rate": 0.5}),
        ("Dense", {"units": 7, "activation": "linear"}),
        ("Activation", {"activation": "softmax"}),
    ]
    layers = build_network(7, 32).layers
    assert [type(layer).__name__ for layer in layers] == [name for name, _ in expected]
    for layer, (_, settings) in zip(layers, expected, strict=True):
        config = layer.get_config()
        assert {key: config[key] for key in settings} == settings


def test_embedding_is_the_output_before_the_softmax():
    network = build_network(5, 16)
    images = np.random.default_rng(0).random((3, 16, 16, 3), np.float32)
    logits = build_embedding(network)(images).numpy()
    assert logits.shape == (3, 5)
    np.testing.assert_allclose(tf.nn.softmax(logits), network(images), rtol=1e-5)
    assert not np.allclose(logits.sum(axis=1), 1)


def test_optimizer_step_equals_hand_computation():
    network = build_network(2, 16)
    compile_network(network)
    optimizer = network.optimizer
    weight = tf.Variable(1.0)
    # RMSprop with rho = 0.9: the accumulator is 0.1 * g^2 after the first step, the step is
    # rate * g / (sqrt(accumulator) + 1e-7), and the rate is 4.5e-4 / (1 + 1e-6 * step).
    for step, accumulator in ((0, 0.1), (1, 0.19)):
        before = weight.numpy()
        optimizer.apply_gradients([(tf.constant(2.0), weight)])
        expected = 4.5e-4 / (1 + 1e-6 * step) * 2 / (np.sqrt(accumulator * 4) + 1e-7)
        assert before - weight.numpy() == pytest.approx(expected, rel=1e-4)
    assert optimizer.get_config()["decay"] == 1e-6
    # ReduceLROnPlateau sets the rate in this way.
    optimizer.learning_rate = 4.5e-5
    assert optimizer.lr.numpy() == pytest.approx(4.5e-5)


def test_build_network_refuses_one_class_and_tiny_images():
    with pytest.raises(ValueError, match="at least two classes. Received 1"):
        build_network(1, 64)
    with pytest.raises(ValueError, match="image_size must be at least 10. Received 9"):
        build_network(2, 9)
    assert build_network(2, 10).get_layer("logits").output_shape == (None, 2)
