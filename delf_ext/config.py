"""Settings that refuse unknown keys and bad values, and the error that says so."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

Section = TypeVar("Section")


class UsageError(ValueError):
    """Flags or settings that do not fit together, as opposed to data that cannot be used."""


def strict(kind: type[Section], values: dict[str, Any]) -> Section:
    """A dataclass from plain data, sections within sections.

    Raises: ValueError naming unknown keys and the known ones, or a section that is none.
    """
    types = get_type_hints(kind)
    if not isinstance(values, dict):
        raise ValueError(
            f"{kind.__name__} must be a mapping with some of: {', '.join(sorted(types))}. Received {values!r}."
        )
    unknown = sorted(set(values) - set(types))
    if unknown:
        raise ValueError(
            f"unknown key {', '.join(unknown)} in {kind.__name__}. Known: {', '.join(sorted(types))}."
        )
    nested = {
        name: strict(types[name], value) if dataclasses.is_dataclass(types[name]) else value
        for name, value in values.items()
    }
    return kind(**nested)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise UsageError(message)


@dataclass(frozen=True)
class DelfConfig:
    """DELF local features: which cells of which pyramid, and how many of them.

    layer: the end point of the trunk. longer_side_px: of the photograph at scale 1. rotations_deg: turns of the photograph,
    counter-clockwise; each keeps max_features of its own. nms_iou: overlap from which the weaker of two cells is dropped.
    min_texture: standard deviation of gray, of 255, in the middle of a cell: a plain background looks alike everywhere, and
    knows by the padding how far the border is.
    """

    layer: str = "block3"
    longer_side_px: int = 640
    scales: tuple[float, ...] = (0.3536, 0.5, 0.7071, 1.0, 1.4142)
    rotations_deg: tuple[float, ...] = (0.0,)
    max_features: int = 1000
    nms_iou: float = 1.0
    min_texture: float = 3.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", tuple(self.scales))
        object.__setattr__(self, "rotations_deg", tuple(self.rotations_deg))
        _require(
            self.max_features >= 1,
            f"--max_features must be at least 1. Received {self.max_features}.",
        )
        _require(
            self.longer_side_px >= 32,
            f"--local_image_size must be at least 32 pixels. Received {self.longer_side_px}.",
        )
        _require(
            bool(self.scales) and all(0 < scale <= 8 for scale in self.scales),
            f"--local_scales must be above 0 and at most 8, one or more. Received {self.scales}.",
        )
        _require(
            bool(self.rotations_deg), "--local_rotations must name at least one turn, such as 0."
        )
        _require(
            0 < self.nms_iou <= 1, f"nms_iou must be above 0, at most 1. Received {self.nms_iou}."
        )
