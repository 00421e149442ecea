"""Copy weights by name, with a report; weights that do not fit are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from data_io.checkpoint_folder import readable_prefix


@dataclass(frozen=True)
class LoadReport:
    """Names of variables: loaded; missing in the file; in the file and unused; in both with another shape."""

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
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                lines.append(f"  {title}: {', '.join(names[:5])}{more}")
        return "\n".join(lines)


# What TensorFlow's reader raises on a damaged file: its own errors, and Python's for a data file that is cut short.
READ_ERRORS = (tf.errors.OpError, RuntimeError, ValueError, IndexError)


def read_reason(error: Exception) -> str:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return first.split(": perhaps")[0][:200].rstrip(
        "."
    )  # "perhaps your file is in a different file format and you need ..."


def _require_file(path: Path) -> None:
    if path.is_file() and ".data-" in path.name:
        raise ValueError(
            f"{path}: is a part of a checkpoint; pass {path.name.partition('.data-')[0]} without the ending."
        )
    if path.is_file() or Path(f"{path}.index").is_file():
        return
    folder = path if path.is_dir() else path.parent
    near = sorted(
        {
            p.name.removesuffix(".index")
            for pattern in ("*.index", "*.ckpt")
            for p in folder.glob(pattern)
        }
    )
    hint = (
        f"In that folder: {', '.join(near[:4])}."
        if near
        else "`python -m pretrained.fetch --list` shows what can be had."
    )
    raise ValueError(f"{path}: no such checkpoint. {hint}")


def open_checkpoint(path: str | Path) -> tf.train.CheckpointReader:
    """A reader of a V1 (one file) or V2 (`.index`, `.data-*`) checkpoint.

    Raises: ValueError naming the file when there is none or it is damaged.
    """
    path = Path(str(path).removesuffix(".index"))
    _require_file(path)
    try:
        return tf.train.load_checkpoint(readable_prefix(path))
    except READ_ERRORS as error:
        raise ValueError(
            f"{path}: not a readable TensorFlow checkpoint ({read_reason(error)}); fetch or copy it again."
        ) from None


def load_by_name(variables: Sequence[tf.Variable], path: str | Path, network: str) -> LoadReport:
    """Copy the weights of a V1 or V2 checkpoint into variables of the same names.

    Args:
        variables: of a built trunk, under the checkpoint's own names.
        path: of the checkpoint, with or without ".index".
        network: the trunk's name, for messages.

    Raises:
        ValueError: when any variable is missing in the file or has another shape: nothing is loaded then.
    """
    reader = open_checkpoint(path)
    shapes = reader.get_variable_to_shape_map()
    wanted = {variable.name.split(":")[0]: variable for variable in variables}
    assert wanted, "a trunk has variables once it was called"
    other_shape = {
        name for name in wanted if name in shapes and list(wanted[name].shape) != shapes[name]
    }
    report = LoadReport(
        str(path),
        matched=tuple(sorted((set(wanted) & set(shapes)) - other_shape)),
        missing=tuple(sorted(set(wanted) - set(shapes))),
        unused=tuple(sorted(set(shapes) - set(wanted))),
        shape_mismatch=tuple(sorted(other_shape)),
    )
    if report.missing or report.shape_mismatch:
        raise ValueError(
            f"{path} does not fit the backbone {network}; choose another with --resnet_type.\n{report}"
        )
    try:  # all of them before the first is assigned
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
