"""What a model can be opened from: a run, a checkpoint, an ONNX file, or several of these. Plain, picklable records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from delf_ext.config import UsageError, require
from delf_ext.recipes import schema

POOLINGS: dict[str, schema.Pool] = {
    "avg": schema.Average(),
    "gem": schema.Gem(),
    "attention": schema.FeatureNorm(),
}
"""The poolings of an untrained trunk, by the value of --pooling."""
RUNTIMES = ("auto", "tensorflow", "openvino", "openvino-int8", "onnxruntime")


@dataclass(frozen=True)
class RunSource:
    """A run directory, of any system."""

    path: str


@dataclass(frozen=True)
class CheckpointSource:
    """Pretrained weights as they are: a trunk, its end point and a pooling; nothing is trained.

    path: of a TensorFlow checkpoint, V1 or V2. size_px: side of the photographs.
    """

    path: str
    trunk: schema.Trunk = schema.Trunk()
    pool: schema.Pool = schema.Average()
    size_px: int = 224


@dataclass(frozen=True)
class OnnxSource:
    """FILE.onnx, with FILE.onnx.json beside it, which says how it wants its photographs."""

    path: str


@dataclass(frozen=True)
class EnsembleSource:
    """Several models whose embeddings are joined. ranking: a chain of re-rankers."""

    members: tuple[ModelSource, ...]
    join: schema.Join = schema.Concatenate()
    name: str = "ensemble"
    ranking: str = ""


ModelSource = RunSource | CheckpointSource | OnnxSource | EnsembleSource


@dataclass(frozen=True)
class Runtime:
    """What computes embeddings. name: one of RUNTIMES. mixed_precision: "auto", "off" or "bfloat16"."""

    name: str = "auto"
    mixed_precision: str = "auto"


def require_runtime(source: ModelSource, runtime: Runtime) -> None:
    """Raise `UsageError` unless the runtime is known and runs models of this kind."""
    name = runtime.name
    require(name in RUNTIMES, f"--runtime must be one of {', '.join(RUNTIMES)}. Received {name!r}.")
    require(
        not (isinstance(source, OnnxSource) and name in ("tensorflow", "openvino-int8")),
        f"--runtime={name} does not run --onnx_model: "
        "pass openvino or onnxruntime, or leave it out.",
    )
    require(
        not (isinstance(source, RunSource | CheckpointSource) and name == "onnxruntime"),
        "--runtime=onnxruntime runs --onnx_model; "
        "for runs and checkpoints pass openvino, or leave it out.",
    )


def source_of(path: str | Path) -> ModelSource:
    """Return the source that a path means: a directory is a run, FILE.onnx an ONNX network, else a checkpoint.

    Raises: UsageError when nothing is there.
    """
    place = Path(path)
    if place.is_dir():
        return RunSource(str(path))
    if place.suffix == ".onnx":
        return OnnxSource(str(path))
    prefix = Path(str(path).removesuffix(".index"))
    if place.is_file() or Path(f"{prefix}.index").is_file():
        return CheckpointSource(str(prefix))
    raise UsageError(f"{path}: no run directory, checkpoint or ONNX file there.")
