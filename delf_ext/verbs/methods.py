"""--method and --time_budget: what is done to a plain ranking, and by when."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_io.records import ImageList, LocalFeatures, Ranking
from delf_ext.config import UsageError
from delf_ext.reranking.chain import Step, parse_chain
from delf_ext.reranking.deadline import SLOWDOWN, Deadline
from delf_ext.reranking.evidence import Evidence
from delf_ext.reranking.geometric import GeometricConfig
from delf_ext.verbs.local import LocalStores, kinds_of, verify_from_flags

Chain = tuple[Step, ...]
LAST_MOMENT_S = 0.1
LATER_SHARE, SHOWN = 0.15, 5


@dataclass(frozen=True, eq=False)
class Request:
    """What a verb was asked to do to rankings. It is made first of all: the time budget counts from there."""

    deadline: Deadline
    chains: tuple[Chain, ...]
    query_copies: tuple[str, ...]
    config: GeometricConfig

    @classmethod
    def of(cls, flags: Any, default: str = "", several: bool = False) -> Request:
        """default: what an empty --method means. Raises: UsageError naming the flag that does not fit."""
        deadline = Deadline(flags.time_budget)
        chains = tuple(parse_chain(part) for part in (default if flags.method is None else flags.method).split(";"))
        if len(chains) > 1 and not several:
            raise UsageError(f"this verb takes one --method; `compare` takes several. Received {flags.method!r}.")
        return cls(deadline, chains, _copies(flags), geometric_config(flags))


def _copies(flags: Any) -> tuple[str, ...]:
    from delf_ext.features.copies import CHANGES

    unknown = [name for name in flags.query_copies if name not in CHANGES]
    if unknown:
        raise UsageError(f"--query_copies are of {', '.join(CHANGES)}. Received {unknown[0]!r}.")
    return tuple(flags.query_copies)


def geometric_config(flags: Any) -> GeometricConfig:
    """Raises: UsageError naming the flag that does not fit."""
    if flags.min_inliers < 0:
        raise UsageError(f"--min_inliers must not be negative. Received {flags.min_inliers}.")
    return GeometricConfig(order=flags.order_by, verify=tuple(verify_from_flags(kind, flags) for kind in kinds_of(flags)))


def for_embedding(deadline: Deadline) -> Deadline:
    """Leaves LATER_SHARE of a time budget to searching, re-ranking and writing."""
    return deadline.sooner(LATER_SHARE * deadline.seconds) if deadline.is_limited else deadline


def tell_skipped(skipped: Sequence[tuple[str, str]], what: str) -> None:
    """The first few, and how many in all."""
    for path, reason in skipped[:SHOWN]:
        print(f"{what}: {path}: {reason}")
    if len(skipped) > SHOWN:
        print(f"{what}: {len(skipped)} in all")


def name_of(chain: Chain) -> str:
    return ", ".join(map(str, chain))


class Reranker:
    """The chains of a verb, applied to one retrieval after the other.

    folder: where geometric steps keep local features. Raises: UsageError where they need one and there is none, and what
    `LocalStores.open` does, before any long work unless time is limited.
    """

    def __init__(self, flags: Any, request: Request, gallery: ImageList, folder: Path | None) -> None:
        self.deadline, self.config = request.deadline, request.config
        self.stores: LocalStores | None = None
        if any(step.name == "geometric" for chain in request.chains for step in chain):
            if folder is None:
                raise UsageError("geometric keeps local features: pass --out=FOLDER, or --run_dir.")
            self.stores = LocalStores(flags, gallery, folder)
            if not self.deadline.is_limited:
                self.stores.open()

    def __call__(self, retrieval: Any, ranking: Ranking, chain: Chain, reserve_s: float = 0.0) -> tuple[Ranking, Evidence | None]:
        """The ranking after the chain, `reserve_s` before the deadline, and what its last geometric step found."""
        from delf_ext.pipeline import Verifier, rerank

        verifier = Verifier(retrieval.query, retrieval.gallery, self.stores, self.config) if self.stores else None
        after = rerank(retrieval, ranking, chain, self.deadline.sooner(reserve_s), verifier)
        evidence = verifier.evidence if verifier else None
        return after, evidence if evidence is not None and len(evidence.query_ids) == len(after) else None

    @property
    def local(self) -> list[tuple[LocalFeatures, LocalFeatures]]:
        """What has been extracted by now."""
        return self.stores.kept() if self.stores else []


def tell(ranking: Ranking, deadline: Deadline) -> None:
    """How a ranking came about, and for how many queries time was short."""
    print(f"ranking: {ranking.provenance}")
    unfinished = int(np.sum(~np.asarray(ranking.complete)))
    if unfinished:
        print(f"time budget: {unfinished} of {len(ranking)} queries keep an earlier ranking at some step")
    if deadline.is_limited:
        print(f"time budget: {deadline.remaining_s():.1f} of {deadline.seconds:g} s left", flush=True)


def reserve(deadline: Deadline, begun_s: float, times: float) -> float:
    """Seconds to keep for work that costs `times` what was done since `begun_s`, even if it is slower then."""
    return SLOWDOWN * times * (deadline.clock() - begun_s)


@contextmanager
def ended_by(deadline: Deadline, result: Path) -> Iterator[None]:
    """Ends the process at the deadline, where `result` lies complete already and what would make it better hangs."""

    def end() -> None:
        print(f"time budget: {deadline.seconds:g} s are over; {result} holds the ranking that was ready.", flush=True)
        sys.stderr.flush()
        os._exit(0)

    wait_s = deadline.remaining_s() - LAST_MOMENT_S
    if not 0 < wait_s < threading.TIMEOUT_MAX:  # where it is over, nothing more is begun
        yield
        return
    timer = threading.Timer(wait_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
