"""Settings from plain data: what they refuse and how."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from delf_ext.config import DelfConfig, UsageError, strict


@dataclass(frozen=True)
class Inner:
    size: int = 3
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    seed: int = 0
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1, "dropout": 2}, "unknown key dropout, sed in Outer. Known: inner, seed."),
        ({"inner": {"sizes": 1}}, "unknown key sizes in Inner. Known: names, size."),
        ({"inner": 3}, "Inner must be a mapping with some of: names, size. Received 3."),
        ([], "Outer must be a mapping with some of: inner, seed. Received []."),
    ],
)
def test_unknown_keys_are_named_with_the_known_ones(values: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        strict(Outer, values)
    assert str(caught.value) == message


def test_sections_are_read_and_what_is_missing_has_its_default() -> None:
    assert strict(Outer, {}) == Outer()
    assert strict(Outer, {"seed": 2, "inner": {"size": 5}}) == Outer(2, Inner(5))


def test_settings_come_back_from_json_as_they_went() -> None:
    config = DelfConfig(layer="block2", scales=(0.5, 1.0), rotations_deg=(0.0, 90.0))
    again = strict(DelfConfig, json.loads(json.dumps(dataclasses.asdict(config))))
    assert again == config and hash(again) == hash(config)


# --- DELF

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
def test_bad_values_are_refused_by_flag(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert str(caught.value) == message


def test_the_values_at_the_borders_are_taken() -> None:
    config = DelfConfig(max_features=1, longer_side_px=32, scales=(8.0,), nms_iou=1.0)
    assert config.scales == (8.0,)


def test_lists_become_tuples_and_settings_are_frozen() -> None:
    config = DelfConfig(scales=[1.0], rotations_deg=[0.0, 90.0])  # type: ignore[arg-type]
    assert (config.scales, config.rotations_deg) == ((1.0,), (0.0, 90.0))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.layer = "block4"  # type: ignore[misc]
