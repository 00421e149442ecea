"""Use an ONNX network that embeds images (an export of DINOv2, SigLIP or CLIP) as an embedder.

An ONNX file does not say how it wants its images. A JSON file beside it, the sidecar
FILE.onnx.json, does; see SIDECAR_EXAMPLE.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_io.files.artifacts import digest_of, read_json
from delf_ext.config import strict
from delf_ext.features.embedder import Embedder, with_sizes
from delf_ext.features.runtimes.networks import Port, Run, open_network

SIDECAR_EXAMPLE = (
    '{"image_size": 224, '
    '"scaling": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}, '
    '"layout": "NCHW", "colour_order": "RGB", "output": "pooler_output"}'
)
RANGES = {
    "0..255": {"mean": [0.0] * 3, "std": [1 / 255] * 3},
    "0..1": {"mean": [0.0] * 3, "std": [1.0] * 3},
    "-1..1": {"mean": [0.5] * 3, "std": [0.5] * 3},
}
"""Name of a scaling -> mean and standard deviation of pixels from 0 to 1."""
CHOICES = {
    "layout": ("NCHW", "NHWC"),
    "colour_order": ("RGB", "BGR"),
    "tokens": ("", "first", "mean"),
}


@dataclass(frozen=True)
class Sidecar:
    """How a network wants its images, and which of its outputs is the embedding.

    Attributes:
        image_size: side of the input in pixels.
        scaling: one of RANGES, or {"mean": [3], "std": [3]} of pixels from 0 to 1, as the image
            processors of Hugging Face and torchvision write them, in the network's colour order.
        layout: order of the input's axes.
        colour_order: order of the input's channels.
        output: name of the output; may be empty if there is only one.
        tokens: which vector of an output [B, tokens, D] to use: the "first" (a class token) or the
            "mean".

    Raises:
        ValueError: a value is unknown or out of range.
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
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise ValueError(
                    f"{name} is one of {', '.join(filter(None, known))}. Received {value!r}."
                )
        if not isinstance(self.output, str):
            raise ValueError(f"output is the name of an output. Received {self.output!r}.")
        self.factor_and_offset()

    def factor_and_offset(self) -> tuple[np.ndarray, np.ndarray]:
        """Compute the scaling of each channel: input = pixel * factor + offset.

        Returns:
            float32 [3] and float32 [3].

        Raises:
            ValueError: the scaling is unknown.
        """
        scaling: Any = RANGES.get(self.scaling) if isinstance(self.scaling, str) else self.scaling
        try:
            mean, std = (np.array(scaling[key], np.float64).reshape(3) for key in ("mean", "std"))
            is_usable = len(scaling) == 2 and np.isfinite([mean, std]).all() and (std > 0).all()
        except (KeyError, TypeError, ValueError):
            is_usable = False
        if not is_usable:
            ranges = ", ".join(f'"{name}"' for name in RANGES)
            raise ValueError(
                f'scaling is {ranges}, or "mean" and "std" of three numbers each, std above 0. '
                f"Received {self.scaling!r}."
            )
        return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Convert images to the network's scale, colour order and layout.

        Args:
            images: uint8 [B, S, S, 3], RGB.

        Returns:
            float32 [B, 3, S, S] or [B, S, S, 3].
        """
        factor, offset = self.factor_and_offset()
        pixels = images[..., ::-1] if self.colour_order == "BGR" else images
        scaled = pixels * factor + offset
        if self.layout == "NHWC":
            return scaled
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def read_sidecar(model: Path) -> Sidecar:
    """Read the sidecar of an ONNX file.

    Args:
        model: path of the ONNX file.

    Returns:
        The sidecar.

    Raises:
        ValueError: the sidecar is missing or not usable; the message has an example.
    """
    path = Path(f"{model}.json")
    if not path.is_file():
        raise ValueError(
            f"{path}: not found. Create it: it describes the input of {model.name}, "
            f"for example {SIDECAR_EXAMPLE}"
        )
    try:
        return strict(Sidecar, read_json(path))
    except (TypeError, ValueError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: {reason} An example: {SIDECAR_EXAMPLE}") from None


def onnx_embedder(path: str | Path, runtime: str, bfloat16: bool = False) -> Embedder:
    """Open an ONNX file as an embedder.

    The digest changes with the file, with weights beside it and with the sidecar, but not with the
    runtime.

    Args:
        path: of the ONNX file.
        runtime: a key of `networks.RUNTIMES`.
        bfloat16: compute in bfloat16 (OpenVINO only).

    Returns:
        The embedder.

    Raises:
        ValueError: a file is missing, or the sidecar does not fit the network.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: not found. Pass an ONNX file with --onnx_model=FILE.onnx.")
    sidecar = read_sidecar(path)
    network = open_network(path, runtime, bfloat16)
    source = _image_input(path, network.inputs, sidecar)
    run = network.compiled(_output_number(path, network.outputs, sidecar))

    def embed(images: np.ndarray) -> np.ndarray:
        prepared = sidecar.prepare(images).astype(source.dtype, copy=False)
        try:
            output = _run_in_batches(run, prepared, source.shape[0])
        # ONNX Runtime's errors have no narrower common base class.
        except Exception as error:
            reason = str(error).strip().splitlines()[-1][:200]
            raise ValueError(
                f"{path}: fails on {len(images)} images; was it exported for another "
                f"--batch_size? ({reason})"
            ) from error
        return _embeddings(path, output, len(images), sidecar)

    identity = digest_of([_file_digest(path), asdict(sidecar)])
    embedder = Embedder(path.name, sidecar.image_size, identity, embed)
    lengths = source.shape[2:] if sidecar.layout == "NCHW" else source.shape[1:3]
    if lengths != (None, None):
        return embedder
    return with_sizes(embedder, lambda size_px: replace(embedder, image_size=size_px))


