"""A run on NSML, or on its stand-in: what it saves, loads and reports, and how it answers a submission.

A checkpoint of the platform is a run directory with the state of training: `nsml model pull` gives one that --run_dir takes.
"""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_io.records import ImageList
from delf_ext import nsml
from delf_ext.config import UsageError
from delf_ext.reranking.deadline import Deadline
from delf_ext.verbs.infer import Answer, answers, in_their_own_order
from delf_ext.verbs.methods import Request, Reranker
from delf_ext.verbs.systems import one_system

RUN_DIR = "runs/session"  # below the session's own folder, where a resumed session finds it again
HAND_OVER_SHARE, HAND_OVER_S = 0.05, 2.0  # of a submission's limit, and at least: to write the answer


class Training:
    """A training run on the platform: `training.loop.Listener`. Saves what is best on the dev split, and the end."""

    def __init__(self, run_dir: Path, epochs: int) -> None:
        self.run_dir, self.epochs, self.epoch = run_dir, epochs, 0
        self.dev: dict[str, float] = {}
        nsml.bind(save=self.save, load=self.load)

    def save(self, dir_name: str, *_: Any) -> None:
        from delf_ext.training.state import copy_last

        copy_last(self.run_dir / "checkpoint", Path(dir_name) / "checkpoint")
        shutil.copy2(self.run_dir / "config.json", dir_name)

    def load(self, dir_name: str, *_: Any) -> None:
        """Makes a checkpoint the state from which training goes on."""
        from delf_ext.training.state import copy_last

        shutil.rmtree(self.run_dir / "checkpoint", ignore_errors=True)
        copy_last(Path(dir_name) / "checkpoint", self.run_dir / "checkpoint")

    def evaluated(self, step: int, metrics: Mapping[str, float], is_best: bool) -> None:
        self.dev = {f"dev__{name}": float(metrics[name]) for name in ("mAP", "recall_at_1")}
        nsml.report(summary=True, epoch=self.epoch, epoch_total=self.epochs, step=step, **self.dev)
        if is_best:
            nsml.save(step)

    def epoch_ended(self, epoch: int, step: int, means: Mapping[str, float]) -> None:
        """`loss` and `acc` under the names of the official code, the others as train/NAME."""
        self.epoch = epoch
        known = {"loss": "loss", "accuracy": "acc"}
        losses = {known.get(name, f"train__{name}"): float(value) for name, value in means.items()}
        nsml.report(summary=True, epoch=epoch, epoch_total=self.epochs, step=step, **self.dev, **losses)
        if epoch == self.epochs or not self.dev:
            nsml.save(step)


class Submission:
    """A fresh process that loads a checkpoint and answers. The platform's limit is its time budget, counted from its start."""

    def __init__(self, flags: Any) -> None:
        left_s = nsml.time_left_s()
        flags.time_budget = min(flags.time_budget, max(0.0, left_s - max(HAND_OVER_S, HAND_OVER_SHARE * left_s)))
        self.flags, self.request = flags, Request.of(flags)
        self.model: Any = None
        nsml.bind(load=self.load, infer=self.infer)

    def load(self, dir_name: str, *_: Any) -> None:
        flags = self.flags
        flags.run_dir, flags.runs, flags.pretrained_model, flags.onnx_model = dir_name, [], None, None
        self.model = one_system(flags)[0]

    def infer(self, queries: Sequence[str], db: Sequence[str], **_: Any) -> Answer:
        """queries, db: paths of query and reference images, as the platform hands them over."""
        query, gallery = _listed(queries), _listed(db)
        reranker = Reranker(self.flags, self.request, gallery, Path(RUN_DIR) / "local")
        found = answers(self.model, query, gallery, self.flags.batch_size, self.request, reranker)
        return last_in_time(found, self.request.deadline, in_their_own_order(query, gallery))


def _listed(paths: Sequence[str]) -> ImageList:
    ids = np.array([Path(path).stem for path in paths])
    return ImageList(ids, np.array([str(path) for path in paths]))


def last_in_time(found: Iterator[Answer], deadline: Deadline, fallback: Answer) -> Answer:
    """The last answer that comes before the deadline, or the fallback. What hangs is left behind in a thread of its own."""
    arrived: queue.Queue[Answer | BaseException | None] = queue.Queue()

    def fetch() -> None:
        try:
            for answer in found:
                arrived.put(answer)
            arrived.put(None)
        except BaseException as error:
            arrived.put(error)

    threading.Thread(target=fetch, daemon=True).start()
    best = fallback
    while True:
        try:
            item = arrived.get(timeout=deadline.remaining_s() if deadline.is_limited else None)
        except queue.Empty:
            print(f"time budget: {deadline.seconds:.0f} s are over; the answer is the last one that was ready.", flush=True)
            return best
        if isinstance(item, BaseException):
            raise item
        if item is None:
            return best
        best = item


def submit(flags: Any) -> None:
    """--mode=test: the platform calls `load`, then `infer`."""
    if not nsml.IS_ON_NSML:
        raise UsageError("--mode=test is how `nsml submit` calls a session; elsewhere `infer --run_dir=RUN` writes the answer.")
    submission = Submission(flags)
    nsml.paused(scope={"submission": submission})
