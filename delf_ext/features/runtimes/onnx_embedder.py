"""Any ONNX network that turns one photograph into one vector (a DINOv2, SigLIP or CLIP export) as an embedder.

FILE.onnx.json beside it says what an ONNX file does not: how it wants its photographs. SIDECAR_EXAMPLE is one.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_io.artifacts import digest_of, read_json
from delf_ext.config import strict
from delf_ext.features.embedder import Embedder
from delf_ext.features.runtimes.networks import Port, Run, open_network

SIDECAR_EXAMPLE = (
    '{"image_size": 224, "scaling": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}, '
    '"layout": "NCHW", "colour_order": "RGB", "output": "pooler_output"}'
)
RANGES = {"0..255": (1.0, 0.0), "0..1": (1 / 255, 0.0), "-1..1": (1 / 127.5, -1.0)}


@dataclass(frozen=True)
class Sidecar:
    """How a model wants its photographs, and which of its outputs is the embedding.

    scaling: one of RANGES, or {"mean": [3], "std": [3]} of pixels from 0 to 1, as image processors of Hugging Face and
    torchvision write them, in the order of the model's channels. output: may be left out where there is one. tokens: of an
    output [B, tokens, D] the "first" (a class token) or the "mean".
    """

    image_size: int
    scaling: Any
    layout: str = "NCHW"
    colour_order: str = "RGB"
    output: str = ""
    tokens: str = ""

    def __post_init__(self) -> None:
        if type(self.image_size) is not int or not 1 <= self.image_size <= 4096:
            raise ValueError(
                f"image_size is a number of pixels, 1 to 4096. Received {self.image_size!r}."
            )
        for name, known in (
            ("layout", ("NCHW", "NHWC")),
            ("colour_order", ("RGB", "BGR")),
            ("tokens", ("", "first", "mean")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} is one of {', '.join(filter(None, known))}. Received {getattr(self, name)!r}."
                )
        if not isinstance(self.output, str):
            raise ValueError(f"output is the name of an output. Received {self.output!r}.")
        self.factor_and_offset()

    def factor_and_offset(self) -> tuple[np.ndarray, np.ndarray]:
        """float32 [3] each: a channel's input is pixel * factor + offset."""
        if isinstance(self.scaling, str) and self.scaling in RANGES:
            factor, offset = (np.full(3, number, np.float32) for number in RANGES[self.scaling])
            return factor, offset
        try:
            mean, std = (
                np.array(self.scaling[name], np.float64).reshape(3) for name in ("mean", "std")
            )
            if (
                set(self.scaling) == {"mean", "std"}
                and np.isfinite(mean).all()
                and np.isfinite(std).all()
                and (std > 0).all()
            ):
                return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
        except (TypeError, KeyError, ValueError):
            pass
        ranges = ", ".join(f'"{name}"' for name in RANGES)
        raise ValueError(
            f'scaling is {ranges}, or "mean" and "std" of three numbers each, std above 0. Received {self.scaling!r}.'
        )

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """uint8 [B, S, S, 3] RGB -> float32 in the model's scale, colour order and layout."""
        factor, offset = self.factor_and_offset()
        pixels = images[..., ::-1] if self.colour_order == "BGR" else images
        scaled = pixels * factor + offset
        return (
            np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)) if self.layout == "NCHW" else scaled
        )


