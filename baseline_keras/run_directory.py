"""The baseline's run on disk: the format of every mandoo run, with the checkpoint of the last finished epoch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from data_io.artifacts import StaleArtifact, read_json, write_json
from data_io.checkpoint_folder import CheckpointFolder, readable_prefix
from delf_ext.config import strict
from delf_ext.runs.records import Facts, Run
from delf_ext.runs.run_directory import is_run, read_run, versions, write_run

KIND = "keras_baseline"
HISTORY = Path("metrics") / "training.json"


@dataclass(frozen=True)
class Settings:
    """What a run was made with, as recipe.json keeps it; classes, data and seed are in facts.json."""

    image_size: int
    num_classes: int
    epochs: int
    batch_size: int


def settings_of(run: Run) -> Settings:
    """Return the settings of a baseline run. Raises: ValueError when it is of another kind, or has other keys."""
    if run.kind != KIND:
        raise ValueError(f"{run.path}: not a run of the Keras baseline, but of kind {run.kind!r}.")
    try:
        return strict(Settings, run.recipe)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{run.path}: not a run of the Keras baseline ({error}).") from None


def claim(
    run_dir: Path,
    settings: Settings,
    seed: int,
    data: str,
    class_names: tuple[str, ...],
    resume: bool,
) -> None:
    """Make the directory this run's own.

    Raises:
        ValueError: when it holds a run and `resume` is off, or a run of an earlier version.
        StaleArtifact: when it holds a run with other settings.
    """
    if is_run(run_dir):
        if not resume:
            raise ValueError(
                f"{run_dir}: already holds a run. Pass --resume to continue it, or another --run_dir."
            )
        run = read_run(run_dir)
        before = settings_of(run)
        if run.is_old:
            raise ValueError(
                f"{run_dir}: an earlier version made this run. It can be evaluated, not resumed: train again."
            )
        pairs = {
            "image_size": (before.image_size, settings.image_size),
            "batch_size": (before.batch_size, settings.batch_size),
            "seed": (run.facts.seed, seed),
            "class_names": (run.facts.class_names, class_names),
        }
        changed = [
            f"{key} {_short(old)} became {_short(new)}"
            for key, (old, new) in pairs.items()
            if old != new
        ]
        if changed:
            reason = ", ".join(changed)
            raise StaleArtifact(
                f"{run_dir}: holds another run ({reason}). Pass what it was made with, or another --run_dir."
            )
    facts = Facts(data=data, class_names=class_names, settings={"seed": seed}, versions=versions())
    write_run(run_dir, KIND, asdict(settings), facts)


def _short(value: Any) -> str:
    return f"of {len(value)} classes" if isinstance(value, tuple) else str(value)


def epochs_of(run_dir: Path) -> CheckpointFolder:
    """Return the folder with the checkpoint of the last finished epoch."""
    return CheckpointFolder(run_dir / "checkpoint", "epoch", keep=1)


def save_checkpoint(run_dir: Path, checkpoint: tf.train.Checkpoint, epochs_done: int) -> None:
    """Write the checkpoint of an epoch; the one before is kept until this one is whole.

    Raises: OSError when it could not be written.
    """
    folder = epochs_of(run_dir)
    try:
        folder.save(epochs_done, checkpoint.write)
    except tf.errors.OpError as error:
        path = folder.path(epochs_done)
        raise OSError(
            f"{path}: could not be written ({error.message}); the epoch before is kept."
        ) from error


def latest_checkpoint(run_dir: Path) -> tuple[Path, int] | None:
    """Return path prefix and number of epochs of the newest checkpoint; None when no epoch was finished."""
    folder = run_dir / "checkpoint"
    if (folder / "latest").is_file():  # of the first format
        name = (folder / "latest").read_text(encoding="utf-8").strip()
        return folder / name, int(name.removeprefix("epoch-"))
    numbers = epochs_of(run_dir).numbers()
    return (epochs_of(run_dir).path(numbers[-1]), numbers[-1]) if numbers else None


def read_history(run_dir: Path) -> dict[str, Any]:
    """Return metrics/training.json."""
    return read_json(run_dir / HISTORY)


def write_history(run_dir: Path, values: dict[str, Any]) -> None:
    """Write metrics/training.json."""
    write_json(run_dir / HISTORY, values)


def restore(checkpoint: tf.train.Checkpoint, prefix: Path) -> None:
    """Read a checkpoint. Raises: ValueError naming the file when it is damaged or belongs to another network."""
    try:
        checkpoint.read(readable_prefix(prefix)).expect_partial().assert_existing_objects_matched()
    except (tf.errors.OpError, AssertionError, ValueError) as error:
        raise ValueError(
            f"{prefix}: does not fit the network ({str(error).splitlines()[0]}); train again."
        ) from error
