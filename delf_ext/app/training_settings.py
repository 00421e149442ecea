"""Settings of a training run that are not part of its recipe."""

from __future__ import annotations

from dataclasses import dataclass

from delf_ext.config import UsageError
from delf_ext.runs.records import Run


@dataclass(frozen=True)
class Settings:
    """How a run is made, beside its recipe.

    seed: of every random choice. deterministic: bit-equal runs, slower. mixed_precision: "auto", "off" or "bfloat16".
    checkpoint_every_steps: steps between two checkpoints. max_images: use so many training images; 0 = all.
    pixel_cache: folder that keeps decoded photographs for later epochs; "" keeps none.
    """

    seed: int = 0
    deterministic: bool = False
    mixed_precision: str = "auto"
    checkpoint_every_steps: int = 50
    max_images: int = 0
    pixel_cache: str = ""

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("checkpoint_every_steps", 1), ("max_images", 0)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"--{name} must be at least {least}. Received {getattr(self, name)}."
                )


USUAL = Settings()


def settings_of(run: Run) -> Settings:
    """Return how a run was made."""
    known = {
        name: value
        for name, value in run.facts.settings.items()
        if name in Settings.__dataclass_fields__
    }
    return Settings(**known)
