"""Read and write the run directory of the baseline.

It has the format of all run directories, with the checkpoint of the last finished epoch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from data_io.checkpoint_folder import CheckpointFolder, readable_prefix
from data_io.files.artifacts import StaleArtifact, read_json, write_json
from data_io.photographs import Photographs
from delf_ext.config import strict
from delf_ext.runs.data_changes import changes_between
from delf_ext.runs.photographs import read_photographs, write_photographs
from delf_ext.runs.records import Facts, Run
from delf_ext.runs.run_directory import is_run, read_run, versions, write_run

KIND = "keras_baseline"
HISTORY = Path("metrics") / "training.json"


@dataclass(frozen=True)
class Settings:
    """Settings of a run, stored in recipe.json; facts.json holds classes, data and seed.

    Attributes:
        image_size: side of the input in pixels.
        num_classes: classes that have training images.
        epochs: of the whole training.
        batch_size: images per training step.
    """

    image_size: int
    num_classes: int
    epochs: int
    batch_size: int


def settings_of(run: Run) -> Settings:
    """Return the settings of a run of the baseline.

    Raises:
        ValueError: the run is of another kind, or its recipe.json has wrong keys.
    """
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
    photographs: Photographs = Photographs(),  # noqa: B008 frozen
) -> None:
    """Write recipe.json, facts.json and photographs.json, unless they would overwrite another run.

    Args:
        run_dir: the run directory.
        settings: of this run.
        seed: of this run.
        data: name of the data set.
        class_names: classes that have training images.
        resume: whether the directory may already hold this run.
        photographs: training images of each class.

    Raises:
        ValueError: it holds a run and `resume` is off, or a run of an earlier version.
        StaleArtifact: it holds a run with other settings.
    """
    require_same_run(run_dir, settings, seed, class_names, resume, photographs)
    if is_run(run_dir):
        photographs = photographs.after(read_photographs(run_dir))
    facts = Facts(
        data=data,
        data_digest=photographs.digest,
        class_names=class_names,
        settings={"seed": seed},
        versions=versions(),
    )
    write_photographs(run_dir, photographs)
    write_run(run_dir, KIND, asdict(settings), facts)


def require_same_run(
    run_dir: Path,
    settings: Settings,
    seed: int,
    class_names: tuple[str, ...],
    resume: bool,
    photographs: Photographs = Photographs(),  # noqa: B008 frozen
) -> None:
    """Check that a directory holds no run, or the same one if `resume` is on.

    Args:
        run_dir: the run directory.
        settings: of this run.
        seed: of this run.
        class_names: classes that have training images.
        resume: whether the directory may already hold this run.
        photographs: training images of each class.

    Raises:
        ValueError: it holds a run and `resume` is off, or a run of an earlier version.
        StaleArtifact: it holds a run with other settings or data.
    """
    if not is_run(run_dir):
        return
    if not resume:
        raise ValueError(
            f"{run_dir}: already holds a run. Pass --resume to continue it, or another --run_dir."
        )
    run = read_run(run_dir)
    _check_same_run(run, settings, seed, class_names)
    before = read_photographs(run_dir)
    changes = changes_between(before, photographs.trained) if before is not None else None
    if changes:
        raise StaleArtifact(
            f"{run_dir}: the data have changed since the run was made: {changes}. Put the data "
            "back, or train again with another --run_dir."
        )


def stored_settings(run_dir: Path) -> dict[str, int]:
    """Return epochs, batch_size, image_size and seed of the run in a directory; {} without one."""
    if not is_run(run_dir):
        return {}
    run = read_run(run_dir)
    settings = settings_of(run)
    names = ("epochs", "batch_size", "image_size")
    return {"seed": run.facts.seed, **{name: getattr(settings, name) for name in names}}


def _check_same_run(run: Run, settings: Settings, seed: int, class_names: tuple[str, ...]) -> None:
    stored = settings_of(run)
    if run.is_old:
        raise ValueError(
            f"{run.path}: an earlier version made this run. It can be evaluated, but not resumed: "
            "train again with another --run_dir."
        )
    pairs = {
        "image_size": (stored.image_size, settings.image_size),
        "batch_size": (stored.batch_size, settings.batch_size),
        "seed": (run.facts.seed, seed),
    }
    changes = [f"{key} {old} became {new}" for key, (old, new) in pairs.items() if old != new]
    changes += _class_changes(run.facts.class_names, class_names)
    if changes:
        raise StaleArtifact(
            f"{run.path}: holds a run with other settings or classes ({', '.join(changes)}). Pass "
            "the settings and data of that run, or another --run_dir."
        )


def _class_changes(old: tuple[str, ...], new: tuple[str, ...]) -> list[str]:
    """Return what has changed in the classes, with the first names."""
    lost = [name for name in old if name not in new]
    added = [name for name in new if name not in old]
    if old != new and not (lost or added):
        return ["the classes come in another order"]
    pairs = ((lost, "lost"), (added, "new"))
    return [f"{len(names)} {kind} classes, the first: {names[0]}" for names, kind in pairs if names]


def save_checkpoint(run_dir: Path, checkpoint: tf.train.Checkpoint, epochs_done: int) -> None:
    """Write the checkpoint of an epoch, then delete the one of the epoch before.

    Args:
        run_dir: the run directory.
        checkpoint: network and optimizer.
        epochs_done: finished epochs.

    Raises:
        OSError: the checkpoint could not be written.
    """
    folder = _checkpoint_folder(run_dir)
    try:
        folder.save(epochs_done, checkpoint.write)
    except tf.errors.OpError as error:
        path = folder.path(epochs_done)
        raise OSError(
            f"{path}: could not be written ({error.message}). The checkpoint of the epoch before "
            "is kept."
        ) from error


def latest_checkpoint(run_dir: Path) -> tuple[Path, int] | None:
    """Return path prefix and number of epochs of the newest checkpoint; None if there is none."""
    # The first format of runs has a file `latest`.
    latest = run_dir / "checkpoint" / "latest"
    if latest.is_file():
        name = latest.read_text(encoding="utf-8").strip()
        return latest.with_name(name), int(name.removeprefix("epoch-"))
    folder = _checkpoint_folder(run_dir)
    numbers = folder.numbers()
    return (folder.path(numbers[-1]), numbers[-1]) if numbers else None


def _checkpoint_folder(run_dir: Path) -> CheckpointFolder:
    return CheckpointFolder(run_dir / "checkpoint", "epoch", keep=1)


def read_history(run_dir: Path) -> dict[str, Any]:
    """Read metrics/training.json."""
    return read_json(run_dir / HISTORY)


def write_history(run_dir: Path, values: dict[str, Any]) -> None:
    """Write metrics/training.json."""
    write_json(run_dir / HISTORY, values)


def restore(checkpoint: tf.train.Checkpoint, prefix: Path) -> None:
    """Read a checkpoint into its objects.

    Args:
        checkpoint: network, with or without optimizer.
        prefix: path prefix of the files.

    Raises:
        ValueError: the file is damaged or belongs to another network.
    """
    try:
        checkpoint.read(readable_prefix(prefix)).expect_partial().assert_existing_objects_matched()
    except (tf.errors.OpError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{prefix}: does not fit the network ({reason}); train again.") from error
