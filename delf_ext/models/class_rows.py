"""Move the weights of classifiers from the classes of one run to those of another, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from delf_ext.models.embedding_model import EmbeddingModel


def rows_of(classes: Sequence[str], old_classes: Sequence[str]) -> np.ndarray:
    """Return the row of each class among the old classes; int [C], -1 for a new class."""
    places = {name: row for row, name in enumerate(old_classes)}
    return np.array([places.get(name, -1) for name in classes], dtype=np.int64)


def copy_by_class(
    new: Sequence[tf.Variable],
    old: Sequence[tf.Variable],
    wider: Sequence[tf.Variable],
    rows: np.ndarray,
    num_old: int,
) -> None:
    """Copy variables of a network into those of the same network with other classes.

    An axis that counts classes is found by a third network, which has one class more than the old
    one. It can hold other numbers before the classes, such as an embedding with appended logits.

    Args:
        new: variables to change; what belongs to a new class keeps its value.
        old: the same variables of the network with C old classes.
        wider: the same variables of the network with C + 1 classes.
        rows: int [classes of `new`], the old row of each class, -1 for a new class.
        num_old: C.
    """
    for target, source, more in zip(new, old, wider, strict=True):
        sizes = zip(source.shape, more.shape, strict=True)
        axes = [axis for axis, (size, other) in enumerate(sizes) if size != other]
        if not axes:
            target.assign(source)
            continue
        (axis,) = axes
        values = np.moveaxis(target.numpy(), axis, 0).copy()
        old_values = np.moveaxis(source.numpy(), axis, 0)
        num_copies = more.shape[axis] - source.shape[axis]
        start = source.shape[axis] - num_copies * num_old
        values[:start] = old_values[:start]
        known = rows >= 0
        for copy in range(num_copies):
            own = values[start + copy * len(rows) :][: len(rows)]
            own[known] = old_values[start + copy * num_old + rows[known]]
        target.assign(np.moveaxis(values, 0, axis))


def with_classes(
    model: EmbeddingModel,
    build: Callable[[int], EmbeddingModel],
    old_classes: Sequence[str],
    classes: Sequence[str],
) -> EmbeddingModel:
    """Return a model with other classes, whose weights follow their class.

    Args:
        model: built, with its weights.
        build: builds the same model for a number of classes.
        old_classes: classes of `model`, by row.
        classes: classes of the new model, by row.

    Returns:
        The new model; a class that `model` does not know has new weights.
    """
    new = build(len(classes))
    copy_by_class(
        list(new.named_variables().values()),
        list(model.named_variables().values()),
        list(build(len(old_classes) + 1).named_variables().values()),
        rows_of(classes, old_classes),
        len(old_classes),
    )
    return new
