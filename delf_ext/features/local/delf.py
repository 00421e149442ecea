"""DELF's local features of photographs: a pyramid of every turn of the image through the network, the best cells kept."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import tensorflow as tf
from PIL import Image

from data_io.artifacts import digest_of
from data_io.records import ImageKeypoints
from delf_ext.features.local.delf_config import DelfConfig
from delf_ext.features.local.keypoints import pyramid, select, texture, to_original_px
from delf_ext.features.local.whitening import Whitening
from delf_ext.features.network_embedders import variables_digest
from delf_ext.models.checkpoints import LoadReport
from delf_ext.models.delf import Delf
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.models.trunks.receptive_field import receptive_field_of
from delf_ext.models.trunks.slim import SlimTrunk, split_endpoint

PIXELS_PER_STEP = 300_000  # of one run of the network: small levels of several photographs together; more falls out of the cache
BLANK = np.zeros([1, 64, 64, 3], np.float32)
MIDDLE = 1 / 8  # of a receptive field's side: the share that a cell's features mostly come from
RIGHT_ANGLES = {
    90.0: Image.Transpose.ROTATE_90,
    180.0: Image.Transpose.ROTATE_180,
    270.0: Image.Transpose.ROTATE_270,
}
GRAY = (
    124,
    116,
    104,
)  # ImageNet's mean colour, around a photograph turned by other than a right angle


def checkpoint_delf(checkpoint: str, endpoint: str, layout: str) -> tuple[Delf, LoadReport]:
    """Return DELF on a pretrained trunk as it is; attention is the length of feature vectors.

    Raises: ValueError when the weights do not fit.
    """
    trunk = SlimTrunk(endpoint, layout)
    trunk(BLANK)
    return Delf(trunk, trunk.endpoint), trunk.load(checkpoint)


def trained_delf(model: EmbeddingModel, layer: str, name: str) -> Delf:
    """Return DELF on the trunk of a trained model; its attention where that was trained on this very layer.

    Args:
        model: built, with its weights.
        layer: the end point, such as "block3".
        name: of the model, for messages.

    Raises:
        ValueError: when the trunk ends before the layer.
    """
    trunk = model.trunk
    if not isinstance(trunk, SlimTrunk):
        raise ValueError(
            f"{name}: local features of a trunk other than TF-Slim's are not built yet."
        )
    endpoint = "/".join(split_endpoint(f"{trunk.backbone}/{layer}"))
    if endpoint not in trunk(BLANK):
        raise ValueError(
            f"{name}: its trunk ends at {trunk.endpoint}, before {layer} (--local_layer)."
        )
    return Delf(trunk, endpoint, model.heads.attention if endpoint == trunk.endpoint else None)


class DelfExtractor:
    """Photographs to ImageKeypoints by one network, with its weights loaded. Source: Noh et al. 2017, arXiv:1612.06321.

    whitening: of the descriptors; without it they are the trunk's own, of unit length: what a whitening is learned on.
    Photographs of one `shape_class` can be extracted together.
    Raises: ValueError when the whitening was learned for another network or layer.
    """

    def __init__(
        self,
        network: Delf,
        config: DelfConfig,
        whitening: Whitening | None = None,
        num_threads: int = 2,
    ) -> None:
        self.network, self.config, self.whitening = network, config, whitening
        self.model_digest = digest_of(
            [
                variables_digest(network),
                network.endpoint,
                dataclasses.asdict(network.backbone.layout),
            ]
        )
        if whitening is not None and whitening.made_for != self.model_digest:
            raise ValueError(
                f"the whitening was learned for model {whitening.made_for}, not {self.model_digest}: learn it again."
            )
        if whitening is not None:
            network.whiten(whitening.mean, whitening.projection)
        self._threads = ThreadPoolExecutor(num_threads)
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
        self._width = int(traced.outputs[0].shape[-1])

    def turned(self, rotations_deg: tuple[float, ...]) -> DelfExtractor:
        """The same network, which looks at every photograph in these turns."""
        other = copy.copy(self)
        other.config = dataclasses.replace(self.config, rotations_deg=rotations_deg)
        return other

    @property
    def dimension(self) -> int:
        return self._width if self.whitening is None else self.whitening.dimension

    @property
    def made_by(self) -> dict:
        """Everything that decides the result, as plain JSON data."""
        whitening = "" if self.whitening is None else self.whitening.digest
        return {
            "extractor": "delf",
            "model": self.model_digest,
            "whitening": whitening,
            **dataclasses.asdict(self.config),
        }

    @property
    def digest(self) -> str:
        made_by = self.made_by
        return f"{digest_of([made_by.pop(key) for key in ('extractor', 'model', 'whitening')])}/{digest_of(made_by)}"

    def shape_class(self, size_px: tuple[int, int]) -> tuple:
        """Equal for sizes (width, height) whose pyramids are equal."""
        return tuple(self._levels(size_px))

    def _levels(self, size_px: tuple[int, int]) -> list[tuple[int, int]]:
        return pyramid(size_px, self.config.longer_side_px, self.config.scales)

    def extract(self, images: Sequence[np.ndarray]) -> list[ImageKeypoints]:
        """Photographs, uint8 [H, W, 3], of one shape class. Every turn keeps its own best max_features."""
        turns = [self._extract_turned(images, degrees) for degrees in self.config.rotations_deg]
        return [_joined([turn[number] for turn in turns]) for number in range(len(images))]

    def _extract_turned(self, images: Sequence[np.ndarray], degrees: float) -> list[ImageKeypoints]:
        turned = [_turned(Image.fromarray(image), degrees) for image in images]
        cells: list[list[_Cells]] = [[] for _ in images]
        for level in self._levels(turned[0].size):
            together = max(1, PIXELS_PER_STEP // (level[0] * level[1]))
            for start in range(0, len(images), together):
                part = turned[start : start + together]
                for number, found in enumerate(self._run(part, level), start):
                    cells[number].append(self._cells(*found, turned[number].size))
        return [
            self._best(_Cells.joined(levels), degrees, (image.shape[1], image.shape[0]), view.size)
            for levels, image, view in zip(cells, images, turned, strict=True)
        ]

    def _run(
        self, images: Sequence[Image.Image], level: tuple[int, int]
    ) -> Iterator[tuple[Image.Image, np.ndarray, np.ndarray]]:
        """Per photograph the resized one, attention [h, w], descriptors [h, w, d]."""
        resized = list(
            self._threads.map(lambda image: image.resize(level, Image.Resampling.BILINEAR), images)
        )
        attention, descriptors = self._graph(
            tf.constant(np.stack([np.asarray(image) for image in resized]))
        )
        return zip(resized, attention.numpy(), descriptors.numpy(), strict=True)

    def _cells(
        self,
        photo: Image.Image,
        attention: np.ndarray,
        descriptors: np.ndarray,
        size_px: tuple[int, int],
    ) -> _Cells:
        """Those of one level that tell something, in pixels of the turned photograph of size_px (width, height)."""
        rows, columns = attention.shape
        field_y, field_x = self._field(photo.height, photo.width)
        x, y = np.meshgrid(field_x.centers_px(columns), field_y.centers_px(rows))
        centers = np.stack([x.ravel(), y.ravel()], axis=1)
        flat = descriptors.reshape(rows * columns, -1)
        middle_px = np.sqrt(field_x.size_px * field_y.size_px) * MIDDLE
        telling = (
            texture(np.asarray(photo.convert("L")), centers, middle_px) >= self.config.min_texture
        )
        telling &= flat.any(axis=1)  # features that are all zero have no direction
        side_px = middle_px / MIDDLE * np.sqrt(size_px[0] / photo.width * size_px[1] / photo.height)
        places = to_original_px(centers[telling], photo.size, size_px)
        return _Cells(
            places,
            np.full(len(places), side_px, np.float32),
            attention.ravel()[telling],
            flat[telling],
        )

    def _best(
        self, cells: _Cells, degrees: float, size_px: tuple[int, int], turned_px: tuple[int, int]
    ) -> ImageKeypoints:
        places = _turned_back(cells.centers_px, degrees, size_px, turned_px)
        inside = np.flatnonzero(
            ((places >= -0.5) & (places <= np.array(size_px) - 0.5)).all(axis=1)
        )
        chosen = inside[
            select(
                places[inside],
                cells.sizes_px[inside],
                cells.attention[inside],
                self.config.max_features,
                self.config.nms_iou,
            )
        ]
        return ImageKeypoints(
            places[chosen],
            cells.sizes_px[chosen],
            cells.attention[chosen],
            cells.descriptors[chosen],
            size_px,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Cells:
    """Cells of one turned photograph: centers_px [T, 2] and sizes_px [T] in its pixels, attention [T], descriptors [T, d]."""

    centers_px: np.ndarray
    sizes_px: np.ndarray
    attention: np.ndarray
    descriptors: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[_Cells]) -> _Cells:
        return cls(
            *(
                np.concatenate([getattr(part, name.name) for part in parts])
                for name in dataclasses.fields(cls)
            )
        )


def _turned(image: Image.Image, degrees: float) -> Image.Image:
    """Turned counter-clockwise; right angles exactly, others on a larger gray canvas."""
    if degrees == 0:
        return image
    if degrees in RIGHT_ANGLES:
        return image.transpose(RIGHT_ANGLES[degrees])
    return image.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=GRAY)


def _turned_back(
    places: np.ndarray, degrees: float, size_px: tuple[int, int], turned_px: tuple[int, int]
) -> np.ndarray:
    """[T, 2] of the turned photograph to pixels of the upright one: both turn about their centre."""
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    from_centre = places - (np.array(turned_px) - 1) / 2
    return (
        from_centre @ np.array([[cosine, sine], [-sine, cosine]]) + (np.array(size_px) - 1) / 2
    ).astype(np.float32)


def _joined(turns: Sequence[ImageKeypoints]) -> ImageKeypoints:
    """The features of all turns as one set; turn by turn, best first in each."""
    if len(turns) == 1:
        return turns[0]
    names = ("keypoints_px", "scales_px", "attention", "descriptors")
    columns = {name: np.concatenate([getattr(turn, name) for turn in turns]) for name in names}
    return ImageKeypoints(**columns, size_px=turns[0].size_px)
