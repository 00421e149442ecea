"""Load TensorFlow checkpoints by variable name, and report what fits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from data_io.checkpoint_folder import readable_prefix, require_checkpoint

# Names of a kind that a report shows.
NUM_SHOWN = 5


class LoadReport(NamedTuple):
    """Names of the variables of a network and of a checkpoint.

    Attributes:
        path: of the checkpoint.
        matched: loaded.
        missing: in the network, but not in the checkpoint.
        unused: in the checkpoint, but not in the network.
        shape_mismatch: in both, with different shapes.
    """

    path: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    shape_mismatch: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {len(self.matched)} variables matched, {len(self.missing)} missing, "
            f"{len(self.unused)} unused, {len(self.shape_mismatch)} of another shape"
        ]
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


def load_by_name(variables: Sequence[tf.Variable], path: str | Path, network: str) -> LoadReport:
    """Copy the weights of a checkpoint into variables of the same names.

    Args:
        variables: of a built trunk, with the names that the checkpoint uses.
        path: of a V1 or V2 checkpoint, with or without ".index".
        network: the trunk's name, for messages.

    Returns:
        The report.

    Raises:
        ValueError: a variable is missing in the checkpoint, has another shape, or cannot be read.
            Then no variable is changed.
    """
    reader = open_checkpoint(path)
    shapes = reader.get_variable_to_shape_map()
    wanted = {variable.name.split(":")[0]: variable for variable in variables}
    assert wanted, "a trunk has variables after its first call"
    report = _compare(str(path), wanted, shapes)
    if report.missing or report.shape_mismatch:
        raise ValueError(
            f"{path} does not fit the trunk {network}; choose another with --resnet_type.\n{report}"
        )
    try:
        values = {
            name: tf.cast(reader.get_tensor(name), wanted[name].dtype) for name in report.matched
        }
    except READ_ERRORS as error:
        raise ValueError(
            f"{path}: damaged ({read_reason(error)}); fetch or copy it again."
        ) from None
    for name, value in values.items():
        wanted[name].assign(value)
    return report


def _compare(path: str, wanted: dict[str, tf.Variable], shapes: dict[str, list[int]]) -> LoadReport:
    shared = set(wanted) & set(shapes)
    mismatched = {name for name in shared if list(wanted[name].shape) != shapes[name]}
    return LoadReport(
        path,
        matched=tuple(sorted(shared - mismatched)),
        missing=tuple(sorted(set(wanted) - shared)),
        unused=tuple(sorted(set(shapes) - shared)),
        shape_mismatch=tuple(sorted(mismatched)),
    )
