"""Define the records of a run: its kind, its recipe, and how it was made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_io.datasets.layouts import AUTO

# Format 1 had config.json instead of recipe.json: see upgrade.py.
FORMAT = 2
RECIPE = "recipe.json"
FACTS = "facts.json"
PROJECTION = "projection.npz"
MEMBER_WEIGHTS = "weights.json"


@dataclass(frozen=True)
class Facts:
    """How a run was made, apart from its recipe.

    Attributes:
        data: path or name of the data set.
        data_layout: how it was read: a name of `data_io.datasets.layouts`.
        data_digest: digest of the contents of the training images.
        class_names: names of the classes, in the order of the logits.
        held_out: class names or image ids of the dev split.
        weights: path of the checkpoint that the trunk started from; "" for random weights.
        settings: seed, precision and other settings.
        flags: flags of the training command that were passed; empty if it was no command.
        infer: flags that a later NSML submission uses, passed to the training command.
        history: one line for each start of the run.
        versions: package -> version.
        commit: commit of this project; "" outside a clone.
    """

    data: str = ""
    data_layout: str = AUTO
    data_digest: str = ""
    class_names: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    weights: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, Any] = field(default_factory=dict)
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
        for name in ("settings", "flags", "infer", "versions"):
            if not isinstance(getattr(self, name), dict):
                raise ValueError(f"{name} must be an object. Received {getattr(self, name)!r}.")

    @property
    def seed(self) -> int:
        """Seed of the random choices."""
        return int(self.settings.get("seed", 0))


@dataclass(frozen=True)
class Run:
    """A run directory that was read.

    Attributes:
        path: the run directory.
        kind: "recipe", "ensemble", or another system.
        recipe: plain JSON data that recipe.json holds for this kind.
        facts: how the run was made.
        is_old: an earlier version made the run, so `upgrade` read it.
    """

    path: Path
    kind: str
    recipe: Any
    facts: Facts
    is_old: bool = False

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoint"

    @property
    def features(self) -> Path:
        """Folder of the stored embeddings."""
        return self.path / "features"
