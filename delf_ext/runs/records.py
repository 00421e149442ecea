"""What has been read of a run directory: the run, and the facts of its making."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 2  # 1 had config.json: see upgrade.py
RECIPE, FACTS = "recipe.json", "facts.json"


@dataclass(frozen=True)
class Facts:
    """What a run was made with, apart from its recipe.

    data: path of the data set. data_digest: of its training images, by content. class_names: the classes in the order
    of the logits. held_out: class names or image ids of the validation split. weights: the checkpoint that the trunk
    started from. settings: seed, precision and the like. infer: flags of a later submission that came with the
    training command. history: one line for each time the run was started, forked or resumed.
    """

    data: str = ""
    data_digest: str = ""
    class_names: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    weights: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    infer: dict[str, Any] = field(default_factory=dict)
    history: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""

    def __post_init__(self) -> None:
        for name in ("class_names", "held_out", "history"):
            value = getattr(self, name)
            if not isinstance(value, (list, tuple)):
                raise ValueError(f"{name} must be a list. Received {value!r}.")
            object.__setattr__(self, name, tuple(value))
        for name in ("settings", "infer", "versions"):
            if not isinstance(getattr(self, name), dict):
                raise ValueError(f"{name} must be an object. Received {getattr(self, name)!r}.")

    @property
    def seed(self) -> int:
        return int(self.settings.get("seed", 0))


@dataclass(frozen=True)
class Run:
    """A run directory that has been read: its kind, what recipe.json holds for this kind, and its facts.

    is_old: made by an earlier version, and readable through `upgrade` alone.
    """

    path: Path
    kind: str
    recipe: Any
    facts: Facts
    is_old: bool = False

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoint"

    @property
    def features(self) -> Path:
        return self.path / "features"
