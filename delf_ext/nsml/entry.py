"""Let `dual_main.py` run on NSML: save, load and report a training run, and answer a submission.

A checkpoint of the platform is a run directory with the state of training. `nsml model pull` copies
it, and --run_dir of the other commands accepts the copy.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_io.checkpoint_folder import CheckpointFolder
from data_io.progress import say
from data_io.records import ImageList
from delf_ext import nsml
from delf_ext.app.answers import Answer, answers, in_gallery_order
from delf_ext.app.reranking import Request, Reranker
from delf_ext.features.embedder import AnyEmbedder
from delf_ext.reranking.deadline import Abandoned, Deadline
from delf_ext.runs.photographs import PHOTOGRAPHS
from delf_ext.runs.records import FACTS, PROJECTION, RECIPE

# Run directory in the session's working directory. A resumed session finds it there.
RUN_DIR = "runs/session"
# Time kept for writing the answer: a share of the submission's limit, and at least some seconds.
HAND_OVER_SHARE = 0.05
HAND_OVER_S = 2.0


class TrainingSession:
    """Listener of a training run that saves checkpoints on the platform and reports to it.

    It implements `training.loop.Listener` and saves the best step on the dev split and the last.

    Args:
        run_dir: run directory of the training.
        epochs: number of epochs in all.

    Attributes:
        loaded: whether the platform has loaded a checkpoint.
        is_reduced: whether the reduction of the recipe was fitted.
    """

    def __init__(self, run_dir: Path, epochs: int) -> None:
        self.run_dir = run_dir
        self.epochs = epochs
        self.epoch = 0
        self.dev: dict[str, float] = {}
        self.loaded = False
        self.is_reduced = False
        nsml.bind(save=self.save, load=self.load)

    def save(self, dir_name: str, *_: Any) -> None:
        """Copy the newest state of training to a folder of the platform.

        After `reduced`, copy the best weights and their reduction too.
        """
        folder = Path(dir_name)
        newest = CheckpointFolder(self.run_dir / "checkpoint", "last")
        newest.copy_newest(folder / "checkpoint")
        _copy_records(self.run_dir, folder)
        best = CheckpointFolder(self.run_dir / "checkpoint", "best")
        if not self.is_reduced:
            return
        if best.numbers():
            best.copy_newest(folder / "checkpoint")
        shutil.copy2(self.run_dir / PROJECTION, folder)

    def reduced(self) -> None:
        """Save the last checkpoint again, now with the reduction that was fitted."""
        self.is_reduced = True
        nsml.save(CheckpointFolder(self.run_dir / "checkpoint", "last").numbers()[-1])

    def load(self, dir_name: str, *_: Any) -> None:
        """Make a checkpoint the state from which training continues.

        A resumed session keeps its best weights, unless their step is later than the checkpoint's.

        Args:
            dir_name: folder of the platform that `save` had filled.

        Raises:
            ValueError: An earlier version of mandoo saved the checkpoint.
        """
        if not (Path(dir_name) / RECIPE).is_file():
            raise ValueError(
                f"{dir_name}: an earlier version of mandoo saved this checkpoint, and it cannot be "
                "read: start a new session."
            )
        folder = self.run_dir / "checkpoint"
        saved = CheckpointFolder(Path(dir_name) / "checkpoint", "last")
        last = CheckpointFolder(folder, "last")
        best = CheckpointFolder(folder, "best")
        if not best.numbers() or max(best.numbers()) > max(saved.numbers()):
            shutil.rmtree(folder, ignore_errors=True)
        last.remove()
        saved.copy_newest(folder)
        _copy_records(Path(dir_name), self.run_dir)
        self.loaded = True

    def evaluated(self, step: int, metrics: Mapping[str, float], is_best: bool) -> None:
        """Report the metrics on the dev split, and save a checkpoint if they are the best.

        Args:
            step: number of training steps so far.
            metrics: metric -> value on the dev split.
            is_best: whether this is the best step so far.
        """
        self.dev = {f"dev__{name}": float(metrics[name]) for name in ("mAP", "recall_at_1")}
        nsml.report(summary=True, epoch=self.epoch, epoch_total=self.epochs, step=step, **self.dev)
        if is_best:
            nsml.save(step)

    def epoch_ended(self, epoch: int, step: int, means: Mapping[str, float]) -> None:
        """Report the means of an epoch, and save a checkpoint after the last epoch.

        Without a dev split, save a checkpoint after each epoch. `loss` and `acc` are the names of
        the 2018 code; other values are reported as train/NAME.

        Args:
            epoch: number of epochs so far.
            step: number of training steps so far.
            means: name -> mean over the epoch.
        """
        self.epoch = epoch
        names = {"loss": "loss", "accuracy": "acc"}
        losses = {names.get(name, f"train__{name}"): float(value) for name, value in means.items()}
        nsml.report(
            summary=True, epoch=epoch, epoch_total=self.epochs, step=step, **self.dev, **losses
        )
        if epoch == self.epochs or not self.dev:
            nsml.save(step)


def _copy_records(source: Path, target: Path) -> None:
    """Copy recipe, facts and photographs of a run; runs of earlier versions list no photographs."""
    (target / PHOTOGRAPHS).unlink(missing_ok=True)
    for name in (RECIPE, FACTS, PHOTOGRAPHS):
        if name != PHOTOGRAPHS or (source / name).exists():
            shutil.copy2(source / name, target)


def submission_budget_s(time_budget_s: float) -> float:
    """Return the seconds that a submission can use until its answer is ready.

    Args:
        time_budget_s: time budget that the user set; inf for none.

    Returns:
        The smaller of the time budget and the platform's limit, less the time to write the answer.
    """
    left_s = nsml.time_left_s()
    # The published package nsml-local has no time limit.
    if math.isinf(left_s):
        return time_budget_s
    return min(time_budget_s, max(0.0, left_s - max(HAND_OVER_S, HAND_OVER_SHARE * left_s)))


class Submission:
    """New process that loads a checkpoint and answers the queries of a submission.

    Args:
        open_run: opens the model of a run directory.
        request: re-ranking to do, with the platform's limit as its deadline. If its local settings
            name no model, DELF uses the trunk of the checkpoint.
        batch_size: images per batch.
    """

    def __init__(
        self, open_run: Callable[[str], AnyEmbedder], request: Request, batch_size: int
    ) -> None:
        self.open_run = open_run
        self.request = request
        self.batch_size = batch_size
        self.model: AnyEmbedder | None = None
        nsml.bind(load=self.load, infer=self.infer)

    def load(self, dir_name: str, *_: Any) -> None:
        """Open the model of a checkpoint."""
        self.model = self.open_run(dir_name)
        local = self.request.local
        if not local.model:
            local = replace(local, model=dir_name)
            self.request = replace(self.request, local=local)

    def infer(self, queries: Sequence[str], db: Sequence[str], **_: Any) -> Answer:
        """Answer the queries.

        Args:
            queries: paths of Q query images.
            db: paths of G reference images.

        Returns:
            For each query, its number, id and ranked reference ids.
        """
        assert self.model is not None, "infer comes after load"
        query = _images(queries)
        gallery = _images(db)
        request = self.request.of(self.model)
        reranker = Reranker(request, gallery, Path(RUN_DIR) / "local", say)
        improving = answers(self.model, query, gallery, self.batch_size, request, reranker, say)
        return last_in_time(improving, request.deadline, in_gallery_order(query, gallery))


def _images(paths: Sequence[str]) -> ImageList:
    ids = np.array([Path(path).stem for path in paths])
    return ImageList(ids, np.array([str(path) for path in paths]))


def last_in_time(improving: Iterator[Answer], deadline: Deadline, fallback: Answer) -> Answer:
    """Return the last answer that is ready at the deadline, or the fallback.

    Args:
        improving: answers, each better than the one before.
        deadline: answers that take longer, or hang, are abandoned.
        fallback: answer if none is ready.

    Returns:
        The answer.

    Raises:
        Exception: `improving` raised it before its first answer.
    """
    ready = [fallback]

    def collect() -> None:
        for answer in improving:
            ready.append(answer)

    try:
        deadline.run(collect)
    except Abandoned:
        say(
            f"the time budget of {deadline.seconds:.0f} s is over; "
            "the answer is the last one that was ready."
        )
    except Exception as error:
        if len(ready) == 1:
            raise
        say(f"re-ranking failed ({error}); the answer is the plain ranking.")
    return ready[-1]
