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
from delf_ext.features.embedder import Adapted, EmbedsImages, Ensemble
from delf_ext.features.query_copies import average_copies, with_copy

BATCH_SIZE = 32
NO_TIME_LEFT = "no time left"
FAILED = "the model's embedding is zero or not finite"
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
    if isinstance(model, Ensemble):
        return _extract_ensemble(model, images, batch_size, description, has_time)
    if isinstance(model, Adapted):
        base = extract_global(model.base, images, batch_size, description, has_time)
        # Copies of queries only would not fit the gallery, which has none.
        copies = () if model.test_time.queries_only else model.test_time.copies
        averaged = average_with_copies(model.base, *base, copies, batch_size, description, has_time)
        return model.projected(averaged), base[1]
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


def average_with_copies(
    model: EmbedsImages | Ensemble,
    features: GlobalFeatures,
    images: ImageList,
    names: Sequence[str],
    batch_size: int,
    description: str,
    has_time: Callable[[], bool] = always_has_time,
) -> GlobalFeatures:
    """Average embeddings with those of transformed copies of the images.

    Args:
        model: made the embeddings.
        features: embeddings of the N images.
        images: these N images.
        names: of the copies: keys of `query_copies.COPIES`.
        batch_size: images per call of the model.
        description: shown beside the progress bar.
        has_time: called before each batch; a copy that is not complete in time is not used.

    Returns:
        The mean of the embeddings and of all complete copies.

    Raises:
        ValueError: `batch_size` is below 1.
    """
    if not names:
        return features
    copies = [features]
    for name in names:
        if not has_time():
            break
        try:
            copy, embedded = extract_global(
                with_copy(model, name), images, batch_size, f"{description}, {name}", has_time
            )
        except TimeoutError:
            # The images themselves are embedded: use them without this copy.
            break
        if len(embedded) == len(images):
            copies.append(copy)
    return average_copies(copies)


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


def _extract_ensemble(
    model: Ensemble,
    images: ImageList,
    batch_size: int,
    description: str,
    has_time: Callable[[], bool],
) -> tuple[GlobalFeatures, ImageList]:
    """Embed with each member; an image on which one of them failed is marked as `failed`."""
    features = []
    readable = images
    for member in model.members:
        of_member, readable = extract_global(
            member, readable, batch_size, f"{description}, {member.name}", has_time
        )
        features.append(of_member)
    return model.joined_features(readable.ids, features), readable


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
    if np.isfinite(length) and length > 0 and np.isfinite(logits).all():
        return np.concatenate([embedding / length, logits])
    return FAILED
