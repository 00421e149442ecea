"""What is to be done to a ranking, in words: "dba:10,aqe:5@3,k_reciprocal:20,6,0.3,geometric:100"."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from delf_ext.config import UsageError
from delf_ext.reranking.diffusion import MAX_ALPHA

EXAMPLE = "dba:10,aqe:5@3,k_reciprocal:20,6,0.3,geometric:100"


class Number(NamedTuple):
    """A setting of a method: its default, whose type it has, and its bounds."""

    default: float
    lowest: float = 1
    highest: float = math.inf

    def read(self, text: str) -> float:
        """Raises: ValueError where the text is no such number."""
        whole = isinstance(self.default, int)
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            raise ValueError(f"{text.strip()!r} is no {'whole ' * whole}number") from None
        if not self.lowest <= value <= self.highest:
            raise ValueError(f"{value} is not from {self.lowest:g} to {self.highest:g}")
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
    """A method and its settings, by the names in METHODS."""

    name: str
    settings: dict[str, Any]

    def __str__(self) -> str:
        numbers = ",".join(f"{value:g}" for name, value in self.settings.items() if name != "alpha")
        return f"{self.name}:{numbers}" + (
            f"@{self.settings['alpha']:g}" if "alpha" in self.settings else ""
        )


def parse_chain(text: str) -> tuple[Step, ...]:
    """Steps from "dba:10,aqe:5@3": methods in their order, numbers after a colon, alpha after an @; what is left out has its
    default, "" has no step.

    Raises: UsageError naming the known methods, or the form of a method that was written otherwise.
    """
    return (
        tuple(_step(part.strip()) for part in re.split(r",(?=\s*[A-Za-z_])", text))
        if text.strip()
        else ()
    )


def _step(text: str) -> Step:
    matched = re.fullmatch(r"(\w+)(?::([^@]*))?(?:@(.*))?", text)
    if matched is None or matched[1] not in METHODS:
        raise UsageError(
            f"--method names {', '.join(METHODS)}, such as {EXAMPLE}. Received {text!r}."
        )
    name, numbers = matched[1], METHODS[matched[1]]
    ordered = [key for key in numbers if key != "alpha"]
    given = list(zip(ordered, matched[2].split(","))) if matched[2] is not None else []
    try:
        if (matched[2] or "").count(",") >= len(ordered):
            raise ValueError("too many numbers")
        if matched[3] is not None and "alpha" not in numbers:
            raise ValueError("there is no alpha")
        texts = dict(given + [("alpha", matched[3])] * (matched[3] is not None))
        return Step(
            name,
            {
                key: number.read(texts[key]) if key in texts else number.default
                for key, number in numbers.items()
            },
        )
    except ValueError as error:
        form = f"{name}:{','.join(ordered)}" + "@alpha" * ("alpha" in numbers)
        raise UsageError(f"--method takes {form}; {error}. Received {text!r}.") from None
