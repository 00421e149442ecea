"""Define the settings of DELF's local features."""

from __future__ import annotations

from dataclasses import dataclass

from delf_ext.config import require


@dataclass(frozen=True)
class DelfConfig:
    """Settings of DELF local features: which cells of which image pyramid become keypoints.

    Attributes:
        layer: end point of the trunk, such as "block3"; "" = the default one of the trunk.
        longer_side_px: longer side of an image at scale 1; a smaller image keeps its own size.
        scales: sizes of the pyramid's levels relative to scale 1.
        rotations_deg: counter-clockwise rotations of the image; features are extracted from each.
        max_features: most keypoints to keep of one rotation.
        nms_iou: drop the weaker of two cells that overlap by more (intersection over union).
        min_texture: smallest standard deviation of gray (0..255) in the middle of a cell. Cells on
            a plain background are dropped: they look alike everywhere, and the padding makes
            their descriptors depend on the distance to the border.
    """

    layer: str = ""
    longer_side_px: int = 640
    scales: tuple[float, ...] = (0.3536, 0.5, 0.7071, 1.0, 1.4142)
    rotations_deg: tuple[float, ...] = (0.0,)
    max_features: int = 1000
    nms_iou: float = 1.0
    min_texture: float = 3.0

    def __post_init__(self) -> None:
        require(
            self.max_features >= 1,
            f"--max_features must be at least 1. Received {self.max_features}.",
        )
        require(
            self.longer_side_px >= 32,
            f"--local_image_size must be at least 32 pixels. Received {self.longer_side_px}.",
        )
        require(
            bool(self.scales) and all(0 < scale <= 8 for scale in self.scales),
            f"--local_scales must be above 0 and at most 8, one or more. Received {self.scales}.",
        )
        require(
            bool(self.rotations_deg), "--local_rotations must name at least one turn, such as 0."
        )
        require(
            0 < self.nms_iou <= 1, f"nms_iou must be above 0, at most 1. Received {self.nms_iou}."
        )
