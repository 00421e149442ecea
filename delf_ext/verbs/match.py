"""Match the local features of two images and draw the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.datasets import list_images
from data_io.messages import shown_path
from data_io.progress import say
from data_io.records import ImageList
from delf_ext.app.verification import match
from delf_ext.config import UsageError
from delf_ext.evaluation.match_pictures import save_picture
from delf_ext.verbs.requests import local_settings


def run(flags: Any) -> None:
    """Write a picture of the matches to --out, and print whether the pair is accepted.

    Raises:
        UsageError: if one of the three flags is missing, or names more than one image.
    """
    if not flags.image or not flags.candidate or not flags.out:
        raise UsageError(
            "match compares --image=PHOTO with --candidate=PHOTO and draws the matches into "
            "--out=FILE.png: pass all three."
        )
    picture, verifications = match(
        local_settings(flags), _one_image(flags.image), _one_image(flags.candidate), say
    )
    save_picture(Path(flags.out), picture)
    for verification in verifications:
        say(
            f"{verification.num_inliers} inliers of {len(verification.matches)} matches, "
            f"score {verification.significance:.1f}"
        )
    accepted = any(verification.accepted for verification in verifications)
    say(f"{'accepted' if accepted else 'not accepted'}: {shown_path(flags.out)}")


def _one_image(path: str) -> ImageList:
    images = list_images(path)
    if len(images) != 1:
        raise UsageError(
            f"match needs exactly one photo for each flag. {path} holds {len(images)}."
        )
    return images
