"""Test that stored feature maps are right, are reused, and are computed again if they must be."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_io.images import load_image
from data_io.records import ImageList
from delf_ext.features import feature_maps
from delf_ext.features.feature_maps import stored_feature_maps
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.recipes import schema

ENDPOINT, SIZE_PX = "resnet_v1_50/block1", 32


def built(**options: Any) -> EmbeddingModel:
    trunk = schema.Trunk(end_point="block1", **options)
    return EmbeddingModel(schema.Model(trunk), 2).build_variables()


@pytest.fixture(scope="module")
def network() -> EmbeddingModel:
    return built()


def stored(
    network: EmbeddingModel,
    images: ImageList,
    folder: Path,
    batch_size: int,
    size_px: int = SIZE_PX,
) -> np.ndarray:
    return stored_feature_maps(network, size_px, images, folder, batch_size)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageList:
    folder = tmp_path_factory.mktemp("images")
    for row in range(5):
        pixels = np.random.default_rng(row).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{row}.png")
    return ImageList(
        [str(row) for row in range(5)], [str(folder / f"{row}.png") for row in range(5)]
    )


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by one each time that maps are computed."""
    calls: list[int] = []
    write = feature_maps._write_maps

    def counted(*arguments: object) -> None:
        calls.append(1)
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(feature_maps, "_write_maps", counted)
    return calls


def twin(network: EmbeddingModel, images: ImageList) -> np.ndarray:
    pixels = np.stack([load_image(path, SIZE_PX) for path in images.paths])
    return network.trunk(pixels, training=False)[ENDPOINT].numpy()


def test_row_i_is_the_feature_map_of_image_i(
    tmp_path: Path, network: EmbeddingModel, images: ImageList
):
    maps = stored(network, images, tmp_path, batch_size=2)
    assert maps.dtype == np.float16 and maps.shape == (5, 4, 4, 256) and isinstance(maps, np.memmap)
    np.testing.assert_allclose(maps, twin(network, images), rtol=2e-3, atol=1e-3)
    with pytest.raises(ValueError, match="read-only"):
        maps[0] = 0


def test_maps_of_the_same_images_and_weights_are_computed_once(
    tmp_path: Path, network: EmbeddingModel, images: ImageList, made: list
):
    first = np.array(stored(network, images, tmp_path, batch_size=2))
    again = stored(network, images, tmp_path, batch_size=3)
    assert len(made) == 1 and np.array_equal(first, again)
    fewer = stored(network, images.take([3, 1]), tmp_path, batch_size=2)
    assert len(made) == 2
    # The last bits depend on the other images of a batch.
    np.testing.assert_allclose(fewer, first[[3, 1]], rtol=2e-3, atol=0.1)


def test_maps_are_computed_again_if_a_weight_or_the_layout_changes(
    tmp_path: Path,
    images: ImageList,
    made: list,
):
    network = built()
    stored(network, images, tmp_path, batch_size=5)
    name = f"{ENDPOINT}/unit_3/bottleneck_v1/conv3/BatchNorm/beta:0"
    (bias,) = (variable for variable in network.trunk.variables if variable.name == name)
    bias.assign_add(np.ones(256))
    np.testing.assert_allclose(
        stored(network, images, tmp_path, batch_size=5), twin(network, images), rtol=2e-3, atol=1e-3
    )
    network.heads.by_name["main"].classifier.bias.assign([1.0, 2.0])
    stored(network, images, tmp_path, batch_size=5)
    assert len(made) == 2
    other = built(layout="keras")
    other.set_weights(network.get_weights())
    maps = stored(other, images, tmp_path, batch_size=5)
    assert len(made) == 3
    np.testing.assert_allclose(maps, twin(other, images), rtol=2e-3, atol=1e-3)


def test_maps_are_computed_again_if_an_image_is_replaced_but_not_if_it_is_renamed(
    tmp_path: Path,
    images: ImageList,
    made: list,
):
    network = built()
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [
        shutil.copy(path, folder / f"{row}{Path(path).suffix}")
        for row, path in enumerate(images.paths)
    ]
    own = dataclasses.replace(images, paths=np.array(paths, str))
    stored(network, own, tmp_path, batch_size=5)
    stored(network, images, tmp_path, batch_size=5)
    assert len(made) == 1
    shutil.copy(paths[1], paths[0])
    np.testing.assert_allclose(
        stored(network, own, tmp_path, batch_size=5), twin(network, own), rtol=2e-3, atol=1e-3
    )
    assert len(made) == 2


def test_maps_are_computed_again_for_another_size(
    tmp_path: Path,
    network: EmbeddingModel,
    images: ImageList,
    made: list,
):
    assert stored(network, images, tmp_path, batch_size=5).shape == (5, 4, 4, 256)
    assert stored(network, images, tmp_path, batch_size=5, size_px=64).shape == (5, 8, 8, 256)
    assert len(made) == 2


def test_killed_write_leaves_no_file_and_the_next_run_computes_maps(
    tmp_path: Path, network: EmbeddingModel, images: ImageList, monkeypatch: pytest.MonkeyPatch
):
    write = feature_maps._write_maps

    def killed(*arguments: object) -> None:
        write(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(feature_maps, "_write_maps", killed)
    with pytest.raises(KeyboardInterrupt):
        stored(network, images, tmp_path, batch_size=2)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(feature_maps, "_write_maps", write)
    np.testing.assert_allclose(
        stored(network, images, tmp_path, batch_size=2), twin(network, images), rtol=2e-3, atol=1e-3
    )


def test_kill_between_maps_and_note_leaves_no_old_note_beside_new_maps(
    tmp_path: Path, network: EmbeddingModel, images: ImageList, monkeypatch: pytest.MonkeyPatch
):
    before = np.array(stored(network, images, tmp_path, batch_size=5))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(feature_maps, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            stored(network, images.take([4, 3, 2, 1, 0]), tmp_path, batch_size=5)
    assert np.array_equal(stored(network, images, tmp_path, batch_size=5), before)


def test_error_names_an_image_that_has_become_unreadable(
    tmp_path: Path,
    network: EmbeddingModel,
    images: ImageList,
):
    paths = [*images.paths[:2], str(tmp_path / "gone.png")]
    with pytest.raises(ValueError, match=r"gone\.png: file not found\.$"):
        stored(network, ImageList(["a", "b", "c"], paths), tmp_path / "features", batch_size=2)
    assert list((tmp_path / "features").glob("*")) == []
