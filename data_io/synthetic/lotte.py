"""Plan a drawn data set in the tree of the Lotte competition.

Each class is one product. Its training photographs are taken in a studio: from several sides, in
front of a bright paper, in good light. Its test photographs are taken elsewhere: from other angles
and distances, in other light, among other things. `shift` says how far apart the two are.

    data/train/<label>/<n>.jpg   training photographs
    data/test/<n>.jpg            test photographs; the numbers do not reveal the class
    data/train.csv               path,label; a path starts from a folder beside data:
                                 ../data/train/953/5.jpg
    data/sample.csv              filename,prediction; predictions are empty
    truth.csv                    filename,label of the test photographs, which the competition kept
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_io.synthetic.looks import STREET_LOOK, STUDIO_LOOK, between
from data_io.synthetic.shots import Shot
from data_io.synthetic.sizes import require_sizes

TRAIN_TABLE = "data/train.csv"
SAMPLE_TABLE = "data/sample.csv"
TRUTH_TABLE = "truth.csv"


@dataclass(frozen=True)
class LotteConfig:
    """Sizes of a drawn competition; the defaults are those of the Lotte competition.

    Attributes:
        num_classes: number of products.
        train_per_class: training photographs of each product.
        test_per_class: test photographs of each product.
        image_size_px: side of an image.
        shift: how different test photographs are, from 0 (taken like training photographs) to 1.
        seed: of all drawings.
    """

    num_classes: int = 1000
    train_per_class: int = 48
    test_per_class: int = 72
    image_size_px: int = 256
    shift: float = 1.0
    seed: int = 0
    TABLES: ClassVar[tuple[str, ...]] = (TRAIN_TABLE, SAMPLE_TABLE, TRUTH_TABLE)

    def __post_init__(self) -> None:
        require_sizes(self, at_least_1=("num_classes", "train_per_class", "test_per_class"))
        if not 0 <= self.shift <= 1:
            raise ValueError(f"shift must be in 0..1. Received {self.shift}.")

    def shots(self) -> list[Shot]:
        """Return all photographs, class by class."""
        rng = np.random.default_rng([self.seed, 0, 0, 5])
        number_of = iter(rng.permutation(self.num_classes * self.test_per_class))
        street = between(STUDIO_LOOK, STREET_LOOK, self.shift)
        shots = []
        for index in range(self.num_classes):
            for view in range(self.train_per_class):
                path = f"data/train/{index}/{view}.jpg"
                shots.append(Shot(path, str(index), index, view, STUDIO_LOOK))
            for view in range(self.train_per_class, self.train_per_class + self.test_per_class):
                path = f"data/test/{next(number_of)}.jpg"
                shots.append(Shot(path, str(index), index, view, street))
        return shots

    def tables(self, homographies: Mapping[str, Sequence[float]]) -> dict[str, list[list[str]]]:
        """Return the rows of train.csv, sample.csv and truth.csv.

        Args:
            homographies: path of a photograph -> its homography; the competition has no table of
                them.

        Returns:
            Path of each table -> its rows; the first is the header.
        """
        train = []
        label_of: dict[str, str] = {}
        for shot in self.shots():
            if shot.path.startswith("data/train/"):
                train.append([f"../{shot.path}", shot.label])
            else:
                label_of[shot.path.removeprefix("data/test/")] = shot.label
        names = sorted(label_of, key=lambda name: int(name.removesuffix(".jpg")))
        return {
            TRAIN_TABLE: [["path", "label"], *train],
            SAMPLE_TABLE: [["filename", "prediction"], *([name, ""] for name in names)],
            TRUTH_TABLE: [["filename", "label"], *([name, label_of[name]] for name in names)],
        }
