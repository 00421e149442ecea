"""Plan the photographs of a drawn data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Each test class has at least so many references if the sizes allow it. The challenge has 1,127
# references for 195 queries.
REFERENCES_PER_CLASS = 5
TRAIN = "train/train_data"
QUERY = "test/test_data/query"
REFERENCE = "test/test_data/reference"


@dataclass(frozen=True)
class DrawConfig:
    """Sizes of a drawn data set; the defaults are those of the challenge.

    Attributes:
        num_classes: number of training classes.
        num_train: number of training images.
        num_queries: number of query images.
        num_gallery: number of gallery images.
        image_size_px: side of an image.
        seed: of all drawings.
    """

    num_classes: int = 1000
    num_train: int = 7104
    num_queries: int = 195
    num_gallery: int = 1127
    image_size_px: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"{field.name} must be a whole number. Received {value!r}.")
        for name in ("num_classes", "num_queries", "num_gallery"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1. Received {getattr(self, name)}.")
        if self.num_train < self.num_classes:
            raise ValueError(
                f"num_train must be at least num_classes={self.num_classes}, one image each. "
                f"Received {self.num_train}."
            )
        if not 32 <= self.image_size_px <= 2048:
            raise ValueError(f"image_size_px must be in 32..2048. Received {self.image_size_px}.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in 0..2**32-1. Received {self.seed}.")

    @property
    def num_test_classes(self) -> int:
        """Number of test classes; each one has at least a query and a reference."""
        return min(self.num_queries, max(1, self.num_gallery // REFERENCES_PER_CLASS))


class Shot(NamedTuple):
    """One photograph to take.

    Attributes:
        path: of the file, relative to the data set.
        label: name of the class.
        class_index: number of the class.
        view: number of the photograph in its class.
        hard: take it like a customer, with more clutter, blur and noise.
    """

    path: str
    label: str
    class_index: int
    view: int
    hard: bool

    @property
    def id(self) -> str:
        """Id as in data_io.datasets: `<class>/<class>_<view>`, `query_<i>` or `refer_<i>`."""
        name = self.path.removesuffix(".jpg")
        for folder in (TRAIN, QUERY, REFERENCE):
            name = name.removeprefix(f"{folder}/")
        return name


def share_out(total: int, num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Distribute images over classes, about +-30 % around the mean.

    Args:
        total: number of images, at least `num_classes`.
        num_classes: number of classes.
        rng: the source of randomness.

    Returns:
        int64 [num_classes], the number of images of each class, at least 1.
    """
    weights = rng.uniform(0.7, 1.3, num_classes)
    exact = (total - num_classes) * weights / weights.sum()
    counts = np.floor(exact).astype(np.int64)
    leftover = total - num_classes - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:leftover]] += 1
    return counts + 1


def plan(config: DrawConfig) -> list[Shot]:
    """Return all photographs of a data set, class by class.

    Test classes are numbered after the training classes. The numbers in query_<i> and refer_<i> are
    random, so they do not reveal the class.
    """
    rng = np.random.default_rng([config.seed, 0, 0, 4])
    num_all = config.num_classes + config.num_test_classes
    labels = [f"{index:0{len(str(num_all - 1))}d}" for index in range(num_all)]
    train_counts = share_out(config.num_train, config.num_classes, rng)
    shots = [
        Shot(
            f"{TRAIN}/{labels[index]}/{labels[index]}_{view}.jpg", labels[index], index, view, False
        )
        for index, count in enumerate(train_counts)
        for view in range(count)
    ]
    return [*shots, *_test_shots(config, labels, rng)]


def _test_shots(config: DrawConfig, labels: list[str], rng: np.random.Generator) -> Iterator[Shot]:
    reference_counts = share_out(config.num_gallery, config.num_test_classes, rng)
    query_counts = share_out(config.num_queries, config.num_test_classes, rng)
    reference_numbers = iter(rng.permutation(config.num_gallery))
    query_numbers = iter(rng.permutation(config.num_queries))
    for test_class in range(config.num_test_classes):
        index = config.num_classes + test_class
        num_references = reference_counts[test_class]
        for view in range(num_references):
            path = f"{REFERENCE}/refer_{next(reference_numbers)}.jpg"
            yield Shot(path, labels[index], index, view, hard=False)
        for view in range(num_references, num_references + query_counts[test_class]):
            path = f"{QUERY}/query_{next(query_numbers)}.jpg"
            yield Shot(path, labels[index], index, view, hard=True)
