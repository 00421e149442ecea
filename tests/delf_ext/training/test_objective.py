"""Check one training step of heads on feature maps: its figures, and which parameters change."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.losses.build import build_loss
from delf_ext.losses.loss import Targets
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.recipes import schema
from delf_ext.training.objective import Objective
from delf_ext.training.optimizers import build_groups

MAPS = tf.constant(np.random.default_rng(0).uniform(0, 1, (4, 2, 2, 256)), tf.float32)
LABELS = tf.constant([0, 0, 1, 2])
TRUNK = schema.Trunk(end_point="block1/unit_1/bottleneck_v1", frozen=("trunk",))
HEADS = (
    schema.Head("first", classifier=schema.Linear()),
    schema.Head("second", neck=(schema.Dense(6),), classifier=schema.Cosine()),
)
LOGITS_1 = schema.LossTerm(schema.SoftmaxCrossEntropy(), "first", 2.0, "logits")
LOGITS_2 = schema.LossTerm(schema.SoftmaxCrossEntropy(), "second", 0.5)
PAIRS = schema.LossTerm(schema.PairSimilarity(), "second", 3.0)


@pytest.fixture
def model() -> EmbeddingModel:
    tf.keras.utils.set_random_seed(0)
    return EmbeddingModel(schema.Model(TRUNK, HEADS, ("second",)), 3).build_variables()


def prepared_objective(
    model: EmbeddingModel,
    *terms: schema.LossTerm,
    trains: tuple[str, ...] = (),
) -> Objective:
    objective = Objective(model.heads, terms)
    optimizer = schema.Adam(1e-2)
    stages = (schema.Stage(1),)
    groups = build_groups(optimizer, stages, 1, model.parameters(), ("trunk",))
    objective.prepare(groups, trains)
    return objective


def changed_by_step(model: EmbeddingModel, objective: Objective) -> set[str]:
    """Train one step; return the names of the parameters that changed."""
    before = {name: variable.numpy() for name, variable in model.named_variables().items()}
    objective.fit(MAPS, LABELS, batch_size=4, shuffle=False, verbose=0)
    after = model.named_variables()
    return {name for name, value in before.items() if np.any(value != after[name].numpy())}


def test_losses_are_shown_without_weights_and_their_sum_with_weights(model: EmbeddingModel):
    objective = prepared_objective(model, LOGITS_1, LOGITS_2, PAIRS)
    output = model.heads(MAPS, training=True)
    targets = Targets(LABELS)
    losses = [build_loss(term.loss, term.head) for term in (LOGITS_1, LOGITS_2, PAIRS)]
    by_hand = [float(loss(output, targets)) for loss in losses]
    shown = objective.fit(MAPS, LABELS, batch_size=4, shuffle=False, verbose=0).history
    names = ["loss", "logits", "softmax_cross_entropy", "pair_similarity"]
    assert list(shown) == [*names, "first_accuracy", "second_accuracy"]
    assert [shown[name][0] for name in names[1:]] == pytest.approx(by_hand, rel=1e-5)
    total = 2.0 * by_hand[0] + 0.5 * by_hand[1] + 3.0 * by_hand[2]
    assert shown["loss"][0] == pytest.approx(total, rel=1e-5)


def test_accuracy_of_mixed_images_counts_the_label_with_the_larger_share(model: EmbeddingModel):
    objective = prepared_objective(model, LOGITS_1)
    logits = model.heads(MAPS, training=True).heads["first"].logits.numpy()
    right, wrong = logits.argmax(1), logits.argmin(1)
    shares = np.array([1.0, 0.6, 0.4, 0.0], np.float32)
    data = tf.data.Dataset.from_tensors((MAPS, (right, wrong, shares)))
    shown = objective.fit(data, verbose=0).history
    assert shown["accuracy"] == [0.5]
    log_probabilities = tf.nn.log_softmax(logits).numpy()
    rows = np.arange(4)
    expected = -shares * log_probabilities[rows, right]
    expected -= (1 - shares) * log_probabilities[rows, wrong]
    assert shown["logits"][0] == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("terms", "names"),
    [
        ((PAIRS,), []),
        ((LOGITS_1, PAIRS), ["accuracy"]),
        ((LOGITS_1, LOGITS_2), ["first_accuracy", "second_accuracy"]),
    ],
)
def test_each_head_with_a_loss_on_logits_has_an_accuracy(
    model: EmbeddingModel, terms: tuple[schema.LossTerm, ...], names: list[str]
):
    objective = prepared_objective(model, *terms)
    heads = model.heads(MAPS, training=True).heads
    accuracies = [
        float(np.mean(heads[term.head].logits.numpy().argmax(1) == LABELS.numpy()))
        for term in terms
        if term.loss.reads == "logits"
    ]
    shown = objective.fit(MAPS, LABELS, batch_size=4, shuffle=False, verbose=0).history
    assert [name for name in shown if "accuracy" in name] == names
    assert [shown[name][0] for name in names] == pytest.approx(accuracies)


def test_head_without_a_loss_does_not_change(model: EmbeddingModel):
    objective = prepared_objective(model, LOGITS_1)
    assert changed_by_step(model, objective) == {"first/classifier/kernel", "first/classifier/bias"}


@pytest.mark.parametrize(
    ("trains", "expected"),
    [
        (
            ("classifier",),
            {"first/classifier/kernel", "first/classifier/bias", "second/classifier/kernel"},
        ),
        (("second/neck",), {"second/dense1/kernel", "second/dense1/bias"}),
        (("attention",), set()),
    ],
)
def test_only_the_named_groups_are_trained(
    model: EmbeddingModel,
    trains: tuple[str, ...],
    expected: set[str],
):
    assert (
        changed_by_step(model, prepared_objective(model, LOGITS_1, LOGITS_2, trains=trains))
        == expected
    )


def test_trained_groups_can_change_between_two_fits(model: EmbeddingModel):
    """Keras must trace the training step again."""
    objective = prepared_objective(model, LOGITS_1, LOGITS_2, trains=("first",))
    assert changed_by_step(model, objective) == {"first/classifier/kernel", "first/classifier/bias"}
    groups = build_groups(schema.Adam(1e-2), (schema.Stage(1),), 1, model.parameters(), ("trunk",))
    objective.prepare(groups, ("second",))
    names = "dense1/kernel", "dense1/bias", "classifier/kernel"
    assert changed_by_step(model, objective) == {f"second/{name}" for name in names}


def test_weight_decay_changes_the_trunk_and_is_not_shown():
    """No loss trains the trunk. Its step is decay * w, the gradient of decay * sum(w^2) / 2."""
    trunk = schema.Trunk(end_point="block1/unit_1/bottleneck_v1", weight_decay=0.25)
    heads = (schema.Head("main", stop_gradient=True, classifier=schema.Linear()),)
    model = EmbeddingModel(schema.Model(trunk, heads), 3).build_variables()
    objective = Objective(model, [schema.LossTerm(schema.SoftmaxCrossEntropy())])
    optimizer = schema.Sgd(1.0, momentum=0.0, nesterov=False)
    objective.prepare(build_groups(optimizer, (schema.Stage(1),), 1, model.parameters()))
    kernel = model.named_variables()["resnet_v1_50/conv1/weights"]
    before = kernel.numpy()
    images = tf.constant(np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3)), tf.float32)
    shown = objective.fit(images, LABELS, batch_size=4, shuffle=False, verbose=0).history
    np.testing.assert_allclose(kernel, 0.75 * before, rtol=1e-5, atol=1e-7)
    assert shown["loss"] == shown["softmax_cross_entropy"]


def test_loss_that_is_not_built_is_refused_by_the_constructor(model: EmbeddingModel):
    with pytest.raises(UsageError, match=r"^NPair is not built yet\. Built: "):
        Objective(model.heads, [schema.LossTerm(schema.NPair(), "second")])


def test_mean_gradient_of_batches_equals_that_of_the_big_batch(model: EmbeddingModel):
    """Two updates of two batches each, as the batches of a graph; the starts are equal."""
    start = [variable.numpy() for variable in model.variables]
    results = []
    for size in (4, 2):
        for variable, value in zip(model.variables, start, strict=True):
            variable.assign(value)
        objective = Objective(model.heads, (LOGITS_1, LOGITS_2))
        groups = build_groups(
            schema.Sgd(0.1), (schema.Stage(1),), 1, model.parameters(), ("trunk",)
        )
        objective.prepare(groups, (), 4 // size)
        step = tf.function(objective.train_step)
        for row in [*range(0, 4, size)] * 2:
            if objective.gradient_sum is not None:
                objective.gradient_sum.is_last.assign(row + size == 4)
            step((tf.constant(MAPS[row : row + size]), tf.constant(LABELS[row : row + size])))
        assert int(groups[0].optimizer.iterations) == 2
        results.append([variable.numpy() for variable in model.variables])
    assert any(not np.array_equal(old, new) for old, new in zip(start, results[0], strict=True))
    for big, small in zip(*results, strict=True):
        np.testing.assert_allclose(small, big, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("frozen", "trains", "expected"),
    [
        # One unit of block 1: the stem, three convolutions and a shortcut.
        ((), (), 5),
        (("trunk/stem",), (), 4),
        ((), ("first",), 0),
        (("trunk/stem", "trunk/block1"), (), 0),
    ],
)
def test_nothing_before_the_first_trained_block_is_computed_backwards(
    frozen: tuple[str, ...], trains: tuple[str, ...], expected: int
):
    """Counts the gradients of kernels of convolutions that the results and updates need."""
    trunk = schema.Trunk(
        end_point="block1/unit_1/bottleneck_v1", batch_norm="inference", frozen=frozen
    )
    network = EmbeddingModel(schema.Model(trunk, HEADS[:1], ("first",)), 3).build_variables()
    groups = build_groups(schema.Adam(), (schema.Stage(1),), 1, network.parameters(), frozen)
    objective = Objective(network, (LOGITS_1,))
    objective.prepare(groups, trains)
    signature = (tf.TensorSpec([2, 32, 32, 3], tf.uint8), tf.TensorSpec([2], tf.int32))
    graph = tf.function(objective.train_step).get_concrete_function(signature).graph
    # The trace also holds gradients that nothing reads; the graph drops them before it runs.
    waiting = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    used: dict[str, str] = {}
    while waiting:
        operation = waiting.pop()
        if operation.name not in used:
            used[operation.name] = operation.type
            waiting += [tensor.op for tensor in operation.inputs] + operation.control_inputs
    kinds = list(used.values())
    assert kinds.count("Conv2DBackpropFilter") == expected
