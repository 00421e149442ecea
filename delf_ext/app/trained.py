"""Define the result of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from delf_ext.recipes import codec
from delf_ext.runs.sources import RunSource


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        run_dir: the run directory.
        recipe: the recipe as it was trained.
        losses: means of the losses in the last epoch; empty for a member that was finished before.
        members: the trained members of an ensemble.
        warning: a line to show last, if most images of a folder were skipped; else "".
        is_fold: whether it is one of the folds of a recipe.
    """

    run_dir: Path
    recipe: codec.AnyRecipe
    losses: Mapping[str, float] = field(default_factory=dict)
    members: tuple[Trained, ...] = ()
    warning: str = ""
    is_fold: bool = False

    @property
    def source(self) -> RunSource:
        """Argument for `open_model`."""
        return RunSource(str(self.run_dir))
