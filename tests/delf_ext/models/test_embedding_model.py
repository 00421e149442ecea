"""Test the parameters of a model, and by gradients which loss trains which part of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.losses.build import build_loss
from delf_ext.losses.loss import Targets
from delf_ext.models.embedding_model import EmbeddingModel, in_group, read_weights
from delf_ext.recipes import schema
from delf_ext.recipes.mandoo_dual import from_flags

NUM_CLASSES = 5
LABELS = tf.constant([0, 0, 1, 2])
ALL_LOSSES = ("train_logits", "train_sim", "train_sim_dist", "train_max_neg", "train_triplet")
UNIT_1 = schema.Trunk(end_point="block1/unit_1/bottleneck_v1")


def tiny(*heads: schema.Head, trunk: schema.Trunk = UNIT_1) -> EmbeddingModel:
    own = heads or (schema.Head("main", classifier=schema.Linear()),)
    return EmbeddingModel(schema.Model(trunk, own, (own[-1].name,)), NUM_CLASSES)


# --- the network of the 2018 original


@pytest.fixture(scope="module", params=[True, False], ids=["stop_gradient_sim", "joint"])
def model(request: pytest.FixtureRequest) -> EmbeddingModel:
    """Return the full trunk with all connections into the similarity head."""
    tf.keras.utils.set_random_seed(0)
    flags = dict.fromkeys((*ALL_LOSSES, "skipcon_attn", "logit_concat_sim"), True)
    recipe = from_flags({**flags, "stop_gradient_sim": request.param})
    return EmbeddingModel(recipe.model, NUM_CLASSES).build_variables()


@pytest.fixture(scope="module")
def photographs() -> tf.Tensor:
    return tf.constant(np.random.default_rng(2).integers(0, 256, (4, 64, 64, 3)), tf.float32)


def test_embeddings_have_unit_length_and_end_points_have_names(
    model: EmbeddingModel,
    photographs: tf.Tensor,
):
    output = model(photographs)
    np.testing.assert_allclose(np.linalg.norm(output.embedding, axis=1), 1, atol=1e-5)
    trunk = {f"resnet_v1_50/block{block}" for block in (1, 2, 3, 4)}
    assert {"attention"} | trunk <= set(output.endpoints)
    assert output.endpoints["attention"].shape == (4, 2, 2, 1)
    assert output.heads["logits"].logits.shape == (4, NUM_CLASSES)
    again = model.heads(output.endpoints["resnet_v1_50/block4"])
    np.testing.assert_allclose(output.embedding, again.embedding, atol=1e-6)


def largest_gradients(model: EmbeddingModel, photographs: tf.Tensor) -> dict[str, dict[str, float]]:
    """Return loss -> part of the model -> largest absolute gradient; 0 if there is none."""
    parts = {
        "trunk": model.trunk.trainable_variables,
        "attention": model.heads.attention.trainable_variables,
        "logits": model.heads.by_name["logits"].trainable_variables,
        "similarity": model.heads.by_name["similarity"].trainable_variables,
    }
    terms = from_flags(dict.fromkeys(ALL_LOSSES, True)).losses
    with tf.GradientTape(persistent=True) as tape:
        output = model(photographs, training=True)
        targets = Targets(LABELS)
        losses = {term.shown_name: build_loss(term.loss, term.head) for term in terms}
        values = {name: loss(output, targets) for name, loss in losses.items()}
    largest: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        largest[name] = {part: _largest(tape.gradient(value, own)) for part, own in parts.items()}
    return largest


def _largest(gradients: list[tf.Tensor | None]) -> float:
    reached = [float(tf.reduce_max(tf.abs(one))) for one in gradients if one is not None]
    return max(reached, default=0.0)


def test_each_loss_trains_its_parts_only(model: EmbeddingModel, photographs: tf.Tensor):
    largest = largest_gradients(model, photographs)
    assert set(largest) == {"logits", "sim", "sim_dist", "max_neg", "triplet"}
    of_logits = largest.pop("logits")
    assert min(of_logits[part] for part in ("trunk", "attention", "logits")) > 1e-8
    assert of_logits["similarity"] == 0
    for loss, parts in largest.items():
        assert parts["similarity"] > 1e-8, loss
        upstream = [parts[part] for part in ("trunk", "attention", "logits")]
        if model.config.head("similarity").stop_gradient:
            assert upstream == [0, 0, 0], loss
        else:
            assert min(upstream) > 1e-8, loss


def test_names_of_the_dual_heads_parameters(model: EmbeddingModel):
    # Checkpoints have these names: a change makes old runs unreadable.
    all_groups = {one.name: one.group for one in model.parameters()}
    trunk = {name: group for name, group in all_groups.items() if group.startswith("trunk/")}
    groups = {name: group for name, group in all_groups.items() if name not in trunk}
    norm = ("gamma", "beta", "moving_mean", "moving_variance")
    attention = ["conv1/kernel", *(f"norm/{name}" for name in norm), "conv2/kernel", "conv2/bias"]
    expected = {f"attention/{name}": "attention" for name in attention}
    for name in ("kernel", "bias"):
        expected[f"logits/classifier/{name}"] = "logits/classifier"
        expected[f"similarity/dense1/{name}"] = "similarity/neck"
        expected[f"similarity/dense2/{name}"] = "similarity/neck"
    assert groups == expected
    assert set(trunk.values()) == {"trunk/stem", *(f"trunk/block{block}" for block in (1, 2, 3, 4))}
    assert trunk["resnet_v1_50/conv1/weights"] == "trunk/stem"
    assert trunk["resnet_v1_50/block3/unit_2/bottleneck_v1/conv1/weights"] == "trunk/block3"
    assert len(trunk) == 265


# --- parameters of any model


def test_each_variable_is_one_parameter_with_a_unique_name():
    neck = (
        schema.Dense(4, "prelu", "batch", 0.5),
        schema.Dense(3, "relu", "layer"),
        schema.LayerNorm(affine=True),
        schema.LayerNorm(),
    )
    pools = schema.Gem(trainable=True), schema.DelfAttention()
    classifiers = schema.Cosine(), schema.Linear()
    model = tiny(
        *(
            schema.Head(name, pool, neck, classifier)
            for name, pool, classifier in zip(("one", "two"), pools, classifiers, strict=True)
        )
    ).build_variables()
    parameters = model.parameters()
    assert {id(one.variable) for one in parameters} == {id(one) for one in model.variables}
    assert len(parameters) == len({one.name for one in parameters}) == len(model.variables)
    of_one = {name.name: name.group for name in parameters if name.name.startswith("one/")}
    norm = ("gamma", "beta", "moving_mean", "moving_variance")
    assert of_one == {
        "one/gem/p": "one/pool",
        "one/dense1/kernel": "one/neck",
        "one/dense1/bias": "one/neck",
        **{f"one/dense1_norm/{name}": "one/neck" for name in norm},
        "one/dense1_prelu/alpha": "one/neck",
        "one/dense2/kernel": "one/neck",
        "one/dense2/bias": "one/neck",
        "one/dense2_norm/gamma": "one/neck",
        "one/dense2_norm/beta": "one/neck",
        "one/layer_norm3/gamma": "one/neck",
        "one/layer_norm3/beta": "one/neck",
        "one/classifier/kernel": "one/classifier",
    }
    of_two = {one.name.removeprefix("two/") for one in parameters if one.name.startswith("two/")}
    expected = {name.removeprefix("one/") for name in of_one} - {"gem/p"} | {"classifier/bias"}
    assert of_two == expected
    assert model.named_variables() == {one.name: one.variable for one in parameters}


def test_names_do_not_depend_on_what_the_model_is_part_of():
    class Outer(tf.keras.Model):
        def __init__(self, inner: EmbeddingModel) -> None:
            super().__init__(name="outer")
            self.inner = inner

        def call(self, images: tf.Tensor) -> tf.Tensor:
            return self.inner(images).embedding

    pool, neck = schema.Gem(trainable=True), (schema.Dense(2, "prelu"),)
    head = schema.Head("main", pool, neck, schema.Cosine())
    alone, inside = tiny(head).build_variables(), tiny(head)
    Outer(inside)(tf.zeros([1, 64, 64, 3]))
    assert [one[:2] for one in inside.parameters()] == [one[:2] for one in alone.parameters()]


@pytest.mark.parametrize(
    ("parameter_group", "group", "expected"),
    [
        ("trunk/block1", "trunk", True),
        ("trunk/block1", "trunk/block1", True),
        ("trunk/block1", "block1", True),
        ("trunk/block10", "trunk/block1", False),
        ("attention", "attention", True),
        ("logits/classifier", "classifier", True),
        ("logits/classifier", "logits", True),
        ("logits/classifier", "logits/neck", False),
        ("trunk/block1", "trunk/block1/unit_1", False),
        ("logits/classifier", "", False),
    ],
)
def test_in_group_compares_whole_words(
    parameter_group: str,
    group: str,
    expected: bool,
):
    assert in_group(parameter_group, group) is expected


def test_recipe_settings_reach_the_trunk():
    config = schema.Trunk(
        end_point="block1",
        layout="v1.5",
        weight_decay=0.25,
        batch_norm="inference",
        batch_norm_decay=0.5,
    )
    trunk = tiny(trunk=config).trunk
    assert (trunk.endpoint, trunk.layout.padded_pool) == ("resnet_v1_50/block1", True)
    assert (trunk.weight_decay, trunk.freeze_batch_norm, trunk.batch_norm_decay) == (
        0.25,
        True,
        0.5,
    )


# --- weights of a run


def randomized(model: EmbeddingModel) -> EmbeddingModel:
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(np.abs(rng.normal(size=variable.shape)))
    return model


def saved(model: EmbeddingModel, path: Path) -> Path:
    step = tf.Variable(3)
    tf.train.Checkpoint(weights=model.named_variables(), step=step).write(str(path))
    return path


def test_read_weights_ignores_the_training_state_beside_them(tmp_path: Path):
    model, other = randomized(tiny().build_variables()), tiny().build_variables()
    read_weights(other, saved(model, tmp_path / "last-7"))
    for name, variable in model.named_variables().items():
        np.testing.assert_array_equal(other.named_variables()[name], variable)


def test_weights_that_are_not_finite_are_refused_and_named(tmp_path: Path):
    model = tiny().build_variables()
    name = "main/classifier/kernel"
    kernel = model.named_variables()[name]
    kernel.assign(np.full(kernel.shape, np.nan))
    path = saved(model, tmp_path / "last-7")
    with pytest.raises(ValueError, match=rf"^{path}: {name}: .* numbers are NaN\. The training"):
        read_weights(tiny().build_variables(), path)


def test_misfit_or_damaged_weights_raise_value_error(tmp_path: Path):
    path = saved(tiny().build_variables(), tmp_path / "last-7")
    refused = rf"^{path}: damaged, or of another network than recipe\.json \("
    wider = EmbeddingModel(schema.Model(UNIT_1), NUM_CLASSES + 1).build_variables()
    longer = tiny(schema.Head("main", neck=(schema.Dense(3),), classifier=schema.Linear()))
    for model in (wider, longer.build_variables()):
        with pytest.raises(ValueError, match=refused):
            read_weights(model, path)
    data = Path(f"{path}.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"{refused}Read less bytes than requested\)\.$"):
        read_weights(tiny().build_variables(), path)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/none: damaged, or of another network"):
        read_weights(tiny().build_variables(), tmp_path / "none")


def test_trunk_that_needs_larger_images_can_be_built():
    # Inception-v3 cannot pool an image of 64 pixels.
    trunk = schema.Trunk("inception_v3", end_point="Mixed_7c")
    assert len(tiny(trunk=trunk).build_variables().trunk.variables) == 376


# --- heads on several end points of the trunk

TWO_UNITS = schema.Trunk(end_point="block1/unit_2/bottleneck_v1")
LAST = schema.Head("last", classifier=schema.Linear())


def test_a_head_after_an_earlier_end_point_pools_its_map(photographs: tf.Tensor):
    after = UNIT_1.end_point
    heads = (LAST, schema.Head("first", schema.Gem(), after=after))
    config = schema.Model(TWO_UNITS, heads, ("last", "first"))
    model = EmbeddingModel(config, NUM_CLASSES).build_variables()
    output = model(photographs)
    maps = [
        output.endpoints[f"resnet_v1_50/{name}"].numpy() for name in (TWO_UNITS.end_point, after)
    ]
    vectors = [maps[0].mean((1, 2)), (np.maximum(maps[1], 1e-6) ** 3).mean((1, 2)) ** (1 / 3)]
    units = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in vectors]
    expected = np.concatenate(units, axis=1) / np.sqrt(2)
    np.testing.assert_allclose(output.embedding, expected, atol=1e-5)


def test_an_end_point_that_the_trunk_lacks_is_named():
    model = tiny(LAST, schema.Head("first", after="block9"))
    with pytest.raises(UsageError, match=r"after end point 'block9'\. Known: block1/unit_1/"):
        model.build_variables()


def test_heads_inside_the_trunk_are_refused_where_their_map_is_missing():
    with pytest.raises(UsageError, match=r"DelfAttention weighs the map of Trunk\.end_point"):
        schema.Head("first", schema.DelfAttention(), after="block1")
    trunk = schema.Trunk(frozen=("trunk",))
    config = schema.Model(trunk, (LAST, schema.Head("first", after="block3")), ("first",))
    with pytest.raises(UsageError, match=r"stores the map of Trunk\.end_point only"):
        schema.Recipe("r", config, (schema.LossTerm(schema.SoftmaxCrossEntropy(), "last"),))
