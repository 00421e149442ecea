"""Define what the rest of the program sees of a model: images in, embeddings out.

This module does not import TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from data_io.files.artifacts import digest_of
from data_io.photographs import Photographs
from data_io.records import GlobalFeatures
from data_io.stores.embeddings import EmbeddingStore
from data_io.stores.joined_embeddings import JoinedStore
from data_io.stores.logits import LogitStore
from delf_ext.config import UsageError
from delf_ext.features.reductions.projection import Projection
from delf_ext.recipes import schema
from delf_ext.recipes.part import Part

Embed = Callable[[np.ndarray], np.ndarray]
"""uint8 images [B, S, S, 3], RGB -> float32 embeddings [B, D]."""


class EmbedsImages(Protocol):
    """Interface of a model that extraction can use: an Embedder or a class of the user."""

    @property
    def image_size(self) -> int:
        """Side of the input in pixels."""

    @property
    def digest(self) -> str:
        """String that changes if the embeddings can change."""

    @property
    def embed(self) -> Embed:
        """Function of a batch of images to their embeddings."""


@dataclass(frozen=True)
class HeldBack:
    """What a model was trained on, and which images training held back for validation.

    Attributes:
        validation: rule of the recipe; None if nothing was held back.
        seed: seed of the random choice.
        names: names of the classes or images that were held back.
        classes: names of the trained classes; empty if the model was not trained on classes.
        photographs: the photographs of the training; None if the run does not list them.
        max_images: training used only the first images of the data; 0 = all.
    """

    validation: schema.Validation | None = None
    seed: int = 0
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    photographs: Photographs | None = None
    max_images: int = 0

    @property
    def choice(self) -> tuple[schema.Validation | None, int, tuple[str, ...]]:
        """Which images were held back; equal if two models can be compared on them."""
        rule = self.validation
        # How often training looked at them does not matter.
        return rule and replace(rule, every_steps=0), self.seed, self.names

    @property
    def what(self) -> str:
        """What was held back, for a message."""
        validation = self.validation
        if isinstance(validation, schema.StratifiedFolds):
            return f"fold {validation.fold + 1} of {validation.folds}, {len(self.names)} images"
        if isinstance(validation, schema.HeldOutClasses):
            return f"classes {', '.join(self.names[:2])}{', ...' * (len(self.names) > 2)}"
        return "no images" if validation is None else "no images: queries of the data"


@dataclass(frozen=True)
class Embedder:
    """Model that is ready to embed; its weights may be loaded at the first batch.

    Attributes:
        name: shown to the user.
        image_size: side S of the input in pixels.
        digest: changes with weights, preprocessing and precision.
        embed: uint8 images [B, S, S, 3], RGB -> float32 embeddings [B, D].
        graph: returns the TensorFlow graph, for other runtimes; None if there is none.
        store: keeps embeddings on disk; None keeps nothing.
        test_time: copies of an image that the recipe embeds as well.
        ranking: chain of re-ranking steps of the recipe.
        held_back: images that training did not see.
        float32: whether the recipe forbids lower precision.
        release: frees the memory of the network; the next batch opens it again.
        logit_names: names of the classes whose logits follow the embedding in each row of `embed`;
            empty for a model that returns the embedding alone.
        with_logits: the same network with a longer output, see `logit_names`; None without a
            classifier.
        at_size: side in pixels -> the same network for images of this size; None if it takes images
            of one size only.
    """

    name: str
    image_size: int
    digest: str
    embed: Embed
    graph: Callable[[], Any] | None = None
    store: EmbeddingStore | JoinedStore | LogitStore | None = field(default=None, repr=False)
    test_time: schema.TestTime = schema.TestTime()
    ranking: str = ""
    held_back: HeldBack = HeldBack()
    float32: bool = False
    release: Callable[[], None] = field(default=lambda: None, repr=False)
    logit_names: tuple[str, ...] = ()
    with_logits: Embedder | None = field(default=None, repr=False)
    at_size: Callable[[int], Embedder] | None = field(default=None, repr=False)


def require_built_join(join: schema.Join) -> None:
    """Raise UsageError if an ensemble cannot be joined in this way yet."""
    if isinstance(join, schema.MeanSimilarity):
        raise UsageError("MeanSimilarity is not built yet. Built: Concatenate, MeanEmbedding.")


@dataclass(frozen=True)
class Ensemble:
    """Several models whose embeddings are joined; each one embeds and stores for itself.

    Each member joins its copies of an image first, one with a head before its projection.

    Attributes:
        name: shown to the user.
        members: the models; with or without heads.
        join: how embeddings are joined.
        ranking: chain of re-ranking steps of the recipe.
        label: how the recipe gives labels; None: nothing is said.

    Raises:
        UsageError: the join is not built yet, or does not fit the number of members.
    """

    name: str
    members: tuple[Embedder | Adapted, ...]
    join: schema.Join
    ranking: str = ""
    label: schema.LabelVote | None = None

    def __post_init__(self) -> None:
        require_built_join(self.join)
        weights = self.join.weights if isinstance(self.join, schema.Concatenate) else ()
        if weights and len(weights) != len(self.members):
            raise UsageError(
                f"Concatenate.weights needs {len(self.members)} numbers. Received {len(weights)}."
            )

    @property
    def test_time(self) -> schema.TestTime | None:
        """Copies of an image that the recipes of all members embed as well; None if they differ."""
        first, *others = [member.test_time for member in self.members]
        return first if all(other == first for other in others) else None

    @property
    def held_back(self) -> HeldBack:
        """Images that no member saw in training; see `common_held_back`."""
        return common_held_back(self.members, self.name)

    @property
    def digest(self) -> str:
        """Digest of the join and of the members' digests."""
        return digest_of([repr(self.join), [member.digest for member in self.members]])

    def release(self) -> None:
        """Free the memory of all members; the next batch opens them again."""
        for member in self.members:
            member.release()

    def joined(self, embeddings: list[np.ndarray]) -> np.ndarray:
        """Join the members' embeddings of the same images.

        Args:
            embeddings: [N, Di] of each member, unit length.

        Returns:
            [N, D], unit length (zero if the mean is zero).

        Raises:
            UsageError: the join is a mean, and the members' dimensions differ.
        """
        if isinstance(self.join, schema.Concatenate):
            weights = self.join.weights or (1.0,) * len(embeddings)
            weighted = [weight * one for weight, one in zip(weights, embeddings, strict=True)]
            joined = np.concatenate(weighted, axis=1)
        else:
            dimensions = [one.shape[1] for one in embeddings]
            if len(set(dimensions)) > 1:
                raise UsageError(
                    f"MeanEmbedding needs members of one dimension. Received {dimensions}."
                )
            joined = np.mean(embeddings, axis=0)
        lengths = np.linalg.norm(joined, axis=1, keepdims=True)
        return joined / np.maximum(lengths, np.finfo(np.float32).tiny)

    def joined_features(self, ids: np.ndarray, parts: Sequence[GlobalFeatures]) -> GlobalFeatures:
        """Join the members' embeddings of the images that all of them could embed.

        Args:
            ids: str [N], of these images, in order.
            parts: embeddings of each member, of these images and maybe of others between them.

        Returns:
            The joined embeddings; an image on which one member failed is marked as `failed`.

        Raises:
            UsageError: the join is a mean, and the members' dimensions differ.
        """
        parts = [part.take(np.isin(part.ids, ids)) for part in parts]
        joined = self.joined([part.embeddings for part in parts]).astype(np.float32)
        failed = np.any([part.failed for part in parts], axis=0) | ~joined.any(axis=1)
        joined[failed] = 0
        return GlobalFeatures(ids, joined, self.digest, failed)


