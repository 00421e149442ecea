"""From a source to a model that is ready to embed: `open_model`."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_io.artifacts import digest_of
from data_io.checkpoint_folder import CheckpointFolder
from data_io.folders import cache_folder
from data_io.progress import Log, quiet
from data_io.records import ImageList
from data_io.stores.embeddings import EmbeddingStore
from delf_ext.config import UsageError
from delf_ext.features.embedder import AnyEmbedder, Embedder, Ensemble, HeldBack
from delf_ext.features.network_embedders import in_openvino, lazy_embedder
from delf_ext.recipes import codec, schema
from delf_ext.runs.layouts import with_layout
from delf_ext.runs.records import Run
from delf_ext.runs.run_directory import checkpoint_digest, read_run
from delf_ext.runs.sources import (
    POOLINGS,
    CheckpointSource,
    EnsembleSource,
    ModelSource,
    OnnxSource,
    RunSource,
    Runtime,
    require_runtime,
    source_of,
)
from delf_ext.runs.upgrade import load_old_weights, old_checkpoint

if TYPE_CHECKING:
    from delf_ext.models.embedding_model import EmbeddingModel

KINDS = {
    "recipe": "delf_ext.runs.opening:open_recipe_run",
    "keras_baseline": "baseline_keras.features:open_run",
}
"""Kind of a run -> module:function that opens it; the module is imported when it is needed."""
ENSEMBLE = "ensemble"  # the kind of a run that has members


def open_model(
    source: ModelSource | str | Path,
    runtime: Runtime = Runtime(),  # noqa: B008 frozen
    *,
    store: bool = True,
    features: Path | None = None,
    calibration: Callable[[], ImageList] | None = None,
    log: Log = quiet,
) -> AnyEmbedder:
    """Open a model that turns photographs into embeddings.

    The weights are loaded at the first batch, so a model whose embeddings are all stored opens in no time.

    Args:
        source: a run directory, a checkpoint, FILE.onnx or an ensemble of these; a path is tried as each of them.
        runtime: what computes the embeddings.
        store: keep embeddings for the next time, in the run directory or in the user's cache folder.
        features: a folder that `extract` filled; embeddings are taken from it where it holds them.
        calibration: returns photographs for the 8-bit runtime.
        log: called with each line that says what was opened.

    Returns:
        An Embedder, or an Ensemble of them.

    Raises:
        ValueError: in one line, when the source cannot be used. StaleArtifact: when `features` is of another model.

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
    if isinstance(source, RunSource) and (run := read_run(source.path)).kind == ENSEMBLE:
        source = members_of(run)
    if isinstance(source, EnsembleSource):
        if features is not None:
            raise UsageError(
                "--features belongs to one model; an ensemble keeps the embeddings of each member."
            )
        members = []
        for member in source.members:
            one = open_model(member, runtime, store=store, calibration=calibration, log=log)
            if not isinstance(one, Embedder):
                raise ValueError(f"{one.name}: an ensemble inside an ensemble is not built yet.")
            members.append(one)
        return Ensemble(source.name, tuple(members), source.join, ranking=source.ranking)
    model, own_folder = _opened(source, runtime, log)
    model = _in_runtime(model, source, runtime, calibration)
    if not store and features is None:
        return model
    return dataclasses.replace(
        model, store=EmbeddingStore(own_folder, model.digest, log, features, store)
    )


def _opened(source: ModelSource, runtime: Runtime, log: Log) -> tuple[Embedder, Path]:
    """Return the model, and the folder that keeps its embeddings."""
    cached = cache_folder() / "features"
    if isinstance(source, OnnxSource):
        return _open_onnx(source, runtime), cached
    if isinstance(source, CheckpointSource):
        return open_checkpoint(source, log), cached
    assert isinstance(source, RunSource)
    run = read_run(source.path)
    if run.kind not in KINDS:
        raise ValueError(
            f"{run.path}: holds a run of kind {run.kind!r}. Known: {', '.join((*KINDS, ENSEMBLE))}."
        )
    module, _, function = KINDS[run.kind].partition(":")
    opened = getattr(importlib.import_module(module), function)(run, runtime, log)
    return opened, run.features


def _in_runtime(
    model: Embedder,
    source: ModelSource,
    runtime: Runtime,
    calibration: Callable[[], ImageList] | None,
) -> Embedder:
    """Return the model as the runtime runs it; a digest of its own where the numbers differ."""
    from delf_ext.models.precision import uses_bfloat16

    if isinstance(source, OnnxSource):
        return model
    if model.graph is None:  # the official baseline is measured as it was
        return dataclasses.replace(model, embed=_in_precision(model.embed, "off"))

    graphs = cache_folder() / "graphs"
    if runtime.name == "openvino-int8":
        from delf_ext.features.runtimes.int8 import in_openvino_int8

        if calibration is None:
            raise UsageError(
                "--runtime=openvino-int8 needs photographs to calibrate on: pass --data."
            )
        return in_openvino_int8(model, calibration(), graphs)
    precision = "off" if model.float32 else runtime.mixed_precision
    bfloat16 = uses_bfloat16(precision)
    if runtime.name == "openvino":
        from importlib.util import find_spec

        if find_spec("openvino") is None:
            raise ValueError(
                '--runtime=openvino needs OpenVINO: pip install -e ".[fast]" in the clone.'
            )
        model = in_openvino(model, graphs, bfloat16)
    else:
        model = dataclasses.replace(model, embed=_in_precision(model.embed, precision))
    return dataclasses.replace(model, digest=f"{model.digest}-bf16") if bfloat16 else model


