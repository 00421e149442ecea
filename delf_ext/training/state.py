"""Save and restore what a run needs to resume, and keep the best weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from data_io.checkpoint_folder import CheckpointFolder, readable_prefix
from delf_ext.models.checkpoints import READ_ERRORS, read_reason
from delf_ext.training.optimizers import Group

LOWER_IS_BETTER = ("mean_last_rank",)


class RunState:
    """Checkpoints of a run.

    `last-N` holds weights, optimizers and step, to resume. `best-N` holds only the best weights.
    """

    def __init__(
        self,
        weights: Mapping[str, tf.Variable],
        groups: Sequence[Group],
        folder: Path,
        select_by: str,
        log: Callable[[str], None],
    ) -> None:
        """Prepare to save and restore.

        Args:
            weights: variables by name, see `EmbeddingModel.named_variables`.
            groups: the optimizers of the run.
            folder: checkpoint/ in the run directory.
            select_by: the metric that chooses the best weights.
            log: called with a line if a checkpoint cannot be read.
        """
        self.folder = folder
        self.select_by = select_by
        self.log = log
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        optimizers = [group.optimizer for group in groups]
        self._everything = tf.train.Checkpoint(
            weights=dict(weights), optimizers=optimizers, step=self.step
        )
        self._weights = tf.train.Checkpoint(weights=dict(weights))
        self._last = CheckpointFolder(folder, "last")
        self._best = CheckpointFolder(folder, "best", keep=1)
        self._last_saved_step = -1

    def restore(self) -> int:
        """Read the newest checkpoint that can be read.

        Returns:
            The step to continue from; 0 if there is no checkpoint.

        Raises:
            ValueError: if there are checkpoints, but none can be read.
        """
        numbers = self._last.numbers()
        for number in reversed(numbers):
            path = self._last.path(number)
            try:
                self._everything.read(readable_prefix(path)).assert_existing_objects_matched()
            except (*READ_ERRORS, AssertionError) as error:
                self.log(f"{path}: cannot be read ({read_reason(error)}); trying the one before.")
                continue
            return int(self.step.numpy())
        if numbers:
            raise ValueError(
                f"{self.folder}: none of its checkpoints can be read; "
                "delete the folder to train from the start."
            )
        return 0

    def save(self, step: int) -> None:
        """Save everything under this step, unless it was saved last."""
        if step == self._last_saved_step:
            return
        self._last_saved_step = step
        self.step.assign(step)
        self._last.save(step, self._everything.write)

    @property
    def best(self) -> float | None:
        """Metric of the best weights; None before the first evaluation."""
        value = self._best.facts().get(self.select_by)
        return None if value is None else float(value)

    def save_if_best(self, step: int, value: float) -> bool:
        """Save the weights if `value` is better than all before; return whether it is."""
        # NaN is better only than none.
        best = self.best
        sign = -1 if self.select_by in LOWER_IS_BETTER else 1
        if best is not None and not sign * value > sign * best:
            return False
        self._best.save(step, self._weights.write, **{self.select_by: value})
        return True
