"""Write and read `photographs.json`: which photographs a run was trained on and held back.

Photographs are known by the content of their file, so renamed and copied files are recognised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data_io.artifacts import digest_of, read_json, write_json
from data_io.contents import contents_of
from data_io.records import ImageList

PHOTOGRAPHS = "photographs.json"
FORMAT = 1

Digests = Mapping[str, tuple[str, ...]]
"""Class name -> content digest of each of its photographs, in the order of the data."""


@dataclass(frozen=True)
class Photographs:
    """The photographs of a run's data when the run was made; those it did not use are not listed.

    Attributes:
        trained: class name -> digests of the photographs that it is trained on.
        held_out: class name -> digests of the photographs that it held back for validation.
    """

    trained: Digests = field(default_factory=dict)
    held_out: Digests = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of the data: classes and contents; file names and their order do not count."""
        return digest_of(
            [
                sorted((name, sorted(digests)) for name, digests in side.items())
                for side in (self.trained, self.held_out)
            ]
        )


def digests_of(images: ImageList, class_names: Sequence[str]) -> Digests:
    """Return the photographs of a list by class.

    Args:
        images: labelled images.
        class_names: name of each label.

    Returns:
        Class name -> content digests, in the order of the list.
    """
    if not len(images):
        return {}
    digests: dict[str, list[str]] = {}
    labels = images.known_labels("a list of photographs").tolist()
    for label, content in zip(labels, contents_of(images.paths.tolist()), strict=True):
        digests.setdefault(class_names[label], []).append(content)
    return {name: tuple(contents) for name, contents in digests.items()}


def write_photographs(path: Path, photographs: Photographs) -> None:
    """Write photographs.json into a run directory."""
    values = {"format": FORMAT, "digest": photographs.digest, **asdict(photographs)}
    write_json(path / PHOTOGRAPHS, values)


def read_photographs(path: Path) -> Photographs | None:
    """Read photographs.json of a run directory.

    Args:
        path: the run directory.

    Returns:
        The photographs; None if the run does not list them (earlier versions did not).

    Raises:
        ValueError: the file is damaged.
    """
    file = path / PHOTOGRAPHS
    if not file.exists():
        return None
    try:
        stored = read_json(file)
        photographs = Photographs(_digests(stored["trained"]), _digests(stored["held_out"]))
        if stored["format"] != FORMAT or stored["digest"] != photographs.digest:
            raise ValueError("its digest does not fit")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file}: not the list of a run's photographs ({error}). "
            "Restore the file, or train again."
        ) from None
    return photographs


def _digests(stored: Mapping[str, list[str]]) -> Digests:
    return {name: tuple(map(str, digests)) for name, digests in stored.items()}
