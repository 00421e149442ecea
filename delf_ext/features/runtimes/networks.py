"""Networks outside TensorFlow: a file opened by OpenVINO (frozen TensorFlow graphs, ONNX) or by ONNX Runtime (ONNX).

Seen: ResNet-50 by either differs from TensorFlow's embedding by less than 1e-5 of its length in float32 (TOLERANCE), so both
make vectors of the same space: an embedder keeps its digest in another runtime, and queries of one are searched in a gallery of
the other. Last bits differ: for equal bytes use one runtime throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

TOLERANCE = 1e-5  # length of the difference of two unit vectors, float32
RUNTIMES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
ONNX_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Port:
    """An input or output. names: all it has. shape: None where a length is free. dtype: such as "float32"."""

    names: tuple[str, ...]
    shape: tuple[int | None, ...]
    dtype: str


class RuntimeNetwork(Protocol):
    """An opened file."""

    inputs: list[Port]
    outputs: list[Port]

    def compiled(self, output: int) -> Run:
        """Return the function from one batch to the output of that number."""


def installed_runtime() -> str:
    """The first of RUNTIMES whose package is there. Raises: ValueError naming the extra when none is."""
    for name in RUNTIMES:
        if find_spec(name):
            return name
    raise ValueError("an ONNX model needs OpenVINO or ONNX Runtime: pip install -e '.[fast]'")


def open_network(path: Path, runtime: str, bfloat16: bool = False) -> RuntimeNetwork:
    """bfloat16: OpenVINO's arithmetic; ONNX Runtime keeps the file's own.

    Raises: ValueError when the runtime is missing, or refuses the file.
    """
    if not path.is_file():
        raise ValueError(f"{path}: not found.")
    try:
        return _OpenVino(path, bfloat16) if runtime == "openvino" else _OnnxRuntime(path)
    except ImportError:
        raise ValueError(
            f"--runtime={runtime} needs {RUNTIMES[runtime]}: pip install -e '.[fast]'"
        ) from None
    except Exception as error:  # ONNX Runtime's errors have no common ancestor but this one
        raise ValueError(
            f"{path}: {RUNTIMES[runtime]} cannot read it ({_reason(error)})."
        ) from error


class _OpenVino:
    def __init__(self, path: Path, bfloat16: bool) -> None:
        import openvino

        self._core = openvino.Core()
        self._model = self._core.read_model(path)
        self._precision = "bf16" if bfloat16 else "f32"
        self.inputs, self.outputs = (
            list(map(self._port, ports)) for ports in (self._model.inputs, self._model.outputs)
        )

    @staticmethod
    def _port(port: Any) -> Port:
        shape = port.partial_shape
        lengths = (
            ()
            if shape.rank.is_dynamic
            else tuple(None if size.is_dynamic else size.get_length() for size in shape)
        )
        names = {"f32": "float32", "f16": "float16", "u8": "uint8"}
        kind = port.element_type.get_type_name()
        return Port(tuple(sorted(port.names)), lengths, names.get(kind, kind))

    def compiled(self, output: int) -> Run:
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": self._precision,
        }
        run = self._core.compile_model(self._model, "CPU", options)
        return lambda images: np.array(run(images)[output], np.float32)


class _OnnxRuntime:
    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.inputs, self.outputs = (
            [
                Port(
                    (port.name,),
                    tuple(map(_length, port.shape)),
                    ONNX_TYPES.get(port.type, port.type),
                )
                for port in ports
            ]
            for ports in (self._session.get_inputs(), self._session.get_outputs())
        )

    def compiled(self, output: int) -> Run:
        session = self._session
        (source,), names = self.inputs[0].names, list(self.outputs[output].names)
        return lambda images: np.asarray(session.run(names, {source: images})[0], np.float32)


def _length(size: Any) -> int | None:
    """ONNX Runtime names a free length, or gives none."""
    return size if isinstance(size, int) and size > 0 else None


def _reason(error: Exception) -> str:
    """OpenVINO's errors begin with lines of its sources."""
    lines = [
        line.strip()
        for line in str(error).splitlines()
        if line.strip() and not line.startswith("Exception from")
    ]
    return lines[0][:200] if lines else type(error).__name__
