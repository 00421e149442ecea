"""What turns a batch of photographs into embeddings, as all verbs see it. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from data_io.artifacts import digest_of
from data_io.stores.embeddings import EmbeddingStore
from delf_ext.config import UsageError
from delf_ext.recipes import schema

Embed = Callable[[np.ndarray], np.ndarray]


class EmbedsImages(Protocol):
    """What extraction asks of a model: an Embedder, or your own."""

    @property
    def image_size(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def embed(self) -> Embed: ...


@dataclass(frozen=True)
class HeldBack:
    """What training held back: the validation of its recipe, its seed, and the names that it held back."""

    validation: schema.Validation | None = None
    seed: int = 0
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Embedder:
    """A model that is ready to embed. Its weights may be loaded at the first batch only.

    name: as it is shown. image_size: S, the side of its input in pixels. digest: changes with weights, preprocessing
    and precision. embed: uint8 [B, S, S, 3] RGB -> float32 [B, D]. graph: returns what TensorFlow runs, for other
    runtimes; None where there is none. store: where its embeddings are kept; None keeps nothing. test_time: further
    copies of a photograph that its recipe asks for. ranking: the recipe's chain of re-rankers. held_back: what its
    training did not see. float32: its recipe allows no lower precision.
    """

    name: str
    image_size: int
    digest: str
    embed: Embed
    graph: Callable[[], Any] | None = None
    store: EmbeddingStore | None = field(default=None, repr=False)
    test_time: schema.TestTime = schema.TestTime()
    ranking: str = ""
    held_back: HeldBack = HeldBack()
    float32: bool = False


def require_built_join(join: schema.Join) -> None:
    """Raise UsageError if an ensemble cannot be joined in this way yet."""
    if isinstance(join, schema.MeanSimilarity):
        raise UsageError("MeanSimilarity is not built yet. Built: Concatenate, MeanEmbedding.")


@dataclass(frozen=True)
class Ensemble:
    """Several models whose unit vectors are joined. Each embeds, and stores, by itself.

    Raises: UsageError for a join that is not built yet.
    """

    name: str
    members: tuple[Embedder, ...]
    join: schema.Join
    ranking: str = ""

    def __post_init__(self) -> None:
        require_built_join(self.join)
        weights = self.join.weights if isinstance(self.join, schema.Concatenate) else ()
        if weights and len(weights) != len(self.members):
            raise UsageError(
                f"Concatenate.weights needs {len(self.members)} numbers. Received {len(weights)}."
            )

    @property
    def test_time(self) -> schema.TestTime:
        """What the members' recipes ask for. Raises: UsageError when they differ."""
        first, *others = [member.test_time for member in self.members]
        if any(other != first for other in others):
            raise UsageError(
                f"{self.name}: members whose recipes differ in test_time are not built yet."
            )
        return first

    @property
    def held_back(self) -> HeldBack:
        """What all members held back. Raises: UsageError when they differ: each image was seen by one of them."""
        return common_held_back(self.members, self.name)

    @property
    def digest(self) -> str:
        return digest_of([repr(self.join), [member.digest for member in self.members]])

    def joined(self, embeddings: list[np.ndarray]) -> np.ndarray:
        """Return the embeddings [N, D] of unit length from the members' [N, Di].

        Raises: UsageError when their mean is asked for and they differ in length.
        """
        if isinstance(self.join, schema.Concatenate):
            weights = self.join.weights or (1.0,) * len(embeddings)
            joined = np.concatenate(
                [weight * one for weight, one in zip(weights, embeddings, strict=True)], axis=1
            )
        else:
            lengths = [one.shape[1] for one in embeddings]
            if len(set(lengths)) > 1:
                raise UsageError(
                    f"MeanEmbedding needs members of one dimension. Received {lengths}."
                )
            joined = np.mean(embeddings, axis=0)
        return joined / np.maximum(
            np.linalg.norm(joined, axis=1, keepdims=True), np.finfo(np.float32).tiny
        )


AnyEmbedder = Embedder | Ensemble


def common_held_back(models: Sequence[AnyEmbedder], name: str) -> HeldBack:
    """Return what the models that held anything back have in common.

    Raises: UsageError when they held back different images: each was trained on images that another one held back.
    """
    found = list(
        dict.fromkeys(one for model in models if (one := model.held_back).validation is not None)
    )
    if len(found) > 1:
        raise UsageError(
            f"{name}: the models held back different images: evaluate them on data that name queries."
        )
    return found[0] if found else HeldBack()
