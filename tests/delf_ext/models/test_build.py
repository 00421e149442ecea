"""Test that each built part of a recipe equals its NumPy twin, and the errors of the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.models.build import build_classifier, build_map, build_neck, build_pool
from delf_ext.recipes import schema
from delf_ext.recipes.part import Part, alternatives

RNG = np.random.default_rng(0)
FEATURES = RNG.uniform(0.1, 2, (3, 4, 2, 5))
ATTENTION = RNG.uniform(0, 3, (3, 4, 2, 1))
VECTORS = RNG.normal(size=(6, 5))

Layer = tf.keras.layers.Layer
Twin = Callable[[np.ndarray, Layer], np.ndarray]


def gem(p: float) -> np.ndarray:
    return (FEATURES**p).mean((1, 2)) ** (1 / p)


def lengths(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x, axis=-1, keepdims=True)


def rmac_of_three_regions() -> np.ndarray:
    """Level 1 of a 4 x 2 map: squares of 2; three overlap by half, two not at all."""
    maxima = [FEATURES[:, top : top + 2].max((1, 2)) for top in (0, 1, 2)]
    return sum(vector / lengths(vector) for vector in maxima)


WEIGHTED_SUM = (ATTENTION * FEATURES).sum((1, 2))
POOLS: dict[Part, np.ndarray] = {
    schema.Average(): FEATURES.mean((1, 2)),
    schema.Gem(): gem(3.0),
    schema.Gem(p=4.5, trainable=True): gem(4.5),
    schema.Maximum(): FEATURES.max((1, 2)),
    schema.Rmac(1): rmac_of_three_regions(),
    schema.FeatureNorm(): (lengths(FEATURES) * FEATURES).sum((1, 2)),
    schema.DelfAttention(): (ATTENTION * FEATURES / lengths(FEATURES)).mean((1, 2)),
    schema.DelfAttention(normalized=False): WEIGHTED_SUM,
    schema.DelfAttention(False, skip_connection=True): WEIGHTED_SUM + FEATURES.sum((1, 2)),
}


def dense(x: np.ndarray, layer: Layer) -> np.ndarray:
    return x @ layer.kernel.numpy().astype(np.float64) + layer.bias.numpy()


def normalized(x: np.ndarray, layer: Layer) -> np.ndarray:
    """Normalise each row, then apply the layer's scale and offset if it has them."""
    unit = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    scale = 1 if layer.gamma is None else layer.gamma.numpy()
    offset = 0 if layer.beta is None else layer.beta.numpy()
    return unit * scale + offset


def batch_normalized(x: np.ndarray, layer: Layer) -> np.ndarray:
    """Normalise with the stored statistics."""
    spread = np.sqrt(layer.moving_variance.numpy() + 1e-5)
    return (x - layer.moving_mean.numpy()) / spread * layer.gamma + layer.beta


def prelu(x: np.ndarray, layer: Layer) -> np.ndarray:
    return np.where(x > 0, x, x * layer.alpha.numpy())


def batch_relu(x: np.ndarray, neck: Layer) -> np.ndarray:
    return np.maximum(batch_normalized(dense(x, neck.linear), neck.norm), 0)


def layer_prelu(x: np.ndarray, neck: Layer) -> np.ndarray:
    return prelu(normalized(dense(x, neck.linear), neck.norm), neck.activation)


def cosine(x: np.ndarray, layer: Layer) -> np.ndarray:
    kernel = layer.kernel.numpy().astype(np.float64)
    return x @ kernel / lengths(x) / lengths(kernel.T).T


NECKS: dict[Part, Twin] = {
    schema.Dense(3): lambda x, one: dense(x, one.linear),
    schema.Dense(3, "relu"): lambda x, one: np.maximum(dense(x, one.linear), 0),
    schema.Dense(3, "prelu"): lambda x, one: prelu(dense(x, one.linear), one.activation),
    schema.Dense(3, dropout=0.5): lambda x, one: dense(x, one.linear),
    schema.Dense(3, "relu", "batch"): batch_relu,
    schema.Dense(3, "prelu", "layer", 0.5): layer_prelu,
    schema.LayerNorm(): normalized,
    schema.LayerNorm(affine=True): normalized,
    schema.Dropout(0.5): lambda x, one: x,
}
CLASSIFIERS: dict[Part, Twin] = {
    schema.Linear(): dense,
    schema.Cosine(): cosine,
}


