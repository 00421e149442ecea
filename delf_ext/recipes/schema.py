"""Define a recipe: the model, losses, training and evaluation of a system as one record.

A recipe is data: it names parts and their settings. `models/build.py`, `losses/build.py` and
`training/` make layers, losses and optimizers from its records; `codec.py` converts it to JSON and
back. A record may describe a part that is not built yet. Training then stops with a message that
lists the parts that are built.

This module exports all records: those of the four `*_parts.py` files, and the two kinds of recipe.
It uses the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Annotated

from delf_ext.config import UsageError, require
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
from delf_ext.recipes.loss_parts import Loss, LossTerm
from delf_ext.recipes.model_parts import *  # noqa: F403
from delf_ext.recipes.model_parts import AttentionMasks, Cosine, Head, Model
from delf_ext.recipes.part import AtLeast1, Count, NotNegative, Part, Range
from delf_ext.recipes.training_parts import *  # noqa: F403
from delf_ext.recipes.training_parts import (
    Adam,
    Averaging,
    CosineDecay,
    Input,
    Optimizer,
    Plateau,
    PxK,
    Sampling,
    Shuffled,
    Stage,
    Swa,
)

BatchesPerUpdate = Annotated[int, Range(low=1, high=4096)]


@dataclass(frozen=True)
class Recipe(Part):
    """System to train: everything that decides the result, except the data and the seed.

    Attributes:
        name: shown to the user.
        model: trunk, heads and embedding.
        losses: what is minimized, each on one head.
        optimizer: optimizer and learning rates.
        stages: parts of the training, one after the other.
        input: image size and augmentation.
        sampling: how a batch is made.
        validation: the dev split; None holds nothing out, and the last weights are used.
        task: what is measured on the dev split, without `test_time`, to choose the best weights.
        limits: limits of compute and precision.
        reduction: reduction of the embedding, fitted on the training images after training;
            None means none.
        test_time: copies of an image that are embedded with it.
        ranking: chain of re-rankers that `evaluate` and `infer` use if none is named; "" means
            none.
        batches_per_update: batches whose mean gradient makes one update. The last update of an
            epoch can have fewer. Schedules count updates. Losses compare images of one batch only.
        averaging: average of the weights that is evaluated and saved; None means the last weights.
        about: description for users.
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
    batches_per_update: BatchesPerUpdate = 1
    averaging: Averaging | None = None
    about: About = About()

    def _check(self) -> None:
        require(bool(self.losses), f"{self.name}: nothing to train, losses is empty.")
        require(
            any(term.weight for term in self.losses),
            f"{self.name}: nothing to train, each loss has the weight 0.",
        )
        require(bool(self.stages), f"{self.name}: stages is empty.")
        names = [term.shown_name for term in self.losses]
        require(
            len(set(names)) == len(names),
            f"{self.name}: two losses have the same name, rename one: {', '.join(names)}.",
        )
        for term in self.losses:
            self._check_term(term)
        self._check_stages()
        inside = [head.name for head in self.model.heads if head.after]
        require(
            not inside or not self.model.trunk.is_frozen,
            f"{self.name}: a trunk that is not trained stores the map of Trunk.end_point only, but "
            f"head {(inside or [''])[0]!r} is after another one.",
        )
        reach_trunk = [term for term in self.losses if not self._head(term).stop_gradient]
        require(
            bool(reach_trunk) or self.model.trunk.is_frozen,
            f"{self.name}: every loss has stop_gradient in front of its head, so nothing would "
            "train the trunk. Add a loss on another head, or freeze the trunk "
            '(model.trunk.frozen=["trunk"]).',
        )

    def _check_stages(self) -> None:
        trunk = self.model.trunk
        require(
            self.stages[0].schedule is not None,
            "stage 1: schedule is None, which means the schedule of the stage before, and there is "
            "none. Give the first stage a schedule.",
        )
        self._check_schedules()
        statistics_change = trunk.batch_norm == "training" and not trunk.is_frozen
        for number, stage in enumerate(self.stages, start=1):
            trains_trunk = not stage.trains or "trunk" in stage.trains
            require(
                trains_trunk or not statistics_change,
                f"stage {number} does not train the whole trunk, but would change all its batch "
                'statistics: set model.trunk.batch_norm to "inference".',
            )
            require(
                stage.size_px == 0 or (stage.size_px >= 32 and not trunk.is_frozen),
                f"stage {number}: size_px must be 0, or at least 32 with a trunk that is trained. "
                f"Received {stage.size_px}.",
            )

    def _check_schedules(self) -> None:
        for number, stage in enumerate(self.stages, start=1):
            require(
                not isinstance(stage.schedule, Plateau) or self.validation is not None,
                f"stage {number}: the schedule Plateau follows the evaluation on the dev split, "
                "but validation is None. Give the recipe a validation, or another schedule.",
            )
            if isinstance(stage.schedule, CosineDecay):
                shared = takewhile(lambda other: other.schedule is None, self.stages[number:])
                epochs = stage.epochs + sum(other.epochs for other in shared)
                require(
                    stage.schedule.warmup_epochs <= epochs,
                    f"stage {number}: CosineDecay.warmup_epochs must be at most its {epochs} "
                    f"epochs. Received {stage.schedule.warmup_epochs:g}.",
                )
        if isinstance(self.averaging, Swa):
            require(
                self.averaging.start_epoch <= self.epochs,
                f"averaging: Swa.start_epoch must be at most the {self.epochs} epochs of the "
                f"recipe. Received {self.averaging.start_epoch}.",
            )

    def _head(self, term: LossTerm) -> Head:
        head = self.model.head(term.head)
        if head is None:
            heads = ", ".join(other.name for other in self.model.heads)
            raise UsageError(
                f"loss {term.shown_name} is on head {term.head!r}, which does not exist. "
                f"Heads: {heads}."
            )
        return head

    def _check_term(self, term: LossTerm) -> None:
        head = self._head(term)
        kind = type(term.loss).__name__
        require(
            term.loss.reads != "logits" or head.classifier is not None,
            f"{kind} needs the logits of head {head.name!r}: give it a classifier.",
        )
        require(
            not term.loss.cosines or isinstance(head.classifier, Cosine),
            f"{kind} needs cosines as logits: give head {head.name!r} the classifier Cosine.",
        )
        require(
            term.loss.reads != "parts" or any(isinstance(m, AttentionMasks) for m in head.maps),
            f"{kind} needs several embeddings of head {head.name!r}: give it AttentionMasks.",
        )
        self._check_mixing(term.loss)
        self._check_sampling(term.loss)

    def _check_mixing(self, loss: Loss) -> None:
        mixing = [type(part).__name__ for part in self.input.augment if part.mixes]
        require(
            not mixing or loss.mixes,
            f"{type(loss).__name__} needs images of one class, but {' and '.join(mixing)} "
            f"{'mix' if len(mixing) > 1 else 'mixes'} the classes: remove one or the other.",
        )

    def _check_sampling(self, loss: Loss) -> None:
        kind = type(loss).__name__
        sampling = self.sampling
        if loss.pairs and isinstance(sampling, PxK):
            require(
                sampling.images % 2 == 0,
                f"{kind} compares pairs of neighbours: PxK.images must be even. "
                f"Received {sampling.images}.",
            )
        require(
            not (loss.compares and isinstance(sampling, Shuffled)),
            f"{kind} compares images of one class: sampling must be Pairs or PxK, not Shuffled.",
        )

    @property
    def batch_size(self) -> int:
        """Number of images in a batch."""
        return self.sampling.batch_size

    @property
    def sizes_px(self) -> tuple[int, ...]:
        """Side of the images in each stage, in pixels."""
        return tuple(stage.size_px or self.input.size_px for stage in self.stages)

    @property
    def final_size_px(self) -> int:
        """Side of the images in the last stage and after training, in pixels."""
        return self.sizes_px[-1]

    @property
    def epochs(self) -> int:
        """Number of epochs of all stages together."""
        return sum(stage.epochs for stage in self.stages)


