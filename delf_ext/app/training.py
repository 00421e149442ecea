"""Train a recipe on a data set: from both to a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_io.datasets import DataSet, load_dataset
from data_io.progress import Log, quiet
from delf_ext.app.starting_weights import parent_recipe
from delf_ext.app.trainable import require_trainable
from delf_ext.app.training_job import Job
from delf_ext.app.training_settings import USUAL, Settings, settings_of
from delf_ext.config import UsageError
from delf_ext.features.embedder import require_built_join
from delf_ext.recipes import codec, schema
from delf_ext.recipes.registry import find_recipe
from delf_ext.runs import run_directory
from delf_ext.runs.recipe_run import recipe_of
from delf_ext.runs.records import Facts, Run
from delf_ext.runs.run_directory import is_run, read_run, write_run
from delf_ext.runs.sources import RunSource

if TYPE_CHECKING:
    from delf_ext.training.loop import Listener


@dataclass(frozen=True)
class Trained:
    """A finished run: its directory, its recipe as it was trained, and the means of its last epoch.

    members: the trained members of an ensemble.
    """

    run_dir: Path
    recipe: codec.AnyRecipe
    losses: Mapping[str, float] = field(default_factory=dict)
    members: tuple[Trained, ...] = ()

    @property
    def source(self) -> RunSource:
        """What `open_model` takes."""
        return RunSource(str(self.run_dir))


def train(
    recipe: codec.AnyRecipe | str,
    data: DataSet | str | Path,
    run_dir: str | Path,
    *,
    data_path: str = "",
    weights: str = "",
    from_run: str | Path | None = None,
    settings: Settings = USUAL,
    infer: Mapping[str, Any] | None = None,
    listener: Listener | None = None,
    log: Log = quiet,
) -> Trained:
    """Train a recipe, or each member of an ensemble, and keep the best weights by its validation.

    Args:
        recipe: a recipe, its name in the registry, or a JSON file.
        data: a data set, or the path of one.
        run_dir: where the run is kept; `resume` continues it after a kill.
        data_path: where `data` came from when it is a data set; kept in the run, which is resumed from there.
        weights: a TensorFlow checkpoint that the trunk starts from; "" leaves the recipe's own.
        from_run: start from the weights of another run; its optimizers and its step are not taken over.
        settings: seed, precision and the like.
        infer: flags of a later submission, kept in the run.
        listener: is told of each epoch and evaluation.
        log: called with each line worth reading.

    Raises:
        UsageError: for a recipe that cannot be built. ValueError: on data that cannot be trained on, or a directory
            that holds a run already.
    """
    recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
    place = str(Path(data).absolute()) if isinstance(data, (str, Path)) else data_path
    data = load_dataset(data) if isinstance(data, (str, Path)) else data
    run_dir = Path(run_dir)
    if is_run(run_dir):
        raise ValueError(
            f"{run_dir}: holds a run already. Continue it with --resume, or choose another --run_dir."
        )
    if isinstance(recipe, schema.EnsembleRecipe):
        if from_run is not None:
            raise UsageError(
                "--from_run starts one recipe from one run; train the members of an ensemble one by one."
            )
        if listener is not None:
            raise UsageError(
                "a listener follows one recipe; train the members of an ensemble one by one."
            )
        _require_members(recipe)
        run = _begin_ensemble(recipe, place or data.name, weights, settings, run_dir)
        return _train_members(run, data, settings, None, log)
    if from_run is not None:
        if weights:
            raise UsageError(
                "--from_run and --pretrained_model both say what a run starts from: pass one of them."
            )
        parent_recipe(from_run)  # refused before the images are read
    job = Job(recipe, data, run_dir, settings, log)
    model = job.begin(weights, from_run, place, dict(infer or {}))
    return Trained(run_dir, job.recipe, job.fit(model, resume=False, listener=listener))


def resume(
    run_dir: str | Path,
    *,
    epochs: int | None = None,
    pixel_cache: str = "",
    data: DataSet | None = None,
    listener: Listener | None = None,
    log: Log = quiet,
) -> Trained:
    """Continue a run after a kill, or with more epochs. Recipe, data and settings come from the run.

    Args:
        run_dir: of one recipe or of an ensemble, whose members are continued, or begun where they are missing.
        epochs: in all; None leaves those of the run.
        pixel_cache: folder that keeps decoded photographs.
        data: the data set, where it is loaded already.
        listener: is told of each epoch and evaluation.
        log: called with each line worth reading.

    Raises:
        ValueError: when the directory holds no run, one that an earlier version made, or the data have changed.
    """
    run = read_run(run_dir)
    require_resumable(run)
    data = load_dataset(run.facts.data) if data is None else data
    recipe = recipe_of(run)
    settings = settings_of(run)
    if pixel_cache:
        settings = replace(settings, pixel_cache=pixel_cache)
    if isinstance(recipe, schema.EnsembleRecipe):
        return _train_members(run, data, settings, epochs, log)
    job = Job(recipe, data, run.path, settings, log, run.facts.held_out)
    model = job.open(run, epochs)
    return Trained(run.path, job.recipe, job.fit(model, resume=True, listener=listener))


def require_resumable(run: Run) -> None:
    """Raise ValueError, in one line, for a run that `resume` cannot continue."""
    if run.kind not in ("recipe", "ensemble"):
        raise ValueError(
            f"{run.path}: holds a run of kind {run.kind!r}, which continues by its own command."
        )
    if run.is_old:
        raise ValueError(
            f"{run.path}: an earlier version made this run. It can be opened and evaluated, and a new run can start from "
            f"its weights: --from_run={run.path}"
        )


# --- ensembles ----------------------------------------------------------------------------------------------------


def _require_members(recipe: schema.EnsembleRecipe) -> None:
    """Refuse what cannot be trained or joined before the first member is trained."""
    for member in recipe.members:
        if member.recipe is None:
            read_run(member.run)
        else:
            require_trainable(member.recipe)
    require_built_join(recipe.join)
    if recipe.label is not None:
        raise UsageError("LabelVote is not built yet. Built: none of its kind.")


def _begin_ensemble(
    recipe: schema.EnsembleRecipe, place: str, weights: str, settings: Settings, run_dir: Path
) -> Run:
    facts = Facts(
        data=place,
        weights=weights,
        settings=asdict(settings),
        versions=run_directory.versions(),
        commit=run_directory.commit(),
    )
    runs = [
        replace(one, run=str(Path(one.run).absolute())) if one.run else one
        for one in recipe.members
    ]
    return write_run(
        run_dir, "ensemble", codec.to_json(replace(recipe, members=tuple(runs))), facts
    )


def _train_members(
    run: Run, data: DataSet, settings: Settings, epochs: int | None, log: Log
) -> Trained:
    """Train the members that are recipes, one after the other; one that was begun is continued."""
    recipe = recipe_of(run)
    assert isinstance(recipe, schema.EnsembleRecipe)
    trained: list[Trained] = []
    for member in recipe.members:
        if member.recipe is None:
            continue
        log(f"member {member.name}")
        path = run.path / "members" / member.name
        if is_run(path):
            cache = settings.pixel_cache
            trained.append(resume(path, epochs=epochs, pixel_cache=cache, data=data, log=log))
            continue
        facts = run.facts
        trained.append(
            train(
                member.recipe,
                data,
                path,
                data_path=facts.data,
                weights=facts.weights,
                settings=settings,
                log=log,
            )
        )
    return Trained(run.path, recipe, members=tuple(trained))
