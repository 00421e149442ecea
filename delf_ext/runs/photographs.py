"""Write and read `photographs.json`: which photographs a run was trained on and held back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from data_io.files.artifacts import read_json, write_json
from data_io.photographs import Digests, Photographs

PHOTOGRAPHS = "photographs.json"
FORMAT = 1


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
        sides = [_digests(stored.get(name, {})) for name in ("trained", "held_out", "before")]
        photographs = Photographs(*sides)
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
