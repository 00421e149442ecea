"""Check the settings of DELF: what they refuse, and how they are normalised."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from delf_ext.config import UsageError
from delf_ext.features.local.delf_config import DelfConfig

REFUSALS: list[tuple[Callable[[], object], str]] = [
    (lambda: DelfConfig(max_features=0), "--max_features must be at least 1. Received 0."),
    (
        lambda: DelfConfig(longer_side_px=31),
        "--local_image_size must be at least 32 pixels. Received 31.",
    ),
    (
        lambda: DelfConfig(scales=()),
        "--local_scales must be above 0 and at most 8, one or more. Received ().",
    ),
    (
        lambda: DelfConfig(scales=(1.0, 0.0)),
        "--local_scales must be above 0 and at most 8, one or more. Received (1.0, 0.0).",
    ),
    (
        lambda: DelfConfig(scales=(8.5,)),
        "--local_scales must be above 0 and at most 8, one or more. Received (8.5,).",
    ),
    (
        lambda: DelfConfig(rotations_deg=()),
        "--local_rotations must name at least one turn, such as 0.",
    ),
    (lambda: DelfConfig(nms_iou=0.0), "nms_iou must be above 0, at most 1. Received 0.0."),
    (lambda: DelfConfig(nms_iou=1.5), "nms_iou must be above 0, at most 1. Received 1.5."),
]


@pytest.mark.parametrize(
    ("make", "message"),
    REFUSALS,
    ids=[message[:40] for _, message in REFUSALS],
)
def test_bad_value_raises_usage_error_naming_the_flag(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert str(caught.value) == message


def test_values_at_the_limits_are_accepted() -> None:
    config = DelfConfig(max_features=1, longer_side_px=32, scales=(8.0,), nms_iou=1.0)
    assert config.scales == (8.0,)


def test_fields_are_frozen() -> None:
    config = DelfConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.layer = "block4"  # type: ignore[misc]
