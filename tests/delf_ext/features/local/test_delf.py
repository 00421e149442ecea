"""Test DELF local features: pyramid, rotations, coordinates in the original image."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.records import ImageKeypoints
from delf_ext.features.local.delf import DelfExtractor, pretrained_delf, trained_delf
from delf_ext.features.local.delf_config import DelfConfig
from delf_ext.features.local.whitening import Whitening, learn_whitening
from delf_ext.models.delf import Delf
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.models.trunks.slim import SlimTrunk
from delf_ext.recipes import schema
from delf_ext.recipes.trunk_names import trunk_named
from pretrained.convert import write_checkpoint

CONFIG = DelfConfig(layer="pool2", longer_side_px=96, scales=(0.7071, 1.0, 1.4142), max_features=60)
PHOTOS = [np.random.default_rng(seed).integers(0, 256, (75, 110, 3), np.uint8) for seed in range(3)]


@pytest.fixture(scope="module")
def extractor() -> DelfExtractor:
    backbone = SlimTrunk("vgg_16/pool2")
    backbone(np.zeros([1, 64, 64, 3], np.float32))
    return DelfExtractor(Delf(backbone, "vgg_16/pool2"), CONFIG)


def assert_same(a: ImageKeypoints, b: ImageKeypoints) -> None:
    np.testing.assert_allclose(a.keypoints_px, b.keypoints_px, atol=1e-3)
    np.testing.assert_allclose(a.attention, b.attention, rtol=1e-3)
    np.testing.assert_allclose(a.descriptors, b.descriptors, atol=1e-3)


def whitened_in_numpy(whitening: Whitening, descriptors: np.ndarray) -> np.ndarray:
    """Whiten in NumPy: the slow twin of `models.delf.Delf`."""
    projected = (descriptors - whitening.mean) @ whitening.projection
    return projected / np.linalg.norm(projected, axis=1, keepdims=True)


def plain(extractor: DelfExtractor, photo: np.ndarray) -> ImageKeypoints:
    """Extract features of one image, one level and one cell at a time, without suppression."""
    height, width = photo.shape[:2]
    cells = []
    for level in extractor.shape_class((width, height)):
        pixels = np.asarray(Image.fromarray(photo).resize(level, Image.Resampling.BILINEAR))
        attention, descriptors = (part.numpy()[0] for part in extractor.network(pixels[None]))
        for row, column in np.ndindex(*attention.shape):
            # VGG's convolutions keep the centre, and two 2x2 pools let cell 0 see pixels 0 to 3.
            x = 4 * column + 1.5
            y = 4 * row + 1.5
            gray = np.asarray(Image.fromarray(pixels).convert("L"))
            # The middle of a cell is 1/8 of 16 pixels.
            middle = gray[int(y) : int(y) + 2, int(x) : int(x) + 2]
            if middle.std() < extractor.config.min_texture:
                continue
            place = (x + 0.5) * width / level[0] - 0.5, (y + 0.5) * height / level[1] - 0.5
            cells.append(
                (
                    attention[row, column],
                    np.clip(place, 0, (width - 1, height - 1)),
                    descriptors[row, column],
                )
            )
    best = sorted(range(len(cells)), key=lambda row: -cells[row][0])[
        : extractor.config.max_features
    ]
    columns = [np.array([cells[row][column] for row in best]) for column in (1, 0, 2)]
    return ImageKeypoints(columns[0], np.ones(len(best)), columns[1], columns[2], (width, height))


def test_extract_equals_its_slow_twin(extractor: DelfExtractor) -> None:
    for photo, features in zip(PHOTOS, extractor.extract(PHOTOS), strict=True):
        assert len(features) == 60 and (np.diff(features.attention) <= 0).all()
        assert_same(features, plain(extractor, photo))


def test_other_images_of_the_batch_do_not_change_features(extractor: DelfExtractor) -> None:
    assert_same(extractor.extract(PHOTOS)[2], extractor.extract(PHOTOS[2:])[0])


def test_keypoints_are_near_a_bright_spot(extractor: DelfExtractor) -> None:
    photo = np.full((150, 220, 3), 124, np.uint8)
    # The centre of the spot is (42.5, 92.5).
    photo[90:96, 40:46] = 255
    features = extractor.extract([photo])[0]
    assert np.abs(features.keypoints_px[0] - [42.5, 92.5]).max() < 10
    assert np.abs(np.median(features.keypoints_px[:8], axis=0) - [42.5, 92.5]).max() < 10


@pytest.mark.parametrize("degrees", [90.0, 180.0, 270.0])
def test_features_of_a_rotation_equal_those_of_the_rotated_image_in_upright_coordinates(
    extractor: DelfExtractor,
    degrees: float,
) -> None:
    photo = PHOTOS[0]
    quarters = int(degrees) // 90
    turned = extractor.extract([np.ascontiguousarray(np.rot90(photo, quarters))])[0]
    upright = extractor.turned((degrees,)).extract([photo])[0]
    x, y = upright.keypoints_px.T
    for quarter in range(quarters):
        # A quarter turn counter-clockwise moves the right side up.
        width = 110 if quarter % 2 == 0 else 75
        x, y = y, width - 1 - x
    np.testing.assert_allclose(np.stack([x, y], axis=1), turned.keypoints_px, atol=1e-3)
    np.testing.assert_allclose(upright.descriptors, turned.descriptors, atol=1e-4)
    assert upright.size_px == (110, 75)


def test_each_rotation_keeps_its_own_best_features(extractor: DelfExtractor) -> None:
    both = extractor.turned((0.0, 45.0)).extract(PHOTOS[:1])[0]
    assert len(both) == 120
    np.testing.assert_array_equal(
        both.keypoints_px[:60], extractor.extract(PHOTOS[:1])[0].keypoints_px
    )
    # No keypoint is in the gray corners.
    assert ((both.keypoints_px >= 0) & (both.keypoints_px <= [109, 74])).all()


def test_plain_background_has_no_features(extractor: DelfExtractor) -> None:
    # Without the filter, two different book covers on white had 216 false matches: the background
    # looks alike, and the padding makes its descriptors depend on the place in the image.
    photo = np.full((75, 110, 3), 255, np.uint8)
    photo[30:50, 40:70] = PHOTOS[0][30:50, 40:70]
    places = extractor.extract([photo])[0].keypoints_px
    assert len(places) and ((places > [30, 20]) & (places < [80, 60])).all()
    assert len(extractor.extract([np.full((75, 110, 3), 9, np.uint8)])[0]) == 0


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((1, 1, 3), np.uint8),
        np.full((20, 9, 3), 255, np.uint8),
        np.zeros((70, 70, 3), np.uint8),
    ],
)
def test_tiny_and_uniform_images_give_few_features(
    extractor: DelfExtractor, photo: np.ndarray
) -> None:
    features = extractor.extract([photo])[0]
    assert len(features) <= 60 and features.size_px == (photo.shape[1], photo.shape[0])


def test_whitening_is_applied_and_changes_the_digest(extractor: DelfExtractor) -> None:
    sample = np.concatenate([features.descriptors for features in extractor.extract(PHOTOS)])
    whitening = learn_whitening(sample, 8, extractor.model_digest)
    backbone = extractor.network.backbone
    whitened = DelfExtractor(Delf(backbone, "vgg_16/pool2"), CONFIG, whitening)
    features = whitened.extract(PHOTOS)[0]
    assert (
        features.descriptors.shape == (60, 8)
        and whitened.dimension == 8
        and extractor.dimension == 128
    )
    np.testing.assert_allclose(
        features.descriptors,
        whitened_in_numpy(whitening, extractor.extract(PHOTOS)[0].descriptors),
        atol=1e-4,
    )
    spaces = [
        one.digest.partition("/")[0] for one in (extractor, whitened, whitened.turned((90.0,)))
    ]
    assert spaces[0] != spaces[1] == spaces[2]
    assert whitened.turned((90.0,)).digest != whitened.digest
    with pytest.raises(ValueError, match="the whitening was learned for model other"):
        DelfExtractor(
            Delf(backbone, "vgg_16/pool2"), CONFIG, dataclasses.replace(whitening, made_for="other")
        )


# --- building the network


def test_checkpoint_delf_has_the_weights_and_no_attention_layer(
    extractor: DelfExtractor,
    tmp_path: Path,
) -> None:
    path, trunk = tmp_path / "vgg.ckpt", extractor.network.backbone
    write_checkpoint(path, {one.name.removesuffix(":0"): one.numpy() for one in trunk.variables})
    found, report = pretrained_delf(str(path), schema.Trunk("vgg_16"), "pool2")
    assert found.attention is None and len(report.matched) == len(trunk.variables)
    pixels = PHOTOS[0][None].astype(np.float32)
    for one, other in zip(found(pixels), extractor.network(pixels), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="vgg.ckpt does not fit the trunk vgg_16"):
        pretrained_delf(str(path), schema.Trunk("vgg_16"), "pool3")


@pytest.fixture(scope="module")
def trained() -> EmbeddingModel:
    trunk = schema.Trunk("vgg_16", end_point="pool2")
    heads = (schema.Head("main", schema.DelfAttention(), classifier=schema.Linear()),)
    return EmbeddingModel(schema.Model(trunk, heads), 3).build_variables()


def test_trained_delf_uses_attention_only_at_the_layer_it_was_trained_on(
    trained: EmbeddingModel,
) -> None:
    own, earlier = (trained_delf(trained, layer, "mine") for layer in ("pool2", "pool1"))
    assert own.attention is trained.heads.attention and own.endpoint == "vgg_16/pool2"
    assert earlier.attention is None and earlier.endpoint == "vgg_16/pool1"
    assert own.backbone is earlier.backbone is trained.trunk


def test_trained_delf_of_a_model_without_attention_has_none() -> None:
    trunk = schema.Trunk("vgg_16", end_point="pool1")
    model = EmbeddingModel(schema.Model(trunk, (schema.Head("main"),)), 0).build_variables()
    assert trained_delf(model, "pool1", "mine").attention is None


def test_layer_beyond_the_trunk_raises_value_error(trained: EmbeddingModel) -> None:
    message = r"^mine: its trunk ends at vgg_16/pool2, before pool3 \(--local_layer\)\.$"
    with pytest.raises(ValueError, match=message):
        trained_delf(trained, "pool3", "mine")
    with pytest.raises(ValueError, match="unknown end point 'vgg_16/block3'"):
        trained_delf(trained, "block3", "mine")


@pytest.mark.parametrize(
    ("name", "layer", "endpoint"),
    [
        ("resnet_v1_50/block4", "", "resnet_v1_50/block3"),
        ("vgg_16", "", "vgg_16/conv5"),
        ("lite0", "", "efficientnet_lite0/block5"),
        ("lite0", "block3", "efficientnet_lite0/block3"),
    ],
)
def test_trunk_names_its_layer_for_local_features(name: str, layer: str, endpoint: str) -> None:
    model = EmbeddingModel(schema.Model(trunk_named(name)), 2).build_variables()
    for variable in model.trunk.variables:
        if "gamma" in variable.name and name == "lite0":
            # Its random weights shrink all features to nearly nothing.
            variable.assign(4 * variable)
    network = trained_delf(model, layer, "mine")
    assert network.endpoint == endpoint and network.attention is None
    extractor = DelfExtractor(network, dataclasses.replace(CONFIG, layer=layer))
    assert extractor.config.layer == endpoint.partition("/")[2]
    assert len(extractor.extract(PHOTOS[:1])[0].keypoints_px) > 0