def _in_precision(embed: Callable[[Any], Any], choice: str) -> Callable[[Any], Any]:
    """Return `embed` with TensorFlow's switch set before each call: models of both kinds may take turns."""

    def run(images: Any) -> Any:
        from delf_ext.models.precision import set_mixed_precision

        set_mixed_precision(choice)
        return embed(images)

    return run


# --- checkpoints and ONNX files -----------------------------------------------------------------------------------


def open_checkpoint(source: CheckpointSource, log: Log) -> Embedder:
    """Return a pretrained trunk as it is. Raises: ValueError when the weights are of another trunk or layout."""
    trunk = with_layout(source.trunk, source.path, log)
    config = schema.Model(trunk, (schema.Head("pooled", source.pool),), ("pooled",))
    name = f"zero-shot {trunk.name}/{trunk.end_point} {_pool_name(source.pool)}"
    digest = digest_of(
        [checkpoint_digest(Path(source.path)), codec.to_json(config), source.size_px]
    )

    def load() -> EmbeddingModel:
        from delf_ext.models.embedding_model import EmbeddingModel

        model = EmbeddingModel(config, 0).build_variables()
        log(str(model.trunk.load(source.path)))
        return model

    return lazy_embedder(name, source.size_px, digest, load)


def _pool_name(pool: schema.Pool) -> str:
    return next((name for name, known in POOLINGS.items() if known == pool), type(pool).__name__)


def _open_onnx(source: OnnxSource, runtime: Runtime) -> Embedder:
    from delf_ext.features.runtimes.networks import installed_runtime
    from delf_ext.features.runtimes.onnx_embedder import onnx_embedder
    from delf_ext.models.precision import uses_bfloat16

    name = installed_runtime() if runtime.name == "auto" else runtime.name
    bfloat16 = name == "openvino" and uses_bfloat16(runtime.mixed_precision)
    model = onnx_embedder(source.path, name, bfloat16)
    return dataclasses.replace(model, digest=f"{model.digest}-bf16") if bfloat16 else model


# --- runs ---------------------------------------------------------------------------------------------------------


def recipe_of(run: Run) -> codec.AnyRecipe:
    """Return the recipe of a run. Raises: ValueError naming the file when it is not one."""
    try:
        return codec.recipe_from_json(run.recipe, str(run.path / "recipe.json"))
    except UsageError as error:
        raise ValueError(str(error)) from None


def load_model(run: Run, path: Path | None = None) -> tuple[EmbeddingModel, str]:
    """Return the built model of a trained recipe with its best weights, and the checkpoint's name.

    path: prefix of the checkpoint; None is the newest.

    Raises: ValueError naming what is missing, damaged or does not fit.
    """
    from delf_ext.models.embedding_model import EmbeddingModel, read_weights

    recipe = recipe_of(run)
    if not isinstance(recipe, schema.Recipe):
        raise ValueError(f"{run.path}: holds an ensemble; name one of its members.")
    path = path or best_weights(run)
    model = EmbeddingModel(recipe.model, len(run.facts.class_names)).build_variables()
    (load_old_weights if run.is_old else read_weights)(model, path)
    return model, path.name


def best_weights(run: Run) -> Path:
    """Return the path prefix of the best checkpoint, or of the last where no validation chose any.

    Raises: ValueError naming the folder when there is none.
    """
    if run.is_old:
        path = old_checkpoint(run.checkpoints)
    else:
        path = (
            CheckpointFolder(run.checkpoints, "best").newest()
            or CheckpointFolder(run.checkpoints, "last").newest()
        )
    if path is None:
        raise ValueError(
            f"{run.checkpoints}: no checkpoint; the run has saved nothing yet. Train it further with --resume."
        )
    return path


def open_recipe_run(run: Run, runtime: Runtime, log: Log) -> Embedder:
    """Return the model that a finished or running training has kept."""
    recipe = recipe_of(run)
    assert isinstance(recipe, schema.Recipe)
    newest = best_weights(run)
    size_px = recipe.final_size_px
    plain = dataclasses.replace(
        recipe.model, trunk=dataclasses.replace(recipe.model.trunk, weights="")
    )
    digest = digest_of([checkpoint_digest(newest), codec.to_json(plain), size_px])
    # The weights of the digest, though a run that trains on may have better ones by then.
    name = f"{recipe.name} {run.path.name} ({newest.name})"
    opened = lazy_embedder(name, size_px, digest, lambda: load_model(run, newest)[0])
    if recipe.reduction is not None:
        raise UsageError(
            f"{run.path}: its recipe asks for {type(recipe.reduction).__name__}, which is not built yet."
        )
    return dataclasses.replace(
        opened,
        test_time=recipe.test_time,
        ranking=recipe.ranking,
        held_back=HeldBack(recipe.validation, run.facts.seed, run.facts.held_out),
        float32=recipe.limits.float32,
    )


def members_of(run: Run) -> EnsembleSource:
    """Return the members of a trained ensemble, each with its own store."""
    recipe = recipe_of(run)
    assert isinstance(recipe, schema.EnsembleRecipe)
    paths = [member.run or str(run.path / "members" / member.name) for member in recipe.members]
    name = f"{recipe.name} {run.path.name}"
    return EnsembleSource(
        tuple(RunSource(path) for path in paths), recipe.join, name, recipe.ranking
    )
