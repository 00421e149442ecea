"""RootSIFT through OpenCV: the local features that a user would reach for first, hard to beat on planar print."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_io.artifacts import digest_of
from data_io.records import ImageKeypoints

DIMENSION = 128
# Lowe 2004, section 3 and 4, as OpenCV has them by default.
LAYERS_PER_OCTAVE, EDGE_RATIO, SIGMA_PX = 3, 10, 1.6


@dataclass(frozen=True)
class SiftConfig:
    """max_features: the most of one image, the strongest kept; a place counts once for each of its orientations.
    image_size: longer side, in pixels, down to which a larger photograph is reduced first.
    contrast_threshold: as in OpenCV, but far below its 0.04, so that max_features decides on textured images and a
    low-texture one still gets the features that it has: the strongest are the same at any threshold.
    """

    max_features: int = 1000
    image_size: int = 1024
    contrast_threshold: float = 0.01

    def __post_init__(self) -> None:
        if self.max_features < 1 or self.image_size < 1 or not self.contrast_threshold >= 0:
            raise ValueError(
                f"max_features and image_size must be at least 1, contrast_threshold at least 0. Received {self}."
            )

    def digest(self) -> str:
        """Changes with a setting and with OpenCV's version; all of one version have one space.

        Raises: ValueError when OpenCV is missing.
        """
        return f"{digest_of(['rootsift', _opencv().__version__])}/{digest_of(dataclasses.asdict(self))}"


@dataclass(frozen=True)
class SiftExtractor:
    """RootSIFT as extraction asks for it (`features.local.extraction.LocalExtractor`). Raises: ValueError when OpenCV is missing."""

    config: SiftConfig = SiftConfig()
    dimension: int = DIMENSION

    def __post_init__(self) -> None:
        _opencv()

    @property
    def digest(self) -> str:
        return self.config.digest()

    @property
    def made_by(self) -> dict:
        return {
            "extractor": "rootsift",
            "opencv": _opencv().__version__,
            **dataclasses.asdict(self.config),
        }

    def shape_class(self, size_px: tuple[int, int]) -> tuple:
        """All photographs go together: each is looked at alone."""
        return ()

    def extract(self, images: Sequence[np.ndarray]) -> list[ImageKeypoints]:
        return [sift_features(image, self.config) for image in images]


def sift_features(image: np.ndarray, config: SiftConfig) -> ImageKeypoints:
    """RootSIFT of one image, uint8 [H, W, 3]: descriptors [M, 128], strongest first, ties by position.

    attention: the contrast at the keypoint; scales_px: its diameter as OpenCV has it. M = 0 where nothing stands out.
    Raises: ValueError for another kind of array, or when OpenCV is missing.
    Source: Lowe, IJCV 2004; Arandjelovic and Zisserman, "Three things everyone should know ...", CVPR 2012.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f"image must be uint8 [H, W, 3]. Received {image.dtype} {list(image.shape)}."
        )
    gray, original_per_reduced = _reduced_gray(image, config.image_size)
    places, descriptors = _detect(gray, config)
    keep = descriptors.any(
        axis=1
    )  # a patch without any gradient has no direction to be compared by
    places, descriptors = places[keep], descriptors[keep]
    x, y, diameter, angle, response = places.T
    best = np.lexsort((angle, diameter, x, y, -response))[: config.max_features]
    return ImageKeypoints(
        (places[best, :2] + 0.5) * original_per_reduced
        - 0.5,  # 0 is the centre of the first pixel in both images
        diameter[best] * np.sqrt(original_per_reduced.prod()),
        response[best],
        root_sift(descriptors[best]),
        (image.shape[1], image.shape[0]),
    )


def root_sift(descriptors: np.ndarray) -> np.ndarray:
    """Square root of the L1-normalised SIFT [M, 128]: of unit length, its scalar product is the Hellinger kernel."""
    return np.sqrt(descriptors / descriptors.sum(axis=1, keepdims=True))


def _reduced_gray(image: np.ndarray, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [h, w], longer side at most image_size, and how many original pixels make one of its own, (x, y)."""
    cv2 = _opencv()
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = gray.shape
    if max(height, width) > image_size:
        reduced = [
            max(1, round(side * image_size / max(height, width))) for side in (width, height)
        ]
        gray = cv2.resize(gray, reduced, interpolation=cv2.INTER_AREA)
    return gray, np.array([width / gray.shape[1], height / gray.shape[0]])


def _detect(gray: np.ndarray, config: SiftConfig) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints [M, 5] (x, y, diameter, angle, response) and SIFT [M, 128]; M may pass max_features where responses tie."""
    sift = _opencv().SIFT_create(
        config.max_features,
        LAYERS_PER_OCTAVE,
        config.contrast_threshold,
        EDGE_RATIO,
        SIGMA_PX,
        enable_precise_upscale=True,  # without it every keypoint lies 0.25 pixels off (opencv issue 23123)
    )
    keypoints, descriptors = sift.detectAndCompute(gray, None)
    places = [
        (*keypoint.pt, keypoint.size, keypoint.angle, keypoint.response) for keypoint in keypoints
    ]
    return np.reshape(places, (-1, 5)), np.zeros(
        (0, DIMENSION), np.float32
    ) if descriptors is None else descriptors


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise ValueError("RootSIFT needs OpenCV: pip install -e '.[geometry]'") from None
    return cv2