# --- ensembles


@dataclass(frozen=True)
class Concatenate(Part):
    """Concatenate the members' unit vectors.

    Attributes:
        weights: factor of each member's vector, above 0; () weights all equally.
    """

    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class MeanEmbedding(Part):
    """Mean of the members' unit vectors, which must have the same dimension."""


@dataclass(frozen=True)
class MeanSimilarity(Part):
    """Mean of the members' similarities; each member applies the ranking chain itself first."""


Join = Concatenate | MeanEmbedding | MeanSimilarity


@dataclass(frozen=True)
class LabelVote(Part):
    """Predict the label by a vote of the nearest images.

    A vote weighs similarity ** similarity_power * logit ** logit_power.

    Attributes:
        neighbours: number of images that vote.
        similarity_power: exponent of the similarity.
        logit_power: exponent of the logit.
    """

    neighbours: AtLeast1 = 5
    similarity_power: NotNegative = 9.0
    logit_power: NotNegative = 10.0


@dataclass(frozen=True)
class Member(Part):
    """Member of an ensemble: either a recipe to train or a finished run.

    Attributes:
        name: name of the member, a word.
        recipe: recipe to train.
        run: path of the directory of a finished run.
        folds: number of trainings of the recipe, each without another fold of the images; 0: one
            training, with the validation of the recipe.
    """

    name: str
    recipe: Recipe | None = None
    run: str = ""
    folds: Count = 0

    def _check(self) -> None:
        require(self.name.isidentifier(), f"Member.name must be a word. Received {self.name!r}.")
        require(
            (self.recipe is None) == bool(self.run),
            f"ensemble member {self.name!r} needs either a recipe or a run.",
        )
        require(
            self.folds == 0 or (self.folds >= 2 and self.recipe is not None),
            f"ensemble member {self.name!r}: folds must be 0, or at least 2 with a recipe. "
            f"Received {self.folds}.",
        )


