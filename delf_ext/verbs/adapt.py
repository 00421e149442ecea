"""Fit a head on the embeddings of a model, without training the network."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from data_io.messages import shown_path
from data_io.progress import say
from delf_ext.app.adaptation import adapt, require_no_run, require_question
from delf_ext.config import UsageError
from delf_ext.features.test_time import named_copies
from delf_ext.runs.opening import plain_digest
from delf_ext.runs.sources import EnsembleSource, ModelSource, Runtime
from delf_ext.verbs.data import load
from delf_ext.verbs.models import NO_MODEL, batch_size_of, names_model, sources_of
from delf_ext.verbs.requests import join_of


def run(flags: Any) -> None:
    """Compare heads by cross-validation on --data, print the table, and write the best to --out.

    Raises:
        UsageError: naming the flag that is missing or does not fit.
    """
    require_question(flags["for"].value)
    if not flags.data or not flags.out:
        raise UsageError("adapt reads --data and writes the new run to --out=DIR: pass both.")
    require_no_run(Path(flags.out))
    named_copies(flags.copies, join_of(flags))
    source = base_source(flags)
    if not names_model(flags):
        say(NO_MODEL)
    if flags.features and isinstance(source, EnsembleSource):
        raise UsageError("--features belongs to one model: leave it out for several.")
    # A missing model is refused before the data are read.
    plain_digest(source)
    result = adapt(
        source,
        load(flags),
        flags["for"].value,
        flags.out,
        copies=tuple(flags.copies) if flags["copies"].present else None,
        join=join_of(flags),
        runtime=Runtime(flags.runtime, flags.mixed_precision),
        features=Path(flags.features) if flags.features else None,
        store=flags.store_features,
        batch_size=batch_size_of(flags),
        seed=flags.seed,
        log=say,
    )
    say(f"\n{result}")
    out = shlex.quote(flags.out)
    say(f"run: {shown_path(flags.out)}, {result.seconds:.1f} s without embedding")
    say(f"next: mandoo search --data=PHOTOS --run_dir={out} --image=PHOTO")


def base_source(flags: Any) -> ModelSource:
    """Return the model that the flags name; several are concatenated.

    Raises:
        UsageError: if no model is named, and the default one is not installed.
    """
    sources = sources_of(flags, several=True)
    return sources[0] if len(sources) == 1 else EnsembleSource(tuple(sources))
