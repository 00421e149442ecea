"""Re-rank with chains of steps, within a time budget."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from data_io.messages import shown_path
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
from delf_ext.reranking.steps import width_warnings
from delf_ext.reranking.verifier import Verifier

Chain = tuple[Step, ...]
"""Re-ranking steps; each works on the result of the one before."""
EXIT_S = 0.1
"""Seconds before the deadline at which a process that has not finished is ended."""
LATER_SHARE = 0.15
"""Share of a time budget for the work after embedding."""


@dataclass(frozen=True, eq=False)
class Request:
    """What to do with plain rankings. Make it first: its time budget starts at once.

    Attributes:
        deadline: when all work must have ended.
        chains: chains of re-ranking steps; None = as the model's recipe says.
        test_time: copies of the images to embed; None = as the model's recipe says.
        local: local features of geometric steps.
    """

    deadline: Deadline = field(default_factory=Deadline)
    chains: tuple[Chain, ...] | None = None
    test_time: TestTime | None = None
    local: LocalSettings = LocalSettings()

    @property
    def needs_local_features(self) -> bool:
        """Whether a chain has a geometric step."""
        return any(step.name == "geometric" for chain in self.chains or () for step in chain)

    def of(self, model: AnyEmbedder) -> Request:
        """Return the request with values of the model's recipe in place of None."""
        chains = (parse_chain(model.ranking),) if self.chains is None else self.chains
        test_time = model.test_time if self.test_time is None else self.test_time
        return replace(self, chains=chains, test_time=test_time)

    @property
    def chain(self) -> Chain:
        """The only chain; empty if there is none. Raises UsageError if there are several."""
        chains = self.chains or ((),)
        if len(chains) > 1:
            raise UsageError("only one chain is allowed here (--method); `compare` takes several.")
        return chains[0]


def for_embedding(deadline: Deadline) -> Deadline:
    """Return the deadline of embedding; it leaves a share of the budget for later work."""
    return deadline.sooner(LATER_SHARE * deadline.seconds) if deadline.is_limited else deadline


def chain_name(chain: Chain) -> str:
    """Return the chain as it is written for --method."""
    return ", ".join(map(str, chain))


def require_folder(request: Request, folder: Path | None) -> None:
    """Raise UsageError if a geometric step has no folder for its local features."""
    if request.needs_local_features and folder is None:
        raise UsageError(
            "the geometric step stores local features: "
            "pass a folder (--out=FOLDER or --run_dir=RUN)."
        )


class Reranker:
    """Re-rank rankings over one gallery with the chains of a request.

    Attributes:
        deadline: of the request.
        config: configuration of geometric verification.
        stores: stores of local features; None without a geometric step.
    """

    def __init__(
        self, request: Request, gallery: ImageList, folder: Path | None, log: Log = quiet
    ) -> None:
        """Prepare the stores of local features.

        Without a time limit, the extractors are opened now, so a missing model is reported
        before any long work.

        Args:
            request: chains, deadline and local features.
            gallery: the gallery.
            folder: where geometric steps store local features.
            log: called with each log line.

        Raises:
            UsageError: if a geometric step has no folder, or no model for its local features.
            ValueError: if that model cannot be read.
        """
        self.deadline = request.deadline
        self.config = request.local.geometric
        self.stores: LocalStores | None = None
        require_folder(request, folder)
        for chain in request.chains or ():
            for line in width_warnings(chain, len(gallery)):
                log(line)
        if request.needs_local_features and folder is not None:
            self.stores = LocalStores(request.local, gallery, folder, log)
            if not self.deadline.is_limited:
                self.stores.open()

    def __call__(
        self, retrieval: Retrieval, ranking: Ranking, chain: Chain, reserve_s: float = 0.0
    ) -> tuple[Ranking, Evidence | None]:
        """Re-rank with a chain.

        Args:
            retrieval: embeddings of queries and gallery.
            ranking: the ranking before the chain.
            chain: the steps.
            reserve_s: seconds to leave before the deadline.

        Returns:
            The new ranking, and the inliers that its last geometric step found; None without
            such a step.
        """
        verifier = None
        if self.stores:
            verifier = Verifier(retrieval.query, retrieval.gallery, self.stores, self.config)
        deadline = self.deadline.sooner(reserve_s)
        reranked = rerank(retrieval, ranking, chain, deadline, verifier)
        evidence = verifier.evidence if verifier else None
        if evidence is None or len(evidence.query_ids) != len(reranked):
            return reranked, None
        return reranked, evidence

    @property
    def local(self) -> list[tuple[LocalFeatures, LocalFeatures]]:
        """Stored local features (of queries, of gallery) of each extractor."""
        return self.stores.stored() if self.stores else []


def ranking_notes(ranking: Ranking, deadline: Deadline) -> Iterator[str]:
    """Describe how a ranking was made.

    Args:
        ranking: the ranking after re-ranking.
        deadline: of the re-ranking.

    Yields:
        Lines: the steps, the number of queries that a step did not reach, the time left.
    """
    yield f"ranking: {ranking.provenance}"
    num_incomplete = int(np.sum(~np.asarray(ranking.complete)))
    if num_incomplete:
        yield (
            f"time budget: {num_incomplete} of {len(ranking)} queries keep an earlier ranking "
            "at some step"
        )
    if deadline.is_limited:
        yield f"time budget: {deadline.remaining_s():.1f} of {deadline.seconds:g} s left"


def reserve(deadline: Deadline, started_s: float, times: float) -> float:
    """Return the seconds to reserve for repeating earlier work, even if it is slower then.

    Args:
        deadline: gives the clock.
        started_s: clock reading at the start of that work; it ends now.
        times: how often the work is repeated.

    Returns:
        Seconds.
    """
    return SLOWDOWN * times * (deadline.clock() - started_s)


def finish_in_time(
    work: Callable[[], object],
    deadline: Deadline,
    result: Path,
    log: Log,
    at_end: Callable[[], None] | None = None,
) -> None:
    """Run `work`; at the deadline, end the process with exit code 0 if it has not finished.

    Args:
        work: improves `result`, which is already complete on disk.
        deadline: of the process.
        result: file named in the last log line.
        log: called with each log line.
        at_end: called once when the work has ended or was abandoned.
    """
    early = deadline.sooner(EXIT_S)
    try:
        # Without time no step starts, so this call is short.
        work() if early.expired() else early.run(work)
        if at_end:
            at_end()
    except Abandoned:
        if at_end:
            at_end()
        log(
            f"time budget: {deadline.seconds:g} s are over; "
            f"{shown_path(result)} holds the ranking that was ready."
        )
        sys.stdout.flush()
        sys.stderr.flush()
        # A normal exit would wait for threads that hang.
        os._exit(0)
