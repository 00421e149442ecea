"""Return the class logits of images; one pass through a network yields embeddings and logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_io.progress import quiet
from data_io.records import ImageList
from data_io.stores.embeddings import EmbeddingStore
from data_io.stores.logits import LogitStore
from delf_ext.config import UsageError
from delf_ext.features.embedder import Adapted, AnyEmbedder, Embed, Embedder, Ensemble, networks_of
from delf_ext.features.extraction import BATCH_SIZE, embedded_rows
from delf_ext.features.query_copies import with_copy
from delf_ext.features.test_time import NO_COPIES, copies_of, copy_names
from delf_ext.recipes.schema import TestTime


@dataclasses.dataclass(frozen=True, eq=False)
class Logits:
    """Logits of the networks of a model.

    Attributes:
        class_names: names of the C trained classes.
        of_members: float32 [N, C] of each network, copies averaged; NaN for an image without.
    """

    class_names: tuple[str, ...]
    of_members: tuple[np.ndarray, ...]

    @property
    def mean(self) -> np.ndarray:
        """Mean of the networks' logits, float32 [N, C]."""
        return np.mean(self.of_members, axis=0)

    @property
    def log_probabilities(self) -> np.ndarray:
        """Logarithm of the mean of the networks' softmax, float32 [N, C]."""
        logs = np.stack([log_softmax(logits) for logits in self.of_members])
        return np.logaddexp.reduce(logs, axis=0) - np.float32(np.log(len(logs)))

    def take(self, rows: np.ndarray) -> Logits:
        """Return the logits of some of the images.

        Args:
            rows: int [n], or a mask bool [N].

        Returns:
            The logits of these images.
        """
        return Logits(self.class_names, tuple(logits[rows] for logits in self.of_members))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the logarithm of the softmax of each row.

    Args:
        logits: float [N, C]; -inf has probability 0.

    Returns:
        float [N, C].
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def has_logits(model: AnyEmbedder) -> bool:
    """Return whether each network of a model has a classifier."""
    return all(network.with_logits is not None for network in networks_of(model))


def require_one_classifier(model: AnyEmbedder) -> None:
    """Raise UsageError if the classifiers of an ensemble have different classes."""
    first, *others = networks_of(model)
    for other in others:
        if set(_names(other)) != set(_names(first)):
            different = sorted(set(_names(other)) ^ set(_names(first)))
            raise UsageError(
                f"{model.name}: its members were trained on different classes (such as "
                f"{different[0]}), so their class probabilities have no mean. Pass members that "
                "were trained on the same classes."
            )


def _names(network: Embedder) -> tuple[str, ...]:
    return () if network.with_logits is None else network.with_logits.logit_names


def one_pass(model: AnyEmbedder) -> AnyEmbedder:
    """Return a model whose networks compute embeddings and logits in one pass.

    Embeddings that the pass of `logits_of_images` has computed are found in the store; without a
    store, they are kept in memory.

    Args:
        model: any model.

    Returns:
        The model; a network without a classifier stays as it is.
    """
    if isinstance(model, Adapted):
        base = one_pass(model.base)
        assert not isinstance(base, Adapted)
        return dataclasses.replace(model, base=base)
    if isinstance(model, Ensemble):
        members = tuple(one_pass(member) for member in model.members)
        return dataclasses.replace(model, members=members)  # type: ignore[arg-type]
    return _shared(model)


def _shared(network: Embedder) -> Embedder:
    longer = network.with_logits
    if longer is None:
        return network
    store = network.store
    if not isinstance(store, EmbeddingStore):
        store = EmbeddingStore(Path("memory"), network.digest, quiet, writes=False)
    num_logits = len(longer.logit_names)
    longer = dataclasses.replace(longer, store=LogitStore(store, num_logits))
    return dataclasses.replace(
        network,
        store=store,
        with_logits=longer,
        embed=_without_logits(longer.embed, num_logits),
        release=longer.release,
    )


def _without_logits(embed: Embed, num_logits: int) -> Embed:
    return lambda images: embed(images)[:, :-num_logits]


def logits_of_images(
    model: AnyEmbedder,
    images: ImageList,
    test_time: TestTime | None = NO_COPIES,
    batch_size: int = BATCH_SIZE,
    description: str = "class logits",
) -> Logits:
    """Return the logits of images, averaged over their copies.

    Args:
        model: from `one_pass`, so that its embeddings need no second pass; each network has a
            classifier.
        images: N images.
        test_time: copies of each image; None = as the recipe of each network says.
        batch_size: images per call of the model.
        description: shown beside the progress bar.

    Returns:
        The logits of each network; rows of images that cannot be read are NaN.

    Raises:
        UsageError: the networks have different classes.
    """
    require_one_classifier(model)
    names = _names(networks_of(model)[0])
    of_members = []
    for network, copies in zip(networks_of(model), copies_of(model, test_time), strict=True):
        longer = network.with_logits
        assert longer is not None
        place_of = {name: place for place, name in enumerate(longer.logit_names)}
        order = [place_of[name] for name in names]

        def of(one: Embedder, what: str) -> np.ndarray:
            return _logits(embedded_rows(one, images, batch_size, what), len(names))

        values = [of(longer, description)]
        for copy in copy_names(copies):
            copying = with_copy(longer, copy)
            values.append(of(copying, f"{description}, {copy}"))
        of_members.append(np.mean(values, axis=0)[:, order])
    return Logits(names, tuple(of_members))


def _logits(rows: Sequence[np.ndarray | str], num_logits: int) -> np.ndarray:
    nothing = np.full(num_logits, np.nan, np.float32)
    return np.array([nothing if isinstance(row, str) else row[-num_logits:] for row in rows])
