"""Extract DELF local features: run an image pyramid through the network and keep the best cells.

Source: Noh et al. 2017, arXiv:1612.06321.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from data_io.files.artifacts import digest_of
from data_io.records import ImageKeypoints
from delf_ext.features.local.delf_config import DelfConfig
from delf_ext.features.local.keypoints import pyramid, select, texture, to_original_px
from delf_ext.features.local.whitening import Whitening
from delf_ext.features.network_embedders import variables_digest
from delf_ext.models.checkpoints import LoadReport
from delf_ext.models.delf import Delf
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.models.trunks.receptive_field import receptive_field_of
from delf_ext.models.trunks.trunk import Trunk, build_trunk
from delf_ext.recipes import schema

# Pixels in one run of the network: small levels of several images run together. More pixels do not
# fit into the processor's cache.
PIXELS_PER_STEP = 300_000
# Images that are resized at the same time.
NUM_THREADS = 2
BLANK = np.zeros([1, 64, 64, 3], np.float32)
# The part of a receptive field's side that most of a cell's features come from.
MIDDLE = 1 / 8
# ImageNet's mean colour, around an image that is not rotated by a right angle.
GRAY = (124, 116, 104)


def pretrained_delf(weights: str, config: schema.Trunk, layer: str) -> tuple[Delf, LoadReport]:
    """Build DELF on a pretrained trunk; attention is the length of the feature vectors.

    Args:
        weights: path of the weights, or their name.
        config: the trunk; its end point is not used.
        layer: end point of the trunk, such as "block3"; "" = the default one of the trunk.

    Returns:
        The network, and the report of loading.

    Raises:
        ValueError: the weights do not fit.
    """
    trunk = _trunk_up_to(config, layer)
    trunk(BLANK)
    return Delf(trunk, trunk.endpoint), trunk.load(weights)


def _trunk_up_to(config: schema.Trunk, layer: str) -> Trunk:
    """Return a trunk without variables that ends at a layer, "" = its default one."""
    layer = layer or build_trunk(dataclasses.replace(config, end_point="")).local_layer
    return build_trunk(dataclasses.replace(config, end_point=layer))


def trained_delf(model: EmbeddingModel, layer: str, name: str) -> Delf:
    """Build DELF on the trunk of a trained model, with its attention if it was trained on `layer`.

    Args:
        model: built, with its weights.
        layer: the end point, such as "block3"; "" = the default one of the trunk.
        name: of the model, for messages.

    Returns:
        The network.

    Raises:
        ValueError: the trunk has no such layer, or ends before it.
    """
    trunk = model.trunk
    endpoint = _trunk_up_to(model.config.trunk, layer).endpoint
    if endpoint not in trunk(BLANK):
        layer = endpoint.partition("/")[2]
        raise ValueError(
            f"{name}: its trunk ends at {trunk.endpoint}, before {layer} (--local_layer)."
        )
    return Delf(trunk, endpoint, model.heads.attention if endpoint == trunk.endpoint else None)


class DelfExtractor:
    """Extractor of DELF local features; see `features.local.extraction.LocalExtractor`."""

    def __init__(
        self, network: Delf, config: DelfConfig, whitening: Whitening | None = None
    ) -> None:
        """Prepare the network.

        Args:
            network: with its weights.
            config: settings of the pyramid; its layer is replaced by the one of the network.
            whitening: of the descriptors; None keeps the trunk's own descriptors of unit length,
                from which a whitening is learned.

        Raises:
            ValueError: the whitening was learned for another network or layer.
        """
        self.network = network
        self.config = dataclasses.replace(config, layer=network.endpoint.partition("/")[2])
        self.whitening = whitening
        structure = network.backbone.structure
        self.model_digest = digest_of([variables_digest(network), network.endpoint, structure])
        if whitening is not None:
            if whitening.made_for != self.model_digest:
                raise ValueError(
                    f"the whitening was learned for model {whitening.made_for}, not for "
                    f"{self.model_digest}; learn it again with `whiten`."
                )
            network.whiten(whitening.mean, whitening.projection)
        self._threads = ThreadPoolExecutor(NUM_THREADS)
        signature = [tf.TensorSpec([None, None, None, 3], tf.uint8)]
        self._graph = tf.function(lambda images: network(images), input_signature=signature)
        trunk = tf.function(
            lambda images: network.backbone(images)[network.endpoint], input_signature=signature
        )
        traced = trunk.get_concrete_function()
        self._field = cache(
            lambda height, width: receptive_field_of(
                traced.outputs[0], traced.inputs[0], height, width
            )
        )
        num_channels = int(traced.outputs[0].shape[-1])
        self.dimension = num_channels if whitening is None else whitening.dimension

    def turned(self, rotations_deg: tuple[float, ...]) -> DelfExtractor:
        """Return an extractor with the same network that looks at other rotations of an image."""
        other = copy.copy(self)
        other.config = dataclasses.replace(self.config, rotations_deg=rotations_deg)
        return other

    @property
    def made_by(self) -> dict:
        """Everything that the result depends on, as plain JSON data."""
        whitening = "" if self.whitening is None else self.whitening.digest
        return {
            "extractor": "delf",
            "model": self.model_digest,
            "whitening": whitening,
            **dataclasses.asdict(self.config),
        }

    @property
    def digest(self) -> str:
        """Digest of the network and whitening, a slash, and the digest of the settings."""
        made_by = self.made_by
        network = [made_by.pop(key) for key in ("extractor", "model", "whitening")]
        return f"{digest_of(network)}/{digest_of(made_by)}"

    def shape_class(self, size_px: tuple[int, int]) -> tuple:
        """Return a value that is equal for sizes (width, height) with the same pyramid."""
        return tuple(pyramid(size_px, self.config.longer_side_px, self.config.scales))

    def extract(self, images: Sequence[np.ndarray]) -> list[ImageKeypoints]:
        """Extract the features of images of one shape class.

        Args:
            images: uint8 [H, W, 3] each.

        Returns:
            For each image at most `max_features` of each rotation, in pixels of the given image.
        """
        rotations = [self._extract_rotated(images, angle) for angle in self.config.rotations_deg]
        return [
            ImageKeypoints(*_joined(of_image), size_px=(image.shape[1], image.shape[0]))
            for image, of_image in zip(images, zip(*rotations, strict=True), strict=True)
        ]

    def _extract_rotated(self, images: Sequence[np.ndarray], degrees: float) -> list[_Cells]:
        """Return the best cells of each image, in pixels of the upright image."""
        # Right angles are exact; other rotations get a larger canvas.
        rotated = [
            Image.fromarray(image).rotate(
                degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=GRAY
            )
            for image in images
        ]
        cells: list[list[_Cells]] = [[] for _ in images]
        for level_px in self.shape_class(rotated[0].size):
            batch_size = max(1, PIXELS_PER_STEP // (level_px[0] * level_px[1]))
            for start in range(0, len(images), batch_size):
                batch = rotated[start : start + batch_size]
                for number, outputs in enumerate(self._run(batch, level_px), start):
                    cells[number].append(self._cells(*outputs, rotated[number].size))
        return [
            self._best(_joined(levels), degrees, (image.shape[1], image.shape[0]), view.size)
            for levels, image, view in zip(cells, images, rotated, strict=True)
        ]

    def _run(
        self, images: Sequence[Image.Image], level_px: tuple[int, int]
    ) -> Iterator[tuple[Image.Image, np.ndarray, np.ndarray]]:
        """Return for each image the resized one, attention [h, w] and descriptors [h, w, d]."""
        resized = list(
            self._threads.map(
                lambda image: image.resize(level_px, Image.Resampling.BILINEAR), images
            )
        )
        pixels = np.stack([np.asarray(image) for image in resized])
        attention, descriptors = self._graph(tf.constant(pixels))
        return zip(resized, attention.numpy(), descriptors.numpy(), strict=True)

    def _cells(
        self,
        level: Image.Image,
        attention: np.ndarray,
        descriptors: np.ndarray,
        size_px: tuple[int, int],
    ) -> _Cells:
        """Select the cells of one level that have enough texture.

        Args:
            level: the resized image.
            attention: [h, w].
            descriptors: [h, w, d].
            size_px: (width, height) of the rotated image before it was resized.

        Returns:
            Their centres and sizes in pixels of the rotated image, attention and descriptors.
        """
        rows, columns = attention.shape
        field_y, field_x = self._field(level.height, level.width)
        x, y = np.meshgrid(field_x.centers_px(), field_y.centers_px())
        centers = np.stack([x.ravel(), y.ravel()], axis=1)
        flat = descriptors.reshape(rows * columns, -1)
        middle_px = np.sqrt(field_x.size_px * field_y.size_px) * MIDDLE
        gray = np.asarray(level.convert("L"))
        is_kept = texture(gray, centers, middle_px) >= self.config.min_texture
        # A descriptor of zeros has no direction.
        is_kept &= flat.any(axis=1)
        scale = np.sqrt(size_px[0] / level.width * size_px[1] / level.height)
        side_px = middle_px / MIDDLE * scale
        places = to_original_px(centers[is_kept], level.size, size_px)
        return _Cells(
            places,
            np.full(len(places), side_px, np.float32),
            attention.ravel()[is_kept],
            flat[is_kept],
        )

    def _best(
        self, cells: _Cells, degrees: float, size_px: tuple[int, int], rotated_px: tuple[int, int]
    ) -> _Cells:
        """Return the best cells inside the image; both sizes are (width, height)."""
        centers = _rotate_back(cells.centers_px, degrees, size_px, rotated_px)
        is_inside = ((centers >= -0.5) & (centers <= np.array(size_px) - 0.5)).all(axis=1)
        inside = np.flatnonzero(is_inside)
        best = select(
            centers[inside],
            cells.sizes_px[inside],
            cells.attention[inside],
            self.config.max_features,
            self.config.nms_iou,
        )
        rows = inside[best]
        return _Cells(*[column[rows] for column in cells._replace(centers_px=centers)])


class _Cells(NamedTuple):
    """Cells of one image.

    Attributes:
        centers_px: [T, 2] (x, y).
        sizes_px: [T], sides of the receptive fields.
        attention: [T].
        descriptors: [T, d].
    """

    centers_px: np.ndarray
    sizes_px: np.ndarray
    attention: np.ndarray
    descriptors: np.ndarray


def _joined(parts: Sequence[_Cells]) -> _Cells:
    return _Cells(*[np.concatenate(column) for column in zip(*parts, strict=True)])


def _rotate_back(
    places: np.ndarray, degrees: float, size_px: tuple[int, int], rotated_px: tuple[int, int]
) -> np.ndarray:
    """Convert points of the rotated image to points of the upright image.

    Args:
        places: [T, 2] (x, y).
        degrees: the counter-clockwise rotation, about the centre.
        size_px: (width, height) of the upright image.
        rotated_px: (width, height) of the rotated image.

    Returns:
        float32 [T, 2] (x, y).
    """
    sine = np.sin(np.deg2rad(degrees))
    cosine = np.cos(np.deg2rad(degrees))
    from_centre = places - (np.array(rotated_px) - 1) / 2
    rotation = np.array([[cosine, sine], [-sine, cosine]])
    return (from_centre @ rotation + (np.array(size_px) - 1) / 2).astype(np.float32)
