"""Embed a list of images; unreadable files are skipped, counted and listed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat

import numpy as np

from data_io.files.contents import contents_of
from data_io.messages import shown_path
from data_io.progress import progress
from data_io.records import GlobalFeatures, ImageList
from data_io.stores.embeddings import EmbeddingStore
from data_io.stores.joined_embeddings import JoinedStore
from data_io.stores.logits import LogitStore
from delf_ext.features.decoding import decoded_batches
from delf_ext.features.embedder import Adapted, EmbedsImages, Ensemble, networks_of
from delf_ext.features.query_copies import with_copy
from delf_ext.features.test_time import copies_of, copy_names, in_gallery, join_copies
from delf_ext.recipes.schema import TestTime

BATCH_SIZE = 32
NO_TIME_LEFT = "no time left"
FAILED = "the model's embedding is zero or not finite"
# The squares of a shorter embedding are too small for float32.
SHORT = 1e-15
# A killed process loses at most this many new embeddings.
STORED_TOGETHER = 256


def always_has_time() -> bool:
    """Return True; the `has_time` of work without a deadline."""
    return True


def extract_global(
    model: EmbedsImages | Ensemble | Adapted,
    images: ImageList,
    batch_size: int = BATCH_SIZE,
    description: str = "embedding",
    has_time: Callable[[], bool] = always_has_time,
) -> tuple[GlobalFeatures, ImageList]:
    """Embed a list of images; embeddings that the model's store has are not computed again.

    A single network embeds the images without copies. An ensemble or a model with a head embeds
    them with the copies of its recipe: see `extract_with_copies`.

    Args:
        model: an embedder, an ensemble of embedders, a model with a head, or a class of the user.
        images: N images.
        batch_size: images per call of the model.
        description: shown beside the progress bar.
        has_time: called before each batch; after the first False the other images are skipped.

    Returns:
        The embeddings in the order of the list, and the list of their images. Its `skipped` lists
        the others. An image for which the model returns zero or numbers that are not finite is
        marked as `failed`, not skipped.

    Raises:
        ValueError: no image is readable, or `batch_size` is below 1.
        TimeoutError: there is no time for the first batch.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1. Received {batch_size}.")
    if isinstance(model, Adapted | Ensemble):
        return extract_with_copies(model, images, None, batch_size, description, has_time)
    items = embedded_rows(model, images, batch_size, description, has_time)
    return _collect(model.digest, images, items)


def embedded_rows(
    model: EmbedsImages,
    images: ImageList,
    batch_size: int,
    description: str,
    has_time: Callable[[], bool] = always_has_time,
) -> list[np.ndarray | str]:
    """Return the row of each image in the output of a network, from its store if it is there.

    Args:
        model: an embedder; with `logit_names`, logits follow the embedding in each row.
        images: N images.
        batch_size: images per call of the model.
        description: shown beside the progress bar.
        has_time: called before each batch; after the first False the other images are skipped.

    Returns:
        For each image its row, float32 [D] or [D + C], or the reason why it has none.
    """
    embedded = partial(
        _embedded, model, description=description, batch_size=batch_size, has_time=has_time
    )
    store: EmbeddingStore | JoinedStore | LogitStore | None = getattr(model, "store", None)
    if store is None:
        return list(embedded(images))
    contents = contents_of(images.paths.tolist())
    items: list = [store.get(content) for content in contents]
    missing = [row for row, item in enumerate(items) if item is None]
    if len(missing) < len(images):
        num_stored = len(images) - len(missing)
        folder = shown_path(store.folder)
        store.log(f"{description}: {num_stored} of {len(images)} are stored in {folder}")
    new_items = zip(missing, embedded(images.take(missing)), strict=True)
    new: dict[str, np.ndarray] = {}
    try:
        for row, item in new_items:
            items[row] = item
            if contents[row] and not isinstance(item, str):
                new[contents[row]] = item
            if len(new) >= STORED_TOGETHER:
                _store(store, new)
    finally:
        # After Ctrl-C too.
        _store(store, new)
    return items


def _store(store: EmbeddingStore | JoinedStore | LogitStore, new: dict[str, np.ndarray]) -> None:
    """Move new embeddings, content digest -> float32 [D], to the store."""
    store.add(list(new), np.array(list(new.values()), np.float32))
    new.clear()


