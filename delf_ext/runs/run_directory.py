"""A run directory: `recipe.json`, `facts.json`, `checkpoint/`, `metrics/NAME.json`, `features/`.

Imports no TensorFlow. The official baseline writes and reads this format too.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from data_io.artifacts import digest_of, read_json, write_json
from delf_ext.config import strict
from delf_ext.runs.records import FACTS, FORMAT, RECIPE, Facts, Run
from delf_ext.runs.upgrade import upgrade

NO_RUN = "Pass the directory of a trained run, or train it first."
PACKAGES = ("tensorflow", "tf-slim", "tensorflow-addons", "numpy", "pillow")


def is_run(path: Path) -> bool:
    """Return whether the directory holds a run, of this or an earlier version, or the beginning of one."""
    return any((path / name).exists() for name in (RECIPE, "config.json", "checkpoint"))


def write_run(path: Path, kind: str, recipe: Any, facts: Facts) -> Run:
    """Write recipe.json and facts.json. recipe: plain JSON data. From then on the directory is a run."""
    write_json(path / FACTS, dataclasses.asdict(facts))
    write_json(path / RECIPE, {"format": FORMAT, "kind": kind, "recipe": recipe})
    return Run(path, kind, recipe, facts)


def read_run(path: str | Path) -> Run:
    """Read the run in a directory, of this or an earlier version.

    Raises:
        ValueError: in one line, when there is no run, a file is damaged, or a newer version made it.
    """
    path = Path(path)
    if not (path / RECIPE).exists() and (path / "config.json").exists():
        return upgrade(path)
    if not (path / RECIPE).exists():
        raise ValueError(f"{path / RECIPE}: not found. {NO_RUN}")
    stored = read_json(path / RECIPE)
    if not isinstance(stored, dict) or set(stored) != {"format", "kind", "recipe"}:
        raise ValueError(
            f"{path / RECIPE}: not a run's recipe: it must hold format, kind and recipe."
        )
    if stored["format"] != FORMAT:
        raise ValueError(
            f"{path}: was made by another version of mandoo (format {stored['format']}; this one reads {FORMAT}). Update mandoo."
        )
    return Run(path, str(stored["kind"]), stored["recipe"], read_facts(path))


def read_facts(path: Path) -> Facts:
    """Read facts.json. Raises: ValueError naming the file."""
    try:
        return strict(Facts, read_json(path / FACTS))
    except (TypeError, ValueError) as error:
        reason = str(error).removeprefix(f"{path / FACTS}: ")
        raise ValueError(f"{path / FACTS}: not a run's facts ({reason}).") from None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide what a run computes."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the commit of this code, "" outside a clone."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def checkpoint_digest(path: Path) -> str:
    """Return the digest of a checkpoint's files, given its path prefix, without reading them as weights.

    Raises: ValueError when there is no such checkpoint.
    """
    files = [path] if path.is_file() else sorted(path.parent.glob(f"{glob.escape(path.name)}.*"))
    files = [file for file in files if file.is_file() and file.suffix != ".json"]
    if not files:
        raise ValueError(f"{path}: no such checkpoint.")
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:24]


def result_name(data_name: str, contents: list[str], method: str = "") -> str:
    """Return the name under which the result on one data set is kept, such as "grocery-3f2a91" or "...-aqe-5".

    data_name: of the data set. contents: of its photographs, by digest, so that two data sets of one name stay apart.
    """
    text = "-".join([data_name, digest_of(contents)[:6], *([method] if method else [])])
    return re.sub(r"[^\w.@-]+", "-", text)


def jsonable(value: Any) -> Any:
    """Return `value` as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(value))