@dataclass(frozen=True)
class EnsembleRecipe(Part):
    """Several models whose embeddings or similarities are joined.

    Attributes:
        name: shown to the user.
        members: at least two members, or one with folds.
        join: how the members' results are joined.
        label: how `classify` gives labels if no method is named; None: it chooses.
        ranking: chain of re-rankers that `evaluate` and `infer` use if none is named; "" means
            none.
        reduction: reduction of the joined embedding, fitted after training; None means none.
        choose_weights: choose the weights of Concatenate on the dev split after training; the
            members need the same one, or folds.
        about: description for users.
    """

    name: str
    members: tuple[Member, ...]
    join: Join = Concatenate()
    label: LabelVote | None = None
    ranking: str = ""
    reduction: Reduction | None = None
    choose_weights: bool = False
    about: About = About()

    def _check(self) -> None:
        names = [member.name for member in self.members]
        weights = self.join.weights if isinstance(self.join, Concatenate) else ()
        require(
            not weights or (len(weights) == len(names) and min(weights) > 0),
            f"Concatenate.weights needs {len(names)} numbers above 0, or none. "
            f"Received {list(weights)}.",
        )
        require(
            len(names) >= 2 or any(member.folds for member in self.members),
            f"{self.name}: an ensemble needs at least two members. Received {len(names)}.",
        )
        require(
            not self.choose_weights or (isinstance(self.join, Concatenate) and not weights),
            f"{self.name}: choose_weights chooses the weights of Concatenate: give it none.",
        )
        require(
            len(set(names)) == len(names),
            f"{self.name}: two members have the same name, rename one. "
            f"Received {', '.join(names)}.",
        )
