"""Find the variables of a network among the names of a checkpoint: scopes in front, averages."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np

# Source: tf.train.ExponentialMovingAverage.average_name.
AVERAGE = "/ExponentialMovingAverage"
OBJECT_BASED = "/.ATTRIBUTES/VARIABLE_VALUE"
STATISTICS = ("/moving_mean", "/moving_variance")


class Names(NamedTuple):
    """Where the variables of a network are in a checkpoint.

    Attributes:
        keys: name of a variable -> its name in the checkpoint; without those that are missing.
        scope: what is in front of the names, such as "siamese/"; "" = nothing.
        num_averages: how many of the keys are moving averages.
    """

    keys: dict[str, str]
    scope: str
    num_averages: int


def find_names(
    path: str,
    wanted: Collection[str],
    stored: Collection[str],
    value: Callable[[str], np.ndarray],
) -> Names:
    """Find each variable, also behind a scope, and prefer its moving average.

    Args:
        path: of the checkpoint, for the message.
        wanted: names of a network's variables.
        stored: names in the checkpoint.
        value: returns the values of a name in the checkpoint.

    Returns:
        The names.

    Raises:
        ValueError: two scopes hold the network, with different values.
    """
    averages = {name.removesuffix(AVERAGE): name for name in stored if name.endswith(AVERAGE)}
    plain = {name for name in stored if not name.endswith(AVERAGE)}
    scope = _best_scope(wanted, plain | set(averages))
    # TensorFlow repeats the scope in front of an average: "siamese/siamese/...".
    scope_of_averages = _best_scope(wanted, averages, prefer=scope)
    found = {}
    for name in wanted:
        if f"{scope_of_averages}{name}" in averages:
            found[name] = averages[f"{scope_of_averages}{name}"]
        elif f"{scope}{name}" in plain:
            found[name] = f"{scope}{name}"
    num_averages = sum(key.endswith(AVERAGE) for key in found.values())
    if scope:
        _require_one(path, wanted, plain, scope, value)
    return Names(found, scope, num_averages)


def _scopes(wanted: Collection[str], names: Collection[str]) -> dict[str, int]:
    """Return the scopes in front of any variable, with the number of variables behind each."""
    last_parts = {name.rpartition("/")[2] for name in wanted}
    counts: dict[str, int] = {}
    for name in names:
        if name.rpartition("/")[2] not in last_parts:
            continue
        scope = ""
        rest = name
        while rest:
            if rest in wanted:
                counts[scope] = counts.get(scope, 0) + 1
            front, slash, rest = rest.partition("/")
            scope += front + slash
    return counts


def _best_scope(wanted: Collection[str], names: Collection[str], prefer: str = "") -> str:
    """Return the scope with the most variables behind it; of several, `prefer`, or the shortest."""
    counts = _scopes(wanted, names)
    return min(
        counts,
        key=lambda scope: (-counts[scope], scope != prefer, len(scope), scope),
        default=prefer,
    )


def _require_one(
    path: str,
    wanted: Collection[str],
    plain: Collection[str],
    scope: str,
    value: Callable[[str], np.ndarray],
) -> None:
    """Raise ValueError if another scope has the whole network with other values."""
    counts = _scopes(wanted, plain)
    full = [other for other, count in counts.items() if count == len(wanted) and other != scope]
    for other in sorted(full):
        for name in wanted:
            key = f"{scope}{name}"
            if key in plain and not np.array_equal(value(key), value(f"{other}{name}")):
                raise ValueError(
                    f"{path}: holds the network twice, with different weights, in the scopes "
                    f"{scope} and {other}. Save a checkpoint with one of them."
                )


def misfit_reason(
    network: str,
    missing: Collection[str],
    stored: Collection[str],
    known_networks: Collection[str] = (),
) -> str:
    """Return why a checkpoint does not fit a network, and what to do.

    Args:
        network: name of the network.
        missing: its variables that the checkpoint lacks.
        stored: names in the checkpoint.
        known_networks: names of other networks that --resnet_type takes.

    Returns:
        A text that follows "PATH ".
    """
    if missing and all(name.endswith(STATISTICS) for name in missing):
        return (
            f"has no statistics of the batch norms ({len(missing)} variables moving_mean and "
            "moving_variance): it was saved with the trainable variables only. Save all of them: "
            "tf.train.Saver(tf.global_variables())."
        )
    if any(name.endswith(OBJECT_BASED) for name in stored):
        return (
            "was saved by tf.train.Checkpoint or a Keras model, not by tf.train.Saver. Of a run of "
            "this project pass --run_dir=RUN; of a Keras ResNet-50 save an .h5 file and run "
            "`python -m pretrained.convert`."
        )
    scopes = {part for name in stored for part in name.split("/")[:-1]}
    for other in sorted(known_networks):
        if other in scopes and other != network:
            return f"holds {other}, not {network}: pass --resnet_type={other}."
    return f"does not fit the trunk {network}; choose another with --resnet_type."
