"""Open network files with OpenVINO (frozen TensorFlow graphs, ONNX) or ONNX Runtime (ONNX).

Measured: embeddings of a ResNet-50 differ from TensorFlow's by less than TOLERANCE with both
runtimes, in float32. So an embedder keeps its digest in another runtime, and queries embedded by
one can be searched in a gallery embedded by another. The last bits differ: for equal bytes, use one
runtime for everything. In bfloat16, TensorFlow and OpenVINO round in different places (a difference
of up to 0.06 with an EfficientNet-Lite2), so each has its own digest.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_io.finite import fault_of

# Length of the difference of two embeddings.
TOLERANCE = 1e-5
RUNTIMES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
# Of constants that are checked; NumPy has no other floating-point types.
CHECKED_TYPES = ("f16", "f32", "f64")
OPENVINO_TYPES = {"f32": "float32", "f16": "float16", "u8": "uint8"}
ONNX_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
INSTALL = 'pip install -e ".[fast]" in the clone.'

Run = Callable[[np.ndarray], np.ndarray]
"""Batch [B, ...] -> float32 output [B, ...]."""


class BadNumbers(ValueError):
    """A network has weights that are not numbers."""


class Port(NamedTuple):
    """Input or output of a network.

    Attributes:
        names: all its names.
        shape: its lengths; None for a length that is not fixed.
        dtype: such as "float32".
    """

    names: tuple[str, ...]
    shape: tuple[int | None, ...]
    dtype: str


class RuntimeNetwork(NamedTuple):
    """Opened network file.

    Attributes:
        inputs: the inputs.
        outputs: the outputs.
        compiled: number of an output -> function of one batch to this output.
    """

    inputs: list[Port]
    outputs: list[Port]
    compiled: Callable[[int], Run]


def installed_runtime() -> str:
    """Return the first of RUNTIMES that is installed.

    Returns:
        "openvino" or "onnxruntime".

    Raises:
        ValueError: none is installed.
    """
    for name in RUNTIMES:
        if find_spec(name):
            return name
    raise ValueError(f"an ONNX model needs OpenVINO or ONNX Runtime: {INSTALL}")


def open_network(path: Path, runtime: str, bfloat16: bool = False) -> RuntimeNetwork:
    """Open a network file.

    Args:
        path: a frozen graph (OpenVINO only) or an ONNX file.
        runtime: a key of RUNTIMES.
        bfloat16: compute in bfloat16 (OpenVINO only).

    Returns:
        The opened network.

    Raises:
        BadNumbers: a weight is not a number.
        ValueError: the runtime is missing, or cannot read the file.
    """
    try:
        return _openvino(path, bfloat16) if runtime == "openvino" else _onnxruntime(path)
    except ImportError:
        raise ValueError(f"--runtime={runtime} needs {RUNTIMES[runtime]}: {INSTALL}") from None
    except BadNumbers:
        raise
    # ONNX Runtime's errors have no narrower common base class.
    except Exception as error:
        raise ValueError(
            f"{path}: {RUNTIMES[runtime]} cannot read it ({_reason(error)})."
        ) from error


def _openvino(path: Path, bfloat16: bool) -> RuntimeNetwork:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    _require_numbers(path, model)
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
    }

    def compiled(output: int) -> Run:
        run = core.compile_model(model, "CPU", options)
        return lambda images: np.array(run(images)[output], np.float32)

    inputs = [_openvino_port(port) for port in model.inputs]
    outputs = [_openvino_port(port) for port in model.outputs]
    return RuntimeNetwork(inputs, outputs, compiled)


def _check_with_openvino(path: Path) -> None:
    """Check the weights of a network for ONNX Runtime, which does not show them."""
    import openvino

    try:
        model = openvino.Core().read_model(path)
    # OpenVINO need not know each network that ONNX Runtime runs.
    except RuntimeError:
        return
    _require_numbers(path, model)


def _require_numbers(path: Path, model: Any) -> None:
    """Raise ValueError if a constant of an OpenVINO model has NaN; masks may have infinities."""
    for node in model.get_ops():
        if node.get_type_name() != "Constant":
            continue
        if node.get_output_element_type(0).get_type_name() not in CHECKED_TYPES:
            continue
        fault = fault_of("", node.data)
        if "NaN" in fault:
            raise BadNumbers(
                f"{path}: {node.get_friendly_name()}: {fault}. The training that made these "
                "weights diverged: take an earlier one."
            )


def _openvino_port(port: Any) -> Port:
    shape: tuple[int | None, ...] = ()
    if not port.partial_shape.rank.is_dynamic:
        shape = tuple(None if size.is_dynamic else size.get_length() for size in port.partial_shape)
    dtype = port.element_type.get_type_name()
    return Port(tuple(sorted(port.names)), shape, OPENVINO_TYPES.get(dtype, dtype))


def _onnxruntime(path: Path) -> RuntimeNetwork:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Show errors only.
    options.log_severity_level = 3
    if find_spec("openvino"):
        _check_with_openvino(path)
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    inputs = [_onnx_port(port) for port in session.get_inputs()]
    outputs = [_onnx_port(port) for port in session.get_outputs()]

    def compiled(output: int) -> Run:
        (input_name,) = inputs[0].names
        names = list(outputs[output].names)
        return lambda images: np.asarray(session.run(names, {input_name: images})[0], np.float32)

    return RuntimeNetwork(inputs, outputs, compiled)


def _onnx_port(port: Any) -> Port:
    # A length that is not fixed has a name or is None.
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in port.shape)
    return Port((port.name,), shape, ONNX_TYPES.get(port.type, port.type))


def _reason(error: Exception) -> str:
    """Return the first line of an error that is not about OpenVINO's own source files."""
    lines = [
        line.strip()
        for line in str(error).splitlines()
        if line.strip() and not line.startswith("Exception from")
    ]
    return lines[0][:200] if lines else type(error).__name__
