"""A system as one record: its model, losses, training and evaluation. Standard library only.

A recipe is data. It names parts and their settings; `models/build.py`, `losses/build.py` and `training/` turn its
records into layers, losses and optimizers, and `codec.py` reads and writes them as JSON. A record may describe a part
that is not built yet: building it then ends in one line that lists what is.

All records are found here: those of the four files of parts, and the two kinds of recipe.
"""

from __future__ import annotations

from dataclasses import dataclass

from delf_ext.config import require
from delf_ext.recipes.evaluation_parts import *  # noqa: F403
from delf_ext.recipes.evaluation_parts import (
    About,
    ClassBlock,
    Limits,
    Reduction,
    Retrieval,
    Task,
    TestTime,
    Validation,
)
from delf_ext.recipes.loss_parts import *  # noqa: F403
from delf_ext.recipes.loss_parts import LossTerm
from delf_ext.recipes.model_parts import *  # noqa: F403
from delf_ext.recipes.model_parts import AttentionMasks, Cosine, Head, Model
from delf_ext.recipes.part import Part
from delf_ext.recipes.training_parts import *  # noqa: F403
from delf_ext.recipes.training_parts import Adam, Input, Optimizer, PxK, Sampling, Shuffled, Stage


@dataclass(frozen=True)
class Recipe(Part):
    """A system: everything that decides what training computes, apart from the data and the seed.

    name: as it is shown. model: trunk, heads and embedding. losses: on which heads. optimizer: with learning-rate
    factors. stages: one after the other. input: size and augmentation. sampling: what a batch is made of.
    validation: what is held back; None = nothing. task: what is measured on it, without `test_time`, and chooses the
    best weights. limits: of compute and precision. reduction: of the embedding, after training. test_time: copies
    that are embedded with a photograph. ranking: the chain of re-rankers that evaluate and infer use when none is
    named; "" = none. about: for readers.
    """

    name: str
    model: Model
    losses: tuple[LossTerm, ...]
    optimizer: Optimizer = Adam()
    stages: tuple[Stage, ...] = (Stage(),)
    input: Input = Input()
    sampling: Sampling = Shuffled()
    validation: Validation | None = ClassBlock()
    task: Task = Retrieval()
    limits: Limits = Limits()
    reduction: Reduction | None = None
    test_time: TestTime = TestTime()
    ranking: str = ""
    about: About = About()

    def check(self) -> None:
        require(bool(self.losses), f"{self.name}: nothing to train, losses is empty.")
        require(bool(self.stages), f"{self.name}: stages is empty.")
        names = [term.shown_name for term in self.losses]
        require(
            len(set(names)) == len(names),
            f"{self.name}: two losses have one name, give them others: {', '.join(names)}.",
        )
        for term in self.losses:
            self._check_term(term)
        self._check_stages()
        reach_trunk = [term for term in self.losses if not self._head(term).stop_gradient]
        require(
            bool(reach_trunk) or self.model.trunk.is_frozen,
            f"{self.name}: every loss has stop_gradient in front of its head, so nothing would train the trunk. "
            'Add a loss on another head, or freeze the trunk (model.trunk.frozen=["trunk"]).',
        )

    def _check_stages(self) -> None:
        trunk = self.model.trunk
        moves = trunk.batch_norm == "training" and not trunk.is_frozen
        for number, stage in enumerate(self.stages, start=1):
            whole = not stage.trains or "trunk" in stage.trains
            require(
                whole or not moves,
                f"stage {number} does not train the whole trunk, but all its batch statistics would move: "
                'set model.trunk.batch_norm to "inference".',
            )
            fits = stage.size_px == 0 or (stage.size_px >= 32 and not trunk.is_frozen)
            rule = "size_px must be 0, or at least 32 with a trunk that is trained"
            require(fits, f"stage {number}: {rule}. Received {stage.size_px}.")

    def _head(self, term: LossTerm) -> Head:
        head = self.model.head(term.head)
        heads = ", ".join(other.name for other in self.model.heads)
        require(
            head is not None,
            f"loss {term.shown_name} is on head {term.head!r}, which does not exist. Heads: {heads}.",
        )
        assert head is not None
        return head

    def _check_term(self, term: LossTerm) -> None:
        head, loss = self._head(term), term.loss
        kind = type(loss).__name__
        if loss.reads == "logits":
            require(
                head.classifier is not None,
                f"{kind} needs the logits of head {head.name!r}: give it a classifier.",
            )
        if loss.cosines:
            cosine = isinstance(head.classifier, Cosine)
            require(
                cosine,
                f"{kind} needs cosines as logits: give head {head.name!r} the classifier Cosine.",
            )
        if loss.reads == "parts":
            masked = any(isinstance(part, AttentionMasks) for part in head.maps)
            require(
                masked,
                f"{kind} needs several embeddings of head {head.name!r}: give it AttentionMasks.",
            )
        sampling = self.sampling
        if loss.pairs and isinstance(sampling, PxK):
            even = sampling.images % 2 == 0
            require(
                even,
                f"{kind} compares pairs of neighbours: PxK.images must be even. Received {sampling.images}.",
            )
        if loss.compares:
            apart = isinstance(sampling, Shuffled)
            require(
                not apart,
                f"{kind} compares images of one class: sampling must be Pairs or PxK, not Shuffled.",
            )

    @property
    def batch_size(self) -> int:
        return self.sampling.batch_size

    @property
    def final_size_px(self) -> int:
        """Return the side of the photographs in the last stage, and after it."""
        return self.stages[-1].size_px or self.input.size_px

    @property
    def epochs(self) -> int:
        """Return the epochs of all stages together."""
        return sum(stage.epochs for stage in self.stages)


# --- ensembles ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Concatenate(Part):
    """The members' unit vectors one behind the other, times their weights (() = all equal)."""

    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class MeanEmbedding(Part):
    """The mean of the members' unit vectors, of one length."""


@dataclass(frozen=True)
class MeanSimilarity(Part):
    """The mean of the members' similarity matrices, each after the ranking chain in its own space."""


Join = Concatenate | MeanEmbedding | MeanSimilarity


@dataclass(frozen=True)
class LabelVote(Part):
    """The label by vote of the nearest images: similarity ** similarity_power x logit ** logit_power."""

    neighbours: int = 5
    similarity_power: float = 9.0
    logit_power: float = 10.0


@dataclass(frozen=True)
class Member(Part):
    """A part of an ensemble: a recipe that is trained, or the directory of a finished run."""

    name: str
    recipe: Recipe | None = None
    run: str = ""

    def check(self) -> None:
        require(self.name.isidentifier(), f"Member.name must be a word. Received {self.name!r}.")
        one = (self.recipe is None) == bool(self.run)
        require(one, f"ensemble member {self.name!r} needs either a recipe or a run.")


@dataclass(frozen=True)
class EnsembleRecipe(Part):
    """Several members whose embeddings or similarities are joined."""

    name: str
    members: tuple[Member, ...]
    join: Join = Concatenate()
    label: LabelVote | None = None
    ranking: str = ""
    about: About = About()

    def check(self) -> None:
        names = [member.name for member in self.members]
        weights = self.join.weights if isinstance(self.join, Concatenate) else ()
        fits = not weights or (len(weights) == len(names) and min(weights) > 0)
        require(
            fits,
            f"Concatenate.weights needs {len(names)} numbers above 0, or none. Received {list(weights)}.",
        )
        require(
            len(names) >= 2,
            f"{self.name}: an ensemble needs at least two members. Received {len(names)}.",
        )
        require(
            len(set(names)) == len(names),
            f"{self.name}: members need names that differ. Received {', '.join(names)}.",
        )
