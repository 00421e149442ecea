"""The systems that a verb may be asked to use: run directories, a pretrained trunk as it is, an ONNX model."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
from pathlib import Path
from typing import Any

from data_io.artifacts import digest_of, read_json
from data_io.datasets import list_images, load_dataset
from data_io.records import ImageList
from delf_ext.config import RunConfig, UsageError
from delf_ext.verbs.data import cache_folder, resolve_data
from delf_ext.verbs.weights import resolve_layout

System = tuple[Any, RunConfig | None]  # an embedder; the configuration where it is one of our own networks


def systems_of(flags: Any) -> list[System]:
    """--onnx_model, --pretrained_model, --runs and --run_dir, untrained ones first: they are what training has to beat.

    Raises: ValueError when none is given, or one is not usable.
    """
    run_dirs = [*flags.runs, *([flags.run_dir] if flags.run_dir else [])]
    if not (run_dirs or flags.pretrained_model or flags.onnx_model):
        raise UsageError(
            "which model? Pass --run_dir=RUN, --pretrained_model=CHECKPOINT for the trunk as it is, or --onnx_model=FILE.onnx."
        )
    if flags.runtime in ("tensorflow", "openvino-int8") and flags.onnx_model:
        raise UsageError(f"--runtime={flags.runtime} does not run --onnx_model: pass openvino or onnxruntime, or leave it out.")
    if flags.runtime == "onnxruntime" and (run_dirs or flags.pretrained_model):
        raise UsageError("--runtime=onnxruntime runs --onnx_model; for runs and checkpoints pass openvino, or leave it out.")
    from delf_ext.models.precision import set_mixed_precision

    bfloat16 = set_mixed_precision(flags.mixed_precision) == "bfloat16"
    onnx = [_onnx(flags, bfloat16)] if flags.onnx_model else []
    ours = [_zero_shot(flags)] if flags.pretrained_model else []
    ours += [load_run(Path(run_dir)) for run_dir in run_dirs]
    return [*onnx, *((_for_inference(flags, model, bfloat16), config) for model, config in ours)]


def one_system(flags: Any) -> System:
    """For the verbs that use a single model. Without --batch_size the flag gets the batch that is fastest on this machine.

    Raises: ValueError when none or several are given.
    """
    (model, config), *more = systems_of(flags)
    if more:
        raise UsageError(
            "this verb uses one model: pass one of --run_dir, --pretrained_model and --onnx_model; `compare` takes several."
        )
    return (model if flags["batch_size"].present else _calibrated(flags, model)), config


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


def _onnx(flags: Any, bfloat16: bool) -> System:
    from delf_ext.features.fast_runtime import installed_runtime
    from delf_ext.features.onnx_model import onnx_embedder

    runtime = installed_runtime() if flags.runtime == "auto" else flags.runtime
    return onnx_embedder(flags.onnx_model, runtime, bfloat16), None


def _for_inference(flags: Any, model: Any, bfloat16: bool) -> Any:
    """The Keras baseline stays as it is: it is measured as it was."""
    from delf_ext.features.embedders import Embedder, folded, in_openvino
    from delf_ext.features.quantization import in_openvino_int8

    if not isinstance(model, Embedder):
        return model
    graphs = cache_folder() / "graphs"
    if flags.runtime == "openvino-int8":
        return in_openvino_int8(model, _photographs(flags), graphs)
    return in_openvino(model, graphs, bfloat16) if flags.runtime == "openvino" else folded(model)


def _photographs(flags: Any) -> ImageList:
    """Of the data that the verb works on, those that are searched in: the gallery, or all of a plain folder."""
    path = resolve_data(flags)
    try:
        data = load_dataset(path, flags.query_split)
    except ValueError:
        return list_images(path)
    return data.gallery if len(data.gallery) else data.train


def _calibrated(flags: Any, model: Any) -> Any:
    """The model on its best number of threads; sets --batch_size. A --time_budget is not spent on trying."""
    from delf_ext.features.calibration import calibrate, settled, stored_setting
    from delf_ext.features.embedders import Embedder

    if not isinstance(model, Embedder):
        return model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    what = [platform.node(), platform.machine(), cores, flags.runtime, flags.mixed_precision, model.image_size, model.speed_key]
    path = cache_folder() / "calibration" / f"{digest_of(what)}.json"
    if math.isfinite(flags.time_budget) and stored_setting(path) is None:
        return model
    with_threads, threads = model.with_threads, dict.fromkeys((cores, max(1, cores // 2)))
    setting, measured = settled(
        path, lambda: calibrate(with_threads or (lambda _: model.embed), model.image_size, list(threads) if with_threads else [0])
    )
    on = f" on {setting.threads} thread{'s' * (setting.threads > 1)}" if setting.threads else ""
    when = "measured now" if measured else "measured before"
    print(f"batches of {setting.batch_size}{on}: {setting.images_per_s:.1f} images/s ({when}; --batch_size overrides; {path})")
    flags.batch_size = setting.batch_size
    return dataclasses.replace(model, embed=with_threads(setting.threads)) if with_threads else model
