"""k-reciprocal re-ranking: two images are near where they have the same neighbours, counting only those that count them too.

Source: Zhong, Zheng, Cao and Li 2017 (CVPR, arXiv:1701.08398), in the steps of the authors' published procedure, on queries and
gallery together. Squared Euclidean distances are divided by each image's largest. An image's set is its k-reciprocal neighbours,
and those of each of them for half of k1 where more than 2/3 are in the set before; exp(-distance) over the set, of sum 1, encodes
the image; encodings are averaged over the k2 nearest (k2 = 1: left as they are); their Jaccard distance is the new one.
Ties among neighbours go to the lowest row, queries before gallery: of many equal images only the first k1 + 1 are neighbours.

Nothing here is dense. What two encodings share is summed in float64 and rounded to 1e-9, far above its error and far below that
of the authors' float32: so what is equal by the formula is equal here, and the result depends on no order of summation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.sparse import csr_matrix, vstack

from data_io.records import GlobalFeatures, Ranking
from delf_ext.compiled import compiled
from delf_ext.config import UsageError
from delf_ext.index.neighbours import nearest_neighbours
from delf_ext.index.similarities import pair_similarities
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.jaccard import candidate_similarities, final_distances
from delf_ext.reranking.rankings import check_same_images, reranked

ENTRIES_PER_BLOCK = 2**19  # of candidates or of encodings: 30 MB while a block is worked on


def rerank_k_reciprocal(
    ranking: Ranking,
    query: GlobalFeatures,
    gallery: GlobalFeatures,
    k1: int = 20,
    k2: int = 6,
    lambda_: float = 0.3,
    deadline: Deadline | None = None,
) -> Ranking:
    """Each query's candidates by (1 - lambda_) * Jaccard distance + lambda_ * original distance, ties by gallery row.

    Candidates are the images of `ranking`, be it all of the gallery or the first; neighbours are looked for among all. k1 or k2
    beyond the number of images means all of them; a query that is also in the gallery counts as two images. No embedding can be
    zero or NaN: GlobalFeatures refuses them.
    Scores: 1 - that distance, in [0, 1]; they compare within a query.
    Deadline: no query can be finished before the neighbours of all images are known. Where time ends before, or would, nothing
    changes; later, what is not reached keeps rows and scores. Neither is complete.
    Memory beside features and rankings, N = Q + G: the embeddings once more, N (24 k1 + 400) bytes for neighbours (k1 at least 15
    and k2), 36 per entry of the encodings, at most N k2 (k1 + 1) (k1 / 2 + 2) but about 25 N on clustered data, and 150 MB.
    Raises: UsageError on k1 or k2 below 1 or lambda_ outside [0, 1]; ValueError where the features are not those of the ranking.
    """
    if k1 < 1 or k2 < 1 or not 0.0 <= lambda_ <= 1.0:
        raise UsageError(
            f"k1 and k2 must be at least 1, lambda_ in [0, 1]. Received {k1}, {k2} and {lambda_}."
        )
    check_same_images(ranking, query, gallery)
    rows, scores, reached = ranking.rows.copy(), ranking.scores.copy(), np.zeros(len(query), bool)
    for block, *found in _finished(
        ranking, query, gallery, k1, k2, lambda_, deadline or Deadline()
    ):
        (rows[block], scores[block]), reached[block] = found, True
    note = f"k-reciprocal {k1},{k2},{lambda_:g}"
    return reranked(ranking, rows, scores, reached, note)


def _finished(
    ranking: Ranking,
    query: GlobalFeatures,
    gallery: GlobalFeatures,
    k1: int,
    k2: int,
    lambda_: float,
    deadline: Deadline,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """(queries, their new rows, their new scores) by blocks, as far as time allows."""
    if not ranking.rows.size or deadline.expired():
        return
    try:
        encodings, farthest = _encodings(
            np.concatenate([query.embeddings, gallery.embeddings]), k1, k2, deadline
        )
    except TimeoutError:
        return
    inverted = encodings[len(query) :].tocsc()
    for block in deadline.blocks(len(query), max(1, ENTRIES_PER_BLOCK // ranking.rows.shape[1])):
        rows = ranking.rows[block]
        similarities = candidate_similarities(query.embeddings[block], gallery.embeddings, rows)
        final, order = final_distances(
            encodings[block], inverted, rows, similarities, farthest[block], lambda_
        )
        scores = np.where(rows >= 0, 1 - final, ranking.scores[block])
        yield (
            block,
            np.take_along_axis(rows, order, axis=1),
            np.take_along_axis(scores, order, axis=1),
        )


def _encodings(
    embeddings: np.ndarray, k1: int, k2: int, deadline: Deadline
) -> tuple[csr_matrix, np.ndarray]:
    """Averaged encodings [N, N] float64, and each image's largest distance [N].

    Raises: TimeoutError where they are not ready before the deadline.
    """
    num_images, half = len(embeddings), round(k1 / 2) + 1
    neighbours = nearest_neighbours(embeddings, max(k1 + 1, k2), deadline.give_up())
    rows, farthest = neighbours.rows, _distances(neighbours.lowest_similarities)
    farthest[farthest <= 0] = 1  # all images are equal
    near, nearer = _are_mutual(rows, k1 + 1), _are_mutual(rows, half)

    def encoded(block: slice) -> csr_matrix:
        counts, columns = _sets(rows, near, nearer, block.start, block.stop)
        images = np.repeat(np.arange(block.start, block.stop), counts)
        weights = np.exp(
            -_distances(pair_similarities(embeddings, embeddings, images, columns))
            / farthest[images]
        )
        sums = np.bincount(images - block.start, weights, minlength=len(counts))
        weights /= sums[images - block.start]
        return csr_matrix(
            (weights, columns, np.append(0, np.cumsum(counts))), shape=(len(counts), num_images)
        )

    largest_set = min(num_images, near.shape[1] * (nearer.shape[1] + 1))
    encodings = _stacked(encoded, num_images, largest_set, deadline)
    if k2 > 1:
        nearest = rows[:, :k2]
        parts, ends = (
            np.full(nearest.size, 1 / nearest.shape[1]),
            np.arange(0, nearest.size + 1, nearest.shape[1]),
        )
        averages = csr_matrix((parts, nearest.ravel(), ends), shape=(num_images, num_images))
        encodings = _stacked(
            lambda block: averages[block] @ encodings,
            num_images,
            largest_set * nearest.shape[1],
            deadline,
        )
    return encodings, farthest


def _distances(similarities: np.ndarray) -> np.ndarray:
    """Squared Euclidean, of unit vectors; float64, in which they are exact."""
    return 2 - 2 * similarities.astype(np.float64)


def _stacked(
    make: Callable[[slice], csr_matrix], num_rows: int, entries_per_row: int, deadline: Deadline
) -> csr_matrix:
    """What `make` gives for blocks of rows, one below the other. Raises: TimeoutError where time ends before all are made."""
    blocks = deadline.blocks(
        num_rows, max(1, ENTRIES_PER_BLOCK // entries_per_row), what="encoding"
    )
    parts = [make(block) for block in blocks]
    if sum(part.shape[0] for part in parts) < num_rows:
        raise TimeoutError("not all images are encoded.")
    return vstack(parts, format="csr")


@compiled
def _are_mutual(rows: np.ndarray, k: int) -> np.ndarray:
    """bool [N, k]: whether image i is among the first k neighbours of its neighbour rows[i, j]; k is cut to the width."""
    k = min(k, rows.shape[1])
    result = np.zeros((rows.shape[0], k), np.bool_)
    for i in range(rows.shape[0]):
        for j in range(k):
            other = rows[i, j]
            for place in range(k):
                if rows[other, place] == i:
                    result[i, j] = True
    return result


@compiled
def _sets(
    rows: np.ndarray, near: np.ndarray, nearer: np.ndarray, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray]:
    """The expanded sets of images start to stop: their sizes and, one after the other, their members."""
    largest = min(rows.shape[0], near.shape[1] * (nearer.shape[1] + 1))
    sizes, members, total = (
        np.zeros(stop - start, np.int64),
        np.empty((stop - start) * largest, np.int32),
        0,
    )
    core, added = np.int8(1), np.int8(2)
    state = np.zeros(rows.shape[0], np.int8)
    for i in range(start, stop):
        first = total
        for j in range(near.shape[1]):
            if near[i, j]:
                state[rows[i, j]], members[total] = core, rows[i, j]
                total += 1
        for member in members[first:total]:
            size = common = 0
            for j in range(nearer.shape[1]):
                if nearer[member, j]:
                    size += 1
                    common += state[rows[member, j]] == core
            for j in range(nearer.shape[1] if 3 * common > 2 * size else 0):
                if nearer[member, j] and state[rows[member, j]] == 0:
                    state[rows[member, j]], members[total] = added, rows[member, j]
                    total += 1
        for member in members[first:total]:
            state[member] = 0
        sizes[i - start] = total - first
    return sizes, members[:total].copy()
