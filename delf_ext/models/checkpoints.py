"""Weights by name into a backbone, with a report, and a refusal when they do not fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from delf_ext.models.backbones import Backbone


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
        for title, names in (("missing", self.missing), ("unused", self.unused), ("of another shape", self.shape_mismatch)):
            if names:
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                lines.append(f"  {title}: {', '.join(names[:5])}{more}")
        return "\n".join(lines)


# What TensorFlow's reader raises on a damaged file: its own errors, and Python's for a data file that is cut short.
READ_ERRORS = (tf.errors.OpError, RuntimeError, ValueError, IndexError)


def _reason(error: Exception) -> str:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return first.split(": perhaps")[0][:200].rstrip(".")  # "perhaps your file is in a different file format and you need ..."


def _require_file(path: Path) -> None:
    if path.is_file() and ".data-" in path.name:
        raise ValueError(f"{path}: is a part of a checkpoint; pass {path.name.partition('.data-')[0]} without the ending.")
    if path.is_file() or Path(f"{path}.index").is_file():
        return
    folder = path if path.is_dir() else path.parent
    near = sorted({p.name.removesuffix(".index") for pattern in ("*.index", "*.ckpt") for p in folder.glob(pattern)})
    hint = f"In that folder: {', '.join(near[:4])}." if near else "`python -m pretrained.fetch --list` shows what can be had."
    raise ValueError(f"{path}: no such checkpoint. {hint}")


def open_checkpoint(path: str | Path) -> tf.train.CheckpointReader:
    """A reader of a V1 (one file) or V2 (`.index`, `.data-*`) checkpoint.

    Raises: ValueError naming the file when there is none or it is damaged.
    """
    path = Path(str(path).removesuffix(".index"))
    _require_file(path)
    try:
        return tf.train.load_checkpoint(str(path))
    except READ_ERRORS as error:
        raise ValueError(f"{path}: not a readable TensorFlow checkpoint ({_reason(error)}); fetch or copy it again.") from None


def load_backbone(backbone: Backbone, path: str | Path) -> LoadReport:
    """Copies the weights of `path` into a built backbone; V1 and V2 checkpoints, matched by name.

    Raises: ValueError when any variable of the backbone is missing or has another shape: nothing is loaded then.
    """
    reader = open_checkpoint(path)
    shapes = reader.get_variable_to_shape_map()
    wanted = {variable.name.split(":")[0]: variable for variable in backbone.variables}
    assert wanted, "a backbone has variables once it was called"
    other_shape = {name for name in wanted if name in shapes and list(wanted[name].shape) != shapes[name]}
    report = LoadReport(
        str(path),
        matched=tuple(sorted((set(wanted) & set(shapes)) - other_shape)),
        missing=tuple(sorted(set(wanted) - set(shapes))),
        unused=tuple(sorted(set(shapes) - set(wanted))),
        shape_mismatch=tuple(sorted(other_shape)),
    )
    if report.missing or report.shape_mismatch:
        raise ValueError(f"{path} does not fit the backbone {backbone.backbone}; choose another with --resnet_type.\n{report}")
    try:  # all of them before the first is assigned
        values = {name: tf.cast(reader.get_tensor(name), wanted[name].dtype) for name in report.matched}
    except READ_ERRORS as error:
        raise ValueError(f"{path}: damaged ({_reason(error)}); fetch or copy it again.") from None
    for name, value in values.items():
        wanted[name].assign(value)
    return report


def load_network(network: tf.keras.layers.Layer, folder: Path) -> str:
    """The best weights of a run, or the last where no dev split chose any. Returns which.

    Raises: ValueError naming the folder when it holds no checkpoint, and the checkpoint when it is damaged or does not fit.
    """
    for kind in ("best", "last"):
        path = tf.train.latest_checkpoint(str(folder / kind))
        if path:
            try:
                tf.train.Checkpoint(network=network).restore(path).assert_existing_objects_matched().expect_partial()
            except (*READ_ERRORS, AssertionError) as error:
                raise ValueError(f"{path}: damaged, or of another network than config.json ({_reason(error)}).") from None
            return Path(path).name
    raise ValueError(f"{folder}: no checkpoint; the run has saved nothing yet. Train it further with --resume.")
