"""Match the local features of two images and draw the result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_io.datasets import list_images
from data_io.messages import shown_path
from data_io.progress import say
from data_io.records import ImageList
from delf_ext.app.verification import match
from delf_ext.config import UsageError
from delf_ext.evaluation.match_pictures import save_picture
from delf_ext.geometry.verification import Verification
from delf_ext.verbs.requests import local_settings


def run(flags: Any) -> None:
    """Write a picture of the matches to --out, and print whether the images match.

    Raises:
        UsageError: if one of the three flags is missing, or names more than one image.
    """
    if not flags.image or not flags.candidate or not flags.out:
        raise UsageError(
            "match compares --image=FILE with --candidate=FILE and draws the matches into "
            "--out=FILE.png: pass all three."
        )
    settings = local_settings(flags)
    picture, verifications = match(
        settings, _one_image(flags.image), _one_image(flags.candidate), say
    )
    save_picture(Path(flags.out), picture)
    for verification in verifications:
        say(
            f"{verification.num_inliers} inliers of {len(verification.matches)} matches, "
            f"score {verification.significance:.1f}"
        )
    nums_needed = [config.accepted_from for config in settings.geometric.verify]
    say(f"{verdict(verifications, nums_needed)}. Picture: {shown_path(flags.out)}")


def verdict(verifications: Sequence[Verification], nums_needed: Sequence[int]) -> str:
    """Return whether two images match, and the number of inliers that decided it.

    Args:
        verifications: one for each kind of local features; a single accepted one is enough.
        nums_needed: minimum number of inliers for each kind.

    Returns:
        Such as "no match: 5 inliers, 12 needed".
    """
    # The nearest to acceptance decides.
    verification, num_needed = max(
        zip(verifications, nums_needed, strict=True),
        key=lambda pair: (pair[0].accepted, pair[0].num_inliers - pair[1]),
    )
    if verification.accepted:
        return f"match: {verification.num_inliers} inliers, {num_needed} needed"
    if verification.num_inliers >= num_needed:
        return f"no match: the {verification.num_inliers} inliers are in a thin strip"
    return f"no match: {verification.num_inliers} inliers, {num_needed} needed"


def _one_image(path: str) -> ImageList:
    images = list_images(path)
    if len(images) != 1:
        raise UsageError(
            f"match needs exactly one image for each flag. {path} holds {len(images)}."
        )
    return images
