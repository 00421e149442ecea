"""Save and restore what a run needs to resume, and keep the best weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import tensorflow as tf

from data_io.checkpoint_folder import CheckpointFolder, readable_prefix
from delf_ext.models.checkpoints import READ_ERRORS, read_reason
from delf_ext.models.class_rows import copy_by_class, rows_of
from delf_ext.training.averaging import Averages
from delf_ext.training.finite import NotFinite, first_not_finite, remedies
from delf_ext.training.optimizers import Group
from delf_ext.training.plateau import PlateauState

ClassesNow: TypeAlias = Callable[[tuple[str, ...]], Sequence[str]]
Rebuild: TypeAlias = Callable[
    [int], tuple[Mapping[str, tf.Variable], Sequence[Group], Averages | None]
]
"""Number of classes -> weights by name, optimizers, and averages of a new network."""
LOWER_IS_BETTER = ("mean_last_rank",)


class RunState:
    """Checkpoints of a run.

    `last-N` holds weights, optimizers and step, to resume. `best-N` holds only the best weights.
    With averages, the weights of both are the averages, and `last-N` also holds the weights that
    training continues from.
    """

    def __init__(
        self,
        weights: Mapping[str, tf.Variable],
        groups: Sequence[Group],
        folder: Path,
        select_by: str,
        log: Callable[[str], None],
        class_names: Sequence[str] = (),
        rebuild: Rebuild | None = None,
        averages: Averages | None = None,
        plateaus: Sequence[PlateauState] = (),
    ) -> None:
        """Prepare to save and restore.

        Args:
            weights: variables by name, see `EmbeddingModel.named_variables`.
            groups: the optimizers of the run.
            folder: checkpoint/ in the run directory.
            select_by: the metric that chooses the best weights.
            log: called with a line if a checkpoint cannot be read.
            class_names: classes of the classifiers, by row; checkpoints store them.
            rebuild: builds the same network for another number of classes; None = checkpoints of
                other classes are not read.
            averages: averages of the weights; None = the weights themselves are the result.
            plateaus: states of the schedules that follow the evaluation.
        """
        self.folder = folder
        self.class_names = tuple(class_names)
        self._rebuild = rebuild
        self._named = dict(weights)
        self._groups = list(groups)
        self.select_by = select_by
        self.log = log
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self.averages = averages
        self.plateaus = tuple(plateaus)
        self._everything = self._checkpoint(weights, groups, averages)
        self._weights = tf.train.Checkpoint(weights=_result(weights, averages))
        self._numbers = dict(weights)
        for row, group in enumerate(groups):
            for variable in group.optimizer.variables:
                self._numbers[f"optimizers/{row}/{variable.name}"] = variable
        self._last = CheckpointFolder(folder, "last")
        self._best = CheckpointFolder(folder, "best", keep=1)
        self._last_saved_step = -1

    def _checkpoint(
        self,
        weights: Mapping[str, tf.Variable],
        groups: Sequence[Group],
        averages: Averages | None,
    ) -> tf.train.Checkpoint:
        """Return everything of a network; only what it has, so that older checkpoints fit."""
        more: dict[str, Any] = {}
        if averages is not None:
            more = {"trained": averages.weights, "averaged": averages.count}
        if self.plateaus:
            more["plateaus"] = [plateau.variables for plateau in self.plateaus]
        return tf.train.Checkpoint(
            weights=_result(weights, averages),
            optimizers=[group.optimizer for group in groups],
            step=self.step,
            **more,
        )

    def restore(self, classes_now: ClassesNow = tuple) -> int:
        """Read the newest checkpoint that can be read.

        Rows of classifiers follow their class. A class that the checkpoint does not know keeps its
        new weights.

        Args:
            classes_now: function from the classes that a checkpoint says, () if none, to the names
                that they have now.

        Returns:
            The step to continue from; 0 if there is no checkpoint.

        Raises:
            ValueError: if there are checkpoints, but none can be read.
        """
        problems = []
        for number in reversed(self._last.numbers()):
            path = self._last.path(number)
            try:
                self._read(path, classes_now(self._last.class_names(number)))
            except (*READ_ERRORS, AssertionError) as error:
                problems.append(f"{path}: cannot be read ({read_reason(error)})")
                self.log(f"{problems[-1]}; trying the one before.")
                continue
            self._last_saved_step = number
            return int(self.step.numpy())
        if problems:
            raise ValueError(f"{problems[0]}. {self._remedy()}")
        return 0

    def _read(self, path: Path, classes: Sequence[str]) -> None:
        if not classes or not self.class_names or tuple(classes) == self.class_names:
            self._everything.read(readable_prefix(path)).assert_existing_objects_matched()
            return
        assert self._rebuild is not None, "only a run that can rebuild its network gets classes"
        old = self._rebuild(len(classes))
        self._checkpoint(*old).read(readable_prefix(path)).assert_existing_objects_matched()
        copy_by_class(
            _variables(self._named, self._groups, self.averages),
            _variables(*old),
            _variables(*self._rebuild(len(classes) + 1)),
            rows_of(self.class_names, classes),
            len(classes),
        )

    def _remedy(self) -> str:
        """Return what to do if no checkpoint can be read."""
        run_dir = self.folder.parent
        if any(map(_is_readable, map(self._last.path, self._last.numbers()))):
            # The files are whole, but of another network, or a moment's trouble of the disk.
            return (
                f"Its files are whole: check the permissions, and that {run_dir}/recipe.json and "
                "facts.json are those of this run. Do not delete the folder."
            )
        best = self._best.newest()
        if best is not None and _is_readable(best):
            return (
                "The other ones cannot be read either, but the best weights can: start a new run "
                f"from them with --from_run={run_dir}."
            )
        return f"No other one can be read: delete {run_dir} to train from the start."

    def save(self, step: int) -> None:
        """Save everything under this step, unless it was saved last.

        Args:
            step: number of steps that ended.

        Raises:
            NotFinite: a number of the state is NaN or infinite; nothing is saved then.
            OSError: the checkpoint cannot be written; the earlier ones are kept.
        """
        if step == self._last_saved_step:
            return
        self.require_finite(step)
        if self.averages is not None:
            self.averages.refresh()
        self.step.assign(step)
        self._write(self._last, step, self._everything)
        self._last_saved_step = step

    def _write(
        self, checkpoints: CheckpointFolder, step: int, content: tf.train.Checkpoint, **facts: Any
    ) -> None:
        try:
            checkpoints.save(step, content.write, self.class_names, **facts)
        except (tf.errors.OpError, OSError) as error:
            raise OSError(
                f"{checkpoints.path(step)}: cannot be written ({_write_reason(error)}). "
                f"{self._good_checkpoint()} {self._after_writing_again()}"
            ) from error

    def _after_writing_again(self) -> str:
        if self._last.newest() is None:
            return "Make room for it and start again."
        return "Make room for the next one and continue with --resume."

    def require_finite(self, step: int) -> None:
        """Check all numbers of the state.

        Args:
            step: number of steps that ended, for the message.

        Raises:
            NotFinite: one is NaN or infinite.
        """
        name = first_not_finite(self._numbers)
        if name:
            raise NotFinite(
                f"training stopped at step {step}: {name} is not finite any more. {self.advice()}"
            )

    def advice(self) -> str:
        """Return sentences about the last good checkpoint, and what to change."""
        return f"{self._good_checkpoint()} {remedies(self.folder.parent)}"

    def _good_checkpoint(self) -> str:
        newest = self._last.newest()
        if newest is None:
            return "No checkpoint was saved yet."
        return f"The last good checkpoint, {newest}, is kept."

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
        self._write(self._best, step, self._weights, **{self.select_by: value})
        return True


def _result(
    weights: Mapping[str, tf.Variable], averages: Averages | None
) -> dict[str, tf.Variable]:
    """Return the weights that a run is opened with."""
    return {**weights, **(averages.values if averages is not None else {})}


def _variables(
    weights: Mapping[str, tf.Variable], groups: Sequence[Group], averages: Averages | None
) -> list[tf.Variable]:
    """Return weights, optimizer states and averages, in an order that the recipe decides."""
    of_optimizers = [variable for group in groups for variable in group.optimizer.variables]
    of_averages = [] if averages is None else [*averages.values.values(), averages.count]
    return [*weights.values(), *of_optimizers, *of_averages]


def _is_readable(prefix: Path) -> bool:
    """Return whether all tensors of a checkpoint can be read."""
    try:
        reader = tf.train.load_checkpoint(readable_prefix(prefix))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.PermissionDeniedError, tf.errors.ResourceExhaustedError):
        return True
    except READ_ERRORS:
        return False
    return True


def _write_reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    message = read_reason(error)
    return "No space left on device" if "No space left" in message else message
