"""Test how strict builds settings from plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from delf_ext.config import strict


@dataclass(frozen=True)
class Settings:
    seed: int = 0
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1, "dropout": 2}, "unknown key dropout, sed in Settings. Known: names, seed."),
        ([], "Settings must be a mapping with some of: names, seed. Received []."),
    ],
)
def test_strict_refuses_unknown_keys_and_lists_the_known_ones(values: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        strict(Settings, values)
    assert str(caught.value) == message


def test_strict_gives_missing_fields_their_defaults() -> None:
    assert strict(Settings, {}) == Settings()
    assert strict(Settings, {"seed": 2}) == Settings(2)