def _image_input(path: Path, inputs: list[Port], sidecar: Sidecar) -> Port:
    """Return the only input if it fits the sidecar."""
    if len(inputs) != 1:
        raise ValueError(
            f"{path}: has the inputs {_names(inputs)}; export the image part alone, with one input."
        )
    (port,) = inputs
    size = sidecar.image_size
    expected = (3, size, size) if sidecar.layout == "NCHW" else (size, size, 3)
    fits = len(port.shape) == 4 and all(
        length in (None, wanted) for length, wanted in zip(port.shape[1:], expected)
    )
    if not fits:
        raise ValueError(
            f"{path}: its input is {_shape_text(port.shape)}, "
            f"{sidecar.layout} at {size} pixels is {_shape_text((None, *expected))}."
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
    candidates = [
        number
        for number, port in enumerate(outputs)
        if sidecar.output in port.names or not sidecar.output
    ]
    if len(candidates) == 1:
        return candidates[0]
    problem = f"has no output {sidecar.output!r}" if sidecar.output else "has several outputs"
    raise ValueError(
        f'{path}: {problem}; "output" in {path.name}.json is one of: {_names(outputs)}.'
    )


def _run_in_batches(run: Run, prepared: np.ndarray, fixed: int | None) -> np.ndarray:
    """Run the network on images [B, ...] in batches of `fixed` images, None = any number."""
    if fixed is None:
        return run(prepared)
    # Black images fill the last batch.
    black = np.zeros((-len(prepared) % fixed, *prepared.shape[1:]), prepared.dtype)
    filled = np.concatenate([prepared, black])
    outputs = [run(filled[start : start + fixed]) for start in range(0, len(filled), fixed)]
    return np.concatenate(outputs)[: len(prepared)]


def _embeddings(path: Path, output: np.ndarray, count: int, sidecar: Sidecar) -> np.ndarray:
    """Return an output as embeddings [B, D] of unit length."""
    if output.ndim == 3 and sidecar.tokens:
        output = output[:, 0] if sidecar.tokens == "first" else output.mean(axis=1)
    shape = list(output.shape)
    if output.ndim == 3 and output.shape[2] > 1:
        raise ValueError(
            f"{path}: its output is [B, tokens, D], here {shape}: "
            'write "tokens": "first" or "mean".'
        )
    if output.ndim < 2 or len(output) != count or any(length != 1 for length in shape[2:]):
        raise ValueError(
            f"{path}: its output must be [{count}, D], one vector per image. Received {shape}."
        )
    vectors = output.reshape(count, -1)
    # A row that is zero or not finite stays so, and extraction skips its image.
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)


def _file_digest(path: Path) -> str:
    """Return a digest of the file and of its weight files, FILE.onnx_data or FILE.onnx.data."""
    digest = hashlib.sha256()
    for weights in sorted(path.parent.glob(f"{path.name}[._]*data*")):
        digest.update(hashlib.sha256(weights.read_bytes()).digest())
    return digest.hexdigest()[:12] + hashlib.sha256(path.read_bytes()).hexdigest()


def _names(ports: list[Port]) -> str:
    return ", ".join("/".join(port.names) for port in ports)


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('any' if size is None else str(size) for size in shape)}]"
