"""Rank what could be used, on the data of the user."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from data_io.files.output_files import home_path
from data_io.messages import shown_path
from data_io.progress import say
from delf_ext.app.study import TrunkStudy, require_settings, study_trunks
from delf_ext.config import UsageError, require
from delf_ext.recipes.trunk_names import LITE, trunk_named
from delf_ext.runs.sources import CheckpointSource, Runtime
from delf_ext.verbs.data import load, name_of
from delf_ext.verbs.models import batch_size_of, trunk_of
from delf_ext.verbs.printing import write_figures


def run(flags: Any) -> None:
    """Print a table of untrained trunks, the best first, and the command that uses it.

    Raises:
        UsageError: naming the flag that is missing or does not fit.
    """
    if not flags.trunks or not flags.data:
        raise UsageError("study ranks trunks on your images: pass --trunks and --data.")
    sizes_px = sizes_of(flags.image_sizes)
    sources = sources_of(flags)
    runtime = Runtime(flags.runtime, flags.mixed_precision)
    require_settings(sources, flags.poolings, sizes_px, runtime)
    out = Path(flags.out) if flags.out else None
    data = load(flags)
    study = study_trunks(
        sources,
        data,
        poolings=flags.poolings,
        sizes_px=sizes_px,
        runtime=runtime,
        batch_size=batch_size_of(flags),
        seed=flags.seed,
        own_queries=flags["query_split"].present,
        folder=out,
        data_name=name_of(data, flags),
        log=say,
    )
    say(f"\n{study.table}")
    for name, reason in study.missing.items():
        say(f"{name}: not ranked: {reason}")
    if out is not None:
        draw(study, out)
    if flags.json:
        write_figures(flags.json, study.figures())
    say(f"\n{study.table.conclusion()} To use the best:\n  {command(study, flags)}")


def sizes_of(texts: list[str]) -> list[int]:
    """Return the sizes of --image_sizes; UsageError unless they are whole numbers."""
    sizes = [float(text) for text in texts]
    require(
        all(size.is_integer() for size in sizes),
        f"--image_sizes takes whole numbers of pixels. Received {','.join(texts)}.",
    )
    return [int(size) for size in sizes]


def sources_of(flags: Any) -> list[CheckpointSource]:
    """Return the trunks to rank: those of --pretrained_model, then those of the extra `lite`.

    Raises:
        UsageError: naming the flag that does not fit.
    """
    given = paths_of(flags.pretrained_model)
    checkpoints = [path for path in given if path not in LITE]
    for name in ("resnet_type", "layout"):
        require(
            bool(checkpoints) or not flags[name].present,
            f"--{name} describes a checkpoint: pass --pretrained_model=CHECKPOINT too.",
        )
    sources = [CheckpointSource(path, trunk_of(flags, path)) for path in checkpoints]
    return sources + [CheckpointSource(name, trunk_named(name)) for name in LITE]


def paths_of(text: str | None) -> list[str]:
    """Return the paths in --pretrained_model: one, or several separated by commas."""
    if not text:
        return []
    is_one = os.path.lexists(text) or os.path.lexists(f"{text}.index")
    paths = [text] if is_one else [home_path(path) for path in text.split(",") if path]
    return list(dict.fromkeys(paths))


def draw(study: TrunkStudy, out: Path) -> None:
    """Write a picture of the table into a folder, if matplotlib is installed."""
    from delf_ext.evaluation.trunk_picture import draw_trunks

    path = out / "trunks.png"
    try:
        draw_trunks(path, study.table)
    except ModuleNotFoundError:
        say('no picture: it needs matplotlib, pip install -e ".[viz]" in the clone')
        return
    say(f"picture: {shown_path(path)}")


def command(study: TrunkStudy, flags: Any) -> str:
    """Return the command that searches with the best row."""
    best = study.table.best
    path = study.sources[best.weights].path
    words = [
        *("mandoo search", f"--data={shlex.quote(flags.data)}", "--image=PHOTO.jpg"),
        f"--pretrained_model={shlex.quote(path)}",
        f"--pooling={best.pooling} --image_size={best.size_px}",
    ]
    of_checkpoint = () if path in LITE else ("resnet_type", "layout")
    names = (*of_checkpoint, "runtime", "mixed_precision")
    words += [f"--{name}={flags[name].value}" for name in names if flags[name].present]
    return " ".join(words)
