"""Write and read the reduction that is fitted after the training of a run.

It is bound to the weights, the copies and the images that it was fitted on, so that one that no
longer fits is never applied.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_io.files.artifacts import digest_of, one_line, read_npz
from data_io.progress import Log
from delf_ext.features.embedder import Adapted, Embedder, Ensemble
from delf_ext.features.reductions.projection import Projection, load_projection, save_projection
from delf_ext.recipes import codec
from delf_ext.recipes.part import Part
from delf_ext.runs.records import PROJECTION, Run

RESTORE = "Restore the file, or delete it and fit it again: `mandoo train --resume`."


@dataclass(frozen=True, eq=False)
class FittedReduction:
    """A reduction that was fitted after training.

    Attributes:
        fitted_on: from `binding`.
        reduction: what was fitted; None if no reduction was better than none.
        projection: the result; None without a reduction.
    """

    fitted_on: str
    reduction: Part | None
    projection: Projection | None


def binding(model_digest: str, config: Part, model: Embedder | Ensemble, data_digest: str) -> str:
    """Return a digest of everything that a fitted reduction depends on.

    Args:
        model_digest: of the network, or of the members; precision and runtime do not count.
        config: the reduction of the recipe.
        model: whose copies are joined before the projection.
        data_digest: of the training images.
    """
    copies: Any = None
    if model.test_time is not None:
        copies = codec.to_json(model.test_time)
    elif isinstance(model, Ensemble):
        copies = [codec.to_json(member.test_time) for member in model.members]
    return digest_of([model_digest, codec.to_json(config), copies, data_digest])


def write_fitted(run_dir: Path, fitted: FittedReduction) -> None:
    """Write projection.npz of a run, atomically."""
    save_projection(
        run_dir / PROJECTION,
        fitted.projection,
        fitted_on=np.array(fitted.fitted_on),
        reduction=np.array(json.dumps(codec.to_json(fitted.reduction))),
    )


def read_fitted(run_dir: Path) -> FittedReduction | None:
    """Read projection.npz of a run.

    Args:
        run_dir: the run directory.

    Returns:
        The reduction; None if there is no such file.

    Raises:
        ValueError: the file is damaged.
    """
    path = run_dir / PROJECTION
    if not path.exists():
        return None
    try:
        stored = read_npz(path)
        fitted_on = str(stored["fitted_on"])
        reduction = codec.from_json(json.loads(str(stored["reduction"])))
        projection = None if reduction is None else load_projection(path)
    # A damaged archive raises many types, from KeyError to NotImplementedError.
    except Exception as error:
        raise ValueError(f"{path}: not a fitted reduction ({one_line(error)}). {RESTORE}") from None
    return FittedReduction(fitted_on, reduction, projection)


def with_reduction(
    run: Run, model: Embedder | Ensemble, config: Part | None, digest: str, log: Log
) -> Embedder | Ensemble | Adapted:
    """Put the fitted reduction of a run behind its model.

    Args:
        run: the run.
        model: its network or its members, ready to embed.
        config: the reduction of its recipe; None = none.
        digest: of the network or of the members, without precision and runtime.
        log: called with a line if the reduction is not applied.

    Returns:
        The model with the reduction; the model itself if none is fitted on these weights.

    Raises:
        ValueError: projection.npz is damaged.
    """
    if config is None:
        return model
    fitted = read_fitted(run.path)
    fitted_on = binding(digest, config, model, run.facts.data_digest)
    if fitted is None or fitted.fitted_on != fitted_on:
        reason = "is not fitted yet" if fitted is None else "was fitted on other weights or images"
        log(
            f"{run.path}: the reduction {type(config).__name__} {reason}, so embeddings are "
            "without it; it is fitted at the end of training (--resume)"
        )
        return model
    return Adapted(
        name=model.name,
        base=model,
        projection=fitted.projection,
        test_time=model.test_time,
        ranking=model.ranking,
        reduction=fitted.reduction,
    )
