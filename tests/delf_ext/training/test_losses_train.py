"""Check that each loss teaches its head to find classes: all at once, on drawn feature maps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from delf_ext.evaluation.metrics import average_precision
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.recipes import schema
from delf_ext.recipes.part import snake_case
from delf_ext.training.objective import Objective
from delf_ext.training.optimizers import build_groups

# HardestNegatives is not here: it only pushes images apart, and is used beside another loss.
LOSSES = {
    snake_case(type(loss).__name__) + getattr(loss, "mining", ""): loss
    for loss in (
        schema.SoftmaxCrossEntropy(0.1),
        schema.NormSoftmax(),
        schema.CosFace(20.0),
        schema.ArcFace(20.0, class_weights="log", adaptive_power=0.25),
        schema.ProxyAnchor(),
        schema.PairSimilarity(),
        schema.PairSquaredError(8.0),
        schema.Contrastive(),
        schema.SupervisedContrastive(),
        schema.MultiSimilarity(),
        schema.Triplet(),
        schema.Triplet(mining="semi_hard"),
    )
}
TRUNK = schema.Trunk(end_point="block1/unit_1/bottleneck_v1", frozen=("trunk",))
NUM_CLASSES = 6
TRAIN_PER_CLASS = 14


def drawn_maps() -> tuple[np.ndarray, np.ndarray]:
    """Return maps float32 [N, 2, 2, 256] and labels; what differs most does not show the class."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(NUM_CLASSES), TRAIN_PER_CLASS + 6)
    maps = rng.normal(0, 0.5, (len(labels), 2, 2, 256))
    maps += 0.5 * rng.normal(0, 1, (NUM_CLASSES, 1, 1, 256))[labels]
    maps += rng.normal(0, 0.6, (len(labels), 1, 1, 8)) @ rng.normal(0, 1, (8, 256))
    return maps.astype(np.float32), labels


def classifier_of(loss: schema.Loss) -> schema.Classifier | None:
    if loss.cosines:
        return schema.Cosine()
    return schema.Linear() if loss.reads == "logits" else None


def mean_average_precisions(
    model: EmbeddingModel, maps: np.ndarray, labels: np.ndarray
) -> Iterator[float]:
    for head in model.heads(maps).heads.values():
        units = tf.math.l2_normalize(head.vector, axis=1).numpy()
        similarity = units @ units.T
        np.fill_diagonal(similarity, -2)
        hits = (labels[np.argsort(-similarity, axis=1)] == labels[:, None])[:, :-1]
        yield np.mean([average_precision(row.tolist(), row.sum(), len(row)) for row in hits])


def test_each_loss_makes_the_map_of_unseen_images_clearly_better():
    tf.keras.utils.set_random_seed(0)
    maps, labels = drawn_maps()
    heads = tuple(
        schema.Head(name, neck=(schema.Dense(16),), classifier=classifier_of(loss))
        for name, loss in LOSSES.items()
    )
    config = schema.Model(TRUNK, heads, (heads[0].name,))
    model = EmbeddingModel(config, NUM_CLASSES).build_variables()
    terms = [schema.LossTerm(loss, name, name=name) for name, loss in LOSSES.items()]
    objective = Objective(model.heads, terms, [TRAIN_PER_CLASS] * NUM_CLASSES)
    stage = schema.Stage(1)
    groups = build_groups(schema.Adam(1e-2), (stage,), 1, model.parameters(), ("trunk",))
    objective.prepare(groups)
    seen = np.arange(len(labels)) % (TRAIN_PER_CLASS + 6) < TRAIN_PER_CLASS
    before = list(mean_average_precisions(model, maps[~seen], labels[~seen]))
    batches = tf.data.Dataset.from_tensor_slices((maps[seen], labels[seen]))
    batches = batches.shuffle(84, seed=0).repeat(60).batch(42)
    objective.fit(batches, verbose=0)
    after = list(mean_average_precisions(model, maps[~seen], labels[~seen]))
    gains = {name: new - old for name, old, new in zip(LOSSES, before, after, strict=True)}
    assert min(gains.values()) > 0.25, gains
