"""Define what `open_model` opens: a run, a checkpoint, an ONNX file, or an ensemble of these.

The records can be pickled, to send them to another process.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from data_io.checkpoint_paths import has_state_file
from data_io.files.output_files import expanded
from delf_ext.config import UsageError, require
from delf_ext.recipes import schema
from delf_ext.recipes.trunk_names import LITE, SIZE_PX, trunk_named
from delf_ext.runs.weights import known_trunk

POOLINGS: dict[str, schema.Pool] = {
    "avg": schema.Average(),
    "max": schema.Maximum(),
    "gem": schema.Gem(),
    "rmac": schema.Rmac(),
    "attention": schema.FeatureNorm(),
}
"""Value of --pooling -> pooling of a trunk that is used without training."""
RUNTIMES = ("auto", "tensorflow", "openvino", "openvino-int8", "onnxruntime")
DEFAULT_MODEL = "lite2"
"""Name of the weights that are used if no model is named."""


@dataclass(frozen=True)
class RunSource:
    """Run directory of any system.

    Attributes:
        path: the directory.
        reduced: apply the reduction of the recipe, if it is fitted.
    """

    path: str
    reduced: bool = True


@dataclass(frozen=True)
class CheckpointSource:
    """Pretrained trunk without further training.

    Attributes:
        path: path prefix of a TensorFlow checkpoint, V1 or V2; path of a state dict of PyTorch or
            of a file of Keras; or the name of weights in a package of the extra `lite`, such as
            "lite2".
        trunk: network and end point.
        pool: from feature map to embedding.
        size_px: side of the input images in pixels.
    """

    path: str
    trunk: schema.Trunk = schema.Trunk()
    pool: schema.Pool = schema.Average()
    size_px: int = 224


@dataclass(frozen=True)
class OnnxSource:
    """ONNX network; FILE.onnx.json beside it describes the input.

    Attributes:
        path: path of FILE.onnx.
    """

    path: str


@dataclass(frozen=True)
class EnsembleSource:
    """Several models whose embeddings are joined.

    Attributes:
        members: sources of the models.
        join: how the embeddings are joined.
        name: shown to the user.
        ranking: chain of re-rankers to use if none is named; "" means none.
        label: how `classify` gives labels if no method is named; None: it chooses.
    """

    members: tuple[ModelSource, ...]
    join: schema.Join = schema.Concatenate()
    name: str = "ensemble"
    ranking: str = ""
    label: schema.LabelVote | None = None


ModelSource = RunSource | CheckpointSource | OnnxSource | EnsembleSource


@dataclass(frozen=True)
class Runtime:
    """Library and precision that compute embeddings.

    Attributes:
        name: one of RUNTIMES.
        mixed_precision: "auto", "off" or "bfloat16".
    """

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


def chosen_runtime(source: ModelSource, runtime: Runtime) -> Runtime:
    """Return the runtime with "auto" replaced by OpenVINO for weights of the extra `lite`.

    OpenVINO must be installed. A search with stored embeddings then needs no TensorFlow, whose
    import alone takes seconds. Other models keep TensorFlow, which also uses a GPU.

    Args:
        source: the model.
        runtime: what the user asked for.

    Returns:
        The runtime to use.
    """
    is_lite = isinstance(source, CheckpointSource) and source.trunk.source == "lite"
    if is_lite and runtime.name == "auto" and find_spec("openvino") is not None:
        return replace(runtime, name="openvino")
    return runtime


def source_of(path: str | Path) -> ModelSource:
    """Return the source at a path: a directory is a run, FILE.onnx an ONNX network.

    A directory with the state file of `tf.train.Saver` is a folder of checkpoints.

    Args:
        path: path of a directory or file, path prefix of a checkpoint, or the name of weights in
            a package of the extra `lite`, such as "lite2". A file or folder of that name is passed
            as "./lite2".

    Returns:
        The source.

    Raises:
        UsageError: the path does not exist.
    """
    is_name = path in LITE
    path = expanded(path)
    # A Path, or "./lite2", means what the user has there, which str(path) would hide.
    if not is_name and str(path) in LITE:
        path = path.absolute()
    if known := known_trunk(str(path)):
        size_px = SIZE_PX.get(known.network, CheckpointSource.size_px)
        return CheckpointSource(str(path), trunk_named(known.network), size_px=size_px)
    if path.is_dir() and not has_state_file(path):
        return RunSource(str(path))
    if path.suffix == ".onnx":
        return OnnxSource(str(path))
    prefix = str(path).removesuffix(".index")
    if path.exists() or Path(f"{prefix}.index").is_file():
        return CheckpointSource(prefix)
    raise UsageError(f"{path}: no run directory, checkpoint or ONNX file there.")
