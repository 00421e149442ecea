"""Load TensorFlow checkpoints by variable name, and report what fits."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_io.checkpoint_folder import readable_prefix
from data_io.checkpoint_paths import require_checkpoint
from data_io.finite import require_finite
from delf_ext.models.checkpoint_names import AVERAGE, Names, find_names, misfit_reason

# Names of a kind that a report shows.
NUM_SHOWN = 5


# TensorFlow prints one line for each value of a checkpoint that is not used, long after an error
# that says all of it. Source: tensorflow/python/checkpoint/checkpoint.py.
HELD_BACK = ("Detecting that an object or model", "Value in checkpoint could not be found")


def is_shown(record: logging.LogRecord) -> bool:
    """Return whether a line of TensorFlow's log is shown: all but those of HELD_BACK."""
    return not str(record.msg).startswith(HELD_BACK)


tf.get_logger().addFilter(is_shown)


class LoadReport(NamedTuple):
    """Names of the variables of a network and of a checkpoint.

    Attributes:
        path: of the checkpoint.
        matched: loaded.
        missing: in the network, but not in the checkpoint.
        unused: in the checkpoint, but not in the network.
        shape_mismatch: in both, with different shapes.
        scope: in front of the names in the checkpoint, such as "siamese/"; "" = nothing.
        num_averages: how many of the loaded values are moving averages.
    """

    path: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    shape_mismatch: tuple[str, ...]
    scope: str = ""
    num_averages: int = 0

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {len(self.matched)} variables matched, {len(self.missing)} missing, "
            f"{len(self.unused)} unused, {len(self.shape_mismatch)} of another shape"
        ]
        if self.scope:
            lines.append(f"  the names in the checkpoint begin with the scope {self.scope}")
        if self.num_averages:
            lines.append(
                f"  moving averages (ExponentialMovingAverage) are used for {self.num_averages} of "
                f"{len(self.matched)} variables"
            )
        for title, names in (
            ("missing", self.missing),
            ("unused", self.unused),
            ("of another shape", self.shape_mismatch),
        ):
            if names:
                num_more = len(names) - NUM_SHOWN
                more = f" and {num_more} more" if num_more > 0 else ""
                lines.append(f"  {title}: {', '.join(names[:NUM_SHOWN])}{more}")
        return "\n".join(lines)


# What TensorFlow's reader raises on a damaged file: its own errors, and Python's for a data file
# that is cut short.
READ_ERRORS = (tf.errors.OpError, RuntimeError, ValueError, IndexError)


def read_reason(error: Exception) -> str:
    """Return the first line of an error of TensorFlow's reader, without its guess.

    The guess is "perhaps your file is in a different file format and you need ...".
    """
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return first.split(": perhaps")[0][:200].rstrip(".")


def open_checkpoint(path: str | Path) -> tf.train.CheckpointReader:
    """Open a V1 (one file) or V2 (`.index`, `.data-*`) checkpoint.

    Args:
        path: file or prefix, with or without ".index".

    Returns:
        The reader.

    Raises:
        ValueError: the checkpoint is missing or damaged.
    """
    path = Path(str(path).removesuffix(".index"))
    require_checkpoint(path)
    try:
        return tf.train.load_checkpoint(readable_prefix(path))
    except READ_ERRORS as error:
        raise ValueError(
            f"{path}: not a readable TensorFlow checkpoint ({read_reason(error)}); "
            "fetch or copy it again."
        ) from None


def load_by_name(
    variables: Sequence[tf.Variable],
    path: str | Path,
    network: str,
    known_networks: Collection[str] = (),
) -> LoadReport:
    """Copy the weights of a checkpoint into variables of the same names.

    The names in the checkpoint may have a scope in front. A moving average is preferred to the
    variable itself.

    Args:
        variables: of a built trunk, with the names that the checkpoint uses.
        path: of a V1 or V2 checkpoint, with or without ".index".
        network: the trunk's name, for messages.
        known_networks: names of other networks, for messages.

    Returns:
        The report.

    Raises:
        ValueError: a variable is missing in the checkpoint, has another shape, cannot be read, or
            has numbers that are not finite. Then no variable is changed.
    """
    reader = open_checkpoint(path)
    shapes = reader.get_variable_to_shape_map()
    wanted = {variable.name.split(":")[0]: variable for variable in variables}
    assert wanted, "a trunk has variables after its first call"
    value = partial(_value, reader, path)
    names = find_names(str(path), wanted, shapes, value)
    report = _compare(str(path), wanted, shapes, names)
    if report.missing or report.shape_mismatch:
        reason = misfit_reason(network, report.missing, shapes, known_networks)
        raise ValueError(f"{path} {reason}\n{report}")
    values = {name: value(names.keys[name]) for name in report.matched}
    require_finite(path, ((names.keys[name], one) for name, one in values.items()))
    for name, one in values.items():
        wanted[name].assign(tf.cast(one, wanted[name].dtype))
    return report


def _value(reader: tf.train.CheckpointReader, path: str | Path, key: str) -> np.ndarray:
    try:
        return reader.get_tensor(key)
    except READ_ERRORS as error:
        raise ValueError(
            f"{path}: damaged ({read_reason(error)}); fetch or copy it again."
        ) from None


def _compare(
    path: str, wanted: dict[str, tf.Variable], shapes: dict[str, list[int]], names: Names
) -> LoadReport:
    mismatched = {
        name for name, key in names.keys.items() if list(wanted[name].shape) != shapes[key]
    }
    read = set(names.keys.values())
    # Of a variable whose average is used, the variable itself is not reported as unused.
    replaced = {key.removesuffix(AVERAGE) for key in read}
    return LoadReport(
        path,
        matched=tuple(sorted(set(names.keys) - mismatched)),
        missing=tuple(sorted(set(wanted) - set(names.keys))),
        unused=tuple(sorted(set(shapes) - read - replaced)),
        shape_mismatch=tuple(sorted(mismatched)),
        scope=names.scope,
        num_averages=names.num_averages,
    )
