"""Check the sizes of a drawn data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any


def require_sizes(config: Any, at_least_1: Sequence[str]) -> None:
    """Raise ValueError if a number of a config is wrong.

    Args:
        config: a dataclass with `image_size_px` and `seed`; its fields that are not annotated as
            float are whole numbers.
        at_least_1: names of the fields that must be at least 1.

    Raises:
        ValueError: the message names the field.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if field.type != "float" and not is_whole:
            raise ValueError(f"{field.name} must be a whole number. Received {value!r}.")
    for name in at_least_1:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1. Received {getattr(config, name)}.")
    if not 32 <= config.image_size_px <= 2048:
        raise ValueError(f"image_size_px must be in 32..2048. Received {config.image_size_px}.")
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"seed must be in 0..2**32-1. Received {config.seed}.")