def shown(config: Part) -> str:
    return str(config).replace(" ", "")


def scrambled(layer: Layer) -> Layer:
    """Set values that no initializer gives, so that the test sees each variable."""
    rng = np.random.default_rng(3)
    for variable in layer.variables:
        variable.assign(rng.uniform(0.3, 1.7, variable.shape))
    return layer


@pytest.mark.parametrize("config", POOLS, ids=shown)
def test_pool_equals_its_numpy_twin(config: Part):
    features, attention = (tf.constant(x, tf.float32) for x in (FEATURES, ATTENTION))
    np.testing.assert_allclose(build_pool(config)(features, attention), POOLS[config], rtol=1e-4)


WITHOUT_ATTENTION = [config for config in POOLS if not isinstance(config, schema.DelfAttention)]


@pytest.mark.parametrize("config", WITHOUT_ATTENTION, ids=shown)
def test_pools_without_attention_take_none(config: Part):
    found = build_pool(config)(tf.constant(FEATURES, tf.float32), None)
    np.testing.assert_allclose(found, POOLS[config], rtol=1e-4)


@pytest.mark.parametrize("config", NECKS, ids=shown)
def test_neck_equals_its_numpy_twin(config: Part):
    layer = build_neck(config, "dense1")
    layer(tf.zeros([1, 5]))
    expected = NECKS[config](VECTORS, scrambled(layer))
    found = layer(tf.constant(VECTORS, tf.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", CLASSIFIERS, ids=shown)
def test_classifier_equals_its_numpy_twin(config: Part):
    layer = build_classifier(config, 7)
    layer(tf.zeros([1, 5]))
    expected = CLASSIFIERS[config](VECTORS, scrambled(layer))
    assert expected.shape == (6, 7)
    found = layer(tf.constant(VECTORS, tf.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


KINDS: list[tuple[Any, tuple[Any, ...], Any, dict[Part, Any]]] = [
    (build_pool, (), schema.Pool, POOLS),
    (build_neck, ("name",), schema.NeckLayer, NECKS),
    (build_classifier, (7,), schema.Classifier, CLASSIFIERS),
    (build_map, (), schema.MapPart, {}),
]


@pytest.mark.parametrize(("build", "_", "union", "twins"), KINDS)
def test_each_registered_part_has_a_twin_in_this_file(
    build: Any,
    _: Any,
    union: Any,
    twins: dict[Part, Any],
):
    registered = {kind for kind in build.registry if kind is not object and kind is not Part}
    assert registered == {type(config) for config in twins} <= set(alternatives(union))


@pytest.mark.parametrize(("build", "arguments", "union", "twins"), KINDS)
def test_unbuilt_part_raises_usage_error_listing_built_ones(
    build: Any,
    arguments: tuple[Any, ...],
    union: Any,
    twins: dict[Part, Any],
):
    built = ", ".join(sorted({type(config).__name__ for config in twins})) or "none of its kind"
    known = {type(config) for config in twins}
    others = [kind for kind in alternatives(union) if kind not in known]
    for kind in (*others, schema.Constant):
        with pytest.raises(UsageError) as caught:
            build(kind(), *arguments)
        assert str(caught.value) == f"{kind.__name__} is not built yet. Built: {built}."


def test_messages_of_unbuilt_parts():
    with pytest.raises(UsageError, match=r"^TreePath is not built yet\. Built: Cosine, Linear\.$"):
        build_classifier(schema.TreePath(), 3)
    message = r"^AttentionMasks is not built yet\. Built: none of its kind\.$"
    with pytest.raises(UsageError, match=message):
        build_map(schema.AttentionMasks())
