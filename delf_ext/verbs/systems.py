"""The systems that a verb may be asked to use: run directories, and a pretrained trunk as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.artifacts import read_json
from delf_ext.config import RunConfig, UsageError
from delf_ext.verbs.weights import resolve_layout

System = tuple[Any, RunConfig | None]  # an embedder; the configuration where it is one of our own networks


def systems_of(flags: Any) -> list[System]:
    """--runs, --run_dir and --pretrained_model, in this order, zero-shot trunk first: it is what training has to beat.

    Raises: ValueError when none is given, or one is not usable.
    """
    from delf_ext.models.precision import set_mixed_precision

    set_mixed_precision(flags.mixed_precision)
    run_dirs = [*flags.runs, *([flags.run_dir] if flags.run_dir else [])]
    zero_shot = [_zero_shot(flags)] if flags.pretrained_model else []
    if not run_dirs and not zero_shot:
        raise UsageError("which model? Pass --run_dir=RUN, or --pretrained_model=CHECKPOINT for the trunk as it is.")
    return [*zero_shot, *(load_run(Path(run_dir)) for run_dir in run_dirs)]


def one_system(flags: Any) -> System:
    """For the verbs that use a single model. Raises: ValueError when none or several are given."""
    system, *more = systems_of(flags)
    if more:
        raise UsageError("this verb uses one model: pass either --run_dir or --pretrained_model; `compare` takes several.")
    return system


def load_run(run_dir: Path) -> System:
    """The embedder of a run directory, ours or the Keras baseline's.

    Raises: ValueError naming what is missing in a directory that holds no usable run.
    """
    if read_json(run_dir / "config.json").get("system") == "keras_baseline":
        from baseline_keras.features import load_embedder

        return load_embedder(run_dir), None
    from delf_ext.features.embedders import read_run_config, run_embedder

    return run_embedder(run_dir), read_run_config(run_dir)


def _zero_shot(flags: Any) -> System:
    """Prints what was loaded of the checkpoint."""
    from delf_ext.features.embedders import zero_shot_embedder

    layout = resolve_layout(flags.pretrained_model, flags.layout, flags.resnet_type)
    embedder, report = zero_shot_embedder(flags.pretrained_model, flags.resnet_type, layout, flags.pooling, flags.image_size)
    print(report)
    return embedder, None
