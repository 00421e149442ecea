"""Find what has changed in the data of a run since it was made: its classes and photographs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from data_io.photographs import Digests, Photographs

NUM_SHOWN = 5


@dataclass(frozen=True)
class DataChanges:
    """Differences between the data of a run and the data now.

    Attributes:
        renamed: old class name -> new name; the class has the same photographs, or most of them.
        lost: classes that have no photograph any more.
        added: new class -> number of its photographs.
        photographs: new class name -> (photographs lost, photographs added), for other classes.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    added: Mapping[str, int] = field(default_factory=dict)
    photographs: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.renamed or self.lost or self.added or self.photographs)

    def __str__(self) -> str:
        parts = [f"class {old} is now named {new}" for old, new in self.renamed.items()]
        parts += [f"class {name} is lost" for name in self.lost]
        parts += [f"class {name} is new ({_images(num)})" for name, num in self.added.items()]
        parts += [_changed(name, *nums) for name, nums in self.photographs.items()]
        if len(parts) > NUM_SHOWN:
            parts[NUM_SHOWN:] = [f"and {len(parts) - NUM_SHOWN} more changes"]
        return "; ".join(parts)

    def new_name(self, name: str) -> str:
        """Return the name that a class of the run has now."""
        return self.renamed.get(name, name)


def _images(number: int) -> str:
    return f"{number} image" + "s" * (number != 1)


def _changed(name: str, num_lost: int, num_added: int) -> str:
    if num_lost == num_added:
        return f"class {name}: {_images(num_lost)} replaced"
    changes = [
        f"{_images(number)} {what}"
        for number, what in ((num_lost, "lost"), (num_added, "added"))
        if number
    ]
    return f"class {name}: {', '.join(changes)}"


def changes_between(before: Photographs, now: Digests) -> DataChanges:
    """Compare the photographs of a run with those of its data now, by content.

    Args:
        before: photographs that the run was trained on and held out.
        now: class name -> digests of its photographs.

    Returns:
        The changes; false if there is none. Names and places of files do not count.
    """
    old: dict[str, Counter[str]] = {}
    for side in (before.trained, before.held_out):
        for name, digests in side.items():
            old.setdefault(name, Counter()).update(digests)
    new = {name: Counter(digests) for name, digests in now.items() if digests}
    renamed = _renamed(old, new)
    kept = {new_name: old_name for old_name, new_name in renamed.items()}
    kept |= {name: name for name in old if name in new}
    photographs = {
        name: ((old[kept[name]] - new[name]).total(), (new[name] - old[kept[name]]).total())
        for name in new
        if name in kept and old[kept[name]] != new[name]
    }
    return DataChanges(
        renamed=renamed,
        lost=tuple(name for name in old if name not in kept.values()),
        added={name: digests.total() for name, digests in new.items() if name not in kept},
        photographs=photographs,
    )


def _renamed(old: Mapping[str, Counter[str]], new: Mapping[str, Counter[str]]) -> dict[str, str]:
    """Return old name -> new name of the classes that kept more than half of their photographs."""
    gone = [name for name in old if name not in new]
    added = [name for name in new if name not in old]
    renamed: dict[str, str] = {}
    for name in gone:
        for other in added:
            num_common = (old[name] & new[other]).total()
            is_same = 2 * num_common > max(old[name].total(), new[other].total())
            if is_same and other not in renamed.values():
                renamed[name] = other
                break
    return renamed