def extract_with_copies(
    model: EmbedsImages | Ensemble | Adapted,
    images: ImageList,
    test_time: TestTime | None,
    batch_size: int = BATCH_SIZE,
    description: str = "embedding",
    has_time: Callable[[], bool] = always_has_time,
) -> tuple[GlobalFeatures, ImageList]:
    """Embed a list of gallery images and their copies.

    Args:
        model: the model.
        images: N images.
        test_time: the copies; None = as the head, or the recipe of each network, says.
        batch_size: images per call of the model.
        description: shown beside the progress bar.
        has_time: called before each batch.

    Returns:
        The same as `extract_global`.

    Raises:
        UsageError: the model cannot embed such copies.
        ValueError: no image is readable, or `batch_size` is below 1.
        TimeoutError: there is no time for the first batch, or for a size that is concatenated.
    """
    copies = [in_gallery(one) for one in copies_of(model, test_time)]
    parts, images = extract_networks(model, images, batch_size, description, has_time)
    parts = add_copies(model, parts, images, copies, batch_size, description, has_time)
    return join_networks(model, iter(parts)), images


def add_copies(
    model: EmbedsImages | Ensemble | Adapted,
    parts: Sequence[GlobalFeatures],
    images: ImageList,
    copies: Sequence[TestTime],
    batch_size: int,
    description: str,
    has_time: Callable[[], bool] = always_has_time,
) -> list[GlobalFeatures]:
    """Join the embeddings of each network with those of copies of the images.

    Args:
        model: the model.
        parts: embeddings of the N images by each of `networks_of`.
        images: these N images.
        copies: for each network its copies.
        batch_size: images per call of the model.
        description: shown beside the progress bar.
        has_time: called before each batch; a copy that is not complete in time is not used.

    Returns:
        For each network the embeddings joined with all complete copies.

    Raises:
        TimeoutError: there is no time for a size that is concatenated.
    """

    def added(network: EmbedsImages, features: GlobalFeatures, own: TestTime) -> GlobalFeatures:
        complete = {"": features}
        for name in copy_names(own):
            if not has_time():
                break
            try:
                copy, embedded = extract_global(
                    with_copy(network, name), images, batch_size, f"{description}, {name}", has_time
                )
            except TimeoutError:
                # The images themselves are embedded: use them without this copy.
                break
            if len(embedded) == len(images):
                complete[name] = copy
        return join_copies(complete, own) if copy_names(own) else features

    networks = networks_of(model)
    return [added(*each) for each in zip(networks, parts, copies, strict=True)]


def _embedded(
    model: EmbedsImages,
    images: ImageList,
    description: str,
    batch_size: int,
    has_time: Callable[[], bool],
) -> Iterator[np.ndarray | str]:
    """Yield each image's embedding or the reason why it has none."""
    num_images = 0
    with progress(len(images), description) as bar:
        for batch in decoded_batches(images, model.image_size, batch_size):
            if not has_time():
                break
            yield from embed_readable(model, batch, batch_size)
            num_images += len(batch)
            bar.update(len(batch))
    yield from repeat(NO_TIME_LEFT, len(images) - num_images)


def _collect(
    digest: str, images: ImageList, items: Sequence[np.ndarray | str]
) -> tuple[GlobalFeatures, ImageList]:
    reasons = [item if isinstance(item, str) else "" for item in items]
    embeddings = [item for item in items if not isinstance(item, str)]
    if reasons and not embeddings and reasons[0] == NO_TIME_LEFT:
        raise TimeoutError(
            f"no time left to embed the first of {len(images)} images: "
            "the time budget is too short."
        )
    return joined_features(digest, images, reasons, embeddings)


def joined_features(
    digest: str,
    images: ImageList,
    reasons: Sequence[str],
    embeddings: Sequence[np.ndarray] | np.ndarray,
) -> tuple[GlobalFeatures, ImageList]:
    """Join embeddings to one record; images whose embedding failed stay, marked as `failed`.

    Args:
        digest: of the model.
        images: N images.
        reasons: for each image why it has no embedding; "" if it has one.
        embeddings: float32 [D] of each image that has one, in order.

    Returns:
        The features, and the list of their images; its `skipped` lists the others.

    Raises:
        ValueError: no image is left, or the embeddings of all images failed.
    """
    used = skip_images(images, ["" if reason == FAILED else reason for reason in reasons])
    if not len(embeddings):
        raise ValueError(
            f"the model's embedding of each of {len(used)} images is zero or not finite, "
            f"the first: {used.paths[0]}. Check the weights: a training with too large a "
            "learning rate (--lr) leaves such ones."
        )
    failed = np.array([reason == FAILED for reason in reasons if reason in ("", FAILED)], bool)
    rows = np.zeros((len(used), len(embeddings[0])), np.float32)
    rows[~failed] = embeddings
    # The record copies writable arrays.
    rows.setflags(write=False)
    return GlobalFeatures(used.ids, rows, digest, failed), used


