"""What a baseline run leaves on disk: config.json, metrics.json and the checkpoint of its last finished epoch."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from data_io.artifacts import StaleArtifact, read_json, write_json, write_text

SYSTEM = "keras_baseline"


@dataclass(frozen=True)
class RunConfig:
    """What a run was made with. class_names: the classes of the training images, in the order of the network's outputs."""

    image_size: int
    num_classes: int
    epochs: int
    batch_size: int
    seed: int
    data: str
    class_names: tuple[str, ...]
    system: str = SYSTEM


def write_config(run_dir: Path, config: RunConfig) -> None:
    write_json(run_dir / "config.json", asdict(config))


def read_config(run_dir: Path) -> RunConfig:
    """Raises: ValueError naming the file when it is missing, damaged, of another system, or has other keys."""
    path = run_dir / "config.json"
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get("system") != SYSTEM:
        raise ValueError(f"{path}: not a run of the Keras baseline.")
    known = set(RunConfig.__dataclass_fields__)
    if set(stored) != known:
        raise ValueError(f"{path}: keys must be {', '.join(sorted(known))}. Received {', '.join(sorted(stored))}.")
    return RunConfig(**{**stored, "class_names": tuple(stored["class_names"])})


def claim(run_dir: Path, config: RunConfig, resume: bool) -> None:
    """Makes the directory this run's own. Raises: ValueError when it holds a run and `resume` is off, or another config's run."""
    if (run_dir / "config.json").exists():
        if not resume:
            raise ValueError(f"{run_dir}: already holds a run. Pass --resume to continue it, or another --run_dir.")
        before = asdict(read_config(run_dir))
        now = asdict(config)
        changed = [key for key in ("image_size", "batch_size", "seed", "class_names") if before[key] != now[key]]
        if changed:
            values = ", ".join(f"{key} {_short(before[key])} became {_short(now[key])}" for key in changed)
            raise StaleArtifact(f"{run_dir}: holds another run ({values}). Pass what it was made with, or another --run_dir.")
    write_config(run_dir, config)


def _short(value: Any) -> str:
    return f"of {len(value)} classes" if isinstance(value, tuple) else str(value)


def save_checkpoint(run_dir: Path, checkpoint: tf.train.Checkpoint, epochs_done: int) -> None:
    """Writes checkpoint/epoch-<n>, then names it in checkpoint/latest, then drops older ones: one of them is always whole.

    tf.train.CheckpointManager keeps absolute paths, so that a copied run would delete the original's files.
    Raises: OSError when it could not be written.
    """
    folder = run_dir / "checkpoint"
    name = f"epoch-{epochs_done}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        checkpoint.write(str(folder / name))
    except tf.errors.OpError as error:
        raise OSError(f"{folder / name}: could not be written ({error.message}); the epoch before is kept.") from error
    write_text(folder / "latest", f"{name}\n")
    for old in folder.glob("epoch-*"):
        if old.name.split(".")[0] != name:
            shutil.rmtree(old) if old.is_dir() else old.unlink()


def latest_checkpoint(run_dir: Path) -> tuple[Path, int] | None:
    """Path prefix of the newest whole checkpoint and the number of epochs it has seen; None when no epoch was finished."""
    folder = run_dir / "checkpoint"
    try:
        name = (folder / "latest").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    return folder / name, int(name.removeprefix("epoch-"))


def restore(checkpoint: tf.train.Checkpoint, prefix: Path) -> None:
    """Raises: ValueError naming the file when it is damaged or belongs to another network."""
    try:
        checkpoint.read(str(prefix)).expect_partial().assert_existing_objects_matched()
    except (tf.errors.OpError, AssertionError, ValueError) as error:
        raise ValueError(f"{prefix}: does not fit the network ({str(error).splitlines()[0]}); train again.") from error
