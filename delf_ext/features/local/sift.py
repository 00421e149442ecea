"""Extract RootSIFT local features with OpenCV.

SIFT needs no training and is hard to beat on flat prints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_io.files.artifacts import digest_of
from data_io.records import ImageKeypoints

DIMENSION = 128


@dataclass(frozen=True)
class SiftConfig:
    """Settings of RootSIFT.

    Attributes:
        max_features: most features of one image; the strongest are kept. A place with several
            orientations counts once for each.
        image_size: longer side in pixels; larger images are reduced to it.
        contrast_threshold: as in OpenCV, but far below its default of 0.04, so that images with
            little texture have features too. The strongest ones are the same at any threshold.
    """

    max_features: int = 1000
    image_size: int = 1024
    contrast_threshold: float = 0.01


@dataclass(frozen=True)
class SiftExtractor:
    """Extractor of RootSIFT; see `features.local.extraction.LocalExtractor`.

    Attributes:
        config: the settings.
        dimension: length of a descriptor.

    Raises:
        ValueError: OpenCV is missing.
    """

    config: SiftConfig = SiftConfig()
    dimension: int = DIMENSION

    def __post_init__(self) -> None:
        _opencv()

    @property
    def digest(self) -> str:
        """Digest of OpenCV's version, a slash, and the digest of the settings."""
        settings = dataclasses.asdict(self.config)
        return f"{digest_of(['rootsift', _opencv().__version__])}/{digest_of(settings)}"

    @property
    def made_by(self) -> dict:
        """Everything that the result depends on, as plain JSON data."""
        return {
            "extractor": "rootsift",
            "opencv": _opencv().__version__,
            **dataclasses.asdict(self.config),
        }

    def shape_class(self, size_px: tuple[int, int]) -> tuple:
        """Return the same value for all sizes: images of different sizes can share a batch."""
        return ()

    def extract(self, images: Sequence[np.ndarray]) -> list[ImageKeypoints]:
        """Extract the features of each image.

        Args:
            images: uint8 [H, W, 3] each.

        Returns:
            The features of each image, see `sift_features`.
        """
        return [sift_features(image, self.config) for image in images]


def sift_features(image: np.ndarray, config: SiftConfig) -> ImageKeypoints:
    """Extract the RootSIFT features of one image.

    Source: Lowe, IJCV 2004; Arandjelovic and Zisserman, "Three things everyone should know to
    improve object retrieval", CVPR 2012.

    Args:
        image: uint8 [H, W, 3], RGB.
        config: the settings.

    Returns:
        M features, strongest first, ties by position; M may be 0. `attention` is the contrast,
        `scales_px` is OpenCV's diameter of the keypoint, `descriptors` are [M, 128].

    Raises:
        ValueError: OpenCV is missing.
    """
    gray, original_per_reduced = _reduced_gray(image, config.image_size)
    places, descriptors = _detect(gray, config)
    # A patch without any gradient has no direction.
    is_kept = descriptors.any(axis=1)
    places = places[is_kept]
    descriptors = descriptors[is_kept]
    x, y, diameter, angle, response = places.T
    best = np.lexsort((angle, diameter, x, y, -response))[: config.max_features]
    # In both images 0 is the centre of the first pixel.
    keypoints_px = (places[best, :2] + 0.5) * original_per_reduced - 0.5
    return ImageKeypoints(
        keypoints_px,
        diameter[best] * np.sqrt(original_per_reduced.prod()),
        response[best],
        root_sift(descriptors[best]),
        (image.shape[1], image.shape[0]),
    )


def root_sift(descriptors: np.ndarray) -> np.ndarray:
    """Convert SIFT to RootSIFT, the square root of the L1-normalised descriptor.

    The scalar product of two results is the Hellinger kernel of the SIFT descriptors.

    Args:
        descriptors: SIFT [M, 128], not zero.

    Returns:
        [M, 128], unit length.
    """
    return np.sqrt(descriptors / descriptors.sum(axis=1, keepdims=True))


def _reduced_gray(image: np.ndarray, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Reduce an image to a longer side of at most `image_size`.

    Returns:
        uint8 [h, w], and the number of original pixels per reduced pixel (x, y).
    """
    cv2 = _opencv()
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = gray.shape
    longer_side = max(height, width)
    if longer_side > image_size:
        size = [max(1, round(side * image_size / longer_side)) for side in (width, height)]
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return gray, np.array([width / gray.shape[1], height / gray.shape[0]])


def _detect(gray: np.ndarray, config: SiftConfig) -> tuple[np.ndarray, np.ndarray]:
    """Detect keypoints.

    Returns:
        Keypoints [M, 5] (x, y, diameter, angle, response) and SIFT [M, 128]. M may be larger than
        `max_features` if responses are equal.
    """
    # The other values are OpenCV's defaults, from Lowe 2004, sections 3 and 4.
    # Without enable_precise_upscale all keypoints are shifted by 0.25 pixels (opencv issue 23123).
    sift = _opencv().SIFT_create(
        nfeatures=config.max_features,
        contrastThreshold=config.contrast_threshold,
        enable_precise_upscale=True,
    )
    keypoints, descriptors = sift.detectAndCompute(gray, None)
    if descriptors is None:
        descriptors = np.zeros((0, DIMENSION), np.float32)
    rows = [(*point.pt, point.size, point.angle, point.response) for point in keypoints]
    return np.reshape(rows, (-1, 5)), descriptors


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise ValueError(
            'RootSIFT needs OpenCV: pip install -e ".[geometry]" in the clone.'
        ) from None
    return cv2
