"""Choose the local features, and how pairs of images are verified with them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from delf_ext.config import UsageError
from delf_ext.features.local.delf_config import DelfConfig
from delf_ext.geometry.matching import MatchConfig
from delf_ext.geometry.ransac import RansacConfig
from delf_ext.geometry.verification import VerifyConfig
from delf_ext.recipes import schema
from delf_ext.reranking.geometric import GeometricConfig

DEFAULT_DIM = 128
"""Dimensions of DELF descriptors after PCA and whitening, if the layer has as many."""

# DELF has no ratio test: its cells overlap, so the two nearest descriptors often show the same part
# of the same object. Its keypoints are coarse, so the allowed error is larger.
VERIFY = {
    "delf": VerifyConfig(MatchConfig(max_ratio=1.0), max_error_fraction=0.02, accepted_from=23),
    "sift": VerifyConfig(MatchConfig(max_ratio=0.9), accepted_from=12),
}


@dataclass(frozen=True)
class LocalSettings:
    """Which local features to extract, and how pairs of images are verified with them.

    Attributes:
        kinds: "delf", "sift" or both.
        model: trunk of DELF: a run directory or a checkpoint.
        trunk: name and layout of the trunk, if `model` is a checkpoint.
        delf: layer, image pyramid and number of features; its `rotations_deg` are for queries.
        descriptor_dim: dimensions kept by PCA; 0 = 128, or the width of the layer if it is less, or
            those of the file `whitening`.
        descriptor_type: "float16" or "int8".
        whitening: file made by `whiten`; "" = the one of the model, else one is learned.
        overwrite: replace files that were made with other settings.
        geometry_model: "similarity", "affine" or "homography".
        min_inliers: minimum RANSAC inliers to accept a pair; 0 = 23 for DELF, 12 for SIFT.
        order_by: "inliers" or "combined".
        seed: seed of RANSAC and of the images that a whitening is learned on.
        mixed_precision: "auto", "off" or "bfloat16".
    """

    kinds: tuple[str, ...] = ("delf",)
    model: str = ""
    trunk: schema.Trunk = schema.Trunk()
    delf: DelfConfig = DelfConfig(rotations_deg=(0.0, 90.0, 180.0, 270.0))
    descriptor_dim: int = 0
    descriptor_type: str = "float16"
    whitening: str = ""
    overwrite: bool = False
    geometry_model: str = "affine"
    min_inliers: int = 0
    order_by: str = "inliers"
    seed: int = 0
    mixed_precision: str = "auto"

    def __post_init__(self) -> None:
        if self.min_inliers < 0:
            raise UsageError(f"min_inliers must not be negative. Received {self.min_inliers}.")

    def dim_of(self, width: int) -> int:
        """Return the dimensions of a descriptor after PCA, of a layer with `width` channels."""
        return self.descriptor_dim or min(DEFAULT_DIM, width)

    @property
    def geometric(self) -> GeometricConfig:
        """Configuration of geometric verification."""
        verify = tuple(self._verify_config(kind) for kind in self.kinds)
        return GeometricConfig(order=self.order_by, verify=verify)

    def _verify_config(self, kind: str) -> VerifyConfig:
        config = VERIFY[kind]
        return dataclasses.replace(
            config,
            ransac=RansacConfig(model=self.geometry_model, seed=self.seed),
            accepted_from=self.min_inliers or config.accepted_from,
        )
