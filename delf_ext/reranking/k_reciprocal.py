"""k-reciprocal re-ranking: images are near if they share mutual neighbours.

Source: Zhong, Zheng, Cao and Li 2017 (CVPR, arXiv:1701.08398), in the steps of the authors'
published procedure, on queries and gallery together:
1. Squared Euclidean distances are divided by the largest distance of each image.
2. The set of an image is its k-reciprocal neighbours. For each of them, its own reciprocal
   neighbours for half of k1 are added if more than 2/3 of them are in the set already.
3. exp(-distance) over the set, scaled to a sum of 1, encodes the image.
4. Encodings are averaged over the k2 nearest images (k2 = 1: not averaged).
5. The Jaccard distance of two encodings is the new distance.
Ties among neighbours go to the lowest row, queries before gallery: of many equal images, only the
first k1 + 1 are neighbours.

No matrix is dense. What two encodings share is summed in float64 and rounded to 1e-9, which is far
above its error and far below that of the authors' float32. So distances that are equal by the
formula are equal here, and the result does not depend on the order of summation.
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

ENTRIES_PER_BLOCK = 2**19  # of candidates or of encodings: a block needs 30 MB


def rerank_k_reciprocal(
    ranking: Ranking,
    query: GlobalFeatures,
    gallery: GlobalFeatures,
    k1: int = 20,
    k2: int = 6,
    lambda_: float = 0.3,
    deadline: Deadline | None = None,
) -> Ranking:
    """Sort each query's candidates by k-reciprocal distance.

    The distance is (1 - lambda_) * Jaccard distance + lambda_ * original distance, ties by gallery
    row. Candidates are the images of `ranking`, all of the gallery or the first; neighbours are
    searched among all images. A query that is also in the gallery counts as two images.
    Memory beside features and rankings, N = Q + G: the embeddings once more, N (24 k1 + 400) bytes
    for neighbours (if k1 is at least 15 and k2), 36 bytes per entry of the encodings (at most
    N k2 (k1 + 1) (k1 / 2 + 2), but about 25 N on clustered data), and 150 MB.

    Args:
        ranking: of these images, [Q, k].
        query: embeddings [Q, D].
        gallery: embeddings [G, D].
        k1: mutual neighbours; more than there are images means all.
        k2: images to average encodings over; more than there are images means all.
        lambda_: weight of the original distance, 0 to 1.
        deadline: nothing changes if the neighbours of all images are not known in time; queries
            that are not reached later keep rows and scores. Neither are complete.

    Returns:
        A ranking [Q, k]. Scores are 1 - distance, in [0, 1]; they compare within a query.

    Raises:
        UsageError: k1 or k2 is below 1, or lambda_ outside [0, 1].
        ValueError: the features are not those of the ranking.
    """
    if k1 < 1 or k2 < 1 or not 0.0 <= lambda_ <= 1.0:
        raise UsageError(
            f"k1 and k2 must be at least 1, lambda_ in [0, 1]. Received {k1}, {k2} and {lambda_}."
        )
    check_same_images(ranking, query, gallery)
    rows = ranking.rows.copy()
    scores = ranking.scores.copy()
    reached = np.zeros(len(query), bool)
    deadline = deadline or Deadline()
    blocks = _sorted_blocks(ranking, query, gallery, k1, k2, lambda_, deadline)
    for block, block_rows, block_scores in blocks:
        rows[block] = block_rows
        scores[block] = block_scores
        reached[block] = True
    note = f"k-reciprocal {k1},{k2},{lambda_:g}"
    return reranked(ranking, rows, scores, reached, note)


def _sorted_blocks(
    ranking: Ranking,
    query: GlobalFeatures,
    gallery: GlobalFeatures,
    k1: int,
    k2: int,
    lambda_: float,
    deadline: Deadline,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield (queries, their new rows, their new scores), one block after the other."""
    if not ranking.rows.size or deadline.expired():
        return
    embeddings = np.concatenate([query.embeddings, gallery.embeddings])
    try:
        encodings, farthest = _encodings(embeddings, k1, k2, deadline)
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
    """Encode all images.

    Returns:
        Averaged encodings, float64 [N, N], and the largest distance of each image, float64 [N].

    Raises:
        TimeoutError: they are not ready in time.
    """
    num_images = len(embeddings)
    neighbours = nearest_neighbours(embeddings, max(k1 + 1, k2), deadline.give_up())
    rows = neighbours.rows
    farthest = _distances(neighbours.lowest_similarities)
    farthest[farthest <= 0] = 1  # all images are equal
    near = _are_mutual(rows, k1 + 1)
    nearer = _are_mutual(rows, round(k1 / 2) + 1)

    def encoded(block: slice) -> csr_matrix:
        counts, columns = _sets(rows, near, nearer, block.start, block.stop)
        images = np.repeat(np.arange(block.start, block.stop), counts)
        similarities = pair_similarities(embeddings, embeddings, images, columns)
        weights = np.exp(-_distances(similarities) / farthest[images])
        sums = np.bincount(images - block.start, weights, minlength=len(counts))
        weights /= sums[images - block.start]
        ends = np.append(0, np.cumsum(counts))
        return csr_matrix((weights, columns, ends), shape=(len(counts), num_images))

    largest_set = min(num_images, near.shape[1] * (nearer.shape[1] + 1))
    encodings = _stacked(encoded, num_images, largest_set, deadline)
    if k2 > 1:
        averages = _averages(rows[:, :k2])
        encodings = _stacked(
            lambda block: averages[block] @ encodings,
            num_images,
            largest_set * rows[:, :k2].shape[1],
            deadline,
        )
    return encodings, farthest


