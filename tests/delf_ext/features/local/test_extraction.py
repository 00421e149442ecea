"""Test the extraction of local features into a store: kills, changed files, unreadable images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.files.artifacts import StaleArtifact
from data_io.records import ImageKeypoints, ImageList
from data_io.stores.local_features import load_local, skipped_of
from delf_ext.features.local.extraction import (
    BATCH_IMAGES,
    WAITING_IMAGES,
    extract_local,
    sample_descriptors,
)


class MeanColors:
    """Extractor of the mean colour of each quarter of an image; can fail at its n-th batch."""

    def __init__(self, name: str = "mean colours", fail_at: int = 0) -> None:
        self.name = name
        self.fail_at = fail_at
        self.batches = 0

    dimension = 3

    @property
    def digest(self) -> str:
        return self.name

    @property
    def made_by(self) -> dict:
        return {"extractor": self.name}

    def shape_class(self, size_px: tuple[int, int]) -> tuple[int, int]:
        return size_px

    def extract(self, images: Sequence[np.ndarray]) -> list[ImageKeypoints]:
        self.batches += 1
        assert len({image.shape for image in images}) == 1 and len(images) <= BATCH_IMAGES
        if self.batches == self.fail_at:
            raise KeyboardInterrupt
        return [self._one(image) for image in images]

    def _one(self, image: np.ndarray) -> ImageKeypoints:
        height, width = image.shape[:2]
        parts = [
            part for rows in np.array_split(image, 2) for part in np.array_split(rows, 2, axis=1)
        ]
        colors = np.array([part.reshape(-1, 3).mean(axis=0) + 1 for part in parts], np.float32)
        places = np.array(
            [[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], np.float32
        )
        descriptors = colors / np.linalg.norm(colors, axis=1, keepdims=True)
        return ImageKeypoints(places, np.ones(4), colors.sum(axis=1), descriptors, (width, height))


@pytest.fixture
def images(tmp_path: Path) -> ImageList:
    """Write 40 images of four shapes, two of which cannot be read."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(40):
        paths.append(tmp_path / f"{number:02}.png")
        shape = (8 + 2 * int(rng.integers(4)), 12, 3)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(paths[-1])
    paths[7].write_bytes(b"no image")
    paths[21].unlink()
    return ImageList(np.array([path.stem for path in paths]), np.array(list(map(str, paths))))


def test_readable_images_are_stored_and_unreadable_images_listed(
    images: ImageList, tmp_path: Path
) -> None:
    features = extract_local(MeanColors(), images, tmp_path / "store")
    assert set(features.ids) == set(images.ids) - {"07", "21"}
    expected = MeanColors().extract([np.asarray(Image.open(images.paths[3]))])[0]
    np.testing.assert_allclose(features.of("03").descriptors, expected.descriptors, atol=1e-3)
    reasons = dict(skipped_of(tmp_path / "store"))
    assert (
        "not an image" in reasons[images.paths[7]] and reasons[images.paths[21]] == "file not found"
    )


def test_resumed_extraction_equals_an_uninterrupted_one(images: ImageList, tmp_path: Path) -> None:
    undisturbed = extract_local(MeanColors(), images, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        extract_local(MeanColors(fail_at=3), images, tmp_path / "stopped")
    assert 0 < len(load_local(tmp_path / "stopped")) < 38
    again = MeanColors()
    resumed = extract_local(again, images, tmp_path / "stopped")
    assert again.batches < 8 and set(resumed.ids) == set(undisturbed.ids)
    for name in undisturbed.ids:
        np.testing.assert_array_equal(
            resumed.of(name).descriptors, undisturbed.of(name).descriptors
        )
    idle = MeanColors()
    extract_local(idle, images, tmp_path / "stopped")
    assert idle.batches == 0


def test_another_extractor_or_file_is_refused_without_overwrite(
    images: ImageList, tmp_path: Path
) -> None:
    few = images.take(np.arange(3))
    extract_local(MeanColors(), few, tmp_path / "store")
    with pytest.raises(
        StaleArtifact, match="was made by config mean colours; now other. Pass --overwrite"
    ):
        extract_local(MeanColors("other"), few, tmp_path / "store")
    moved = ImageList(few.ids, few.paths[::-1])
    with pytest.raises(
        ValueError,
        match=r"00 was extracted from .*00.png, which was moved or replaced since. Pass --over",
    ):
        extract_local(MeanColors(), moved, tmp_path / "store")
    # Another image in the same file.
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(few.paths[1])
    with pytest.raises(
        ValueError, match=r"01 was extracted from .*01.png, which was moved or replaced since"
    ):
        extract_local(MeanColors(), few, tmp_path / "store")
    assert len(extract_local(MeanColors("other"), moved, tmp_path / "store", overwrite=True)) == 3


def test_a_file_is_known_by_its_content_under_other_paths(
    images: ImageList, tmp_path: Path
) -> None:
    few = images.take(np.arange(3))
    extract_local(MeanColors(), few, tmp_path / "store")
    (tmp_path / "link").symlink_to(Path(few.paths[0]).parent)
    linked = [tmp_path / "link" / Path(path).name for path in few.paths]
    idle = MeanColors()
    extract_local(idle, ImageList(few.ids, np.array(linked, str)), tmp_path / "store")
    assert idle.batches == 0
    # The same size, another content.
    data = bytearray(Path(few.paths[2]).read_bytes())
    data[-1] ^= 1
    Path(few.paths[2]).write_bytes(data)
    with pytest.raises(ValueError, match=r"02 was extracted from .*02.png, which was moved or"):
        extract_local(MeanColors(), few, tmp_path / "store")


def test_images_of_many_shapes_are_all_extracted(tmp_path: Path) -> None:
    paths = []
    for number in range(WAITING_IMAGES + 5):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(np.full((5, 10 + number, 3), 100, np.uint8)).save(paths[-1])
    images = ImageList(np.array([Path(path).stem for path in paths]), np.array(paths))
    assert len(extract_local(MeanColors(), images, tmp_path / "store")) == len(paths)


def test_sample_is_seeded_and_limited(images: ImageList) -> None:
    sample = sample_descriptors(MeanColors(), images, num_images=10, per_image=2, seed=1)
    assert sample.shape[1] == 3 and 16 <= len(sample) <= 20
    np.testing.assert_array_equal(sample, sample_descriptors(MeanColors(), images, 10, 2, 1))
    skipped: list[tuple[str, str]] = []
    nothing = sample_descriptors(MeanColors(), images.take([7]), 10, 2, 1, skipped=skipped)
    assert nothing.shape == (0, 3)
    assert [path for path, _ in skipped] == [str(images.paths[7])]


def test_relative_and_absolute_paths_are_the_same_file(
    images: ImageList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    extract_local(MeanColors(), images, store)
    folder = Path(images.paths[0]).parent
    monkeypatch.chdir(folder)
    relative = dataclasses.replace(
        images, paths=np.array([str(Path(path).relative_to(folder)) for path in images.paths])
    )
    assert len(extract_local(MeanColors(), relative, store)) == len(load_local(store))


def test_no_time_left_raises_timeout_error(images: ImageList, tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="no time left to extract local features"):
        extract_local(MeanColors(), images, tmp_path, has_time=lambda: False)
    assert len(load_local(tmp_path)) == 0
    with pytest.raises(TimeoutError, match="no time left"):
        sample_descriptors(MeanColors(), images, 3, 5, seed=0, has_time=lambda: False)
