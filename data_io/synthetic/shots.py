"""Plan the photographs of a drawn data set in the challenge's tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from data_io.synthetic.looks import QUERY_LOOK, REFERENCE_LOOK, Look
from data_io.synthetic.sizes import require_sizes

# Each test class has at least so many references if the sizes allow it. The challenge has 1,127
# references for 195 queries.
REFERENCES_PER_CLASS = 5
TRAIN = "train/train_data"
QUERY = "test/test_data/query"
REFERENCE = "test/test_data/reference"
GEOMETRY_FILE = "geometry.csv"
LABEL_FILE = "test/test_labels.csv"
GEOMETRY_COLUMNS = ["id", "label", *(f"h{row}{column}" for row in range(3) for column in range(3))]


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
    TABLES: ClassVar[tuple[str, ...]] = (GEOMETRY_FILE, LABEL_FILE)

    def __post_init__(self) -> None:
        require_sizes(self, at_least_1=("num_classes", "num_queries", "num_gallery"))
        if self.num_train < self.num_classes:
            raise ValueError(
                f"num_train must be at least num_classes={self.num_classes}, one image each. "
                f"Received {self.num_train}."
            )

    @property
    def num_test_classes(self) -> int:
        """Number of test classes; each one has at least a query and a reference."""
        return min(self.num_queries, max(1, self.num_gallery // REFERENCES_PER_CLASS))

    def shots(self) -> list[Shot]:
        """Return all photographs, class by class."""
        return plan(self)

    def tables(self, homographies: Mapping[str, Sequence[float]]) -> dict[str, list[list[str]]]:
        """Return the rows of geometry.csv and of test_labels.csv.

        Args:
            homographies: path of a photograph -> the nine numbers of image_from_product.

        Returns:
            Path of each table -> its rows; the first is the header.
        """
        shots = self.shots()
        geometry = [[shot.id, shot.label, *map(repr, homographies[shot.path])] for shot in shots]
        labels = [[shot.id, shot.label] for shot in shots if shot.path.startswith("test/")]
        return {
            GEOMETRY_FILE: [GEOMETRY_COLUMNS, *geometry],
            LABEL_FILE: [["id", "label"], *sorted(labels)],
        }


class Shot(NamedTuple):
    """One photograph to take.

    Attributes:
        path: of the file, relative to the data set.
        label: name of the class.
        class_index: number of the class.
        view: number of the photograph in its class.
        look: how it is taken.
    """

    path: str
    label: str
    class_index: int
    view: int
    look: Look

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
            f"{TRAIN}/{labels[index]}/{labels[index]}_{view}.jpg",
            labels[index],
            index,
            view,
            REFERENCE_LOOK,
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
            yield Shot(path, labels[index], index, view, REFERENCE_LOOK)
        for view in range(num_references, num_references + query_counts[test_class]):
            path = f"{QUERY}/query_{next(query_numbers)}.jpg"
            yield Shot(path, labels[index], index, view, QUERY_LOOK)
