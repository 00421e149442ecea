"""What a run would lose by a kill, on disk: weights, optimizers, step. And the best weights so far, apart."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import tensorflow as tf

from data_io.artifacts import read_json, write_json, write_text
from delf_ext.training.objective import Objective


class RunState:
    """Checkpoints in `folder`: `last-N` (everything, to resume) and `best-N` (network only, highest dev mAP).

    A checkpoint counts once TensorFlow has renamed it into place and noted it, so a kill while saving leaves the one before.
    """

    def __init__(self, objective: Objective, network: tf.keras.Model, folder: Path) -> None:
        self.folder = folder
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        everything = tf.train.Checkpoint(
            network=network, slow_optimizer=objective.slow_optimizer, fast_optimizer=objective.fast_optimizer, step=self.step
        )
        weights = tf.train.Checkpoint(network=network)
        self._last = tf.train.CheckpointManager(everything, str(folder / "last"), max_to_keep=2, checkpoint_name="last")
        self._best = tf.train.CheckpointManager(weights, str(folder / "best"), max_to_keep=1, checkpoint_name="best")

    def restore(self) -> int:
        """The step to continue from; 0 when nothing was saved. A damaged newest checkpoint gives way to the one before.

        Raises: ValueError when there are checkpoints and none can be read.
        """
        for path in reversed(self._last.checkpoints):
            try:
                self._last.checkpoint.restore(path).assert_existing_objects_matched()
            except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:
                print(f"{path}: not readable ({str(error).splitlines()[0][:100]}); trying the one before.")
                continue
            return int(self.step.numpy())
        if self._last.checkpoints:
            raise ValueError(f"{self.folder}: none of its checkpoints can be read; delete the folder to train from the start.")
        return 0

    def save(self, step: int) -> None:
        self.step.assign(step)
        self._last.save(checkpoint_number=step)

    @property
    def best_map(self) -> float:
        """The dev mAP of the best weights, -1 before the first evaluation."""
        path = self.folder / "best.json"
        return float(read_json(path)["mAP"]) if path.exists() else -1.0

    def save_if_best(self, step: int, dev_map: float) -> bool:
        if dev_map <= self.best_map:
            return False
        self._best.save(checkpoint_number=step)
        write_json(self.folder / "best.json", {"mAP": dev_map, "step": step})
        return True


def copy_last(folder: Path, to: Path) -> None:
    """The newest checkpoint of a run's folder into another's, where `restore` finds it. Raises: ValueError when there is none."""
    newest = tf.train.latest_checkpoint(str(folder / "last"))
    if newest is None:
        raise ValueError(f"{folder}: no checkpoint in it.")
    (to / "last").mkdir(parents=True, exist_ok=True)
    name = Path(newest).name
    for file in (folder / "last").glob(f"{name}.*"):
        shutil.copyfile(file, to / "last" / file.name)
    state = [f'model_checkpoint_path: "{name}"', f'all_model_checkpoint_paths: "{name}"']
    state += [f"all_model_checkpoint_timestamps: {time.time()}"]  # a manager takes no path without its time
    write_text(to / "last" / "checkpoint", "\n".join(state) + "\n")
