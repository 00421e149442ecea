"""Define how labels are given to photographs. It uses the standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from delf_ext.config import require
from delf_ext.recipes.part import Part, Positive, Range
from delf_ext.recipes.schema import LabelVote

Method = Literal["vote", "lotte", "centres", "softmax", "product"]
Factor = Literal["vote", "centres", "softmax"]
CHOOSE_ON = ("auto", "gallery", "held_out", "queries")
"""Which labelled photographs method and settings are chosen on."""
UNKNOWN_ALL = 2.0
"""`unknown_below` with which no label is given."""


@dataclass(frozen=True)
class Labelling(Part):
    """How a photograph gets the label of a class of the gallery.

    Attributes:
        method: "vote" of the nearest gallery images; "lotte": a vote that also weighs the logits;
            nearest of the class "centres"; "softmax" of the classifier; or the "product" of the
            probabilities of several of these.
        vote: settings of "vote", of "lotte" and of the vote in "product".
        factors: the factors of "product"; empty for other methods.
        temperatures: temperature of each factor of "product".
        temperature: the logarithms of the scores are divided by it; it makes probabilities right
            as often as they say.
        unknown_below: a label of a lower probability is not given.
    """

    method: Method = "centres"
    vote: LabelVote = LabelVote(logit_power=0.0)
    factors: tuple[Factor, ...] = ()
    temperatures: tuple[Positive, ...] = ()
    temperature: Positive = 1.0
    unknown_below: Annotated[float, Range(low=0, high=UNKNOWN_ALL)] = 0.0

    def _check(self) -> None:
        require(
            len(self.factors) == len(self.temperatures)
            and bool(self.factors) == (self.method == "product"),
            "Labelling: a product, and nothing else, has factors, each with a temperature. "
            f"Received {self.method}, {list(self.factors)}, {list(self.temperatures)}.",
        )

    @property
    def uses_logits(self) -> bool:
        """Whether the model needs a classifier."""
        return self.method in ("lotte", "softmax") or "softmax" in self.factors

    @property
    def uses_vote(self) -> bool:
        """Whether the nearest gallery images vote."""
        return self.method in ("vote", "lotte") or "vote" in self.factors

    def __str__(self) -> str:
        """Return the method with its settings: "vote of the 5 nearest, similarity^9"."""
        if self.method == "product":
            return " x ".join(self._factor(name) for name in self.factors)
        return self._factor(self.method)

    def _factor(self, name: str) -> str:
        if name not in ("vote", "lotte"):
            return {"centres": "class centres", "softmax": "softmax of the classifier"}[name]
        vote = self.vote
        power = f"similarity^{vote.similarity_power:g}"
        if name == "lotte":
            power += f" x logit^{vote.logit_power:g}"
        return f"vote of the {vote.neighbours} nearest ({power})"
