"""What a kill would lose, on disk: weights, optimizers and step; and the best weights so far, apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from data_io.checkpoint_folder import CheckpointFolder, readable_prefix
from delf_ext.models.checkpoints import READ_ERRORS, read_reason
from delf_ext.training.optimizers import Group

LOWER_IS_BETTER = ("mean_last_rank",)


class RunState:
    """Checkpoints in `folder`: `last-N` (everything, to resume) and `best-N` (weights only, best by `select_by`).

    Args:
        weights: variables by name, see `EmbeddingModel.named_variables`.
        groups: the optimizers of the run.
        folder: the run's checkpoint/ directory.
        select_by: the metric that chooses the best weights.
        log: is called with one line for each thing worth knowing.
    """

    def __init__(
        self,
        weights: Mapping[str, tf.Variable],
        groups: Sequence[Group],
        folder: Path,
        select_by: str,
        log: Callable[[str], None],
    ) -> None:
        self.folder, self.select_by, self.log = folder, select_by, log
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        optimizers = [group.optimizer for group in groups]
        self._everything = tf.train.Checkpoint(
            weights=dict(weights), optimizers=optimizers, step=self.step
        )
        self._weights = tf.train.Checkpoint(weights=dict(weights))
        self._last = CheckpointFolder(folder, "last")
        self._best = CheckpointFolder(folder, "best", keep=1)
        self._saved = -1  # the step that was saved last

    def restore(self) -> int:
        """Return the step to continue from; 0 when nothing was saved. A damaged checkpoint gives way to the one before.

        Raises:
            ValueError: when there are checkpoints and none can be read.
        """
        numbers = self._last.numbers()
        for number in reversed(numbers):
            path = self._last.path(number)
            try:
                self._everything.read(readable_prefix(path)).assert_existing_objects_matched()
            except (*READ_ERRORS, AssertionError) as error:
                self.log(f"{path}: not readable ({read_reason(error)}); trying the one before.")
                continue
            return int(self.step.numpy())
        if numbers:
            raise ValueError(
                f"{self.folder}: none of its checkpoints can be read; delete the folder to train from the start."
            )
        return 0

    def save(self, step: int) -> None:
        """Save everything under this step, unless it is saved already."""
        if step == self._saved:
            return
        self._saved = step
        self.step.assign(step)
        self._last.save(step, self._everything.write)

    @property
    def best(self) -> float | None:
        """The metric of the best weights; None before the first evaluation."""
        value = self._best.facts().get(self.select_by)
        return None if value is None else float(value)

    def save_if_best(self, step: int, value: float) -> bool:
        """Keep the weights where `value` is better than all before; return whether it is."""
        best, lower = self.best, self.select_by in LOWER_IS_BETTER
        better = best is None or (value < best if lower else value > best)
        if not better:  # a value that is no number is never better
            return False
        self._best.save(step, self._weights.write, **{self.select_by: value})
        return True
