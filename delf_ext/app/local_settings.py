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

USUAL_DIMS = 128


# DELF's cells overlap, so that the second nearest is often the same part of the same thing: no ratio test. And they are coarse.
VERIFY = {
    "delf": VerifyConfig(MatchConfig(max_ratio=1.0), max_error_fraction=0.02, accepted_from=23),
    "sift": VerifyConfig(MatchConfig(max_ratio=0.9), accepted_from=12),
}


@dataclass(frozen=True)
class LocalSettings:
    """Which local features, and how pairs of photographs are verified with them.

    kinds: "delf", "sift" or both. model: DELF's trunk, a run directory or a checkpoint. trunk: name and layout of a
    checkpoint's trunk. delf: its pyramid; delf.rotations_deg are the turns of a query. descriptor_dim: dimensions kept
    by PCA; 0 = 128, or what `whitening` keeps. descriptor_type: "float16" or "int8". whitening: a file made by
    `whiten`; "" takes the model's, else one is learned. overwrite: replace what other settings made.
    geometry_model: "similarity", "affine" or "homography". min_inliers: matches that agree, from which a pair is
    accepted; 0 = 23 for DELF, 12 for SIFT. order_by: "inliers" or "combined".
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
            raise UsageError(f"--min_inliers must not be negative. Received {self.min_inliers}.")

    @property
    def geometric(self) -> GeometricConfig:
        """How pairs are verified and ordered."""
        return GeometricConfig(
            order=self.order_by, verify=tuple(self._verify(kind) for kind in self.kinds)
        )

    def _verify(self, kind: str) -> VerifyConfig:
        usual = VERIFY[kind]
        ransac = RansacConfig(model=self.geometry_model, seed=self.seed)
        return dataclasses.replace(
            usual, ransac=ransac, accepted_from=self.min_inliers or usual.accepted_from
        )
