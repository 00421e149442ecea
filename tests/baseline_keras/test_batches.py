from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from baseline_keras.batches import AUGMENTATION, augment, draw_transform, training_batches
from data_io.records import ImageList


@pytest.fixture
def images(tmp_path: Path) -> ImageList:
    """Seven flat images; an image's gray value is ten times its label."""
    paths = []
    for label in range(7):
        paths.append(str(tmp_path / f"{label}.png"))
        Image.new("RGB", (20, 16), (10 * label,) * 3).save(paths[-1])
    return ImageList(np.array([f"id{i}" for i in range(7)]), np.array(paths), np.arange(7))


def epochs_of(
    images: ImageList,
    seed: int,
    first_epoch: int,
    epochs: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    labels = np.asarray(images.labels)
    batches = training_batches(images, labels, 12, 3, seed, first_epoch, epochs)
    return [(x.numpy(), y.numpy()) for x, y in batches]


def test_each_epoch_has_each_row_once_with_its_label(images: ImageList):
    batches = epochs_of(images, seed=0, first_epoch=0, epochs=2)
    assert [x.shape for x, _ in batches] == [(3, 12, 12, 3), (3, 12, 12, 3), (1, 12, 12, 3)] * 2
    orders = []
    for epoch in (batches[:3], batches[3:]):
        pixels, labels = (np.concatenate(column) for column in zip(*epoch, strict=True))
        assert sorted(labels) == list(range(7))
        np.testing.assert_allclose(pixels.mean(axis=(1, 2, 3)) * 255 / 10, labels, atol=1e-3)
        orders.append(labels.tolist())
    assert orders[0] != orders[1]


def test_resumed_run_gets_the_same_batches(images: ImageList):
    whole = epochs_of(images, 5, 0, 3)
    resumed = epochs_of(images, 5, 1, 3)
    for (x, y), (resumed_x, resumed_y) in zip(whole[3:], resumed, strict=True):
        assert np.array_equal(x, resumed_x) and np.array_equal(y, resumed_y)
    other_seed = epochs_of(images, 6, 0, 3)
    assert [y.tolist() for _, y in whole] != [y.tolist() for _, y in other_seed]


def test_transforms_have_the_distribution_of_keras():
    ours = [draw_transform(np.random.default_rng(seed)) for seed in range(2000)]
    keras = [AUGMENTATION.get_random_transform((8, 8, 3), seed=seed) for seed in range(2000)]
    neutral = {
        "theta": 0,
        "tx": 0,
        "ty": 0,
        "flip_vertical": False,
        "channel_shift_intensity": None,
        "brightness": None,
    }
    for key in keras[0]:
        if key in ours[0]:
            expected = np.array([float(parameters[key]) for parameters in keras])
            drawn = np.array([float(parameters[key]) for parameters in ours])
            spread = expected.std()
            assert abs(drawn.mean() - expected.mean()) < 0.15 * spread, key
            assert abs(drawn.std() - spread) < 0.1 * spread, key
            assert drawn.min() >= expected.min() - 0.05 * spread, key
            assert drawn.max() <= expected.max() + 0.05 * spread, key
        else:
            assert all(parameters[key] == neutral[key] for parameters in keras), key


def test_augmentation_has_the_official_settings():
    assert AUGMENTATION.shear_range == 0.2
    assert list(AUGMENTATION.zoom_range) == [0.8, 1.2]
    assert AUGMENTATION.horizontal_flip and not AUGMENTATION.vertical_flip
    assert AUGMENTATION.rescale == 1 / 255


def test_augment_flips_and_zooms():
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, :8] = 255
    results = [augment(image, np.random.default_rng(seed)) for seed in range(20)]
    for result in results:
        assert result.dtype == np.float32 and result.shape == image.shape
        assert 0 <= result.min() <= result.max() <= 1
    sides = [(result[:, :6].mean(), result[:, 10:].mean()) for result in results]
    left_bright = [bool(left > 0.9 and right < 0.1) for left, right in sides]
    right_bright = [bool(right > 0.9 and left < 0.1) for left, right in sides]
    assert any(left_bright) and any(right_bright)
    assert all(left != right for left, right in zip(left_bright, right_bright, strict=True))
