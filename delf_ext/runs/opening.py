"""Open a model that is ready to embed images."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path

from data_io.files.artifacts import digest_of
from data_io.files.caches import cache_folder
from data_io.progress import Log, quiet
from data_io.records import ImageList
from data_io.stores.embeddings import EmbeddingStore
from delf_ext.config import UsageError
from delf_ext.features.embedder import Adapted, AnyEmbedder, Embedder, Ensemble
from delf_ext.features.test_time import copies_of
from delf_ext.recipes import codec, schema
from delf_ext.runs.adapted_run import ADAPTED, adapted_recipe_of, base_source, with_head
from delf_ext.runs.fitted_reduction import with_reduction
from delf_ext.runs.model_files import open_checkpoint, open_onnx
from delf_ext.runs.recipe_run import members_of, open_recipe_run, recipe_of
from delf_ext.runs.records import Run
from delf_ext.runs.run_directory import read_run
from delf_ext.runs.runtimes import in_runtime
from delf_ext.runs.sources import (
    DEFAULT_MODEL,
    CheckpointSource,
    EnsembleSource,
    ModelSource,
    OnnxSource,
    RunSource,
    Runtime,
    chosen_runtime,
    require_runtime,
    source_of,
)


def open_model(
    source: ModelSource | str | Path = DEFAULT_MODEL,
    runtime: Runtime = Runtime(),  # noqa: B008 frozen
    *,
    store: bool = True,
    features: Path | None = None,
    calibration: Callable[[], ImageList] | None = None,
    log: Log = quiet,
) -> AnyEmbedder:
    """Open a model that turns images into embeddings.

    The weights are loaded at the first batch. If all embeddings are stored already, the weights
    are never loaded.

    Args:
        source: a run directory, a checkpoint, FILE.onnx or an ensemble of these, or the path of
            one; or the name of weights in a package of the extra `lite`: "lite0" to "lite2".
        runtime: library and precision that compute the embeddings.
        store: store new embeddings, in the run directory or in the user's cache folder.
        features: folder that `extract` filled; embeddings found there are not computed again.
        calibration: returns images to calibrate the 8-bit runtime; other runtimes need none.
        log: called with each line of the log.

    Returns:
        An Embedder, an Ensemble of them, or a model with a head (Adapted).

    Raises:
        UsageError: the source does not exist or has a wrong type, the runtime does not fit it, or
            `features` is given for an ensemble.
        ValueError: the source is damaged or not supported (an ensemble inside an ensemble).
        StaleArtifact: `features` holds embeddings of another model.

    Examples:
        >>> open_model("no/such/run")
        Traceback (most recent call last):
        ...
        delf_ext.config.UsageError: no/such/run: no run directory, checkpoint or ONNX file there.
    """
    if isinstance(source, (str, Path)):
        source = source_of(source)
    if not isinstance(source, ModelSource):
        raise UsageError(f"a model is opened from a path or a ModelSource. Received {source!r}.")
    require_runtime(source, runtime)
    run = read_run(source.path) if isinstance(source, RunSource) else None
    if run is not None and run.kind == ADAPTED:
        return _open_adapted(
            run,
            lambda base: open_model(
                base, runtime, store=store, features=features, calibration=calibration, log=log
            ),
        )
    is_reduced = isinstance(source, RunSource) and source.reduced
    if run is not None and run.kind == "ensemble":
        source = members_of(run, log)
    if isinstance(source, EnsembleSource):
        if features is not None:
            raise UsageError(
                "--features belongs to one model; an ensemble keeps the embeddings of each member."
            )
        ensemble = _open_ensemble(
            source,
            lambda member: open_model(
                member, runtime, store=store, calibration=calibration, log=log
            ),
        )
        return _with_own_reduction(run, source, ensemble, log) if is_reduced else ensemble
    network, runtime = _open_network(source, run, runtime, log)
    model = network
    if not isinstance(source, OnnxSource):
        model = in_runtime(network, runtime, calibration)
    if store or features is not None:
        folder = cache_folder() / "features" if run is None else run.features
        embeddings = EmbeddingStore(folder, model.digest, log, features, store)
        model = dataclasses.replace(model, store=embeddings)
    if run is None or run.kind != "recipe" or not is_reduced:
        return model
    recipe = recipe_of(run)
    assert isinstance(recipe, schema.Recipe)
    return with_reduction(run, model, recipe.reduction, network.digest, log)


def _open_network(
    source: RunSource | CheckpointSource | OnnxSource, run: Run | None, runtime: Runtime, log: Log
) -> tuple[Embedder, Runtime]:
    """Open one network, and say in which runtime it is to run."""
    if isinstance(source, OnnxSource):
        return open_onnx(source, runtime), runtime
    if isinstance(source, CheckpointSource):
        return open_checkpoint(source, log), chosen_runtime(source, runtime)
    assert run is not None
    return _open_run(run), runtime


def _with_own_reduction(
    run: Run | None, source: EnsembleSource, model: Ensemble, log: Log
) -> AnyEmbedder:
    """Put the reduction of an ensemble behind it, if its recipe has one."""
    assert run is not None
    recipe = recipe_of(run)
    assert isinstance(recipe, schema.EnsembleRecipe)
    if recipe.reduction is None:
        return model
    return with_reduction(run, model, recipe.reduction, plain_digest(source), log)


def _open_ensemble(
    source: EnsembleSource, open_member: Callable[[ModelSource], AnyEmbedder]
) -> Ensemble:
    """Open the members of an ensemble."""
    members: list[Embedder | Adapted] = []
    for member_source in source.members:
        member = open_member(member_source)
        if isinstance(member, Ensemble) or isinstance(getattr(member, "base", None), Ensemble):
            raise ValueError(f"{member.name}: an ensemble inside an ensemble is not built yet.")
        members.append(member)
    return Ensemble(source.name, tuple(members), source.join, source.ranking, source.label)


def plain_digest(source: ModelSource) -> str:
    """Return the digest of a model that does not depend on runtime and precision.

    Args:
        source: the model.

    Returns:
        The digest of its weights and preprocessing.

    Raises:
        ValueError: the model cannot be opened.
    """
    return open_model(source, Runtime(mixed_precision="off"), store=False).digest


def base_digest(source: ModelSource, test_time: schema.TestTime | None) -> str:
    """Return what a head is bound to: the digest of its base model.

    Args:
        source: the base model.
        test_time: copies that the head was fitted on; None = those of each member, which then
            count too.

    Returns:
        The digest; runtime and precision do not count.

    Raises:
        ValueError: the model cannot be opened.
    """
    model = open_model(source, Runtime(mixed_precision="off"), store=False)
    if test_time is not None:
        return model.digest
    return digest_of([model.digest, [codec.to_json(one) for one in copies_of(model, None)]])


def _open_adapted(run: Run, open_base: Callable[[ModelSource], AnyEmbedder]) -> Adapted:
    """Open a base model and put the head of a run on it."""
    recipe = adapted_recipe_of(run)
    source = base_source(recipe.base, run.path)
    try:
        digest = base_digest(source, recipe.test_time)
    except ValueError as error:
        raise ValueError(f"{run.path}: its base model cannot be opened: {error}") from None
    if digest != recipe.base_digest:
        raise ValueError(
            f"{run.path}: its base model has changed since the head was fitted (digest {digest}, "
            f"then {recipe.base_digest}). Restore the base model, or run `mandoo adapt` again."
        )
    base = open_base(source)
    assert isinstance(base, Embedder | Ensemble)
    return with_head(run, base)


def _open_run(run: Run) -> Embedder:
    if run.kind == "recipe":
        return open_recipe_run(run)
    if run.kind != "keras_baseline":
        raise ValueError(
            f"{run.path}: holds a run of kind {run.kind!r}. "
            "Known: recipe, keras_baseline, ensemble, adapted."
        )
    # Loaded by name: baseline_keras imports this package.
    baseline: Embedder = importlib.import_module("baseline_keras.features").open_run(run)
    return baseline