@dataclass(frozen=True)
class Adapted:
    """Model with a head: a projection of the embeddings of a base model.

    The base stores its own embeddings, so all heads of one base share them. Copies of an image are
    joined before the projection, because the head was fitted on such embeddings.

    Attributes:
        name: shown to the user.
        base: the model whose embeddings are projected.
        projection: the head; None leaves the embeddings of the base.
        test_time: copies of an image that are embedded as well; None = those of each member.
        ranking: chain of re-ranking steps.
        fitted_on: what the head was fitted on; None = the images that the base was trained on.
        reduction: what was fitted, to fit it again on a part of the images; None if not known.
    """

    name: str
    base: Embedder | Ensemble
    projection: Projection | None = field(repr=False)
    test_time: schema.TestTime | None = schema.TestTime()
    ranking: str = ""
    fitted_on: HeldBack | None = None
    reduction: Part | None = None

    @property
    def held_back(self) -> HeldBack:
        """Images that neither the base nor the head saw; see `common_held_back`."""
        return self.base.held_back if self.fitted_on is None else self.fitted_on

    @property
    def digest(self) -> str:
        """Digest of the base model and the projection; copies do not count, as for an Embedder."""
        if self.projection is None:
            return self.base.digest
        return digest_of([self.base.digest, self.projection.digest])

    def release(self) -> None:
        """Free the memory of the base model; the next batch opens it again."""
        self.base.release()

    def projected(self, features: GlobalFeatures) -> GlobalFeatures:
        """Project embeddings of the base model.

        Args:
            features: embeddings [N, D] of the base.

        Returns:
            Embeddings [N, d] with this model's digest; those that failed stay failed, and one
            that is projected to zero fails too.

        Raises:
            ValueError: D is not that of the projection.
        """
        if self.projection is None:
            return features
        embeddings = self.projection(features.embeddings)
        failed = features.failed | ~embeddings.any(axis=1)
        embeddings[failed] = 0
        return GlobalFeatures(features.ids, embeddings, self.digest, failed)