def read_sidecar(model: Path) -> Sidecar:
    """Raises: ValueError with an example to paste when FILE.onnx.json is missing; naming the file when it is not usable."""
    path = Path(f"{model}.json")
    if not path.is_file():
        raise ValueError(
            f"{path}: not found. It says how {model.name} wants its photographs, such as {SIDECAR_EXAMPLE}"
        )
    try:
        return strict(Sidecar, read_json(path))
    except (TypeError, ValueError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: {reason} An example: {SIDECAR_EXAMPLE}") from None


def onnx_embedder(path: str | Path, runtime: str, bfloat16: bool = False) -> Embedder:
    """runtime: of `runtimes.networks.RUNTIMES`. The digest changes with the file, weights beside it and the sidecar, not the runtime.

    Raises: ValueError in one line when file, sidecar and the network's inputs and outputs do not fit together.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: not found.")
    sidecar = read_sidecar(path)
    network = open_network(path, runtime, bfloat16)
    source = _image_input(path, network.inputs, sidecar)
    output = _output_number(path, network.outputs, sidecar)

    run = network.compiled(output)

    def embed(images: np.ndarray) -> np.ndarray:
        prepared = sidecar.prepare(images).astype(source.dtype, copy=False)
        try:
            found = _in_batches(run, prepared, source.shape[0])
        except Exception as error:  # ONNX Runtime's errors have no common ancestor but this one
            reason = str(error).strip().splitlines()[-1][:200]
            raise ValueError(
                f"{path}: fails on {len(images)} images; was it exported for another --batch_size? ({reason})"
            ) from error
        return _vectors(path, found, len(images), sidecar)

    identity = digest_of([_file_digest(path), asdict(sidecar)])
    return Embedder(path.name, sidecar.image_size, identity, embed)


def _image_input(path: Path, inputs: list[Port], sidecar: Sidecar) -> Port:
    if len(inputs) != 1:
        raise ValueError(
            f"{path}: has the inputs {_listed(inputs)}; export the image part alone, with one input."
        )
    (port,) = inputs
    size = sidecar.image_size
    wanted = (3, size, size) if sidecar.layout == "NCHW" else (size, size, 3)
    fits = len(port.shape) == 4 and all(
        has in (None, want) for has, want in zip(port.shape[1:], wanted)
    )
    if not fits:
        raise ValueError(
            f"{path}: its input is {_shown(port.shape)}, {sidecar.layout} at {size} pixels is {_shown((None, *wanted))}."
        )
    if port.dtype not in ("float32", "float16", "uint8"):
        raise ValueError(
            f"{path}: its input must be float32, float16 or uint8. Received {port.dtype}."
        )
    if port.dtype == "uint8" and sidecar.scaling != "0..255":
        raise ValueError(
            f'{path}: its input is uint8, so it scales by itself: write "scaling": "0..255".'
        )
    return port


def _output_number(path: Path, outputs: list[Port], sidecar: Sidecar) -> int:
    named = [
        number
        for number, port in enumerate(outputs)
        if sidecar.output in port.names or not sidecar.output
    ]
    if len(named) == 1:
        return named[0]
    found = f"has no output {sidecar.output!r}" if sidecar.output else "has several outputs"
    raise ValueError(
        f'{path}: {found}; "output" in {path.name}.json is one of: {_listed(outputs)}.'
    )


def _in_batches(run: Run, prepared: np.ndarray, fixed: int | None) -> np.ndarray:
    """Many exports have a fixed batch, mostly of one image; blank images fill the last."""
    if fixed is None:
        return run(prepared)
    blank = np.zeros((-len(prepared) % fixed, *prepared.shape[1:]), prepared.dtype)
    filled = np.concatenate([prepared, blank])
    found = [run(filled[start : start + fixed]) for start in range(0, len(filled), fixed)]
    return np.concatenate(found)[: len(prepared)]


def _vectors(path: Path, found: np.ndarray, count: int, sidecar: Sidecar) -> np.ndarray:
    """[B, D] of unit length; a row that is zero or not finite stays so, and extraction skips its image."""
    if found.ndim == 3 and sidecar.tokens:
        found = found[:, 0] if sidecar.tokens == "first" else found.mean(axis=1)
    if found.ndim == 3 and found.shape[2] > 1:
        raise ValueError(
            f'{path}: its output is [B, tokens, D], here {list(found.shape)}: write "tokens": "first" or "mean".'
        )
    if found.ndim < 2 or len(found) != count or any(size != 1 for size in found.shape[2:]):
        raise ValueError(
            f"{path}: its output must be [{count}, D], one vector per image. Received {list(found.shape)}."
        )
    vectors = found.reshape(count, -1)
    return vectors / np.maximum(
        np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny
    )


def _file_digest(path: Path) -> str:
    """Of the file and of weights that lie beside it under its name: FILE.onnx_data, FILE.onnx.data."""
    digest = hashlib.sha256()
    for part in sorted(path.parent.glob(f"{path.name}[._]*data*")):
        digest.update(hashlib.sha256(part.read_bytes()).digest())
    return digest.hexdigest()[:12] + hashlib.sha256(path.read_bytes()).hexdigest()


def _listed(ports: list[Port]) -> str:
    return ", ".join("/".join(port.names) for port in ports)


def _shown(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('any' if size is None else str(size) for size in shape)}]"
