"""Write and read run directories.

A run directory holds `recipe.json`, `facts.json`, `checkpoint/`, `metrics/NAME.json` and
`features/`. The official baseline uses the same format. This module does not import TensorFlow.
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

from data_io.checkpoint_paths import require_checkpoint
from data_io.files.artifacts import digest_of, read_json, write_json
from data_io.files.output_files import expanded
from delf_ext.config import strict
from delf_ext.recipes.trunk_names import LITE
from delf_ext.runs.records import FACTS, FORMAT, RECIPE, Facts, Run
from delf_ext.runs.upgrade import upgrade
from pretrained.lite_weights import package_file

NO_RUN = "Pass the directory of a trained run, or train it first."
RESTORE = "Restore the file, or train again."
PACKAGES = ("tensorflow", "tf-slim", "tensorflow-addons", "numpy", "pillow")
"""Packages that decide what a run computes."""


def is_run(path: Path) -> bool:
    """Return whether a directory holds a run: a finished, an unfinished or an old one."""
    if any((path / name).exists() for name in (RECIPE, "config.json")):
        return True
    # A run that is killed before its recipe is written has at most its first state.
    folder = path / "checkpoint"
    first = (".", "last-0.", "last.json")
    return folder.is_dir() and any(not file.name.startswith(first) for file in folder.iterdir())


def write_run(path: Path, kind: str, recipe: Any, facts: Facts) -> Run:
    """Write recipe.json and facts.json, which make a directory a run.

    Args:
        path: the run directory; created if needed.
        kind: kind of the run: "recipe", "ensemble", or another system.
        recipe: plain JSON data.
        facts: how the run was made.

    Returns:
        The run.
    """
    write_json(path / FACTS, dataclasses.asdict(facts))
    write_json(path / RECIPE, {"format": FORMAT, "kind": kind, "recipe": recipe})
    return Run(path, kind, recipe, facts)


def read_run(path: str | Path) -> Run:
    """Read the run in a directory, also one of an earlier version.

    Args:
        path: the run directory.

    Returns:
        The run.

    Raises:
        ValueError: there is no run, a file is damaged, or a newer version made the run.
    """
    path = expanded(path)
    file = path / RECIPE
    if not file.exists():
        if (path / "config.json").exists():
            return upgrade(path)
        raise ValueError(f"{file}: not found. {NO_RUN}")
    stored = read_json(file)
    if not isinstance(stored, dict) or set(stored) != {"format", "kind", "recipe"}:
        raise ValueError(
            f"{file}: not the recipe of a run: it must hold format, kind and recipe. {RESTORE}"
        )
    if stored["format"] != FORMAT:
        raise ValueError(
            f"{path}: made by another version of mandoo (format {stored['format']}; "
            f"this one reads {FORMAT}). Update mandoo."
        )
    return Run(path, str(stored["kind"]), stored["recipe"], read_facts(path))


def read_facts(path: Path) -> Facts:
    """Read facts.json of a run directory.

    Args:
        path: the run directory.

    Returns:
        The facts.

    Raises:
        ValueError: the file is missing or damaged.
    """
    file = path / FACTS
    if not file.exists():
        raise ValueError(f"{file}: not found. {RESTORE}")
    try:
        return strict(Facts, read_json(file))
    except (TypeError, ValueError) as error:
        reason = str(error).removeprefix(f"{file}: ").removesuffix(".")
        raise ValueError(f"{file}: not the facts of a run ({reason}). {RESTORE}") from None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed PACKAGES."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return installed


def commit() -> str:
    """Return the commit of this clone, or "" outside a clone."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def checkpoint_digest(weights: str | Path) -> str:
    """Compute the digest of a checkpoint's files; the weights are not loaded.

    Args:
        weights: path prefix of a checkpoint, a checkpoint of one file, or the name of weights in a
            package.

    Returns:
        24 hex digits.

    Raises:
        ValueError: there is no such checkpoint.
    """
    path = package_file(str(weights)) if weights in LITE else Path(weights)
    if not path.is_file():
        require_checkpoint(path)
    files = [path] if path.is_file() else sorted(path.parent.glob(f"{glob.escape(path.name)}.*"))
    files = [file for file in files if file.is_file() and file.suffix != ".json"]
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:24]


def result_name(data_name: str, contents: list[str], method: str = "") -> str:
    """Return the file name of the result on one data set, such as "grocery-3f2a91-aqe-5".

    Args:
        data_name: name of the data set.
        contents: digests of its images, so that two data sets of one name have different results.
        method: name of the re-ranking chain; "" for none.

    Returns:
        A name without spaces and slashes.
    """
    parts = [data_name, digest_of(contents)[:6]]
    if method:
        parts.append(method)
    return re.sub(r"[^\w.@-]+", "-", "-".join(parts))


def jsonable(value: Any) -> Any:
    """Return `value` as JSON would return it: tuples become lists."""
    return json.loads(json.dumps(value))
