"""match: two photographs, their local features, and the one transform that lays them onto each other, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_io.datasets import list_images
from data_io.images import decode_image
from data_io.records import ImageList
from delf_ext.config import UsageError
from delf_ext.evaluation.match_pictures import save_picture
from delf_ext.verbs.local import extractors_of
from delf_ext.verbs.methods import geometric_config
from delf_ext.verbs.rerank import draw_pair


def run(flags: Any) -> None:
    if not flags.image or not flags.candidate or not flags.out:
        raise UsageError("match draws how --image=PHOTO fits --candidate=PHOTO into --out=FILE.png: pass all three.")
    config = geometric_config(flags)
    query, gallery = _one(flags.image), _one(flags.candidate)
    images = [decode_image(query.paths[0]), decode_image(gallery.paths[0])]
    both = ImageList(np.array(["query", "gallery"]), np.concatenate([query.paths, gallery.paths]))
    keypoints = [
        (one.query.extract(images[:1])[0], one.gallery.extract(images[1:])[0]) for one in extractors_of(flags, both, None)
    ]
    picture, found = draw_pair(images, keypoints, (str(query.ids[0]), str(gallery.ids[0])), config)
    save_picture(Path(flags.out), picture)
    for verification in found:
        print(f"{verification.num_inliers} inliers of {len(verification.matches)} matches, score {verification.significance:.1f}")
    print(f"{'accepted' if any(one.accepted for one in found) else 'not accepted'}: {flags.out}")


def _one(path: str) -> ImageList:
    images = list_images(path)
    if len(images) != 1:
        raise UsageError(f"match compares one photograph with one. {path} holds {len(images)}.")
    return images
