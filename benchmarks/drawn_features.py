"""Draw local features and matches for benchmarks/verify.py."""

from __future__ import annotations

import numpy as np

from data_io.records import ImageKeypoints
from delf_ext.geometry.transforms import apply

SIZE_PX = (1024, 768)
NUM_FEATURES = 1000
NUM_MATCHES = 300
# Standard deviation of the position of correct matches.
NOISE_PX = 1.0


def draw_features(num_images: int, num_dims: int, rng: np.random.Generator) -> list[ImageKeypoints]:
    """Draw the local features of images that show different objects with similar parts."""
    centres = rng.standard_normal((300, num_dims))
    images = []
    for _ in range(num_images):
        descriptors = centres[rng.integers(300, size=NUM_FEATURES)]
        descriptors += 0.5 * rng.standard_normal((NUM_FEATURES, num_dims))
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        keypoints_px = rng.uniform(0, SIZE_PX, (NUM_FEATURES, 2))
        ones = np.ones(NUM_FEATURES)
        images.append(ImageKeypoints(keypoints_px, ones, ones, descriptors, SIZE_PX))
    return images


def rotation(angle_rad: float) -> np.ndarray:
    """Return a rotation float64 [2, 2]."""
    cos = np.cos(angle_rad)
    sin = np.sin(angle_rad)
    return np.array([[cos, -sin], [sin, cos]])


def draw_transform(model: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a transform around the centre of the image.

    It has any rotation, a scale of 0.5 to 2 and an anisotropy of up to 1.8; a homography also has a
    perspective.

    Args:
        model: "affine" or "homography".
        rng: source of the randomness.

    Returns:
        float64 [3, 3].
    """
    angle_rad = rng.uniform(-np.pi, np.pi)
    axis_rad = rng.uniform(0, np.pi)
    scale = 2 ** rng.uniform(-1, 1)
    stretch = 1.8 ** rng.uniform()
    axis = rotation(axis_rad)
    anisotropy = axis @ np.diag([stretch**0.5, stretch**-0.5]) @ axis.T
    transform = np.eye(3)
    transform[:2, :2] = scale * rotation(angle_rad) @ anisotropy
    if model == "homography":
        transform[2, :2] = rng.uniform(-3e-4, 3e-4, 2)
    centre = np.eye(3)
    centre[:2, 2] = np.array(SIZE_PX) / 2
    return centre @ transform @ np.linalg.inv(centre)


def draw_matches(
    model: str, outliers: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw matches that agree on a transform, and some that do not.

    Args:
        model: "affine" or "homography".
        outliers: share of wrong matches.
        rng: draws.

    Returns:
        Points in query and gallery, float32 [300, 2] each.
    """
    num_inside = 0
    while num_inside < NUM_MATCHES:
        transform = draw_transform(model, rng)
        query = rng.uniform(0, SIZE_PX, (6000, 2))
        gallery = apply(transform, query)
        is_inside = (gallery >= 0).all(1) & (gallery <= SIZE_PX).all(1)
        num_inside = is_inside.sum()
    query = query[is_inside][:NUM_MATCHES]
    gallery = gallery[is_inside][:NUM_MATCHES] + rng.normal(0, NOISE_PX, (NUM_MATCHES, 2))
    wrong = rng.permutation(NUM_MATCHES)[: round(NUM_MATCHES * outliers)]
    gallery[wrong] = rng.uniform(0, SIZE_PX, (len(wrong), 2))
    return query.astype(np.float32), gallery.astype(np.float32)
