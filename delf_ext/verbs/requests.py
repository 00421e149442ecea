"""Turn the flags for re-ranking and local features into a request."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from delf_ext.app.local_settings import LocalSettings
from delf_ext.app.reranking import Request
from delf_ext.config import UsageError, require
from delf_ext.features.local.delf_config import DelfConfig
from delf_ext.recipes.schema import TestTime
from delf_ext.recipes.trunk_names import LITE
from delf_ext.reranking.chain import parse_chain
from delf_ext.reranking.deadline import Deadline
from delf_ext.runs.adapted_run import trunk_model
from delf_ext.runs.sources import DEFAULT_MODEL
from delf_ext.verbs.models import trunk_of


def request_of(
    flags: Any, default: str | None = None, several: bool = False, is_submission: bool = False
) -> Request:
    """Return the re-ranking that the flags ask for. Its time budget starts with this call.

    Args:
        flags: the flags of a verb.
        default: value of --method if it is missing; None leaves the choice to the model's recipe.
        several: whether --method may hold several chains, separated by semicolons.
        is_submission: a submission to NSML, whose model the platform names later.

    Returns:
        The request.

    Raises:
        UsageError: naming the flag that does not fit.
    """
    deadline = Deadline(flags.time_budget)
    method = default if flags.method is None else flags.method
    chains = None if method is None else tuple(parse_chain(part) for part in method.split(";"))
    if chains is not None and len(chains) > 1 and not several:
        raise UsageError(
            f"this verb takes one --method; `compare` takes several. Received {flags.method!r}."
        )
    return Request(deadline, chains, named_copies_of(flags), local_settings(flags, is_submission))


def named_copies_of(flags: Any) -> TestTime | None:
    """Return the copies that --copies or --query_copies names; None without these flags.

    Args:
        flags: the flags of a verb.

    Returns:
        The record of the copies.

    Raises:
        UsageError: naming the flag that does not fit.
    """
    from delf_ext.features.test_time import named_copies

    queries_only = bool(flags["query_copies"].present)
    require(
        not (queries_only and flags["copies"].present),
        "--copies is for queries and gallery, --query_copies for queries only: pass one of them.",
    )
    require(
        not flags.concatenate_sizes or flags["copies"].present,
        "--concatenate_sizes needs sizes for queries and gallery, such as --copies=mirror,x1.5.",
    )
    if not queries_only and not flags["copies"].present:
        return None
    names = flags.query_copies if queries_only else flags.copies
    return named_copies(names, join_of(flags), queries_only)


def join_of(flags: Any) -> str:
    """Return how the embeddings of several sizes are joined."""
    return "concatenation" if flags.concatenate_sizes else "mean"


def copies_note(flags: Any) -> str:
    """Return the copies that the flags name, for the name of a result; "" without."""
    if flags.query_copies:
        return " ".join(flags.query_copies)
    if not flags.copies:
        return ""
    joined = " concatenated" if flags.concatenate_sizes else ""
    return f"all: {' '.join(flags.copies)}{joined}"


def local_settings(flags: Any, is_submission: bool = False) -> LocalSettings:
    """Return the settings of local features that the flags ask for.

    Args:
        flags: the flags of a verb.
        is_submission: a submission to NSML, whose model the platform names later.

    Returns:
        The settings.

    Raises:
        UsageError: naming the flag that does not fit.
    """
    model = flags.local_model or flags.run_dir or flags.pretrained_model
    if not model:
        model = "" if is_submission else DEFAULT_MODEL
    delf = DelfConfig(
        layer=flags.local_layer or "",
        longer_side_px=flags.local_image_size,
        scales=tuple(map(float, flags.local_scales)),
        rotations_deg=tuple(map(float, flags.local_rotations)),
        max_features=flags.max_features,
    )
    return LocalSettings(
        kinds=_kinds(flags.local_features, model, is_submission),
        model=model,
        trunk=trunk_of(flags, model),
        delf=delf,
        descriptor_dim=flags.descriptor_dim if flags["descriptor_dim"].present else 0,
        descriptor_type=flags.descriptor_type,
        whitening=flags.whitening or "",
        overwrite=flags.overwrite,
        geometry_model=flags.geometry_model,
        min_inliers=flags.min_inliers,
        order_by=flags.order_by,
        seed=flags.seed,
        mixed_precision=flags.mixed_precision,
    )


def _kinds(named: str | None, model: str, is_submission: bool) -> tuple[str, ...]:
    """Return the kinds of local features; SIFT needs no trained model."""
    if named == "both":
        return "delf", "sift"
    if named:
        return (named,)
    trunk = "" if is_submission else trunk_model(model)
    if is_submission or trunk not in ("", *LITE):
        return ("delf",)
    return ("sift",) if find_spec("cv2") or not trunk else ("delf",)
