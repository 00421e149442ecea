"""Parse the chain of re-ranking steps that `--method` names.

Example: "dba:10,aqe:5@3,k_reciprocal:20,6,0.3,geometric:100".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from delf_ext.config import UsageError
from delf_ext.reranking.diffusion import MAX_ALPHA

# Settings that say how many neighbours of an image count as near.
NEIGHBOURS = ("num_expand", "k1", "k")
EXAMPLE = "dba:10,aqe:5@3,k_reciprocal:20,6,0.3,geometric:100"


class Number(NamedTuple):
    """Setting of a method: its default, which also gives its type, and its bounds."""

    default: float
    lowest: float = 1
    highest: float = math.inf

    def read(self, text: str) -> float:
        """Convert text to the type of the default.

        Returns:
            An int or a float within the bounds.

        Raises:
            ValueError: the text is not such a number; the message is what it must be.
        """
        is_int = isinstance(self.default, int)
        try:
            value = int(text) if is_int else float(text)
        except ValueError:
            kind = "a whole number" if is_int else "a number"
            raise ValueError(f"must be {kind}") from None
        if not self.lowest <= value <= self.highest:
            bounds = f"at least {self.lowest:g}"
            if math.isfinite(self.highest):
                bounds = f"from {self.lowest:g} to {self.highest:g}"
            raise ValueError(f"must be {bounds}")
        return value


METHODS: dict[str, dict[str, Number]] = {
    "dba": {"num_expand": Number(10), "alpha": Number(0.0, 0, 100)},
    "aqe": {"num_expand": Number(5), "alpha": Number(0.0, 0, 100)},
    "k_reciprocal": {"k1": Number(20), "k2": Number(6), "lambda_": Number(0.3, 0, 1)},
    "diffusion": {"k": Number(50), "top_k": Number(1000), "alpha": Number(0.99, 0, MAX_ALPHA)},
    "geometric": {"top_k": Number(100)},
}


@dataclass(frozen=True)
class Step:
    """Re-ranking method with its settings.

    Attributes:
        name: a key of METHODS.
        settings: values by the names in METHODS.
    """

    name: str
    settings: dict[str, Any]

    def __str__(self) -> str:
        numbers = ",".join(f"{value:g}" for name, value in self.settings.items() if name != "alpha")
        text = f"{self.name}:{numbers}"
        return f"{text}@{self.settings['alpha']:g}" if "alpha" in self.settings else text


def parse_chain(text: str) -> tuple[Step, ...]:
    """Parse steps such as "dba:10,aqe:5@3".

    Numbers follow a colon, alpha follows an @. A setting that is not given has its default.

    Returns:
        The steps in their order; none for "".

    Raises:
        UsageError: a method is unknown, or its settings are wrong.
    """
    if not text.strip():
        return ()
    return tuple(_step(part.strip()) for part in re.split(r",(?=\s*[A-Za-z_])", text))


def width_warnings(steps: Sequence[Step], num_gallery: int) -> Iterator[str]:
    """Name the steps whose neighbourhood is the whole gallery: they make all images alike.

    Args:
        steps: from `parse_chain`.
        num_gallery: number of gallery images.

    Yields:
        A line for each such step.

    >>> [line[:42] for line in width_warnings(parse_chain("aqe:3,dba:500"), 24)]
    ['warning: dba:500@0 takes all 24 images of ']
    """
    for step in steps:
        for name in NEIGHBOURS:
            if step.settings.get(name, 0) >= num_gallery:
                yield (
                    f"warning: {step} takes all {num_gallery} images of the gallery as neighbours: "
                    f"make {name} smaller."
                )


def _step(text: str) -> Step:
    matched = re.fullmatch(r"(\w+)(?::([^@]*))?(?:@(.*))?", text)
    if matched is None or matched[1] not in METHODS:
        raise UsageError(
            f"--method: unknown step {text!r}. Steps: {', '.join(METHODS)}. Example: {EXAMPLE}."
        )
    name, numbers, alpha = matched.groups()
    try:
        return Step(name, _settings(METHODS[name], numbers, alpha))
    except ValueError as error:
        form = f"{name}:{','.join(key for key in METHODS[name] if key != 'alpha')}"
        if "alpha" in METHODS[name]:
            form += "@alpha"
        raise UsageError(f"--method {text}: {error}. Form: {form}.") from None


def _settings(known: dict[str, Number], numbers: str | None, alpha: str | None) -> dict[str, float]:
    settings = {key: number.default for key, number in known.items()}
    keys = [key for key in known if key != "alpha"]
    texts = [] if numbers is None else numbers.split(",")
    if len(texts) > len(keys):
        raise ValueError("too many numbers")
    for key, text in zip(keys, texts):
        settings[key] = _read(key, known[key], text)
    if alpha is not None:
        if "alpha" not in known:
            raise ValueError("this step has no alpha")
        settings["alpha"] = _read("alpha", known["alpha"], alpha)
    return settings


def _read(key: str, number: Number, text: str) -> float:
    try:
        return number.read(text)
    except ValueError as error:
        raise ValueError(f"{key} {error}") from None
