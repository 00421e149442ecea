"""Check which optimizer trains which parameter at which rate, and the first steps by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.models.embedding_model import Parameter
from delf_ext.recipes.codec import with_settings
from delf_ext.recipes.registry import RECIPES
from delf_ext.recipes.schema import (
    Adam,
    AdamW,
    Constant,
    CosineDecay,
    Optimizer,
    RateFactor,
    Sgd,
    Stage,
    StepDecay,
)
from delf_ext.training.optimizers import Group, build_groups, build_optimizer, require_groups

ONE_STAGE = (Stage(1),)


def parameter(name: str, group: str, trainable: bool = True) -> Parameter:
    return Parameter(name, group, tf.Variable([1.0, -2.0], trainable=trainable))


@pytest.fixture
def parameters() -> list[Parameter]:
    return [
        parameter("conv1", "trunk/stem"),
        parameter("conv2", "trunk/block1"),
        parameter("moving_mean", "trunk/block1", trainable=False),
        parameter("score", "attention"),
        parameter("dense", "main/neck"),
        parameter("kernel", "main/classifier"),
    ]


def rates(groups: list[Group]) -> dict[float, list[str]]:
    """Return the names of the parameters by learning rate."""
    names: dict[float, list[str]] = {}
    for group in groups:
        rate = round(float(group.optimizer.learning_rate), 7)
        names[rate] = [parameter.name for parameter in group.parameters]
    return names


def rate_at(group: Group, step: int) -> float:
    """Return the learning rate of a step; the gradient is 0, so no parameter changes."""
    optimizer = group.optimizer
    variable = group.parameters[0].variable
    optimizer.iterations.assign(step)
    optimizer.apply_gradients([(tf.zeros_like(variable), variable)])
    return float(optimizer.learning_rate)


# --- groups


def test_one_optimizer_without_factors_has_all_trainable_parameters(parameters: list[Parameter]):
    groups = build_groups(Adam(0.5), ONE_STAGE, 10, parameters)
    assert rates(groups) == {0.5: ["conv1", "conv2", "score", "dense", "kernel"]}
    (group,) = groups
    # The step, and two moments for each of five parameters.
    assert len(group.optimizer.variables) == 1 + 2 * 5


def test_parameters_of_equal_factors_share_an_optimizer(
    parameters: list[Parameter],
):
    factors = RateFactor("attention", 10), RateFactor("classifier", 10), RateFactor("stem", 0.1)
    groups = build_groups(Sgd(0.1, factors), ONE_STAGE, 10, parameters)
    assert rates(groups) == {0.01: ["conv1"], 0.1: ["conv2", "dense"], 1.0: ["score", "kernel"]}
    # The names in a checkpoint depend on this order.
    assert list(rates(groups)) == sorted(rates(groups))


@pytest.mark.parametrize(
    ("factors", "block1"),
    [
        ((RateFactor("trunk", 0.1), RateFactor("trunk/block1", 5)), 5.0),
        ((RateFactor("trunk/block1", 5), RateFactor("trunk", 0.1)), 0.1),
        ((RateFactor("trunk", 0.1), RateFactor("trunk", 3)), 3.0),
        ((RateFactor("trunk", 0.1), RateFactor("block1", 1)), 1.0),
    ],
)
def test_last_matching_factor_is_used(
    parameters: list[Parameter],
    factors: tuple[RateFactor, ...],
    block1: float,
):
    groups = build_groups(Sgd(1.0, factors), ONE_STAGE, 10, parameters)
    (found,) = (rate for rate, names in rates(groups).items() if "conv2" in names)
    assert found == pytest.approx(block1)


@pytest.mark.parametrize(
    ("frozen", "trained"),
    [
        (("trunk",), ["score", "dense", "kernel"]),
        (("trunk/stem", "classifier"), ["conv2", "score", "dense"]),
        (("trunk", "attention", "main"), []),
    ],
)
def test_frozen_groups_have_no_optimizer(
    parameters: list[Parameter],
    frozen: tuple[str, ...],
    trained: list[str],
):
    groups = build_groups(Adam(), ONE_STAGE, 10, parameters, frozen)
    assert [parameter.name for group in groups for parameter in group.parameters] == trained


def test_factor_multiplies_the_whole_schedule(parameters: list[Parameter]):
    config = Sgd(0.2, (RateFactor("trunk", 0.1),))
    scaled, unscaled = build_groups(config, (Stage(2, CosineDecay()),), 10, parameters)
    for step, share in ((0, 1.0), (10, 0.5), (20, 0.0)):
        for group, highest in ((scaled, 0.02), (unscaled, 0.2)):
            assert rate_at(group, step) == pytest.approx(share * highest, abs=1e-8)


def test_optimizers_count_only_steps_of_stages_that_train_them(parameters: list[Parameter]):
    """Step 0 of an optimizer is the first step of the first stage that trains its parameters."""
    stages = (
        Stage(3, StepDecay(1, 0.5), trains=("classifier",)),
        Stage(2, CosineDecay()),
        Stage(1, trains=("trunk/block1",)),
    )
    groups = build_groups(Sgd(0.8), stages, 10, parameters)
    by_names = {tuple(parameter.name for parameter in group.parameters): group for group in groups}
    expected = {
        ("kernel",): {0: 0.8, 29: 0.2, 30: 0.8, 40: 0.4},
        ("conv1", "score", "dense"): {0: 0.8, 10: 0.4, 20: 0.0},
        ("conv2",): {0: 0.8, 10: 0.4, 20: 0.8},
    }
    assert set(by_names) == set(expected)
    for names, values in expected.items():
        for step, value in values.items():
            assert rate_at(by_names[names], step) == pytest.approx(value, abs=1e-7)


def test_parameters_that_no_stage_trains_have_no_optimizer(parameters: list[Parameter]):
    stages = Stage(1, trains=("classifier",)), Stage(1, trains=("attention",))
    groups = build_groups(Adam(), stages, 10, parameters)
    assert [[one.name for one in group.parameters] for group in groups] == [["score"], ["kernel"]]


def test_error_of_an_unknown_group_names_the_known_ones(parameters: list[Parameter]):
    names = "trunk/stem, trunk/block1, attention, main/neck, main/classifier"
    known = f"Known: {names}, and their parts."
    valid = with_settings(RECIPES["mandoo_dual"], ["model.trunk.batch_norm=inference"])
    valid = replace(valid, optimizer=Adam(factors=(RateFactor("classifier", 2),)))
    require_groups(valid, parameters)
    frozen = with_settings(valid, ["model.trunk.frozen=trunk/block9"])
    for recipe, message in (
        (
            replace(valid, optimizer=Adam(factors=(RateFactor("head", 2),))),
            "a learning-rate factor names parameter group 'head'.",
        ),
        (frozen, "model.trunk.frozen names parameter group 'trunk/block9'."),
        (
            replace(valid, stages=(Stage(1, trains=("head",)),)),
            "a stage names parameter group 'head'.",
        ),
    ):
        with pytest.raises(UsageError) as caught:
            require_groups(recipe, parameters)
        assert str(caught.value) == f"{message} {known}"


def test_stage_that_trains_frozen_groups_only_is_refused(parameters: list[Parameter]):
    settings = ["model.trunk.batch_norm=inference", "model.trunk.frozen=trunk/block1"]
    recipe = replace(
        with_settings(RECIPES["mandoo_dual"], settings),
        optimizer=Adam(),
        stages=(Stage(1), Stage(1, trains=("trunk/block1",))),
    )
    with pytest.raises(UsageError, match=r"^stage 2 would train nothing: .* \(trunk/block1\)"):
        require_groups(recipe, parameters)


# --- optimizers


def after_steps(config: Optimizer, gradients: list[float], start: float = 2.0) -> list[float]:
    """Return the weight after each step."""
    weight = tf.Variable(start)
    optimizer = build_optimizer(config, config.lr)
    optimizer.build([weight])
    weights = []
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant(gradient), weight)])
        weights.append(float(weight))
    return weights


def test_adam_equals_golden_values():
    """With a constant gradient, each step is lr (Kingma and Ba 2015, algorithm 1)."""
    np.testing.assert_allclose(after_steps(Adam(0.1), [3.0, 3.0]), [1.9, 1.8], atol=1e-5)


def test_adamw_equals_golden_values():
    """A step of Adam after w -= lr * weight_decay * w (arXiv:1711.05101, algorithm 2)."""
    first = 2.0 * (1 - 0.1 * 0.5) - 0.1
    second = first * (1 - 0.1 * 0.5) - 0.1
    found = after_steps(AdamW(0.1, weight_decay=0.5), [3.0, 3.0])
    np.testing.assert_allclose(found, [first, second], atol=1e-5)


def test_adam_with_weight_decay_equals_slow_version():
    """The penalty 0.5 * decay * w ** 2 is a part of the gradient, so of both moments."""
    weight = 2.0
    first = 0.0
    second = 0.0
    expected = []
    for step, gradient in enumerate([3.0, -1.0, 0.5], start=1):
        gradient += 0.7 * weight
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        weight -= 0.1 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)) ** 0.5 + 1e-7)
        expected.append(weight)
    found = after_steps(Adam(0.1, weight_decay=0.7), [3.0, -1.0, 0.5])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", [Adam, AdamW, Sgd])
def test_biases_and_batch_norms_decay_only_if_all_weights_do(kind: type[Adam]):
    """With gradients of 0, only the decay changes a weight."""
    for config, moved in (
        (kind(0.1, weight_decay=0.5, decays="all"), {"kernel", "bias"}),
        (kind(0.1, weight_decay=0.5), {"kernel"}),
    ):
        weights = {"kernel": tf.Variable([[2.0]]), "bias": tf.Variable([2.0])}
        parameters = [Parameter(name, "main", weight) for name, weight in weights.items()]
        (group,) = build_groups(config, ONE_STAGE, 10, parameters)
        variables = weights.values()
        group.optimizer.apply_gradients([(tf.zeros_like(one), one) for one in variables])
        assert {name for name, one in weights.items() if float(tf.reduce_sum(one)) < 2} == moved


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_sgd_equals_slow_version(nesterov: bool, decay: float):
    """v = 0.9 v - lr g; w += v, or with Nesterov w += 0.9 v - lr g; the weight decay is first."""
    gradients = [3.0, -1.0, 0.5]
    weight = 2.0
    velocity = 0.0
    expected = []
    for gradient in gradients:
        weight -= 0.1 * decay * weight
        velocity = 0.9 * velocity - 0.1 * gradient
        weight += 0.9 * velocity - 0.1 * gradient if nesterov else velocity
        expected.append(weight)
    config = Sgd(0.1, momentum=0.9, nesterov=nesterov, weight_decay=decay)
    np.testing.assert_allclose(after_steps(config, gradients), expected, atol=1e-6)


def test_error_of_an_optimizer_not_built_lists_those_built():
    message = r"^Constant is not built yet\. Built: Adam, AdamW, Sgd\.$"
    with pytest.raises(UsageError, match=message):
        build_optimizer(Constant(), 0.1)
