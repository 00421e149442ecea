"""Re-rank: what is done to a plain ranking, by when, and with which local features."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from data_io.progress import Log, quiet
from data_io.records import ImageList, LocalFeatures, Ranking
from delf_ext.app.local_features import LocalStores
from delf_ext.app.local_settings import LocalSettings
from delf_ext.config import UsageError
from delf_ext.features.embedder import AnyEmbedder
from delf_ext.pipeline import Retrieval, rerank
from delf_ext.recipes.schema import TestTime
from delf_ext.reranking.chain import Step, parse_chain
from delf_ext.reranking.deadline import Abandoned, Deadline
from delf_ext.reranking.evidence import Evidence
from delf_ext.reranking.pace import SLOWDOWN
from delf_ext.reranking.verifier import Verifier

Chain = tuple[Step, ...]
LAST_MOMENT_S = 0.1  # to end the process
LATER_SHARE = 0.15


@dataclass(frozen=True, eq=False)
class Request:
    """What is asked for. It is made first of all: the time budget counts from there.

    chains: of re-rankers; None = as the model's recipe says. test_time: copies of the photographs; None likewise.
    local: which local features a geometric step uses.
    """

    deadline: Deadline = field(default_factory=Deadline)
    chains: tuple[Chain, ...] | None = None
    test_time: TestTime | None = None
    local: LocalSettings = LocalSettings()

    @property
    def needs_local_features(self) -> bool:
        return any(step.name == "geometric" for chain in self.chains or () for step in chain)

    def of(self, model: AnyEmbedder) -> Request:
        """Return the request with what the model's recipe says in place of None."""
        chains = (parse_chain(model.ranking),) if self.chains is None else self.chains
        return replace(
            self,
            chains=chains,
            test_time=model.test_time if self.test_time is None else self.test_time,
        )

    @property
    def chain(self) -> Chain:
        """Return the only chain. Raises: UsageError when there are several."""
        chains = self.chains or ((),)
        if len(chains) > 1:
            raise UsageError("this takes one --method; `compare` takes several.")
        return chains[0]


def for_embedding(deadline: Deadline) -> Deadline:
    """Leave LATER_SHARE of a time budget to searching, re-ranking and writing."""
    return deadline.sooner(LATER_SHARE * deadline.seconds) if deadline.is_limited else deadline


def name_of(chain: Chain) -> str:
    """Return the chain in words."""
    return ", ".join(map(str, chain))


def require_folder(request: Request, folder: Path | None) -> None:
    """Raise UsageError when a geometric step has no place for its local features."""
    if request.needs_local_features and folder is None:
        raise UsageError("geometric keeps local features: pass --out=FOLDER, or --run_dir.")


class Reranker:
    """The chains of a request, applied to one retrieval after the other.

    folder: where geometric steps keep local features. Raises: UsageError where they need one and there is none, and
    what `LocalStores.open` does, before any long work unless time is limited.
    """

    def __init__(
        self, request: Request, gallery: ImageList, folder: Path | None, log: Log = quiet
    ) -> None:
        self.deadline, self.config = request.deadline, request.local.geometric
        self.stores: LocalStores | None = None
        require_folder(request, folder)
        if request.needs_local_features and folder is not None:
            self.stores = LocalStores(request.local, gallery, folder, log)
            if not self.deadline.is_limited:
                self.stores.open()

    def __call__(
        self, retrieval: Retrieval, ranking: Ranking, chain: Chain, reserve_s: float = 0.0
    ) -> tuple[Ranking, Evidence | None]:
        """Return the ranking after the chain, `reserve_s` before the deadline, and what its last geometric step found."""
        verifier = (
            Verifier(retrieval.query, retrieval.gallery, self.stores, self.config)
            if self.stores
            else None
        )
        after = rerank(retrieval, ranking, chain, self.deadline.sooner(reserve_s), verifier)
        evidence = verifier.evidence if verifier else None
        return after, evidence if evidence is not None and len(evidence.query_ids) == len(
            after
        ) else None

    @property
    def local(self) -> list[tuple[LocalFeatures, LocalFeatures]]:
        """What has been extracted by now."""
        return self.stores.kept() if self.stores else []


def ranking_notes(ranking: Ranking, deadline: Deadline) -> Iterator[str]:
    """Yield lines: how a ranking was made, and for how many queries time was short."""
    yield f"ranking: {ranking.provenance}"
    unfinished = int(np.sum(~np.asarray(ranking.complete)))
    if unfinished:
        yield f"time budget: {unfinished} of {len(ranking)} queries keep an earlier ranking at some step"
    if deadline.is_limited:
        yield f"time budget: {deadline.remaining_s():.1f} of {deadline.seconds:g} s left"


def reserve(deadline: Deadline, begun_s: float, times: float) -> float:
    """Return the seconds to keep for work that costs `times` what was done since `begun_s`, even if it is slower then."""
    return SLOWDOWN * times * (deadline.clock() - begun_s)


def finish_in_time(work: Callable[[], object], deadline: Deadline, result: Path, log: Log) -> None:
    """Run `work`; at the deadline, end the process with exit code 0 if it has not finished.

    Args:
        work: improves `result`, which is already complete on disk.
        deadline: of the process.
        result: file named in the last log line.
        log: called with each line worth reading.
    """
    early = deadline.sooner(LAST_MOMENT_S)
    if early.expired():
        work()  # starts no step without time
        return
    try:
        early.run(work)
    except Abandoned:
        log(
            f"time budget: {deadline.seconds:g} s are over; {result} holds the ranking that was ready."
        )
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # a normal exit would wait for threads that hang


def first_skipped(skipped: Sequence[tuple[str, str]], what: str, shown: int = 5) -> Iterator[str]:
    """Yield lines: the first few skipped files, and how many there are in all."""
    for path, reason in skipped[:shown]:
        yield f"{what}: {path}: {reason}"
    if len(skipped) > shown:
        yield f"{what}: {len(skipped)} in all"
