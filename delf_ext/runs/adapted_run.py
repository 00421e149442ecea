"""Write and read runs of a base model with a head, which `mandoo adapt` makes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from data_io.photographs import Photographs
from delf_ext.config import UsageError
from delf_ext.features.embedder import Adapted, Embedder, Ensemble
from delf_ext.features.reductions.projection import Projection, load_projection, save_projection
from delf_ext.recipes import codec
from delf_ext.recipes.adapted_parts import (
    AdaptedRecipe,
    Base,
    CheckpointBase,
    EnsembleBase,
    OnnxBase,
    RunBase,
)
from delf_ext.recipes.trunk_names import LITE
from delf_ext.runs.photographs import write_photographs
from delf_ext.runs.recipe_run import training_of
from delf_ext.runs.records import PROJECTION, RECIPE, Facts, Run
from delf_ext.runs.run_directory import read_run, write_run
from delf_ext.runs.sources import (
    CheckpointSource,
    EnsembleSource,
    ModelSource,
    OnnxSource,
    RunSource,
)

ADAPTED = "adapted"
"""Kind of such a run."""


@dataclass(frozen=True, eq=False)
class Head:
    """What is written of a head.

    Attributes:
        recipe: base model and reduction.
        projection: the fitted reduction; None without one.
        facts: data, classes and seed.
        photographs: the photographs that it was fitted on.
    """

    recipe: AdaptedRecipe
    projection: Projection | None
    facts: Facts
    photographs: Photographs


def write_adapted(path: Path, head: Head) -> Run:
    """Write a run directory; recipe.json comes last, so an interrupted one is no run.

    Args:
        path: the run directory.
        head: what to write.

    Returns:
        The run.
    """
    path.mkdir(parents=True, exist_ok=True)
    if head.projection is not None:
        save_projection(path / PROJECTION, head.projection)
    write_photographs(path, head.photographs)
    return write_run(path, ADAPTED, codec.to_json(head.recipe), head.facts)


def adapted_recipe_of(run: Run) -> AdaptedRecipe:
    """Return the recipe of a run of kind "adapted".

    Raises:
        ValueError: recipe.json does not hold one; the message names the place in the file.
    """
    file = str(run.path / RECIPE)
    try:
        recipe = codec.from_json(run.recipe, file)
    except UsageError as error:
        raise ValueError(str(error)) from None
    if not isinstance(recipe, AdaptedRecipe):
        raise ValueError(f'{file}: must hold "type": "AdaptedRecipe". Run `mandoo adapt` again.')
    return recipe


def with_head(run: Run, base: Embedder | Ensemble) -> Adapted:
    """Put the head of a run on its base model.

    Args:
        run: a run of kind "adapted".
        base: its base model, ready to embed.

    Returns:
        The model of the run.

    Raises:
        ValueError: a file of the run is missing or damaged.
    """
    recipe = adapted_recipe_of(run)
    projection = None
    if recipe.reduction is not None:
        projection = load_projection(run.path / PROJECTION)
    return Adapted(
        name=f"{recipe.name} {run.path.name}",
        base=base,
        projection=projection,
        test_time=recipe.test_time,
        ranking=recipe.ranking,
        fitted_on=training_of(run),
        reduction=recipe.reduction,
    )


# --- where the base model is


def base_of(source: ModelSource, run_dir: Path) -> Base:
    """Return the record of a base model.

    Args:
        source: the base model.
        run_dir: run directory of the head.

    Returns:
        The record; its paths are absolute, and relative to `run_dir`.

    Raises:
        UsageError: an ensemble is inside an ensemble.
    """
    if isinstance(source, EnsembleSource):
        members = tuple(base_of(member, run_dir) for member in source.members)
        return EnsembleBase(members, source.join)  # type: ignore[arg-type]
    places = _places(source.path, run_dir)
    if isinstance(source, RunSource):
        return RunBase(*places)
    if isinstance(source, OnnxSource):
        return OnnxBase(*places)
    path, relative = places
    return CheckpointBase(path, source.trunk, source.pool, source.size_px, relative)


def base_source(base: Base, run_dir: Path) -> ModelSource:
    """Return the base model as a source for `open_model`.

    Args:
        base: record of the base model.
        run_dir: run directory of the head.

    Returns:
        The source.

    Raises:
        ValueError: there is no file at the place of the base model.
    """
    if isinstance(base, EnsembleBase):
        members = tuple(_member_source(member, run_dir) for member in base.members)
        return EnsembleSource(members, base.join)
    source = _member_source(base, run_dir)
    # The head was fitted on the network: a reduction of its own is not applied before it.
    return replace(source, reduced=False) if isinstance(source, RunSource) else source


def _member_source(base: Base, run_dir: Path) -> RunSource | CheckpointSource | OnnxSource:
    assert isinstance(base, RunBase | CheckpointBase | OnnxBase)
    path = _found(base, run_dir)
    if isinstance(base, RunBase):
        return RunSource(path)
    if isinstance(base, OnnxBase):
        return OnnxSource(path)
    return CheckpointSource(path, base.trunk, base.pool, base.size_px)


def trunk_model(path: str) -> str:
    """Return the model whose trunk can serve for local features.

    Args:
        path: a run directory, a checkpoint or the name of known weights.

    Returns:
        The path; of a head, that of its base model: "" if that has no single trunk.

    Raises:
        ValueError: the run of a head is damaged.
    """
    if not (Path(path) / RECIPE).is_file():
        return path
    run = read_run(path)
    if run.kind != ADAPTED:
        return path
    base = adapted_recipe_of(run).base
    return base.path if isinstance(base, RunBase | CheckpointBase) else ""


def _places(path: str, run_dir: Path) -> tuple[str, str]:
    """Return the absolute path, and the one from `run_dir`; a name of known weights stays."""
    if path in LITE or not _exists(path):
        return path, ""
    return os.path.abspath(path), os.path.relpath(path, run_dir)


def _found(base: RunBase | CheckpointBase | OnnxBase, run_dir: Path) -> str:
    if not base.relative:
        return base.path
    nearby = os.path.normpath(os.path.join(run_dir, base.relative))
    for path in (base.path, nearby):
        if _exists(path):
            return path
    raise ValueError(
        f"{run_dir}: its base model {base.path} is not there. Put it back, write its new place "
        f"into base.path of {run_dir / RECIPE}, or run `mandoo adapt` again."
    )


def _exists(path: str) -> bool:
    # A checkpoint is named by the common prefix of its files.
    return os.path.exists(path) or os.path.exists(f"{path}.index")