AnyEmbedder = Embedder | Ensemble | Adapted


def networks_of(model: EmbedsImages | Ensemble | Adapted) -> tuple[Any, ...]:
    """Return the networks of a model, without heads, in the order of its members."""
    if isinstance(model, Adapted):
        return networks_of(model.base)
    if isinstance(model, Ensemble):
        return tuple(network for member in model.members for network in networks_of(member))
    return (model,)


class OtherSizes:
    """The same network at other image sizes; each is opened once."""

    def __init__(self, open_at: Callable[[int], Embedder]) -> None:
        """Keep how to open a network.

        Args:
            open_at: side of the images in pixels -> the network.
        """
        self._open_at = open_at
        self._opened: dict[int, Embedder] = {}

    def __call__(self, size_px: int) -> Embedder:
        """Return the network for images of this size."""
        if size_px not in self._opened:
            self._opened[size_px] = self._open_at(size_px)
        return self._opened[size_px]

    def release(self) -> None:
        """Free the memory of the networks; the next batch opens them again."""
        for network in self._opened.values():
            network.release()


def with_sizes(model: Embedder, open_at: Callable[[int], Embedder]) -> Embedder:
    """Return the model with other image sizes; `release` frees these too.

    Args:
        model: takes images of one size.
        open_at: side of the images in pixels -> the same network for this size.

    Returns:
        The model with `at_size`.
    """
    sizes = OtherSizes(open_at)

    def release() -> None:
        model.release()
        sizes.release()

    return replace(model, at_size=sizes, release=release)


def common_held_back(models: Sequence[AnyEmbedder], name: str) -> HeldBack:
    """Return what was held back from the training of all models.

    Args:
        models: models without held-back images are ignored.
        name: of the evaluation or ensemble, for the message.

    Returns:
        The common record; an empty one if no model held anything back.

    Raises:
        UsageError: models held back different images, so each image was seen by one of them.
    """
    records = [model.held_back for model in models]
    distinct = list({r.choice: r for r in records if r.validation is not None}.values())
    if len(distinct) > 1:
        shown = "; ".join(record.what for record in distinct[:5])
        raise UsageError(
            f"{name}: the models held back different images ({shown}{'; ...' * (len(distinct) > 5)}"
            "), so each image was trained on by one of them; evaluate them on data that has its "
            "own queries."
        )
    return distinct[0] if distinct else HeldBack()