def skip_images(images: ImageList, reasons: Sequence[str]) -> ImageList:
    """Skip some of the images; fail if none is left.

    Args:
        images: N images.
        reasons: for each image why it is skipped; "" if it is not.

    Returns:
        The list without the images that have a reason; its `skipped` lists those.

    Raises:
        ValueError: no image is left.
    """
    if all(reasons):
        first = f"{images.paths[0]}: {reasons[0]}" if reasons else "the list is empty"
        raise ValueError(f"none of {len(images)} images could be read; the first: {first}.")
    return images.skip(reasons)


def extract_networks(
    model: EmbedsImages | Ensemble | Adapted,
    images: ImageList,
    batch_size: int,
    description: str,
    has_time: Callable[[], bool] = always_has_time,
) -> tuple[list[GlobalFeatures], ImageList]:
    """Embed a list of images with each network of a model, without copies.

    Args:
        model: the model.
        images: N images.
        batch_size: images per call of the model.
        description: shown beside the progress bar.
        has_time: called before each batch; after the first False the other images are skipped.

    Returns:
        The embeddings of each of `networks_of`, and the list of the images that all embedded.
    """
    networks = networks_of(model)
    parts = []
    for network in networks:
        what = f"{description}, {network.name}" if len(networks) > 1 else description
        part, images = extract_global(network, images, batch_size, what, has_time)
        parts.append(part)
    return [part.take(np.isin(part.ids, images.ids)) for part in parts], images


def join_networks(
    model: EmbedsImages | Ensemble | Adapted, parts: Iterator[GlobalFeatures]
) -> GlobalFeatures:
    """Join the embeddings of the networks of a model, and apply its heads.

    Args:
        model: the model.
        parts: embeddings of the same images by each of `networks_of`.

    Returns:
        The embeddings of the model; an image on which one network failed is marked as `failed`.
    """
    if isinstance(model, Adapted):
        return model.projected(join_networks(model.base, parts))
    if isinstance(model, Ensemble):
        members = [join_networks(member, parts) for member in model.members]
        return model.joined_features(members[0].ids, members)
    return next(parts)


def embed_readable(
    model: EmbedsImages, batch: Sequence[np.ndarray | str], batch_size: int
) -> list[np.ndarray | str]:
    """Embed the readable images of a batch.

    The batch is filled with black images to a fixed shape, because TensorFlow would trace and tune
    the graph again for a second shape.

    Args:
        model: embeds the images.
        batch: for each image its pixels, uint8 [S, S, 3], or the reason why it cannot be read.
        batch_size: at least the length of the batch.

    Returns:
        For each image its embedding, float32 [D] of unit length, or the reason why it has none.
        Logits that follow the embedding are returned as they are.
    """
    num_logits = len(getattr(model, "logit_names", ()))
    readable = [item for item in batch if not isinstance(item, str)]
    if not readable:
        return list(batch)
    black = [np.zeros_like(readable[0])] * (batch_size - len(readable))
    vectors = iter(np.asarray(model.embed(np.stack(readable + black)), np.float32))
    return [
        item if isinstance(item, str) else _unit_or_reason(next(vectors), num_logits)
        for item in batch
    ]


def _unit_or_reason(vector: np.ndarray, num_logits: int = 0) -> np.ndarray | str:
    embedding, logits = np.split(vector, [len(vector) - num_logits])
    length = np.linalg.norm(embedding)
    if length < SHORT:
        embedding = embedding.astype(np.float64)
        length = np.linalg.norm(embedding)
    if np.isfinite(length) and length > 0 and np.isfinite(logits).all():
        return np.concatenate([(embedding / length).astype(np.float32), logits])
    return FAILED
