"""match: two photographs, their local features, and the transform between them, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.datasets import list_images
from data_io.progress import say
from data_io.records import ImageList
from delf_ext.app.verification import match
from delf_ext.config import UsageError
from delf_ext.evaluation.match_pictures import save_picture
from delf_ext.verbs.requests import local_settings


def run(flags: Any) -> None:
    if not flags.image or not flags.candidate or not flags.out:
        raise UsageError(
            "match draws how --image=PHOTO fits --candidate=PHOTO into --out=FILE.png: pass all three."
        )
    picture, found = match(local_settings(flags), _one(flags.image), _one(flags.candidate), say)
    save_picture(Path(flags.out), picture)
    for verification in found:
        say(
            f"{verification.num_inliers} inliers of {len(verification.matches)} matches, score {verification.significance:.1f}"
        )
    say(f"{'accepted' if any(one.accepted for one in found) else 'not accepted'}: {flags.out}")


def _one(path: str) -> ImageList:
    images = list_images(path)
    if len(images) != 1:
        raise UsageError(f"match compares one photograph with one. {path} holds {len(images)}.")
    return images
