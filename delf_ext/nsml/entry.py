"""A run on NSML, or on its stand-in: what it saves, loads and reports, and how it answers a submission.

A checkpoint of the platform is a run directory with the state of training: `nsml model pull` gives one that --run_dir takes.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from delf_ext.features.extraction import BATCH_SIZE
from delf_ext.reranking.deadline import Abandoned, Deadline
from delf_ext.runs.records import FACTS, RECIPE

RUN_DIR = "runs/session"  # below the session's own folder, where a resumed session finds it again
HAND_OVER_SHARE, HAND_OVER_S = (
    0.05,
    2.0,
)  # of a submission's limit, and at least: to write the answer


class TrainingSession:
    """A training run on the platform: `training.loop.Listener`. Saves what is best on the dev split, and the end."""

    def __init__(self, run_dir: Path, epochs: int) -> None:
        self.run_dir, self.epochs, self.epoch = run_dir, epochs, 0
        self.dev: dict[str, float] = {}
        self.loaded = False
        nsml.bind(save=self.save, load=self.load)

    def save(self, dir_name: str, *_: Any) -> None:
        CheckpointFolder(self.run_dir / "checkpoint", "last").copy_newest(
            Path(dir_name) / "checkpoint"
        )
        for name in (RECIPE, FACTS):
            shutil.copy2(self.run_dir / name, dir_name)

    def load(self, dir_name: str, *_: Any) -> None:
        """Make a checkpoint the state from which training goes on.

        A resumed session keeps its best weights, unless they are of a later step than the checkpoint.
        """
        if not (Path(dir_name) / RECIPE).is_file():
            raise ValueError(
                f"{dir_name}: an earlier version of mandoo saved this checkpoint: start a new session."
            )
        folder, saved = (
            self.run_dir / "checkpoint",
            CheckpointFolder(Path(dir_name) / "checkpoint", "last"),
        )
        last, best = CheckpointFolder(folder, "last"), CheckpointFolder(folder, "best")
        if not best.numbers() or max(best.numbers()) > max(saved.numbers()):
            shutil.rmtree(folder, ignore_errors=True)
        last.remove()
        saved.copy_newest(folder)
        for name in (RECIPE, FACTS):
            shutil.copy2(Path(dir_name) / name, self.run_dir)
        self.loaded = True

    def evaluated(self, step: int, metrics: Mapping[str, float], is_best: bool) -> None:
        self.dev = {f"dev__{name}": float(metrics[name]) for name in ("mAP", "recall_at_1")}
        nsml.report(summary=True, epoch=self.epoch, epoch_total=self.epochs, step=step, **self.dev)
        if is_best:
            nsml.save(step)

    def epoch_ended(self, epoch: int, step: int, means: Mapping[str, float]) -> None:
        """Report `loss` and `acc` under the names of the official code, the others as train/NAME."""
        self.epoch = epoch
        known = {"loss": "loss", "accuracy": "acc"}
        losses = {known.get(name, f"train__{name}"): float(value) for name, value in means.items()}
        nsml.report(
            summary=True, epoch=epoch, epoch_total=self.epochs, step=step, **self.dev, **losses
        )
        if epoch == self.epochs or not self.dev:
            nsml.save(step)


def submission_budget_s(time_budget_s: float) -> float:
    """Return the seconds that a submission may take to its answer: the platform's limit, less the time to write it."""
    left_s = nsml.time_left_s()
    if math.isinf(left_s):  # the published package knows no limit
        return time_budget_s
    return min(time_budget_s, max(0.0, left_s - max(HAND_OVER_S, HAND_OVER_SHARE * left_s)))


class Submission:
    """A fresh process that loads a checkpoint and answers.

    open_run: opens the model of a run directory. request: its deadline is the platform's limit; DELF's trunk is that of
    the checkpoint where its local settings name no model.
    """

    def __init__(
        self, open_run: Callable[[str], AnyEmbedder], request: Request, batch_size: int = BATCH_SIZE
    ) -> None:
        self.open_run, self.request, self.batch_size = open_run, request, batch_size
        self.model: AnyEmbedder | None = None
        nsml.bind(load=self.load, infer=self.infer)

    def load(self, dir_name: str, *_: Any) -> None:
        self.model = self.open_run(dir_name)
        local = self.request.local
        if not local.model:
            self.request = dataclasses.replace(
                self.request, local=dataclasses.replace(local, model=dir_name)
            )

    def infer(self, queries: Sequence[str], db: Sequence[str], **_: Any) -> Answer:
        """Answer for the paths of query and reference images, as the platform hands them over."""
        assert self.model is not None, "infer comes after load"
        query, gallery = _listed(queries), _listed(db)
        request = self.request.of(self.model)
        reranker = Reranker(request, gallery, Path(RUN_DIR) / "local", say)
        found = answers(self.model, query, gallery, self.batch_size, request, reranker, say)
        return last_in_time(found, request.deadline, in_gallery_order(query, gallery))


def _listed(paths: Sequence[str]) -> ImageList:
    ids = np.array([Path(path).stem for path in paths])
    return ImageList(ids, np.array([str(path) for path in paths]))


def last_in_time(improving: Iterator[Answer], deadline: Deadline, fallback: Answer) -> Answer:
    """Return the last answer that is ready at the deadline, or the fallback.

    Args:
        improving: answers, each better than the one before.
        deadline: answers that take longer, or hang, are abandoned.
        fallback: answer if none is ready.

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
            f"time budget: {deadline.seconds:.0f} s are over; the answer is the last one that was ready."
        )
    except Exception as error:
        if len(ready) == 1:
            raise
        say(f"re-ranking failed ({error}); the answer is the plain ranking.")
    return ready[-1]
