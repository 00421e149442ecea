"""Settings of a training run that are not part of its recipe."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from delf_ext.recipes.part import AtLeast1, Count, Seed, coerced
from delf_ext.runs.records import Run

NUMBERS = {"seed": Seed, "checkpoint_every_steps": AtLeast1, "max_images": Count}
"""Name of a field -> type and allowed values of its number."""


@dataclass(frozen=True)
class Settings:
    """Settings of a training run beside its recipe.

    Attributes:
        seed: seed of every random choice.
        deterministic: whether two runs give the same bits; slower.
        mixed_precision: "auto", "off" or "bfloat16".
        checkpoint_every_steps: steps between two checkpoints.
        max_images: train on the first images only; 0 = all.
        pixel_cache: folder that stores decoded images for later epochs; "" = no cache.
    """

    seed: int = 0
    deterministic: bool = False
    mixed_precision: str = "auto"
    checkpoint_every_steps: int = 50
    max_images: int = 0
    pixel_cache: str = ""

    def __post_init__(self) -> None:
        for name, kind in NUMBERS.items():
            coerced(getattr(self, name), kind, name)


DEFAULT_SETTINGS = Settings()


def settings_of(run: Run) -> Settings:
    """Return the settings that a run was trained with."""
    names = {field.name for field in dataclasses.fields(Settings)}
    return Settings(**{name: value for name, value in run.facts.settings.items() if name in names})
