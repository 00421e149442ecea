from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_io.augmentation import AUGMENTATIONS, Changes, augment, side_before
from data_io.batches import feature_batches, image_batches
from data_io.changes.mixing import mix_batch
from data_io.images import decode_image, load_image, sufficient_px
from data_io.records import ImageList
from data_io.sampling import epoch_batches
from data_io.stores import pixels as pixel_cache

SIZE_PX = 24
BATCH_SIZE = 4
ALL: Changes = {name: {} for name in AUGMENTATIONS}
CROP_AND_NOISE: Changes = {"crop": {}, "noise": {"max_share": 0.1}}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageList:
    """Return eleven images of several shapes with unsorted labels."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    paths = [str(folder / f"{row}.png") for row in range(11)]
    for row, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (20 + row, 40 - row, 3), dtype=np.uint8)).save(path)
    ids = [f"image{row}" for row in range(11)]
    return ImageList(ids, paths, labels=[7, 3, 3, 9, 0, 7, 9, 9, 0, 3, 7])


def as_arrays(dataset: tf.data.Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(pixels.numpy(), labels.numpy()) for pixels, labels in dataset]


def slow_twin(
    images: ImageList,
    batches: np.ndarray,
    changes: Changes,
    seed: int,
    epoch: int,
) -> list:
    """Return the batches, computed image by image; the place in the epoch decides the changes."""
    result = []
    place = 0
    for rows in batches:
        pixels = []
        for row in rows:
            rng = np.random.default_rng([seed, epoch, place])
            pixels.append(augment(decode_image(images.paths[row]), SIZE_PX, changes, rng))
            place += 1
        result.append((np.stack(pixels), images.labels[rows]))
    return result


def assert_equal(found: list, expected: list) -> None:
    assert len(found) == len(expected) > 0
    for (pixels, labels), (expected_pixels, expected_labels) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(pixels, expected_pixels)
        np.testing.assert_array_equal(labels, expected_labels)


@pytest.mark.parametrize("changes", [{}, ALL], ids=["none", "all"])
@pytest.mark.parametrize("sampler", ["shuffled", "pairs"])
def test_image_batches_equal_a_plain_loop(
    images: ImageList,
    sampler: str,
    changes: Changes,
) -> None:
    batches = epoch_batches(images.labels, BATCH_SIZE, 5, 2, sampler)
    dataset = image_batches(images, batches, SIZE_PX, changes, 5, 2)
    assert dataset.element_spec == (
        tf.TensorSpec((BATCH_SIZE, SIZE_PX, SIZE_PX, 3), tf.uint8),
        tf.TensorSpec((BATCH_SIZE,), tf.int32),
    )
    assert_equal(as_arrays(dataset), slow_twin(images, batches, changes, 5, 2))


def test_a_resumed_epoch_has_the_remaining_batches(images: ImageList) -> None:
    batches = epoch_batches(images.labels, BATCH_SIZE, 0, 0, "shuffled")
    full_epoch = as_arrays(image_batches(images, batches, SIZE_PX, ALL, 0, 0))
    for start_step in (1, 2):
        resumed = image_batches(images, batches, SIZE_PX, ALL, 0, 0, start_step)
        assert_equal(as_arrays(resumed), full_epoch[start_step:])
    assert as_arrays(image_batches(images, batches, SIZE_PX, ALL, 0, 0, len(batches))) == []


MIXED: Changes = {
    "mirror_left_right": {},
    "cut_mix": {"alpha": 1.0, "probability": 0.5},
    "mixup": {"alpha": 1.0, "probability": 0.5},
}


def test_mixed_batches_equal_a_plain_loop_also_after_a_resume(images: ImageList) -> None:
    batches = epoch_batches(images.labels, BATCH_SIZE, 5, 2, "shuffled")
    expected = []
    for step, (pixels, labels) in enumerate(slow_twin(images, batches, MIXED, 5, 2)):
        rng = np.random.default_rng([5, 2, step, 1])
        expected.append(mix_batch(pixels, labels.astype(np.int32), MIXED, rng))
    for start_step in (0, 1):
        dataset = image_batches(images, batches, SIZE_PX, MIXED, 5, 2, start_step)
        found = [(pixels, *targets) for pixels, targets in dataset.as_numpy_iterator()]
        for batch, expected_batch in zip(found, expected[start_step:], strict=True):
            for part, expected_part in zip(batch, expected_batch, strict=True):
                np.testing.assert_array_equal(part, expected_part)
    pixels, targets = dataset.element_spec
    assert pixels == tf.TensorSpec((BATCH_SIZE, SIZE_PX, SIZE_PX, 3), tf.uint8)
    assert [target.dtype for target in targets] == [tf.int32, tf.int32, tf.float32]
    assert all(target.shape == (BATCH_SIZE,) for target in targets)


def test_the_same_image_is_augmented_differently_at_each_place_epoch_and_seed(
    images: ImageList,
) -> None:
    batches = np.full((1, 3), 6)
    pictures = set()
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        dataset = image_batches(images, batches, SIZE_PX, {"noise": {}}, seed, epoch)
        ((pixels, _),) = as_arrays(dataset)
        pictures.update(picture.tobytes() for picture in pixels)
    assert len(pictures) == 9


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> ImageList:
    """Return four images with odd sides, large enough to be decoded at 1/2."""
    folder = tmp_path_factory.mktemp("jpegs")
    rng = np.random.default_rng(0)
    paths = [str(folder / f"{row}.jpg") for row in range(4)]
    for row, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (161 + 2 * row, 171, 3), dtype=np.uint8)).save(path)
    return ImageList(["a", "b", "c", "d"], paths, labels=[0, 1, 0, 1])


def test_images_are_decoded_no_larger_than_a_crop_needs(jpegs: ImageList) -> None:
    at_least_px = sufficient_px(side_before(SIZE_PX, CROP_AND_NOISE))
    # 70 % of 81 is 2.3 times 24.
    assert decode_image(jpegs.paths[0], at_least_px=at_least_px).shape == (81, 86, 3)
    rows = np.array([[2, 0, 3, 1]])
    (batch,) = as_arrays(image_batches(jpegs, rows, SIZE_PX, CROP_AND_NOISE, 0, 0))
    for place, row in enumerate([2, 0, 3, 1]):
        pixels = decode_image(jpegs.paths[row], at_least_px=at_least_px)
        expected = augment(pixels, SIZE_PX, CROP_AND_NOISE, np.random.default_rng([0, 0, place]))
        np.testing.assert_array_equal(batch[0][place], expected)


@pytest.mark.parametrize(
    "changes",
    [{}, {"noise": {}}, {"crop": {}, "mirror_left_right": {}}, {"crop": {"min_side_share": 0.5}}],
    ids=lambda changes: "+".join(changes) or "none",
)
def test_the_second_epoch_is_read_from_the_cache(
    jpegs: ImageList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Changes
) -> None:
    order = np.array([[0, 1, 2, 3]])
    first = as_arrays(image_batches(jpegs, order, SIZE_PX, changes, 0, 0, pixel_cache=tmp_path))
    smallest = changes.get("crop", {}).get("min_side_share", 0.7)
    # 24 / smallest, rounded up.
    side_px = {0.7: 35, 0.5: 48}[smallest] if "crop" in changes else SIZE_PX
    for row, pixels in enumerate(first[0][0]):
        square = load_image(jpegs.paths[row], side_px)
        expected = augment(square, SIZE_PX, changes, np.random.default_rng([0, 0, row]))
        np.testing.assert_array_equal(pixels, expected)
    if "crop" not in changes:
        assert_equal(as_arrays(image_batches(jpegs, order, SIZE_PX, changes, 0, 0)), first)
    monkeypatch.setattr(pixel_cache, "load_image", None)
    second = as_arrays(image_batches(jpegs, order, SIZE_PX, changes, 0, 0, pixel_cache=tmp_path))
    assert_equal(second, first)


def test_images_without_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="training needs labels; these images have none."):
        image_batches(ImageList(["a"], ["a.jpg"]), np.zeros((1, 1), int), SIZE_PX, {}, 0, 0)


def test_a_missing_image_is_named(images: ImageList) -> None:
    gone = ImageList(["a"], ["nowhere/gone.jpg"], labels=[0])
    with pytest.raises(tf.errors.OpError, match="nowhere/gone.jpg"):
        as_arrays(image_batches(gone, np.zeros((1, 1), int), SIZE_PX, {}, 0, 0))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_feature_batches_read_a_memory_map_with_labels(
    tmp_path: Path,
    dtype: type,
) -> None:
    maps = np.random.default_rng(0).normal(size=(11, 2, 3, 5)).astype(dtype)
    np.save(tmp_path / "maps.npy", maps)
    mapped = np.load(tmp_path / "maps.npy", mmap_mode="r")
    labels = np.arange(11, dtype=np.int64) * 3
    batches = epoch_batches(labels, BATCH_SIZE, 0, 0, "shuffled")
    dataset = feature_batches(mapped, labels, batches)
    assert dataset.element_spec == (
        tf.TensorSpec((BATCH_SIZE, 2, 3, 5), tf.float32),
        tf.TensorSpec((BATCH_SIZE,), tf.int32),
    )
    expected = [(maps[rows].astype(np.float32), 3 * rows) for rows in batches]
    assert_equal(as_arrays(dataset), expected)
    assert_equal(as_arrays(feature_batches(mapped, labels, batches, 2)), expected[2:])