def _averages(nearest: np.ndarray) -> csr_matrix:
    """Return the matrix [N, N] that averages over the rows `nearest` [N, k]."""
    num_images, k = nearest.shape
    parts = np.full(nearest.size, 1 / k)
    ends = np.arange(0, nearest.size + 1, k)
    return csr_matrix((parts, nearest.ravel(), ends), shape=(num_images, num_images))


def _distances(similarities: np.ndarray) -> np.ndarray:
    """Convert similarities of unit vectors to squared Euclidean distances, exactly in float64."""
    return 2 - 2 * similarities.astype(np.float64)


def _stacked(
    make: Callable[[slice], csr_matrix], num_rows: int, entries_per_row: int, deadline: Deadline
) -> csr_matrix:
    """Stack the results of `make` for all blocks of rows.

    Returns:
        One matrix of `num_rows` rows.

    Raises:
        TimeoutError: not all blocks are made in time.
    """
    blocks = deadline.blocks(
        num_rows, max(1, ENTRIES_PER_BLOCK // entries_per_row), what="encoding"
    )
    parts = [make(block) for block in blocks]
    if sum(part.shape[0] for part in parts) < num_rows:
        raise TimeoutError("not all images are encoded.")
    return vstack(parts, format="csr")


@compiled
def _are_mutual(rows: np.ndarray, k: int) -> np.ndarray:
    """Return bool [N, k]: whether image i is among the first k neighbours of rows[i, j].

    k is cut to the width of `rows`.
    """
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
    """Return the sizes of the expanded sets of images start to stop, and all their members."""
    largest = min(rows.shape[0], near.shape[1] * (nearer.shape[1] + 1))
    sizes = np.zeros(stop - start, np.int64)
    members = np.empty((stop - start) * largest, np.int32)
    total = 0
    core = np.int8(1)
    added = np.int8(2)
    state = np.zeros(rows.shape[0], np.int8)
    for i in range(start, stop):
        first = total
        for j in range(near.shape[1]):
            if near[i, j]:
                state[rows[i, j]] = core
                members[total] = rows[i, j]
                total += 1
        for member in members[first:total]:
            size = 0
            common = 0
            for j in range(nearer.shape[1]):
                if nearer[member, j]:
                    size += 1
                    common += state[rows[member, j]] == core
            if 3 * common <= 2 * size:
                continue
            for j in range(nearer.shape[1]):
                if nearer[member, j] and state[rows[member, j]] == 0:
                    state[rows[member, j]] = added
                    members[total] = rows[member, j]
                    total += 1
        for member in members[first:total]:
            state[member] = 0
        sizes[i - start] = total - first
    return sizes, members[:total].copy()
