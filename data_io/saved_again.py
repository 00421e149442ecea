"""Report gallery images that are probably the query's own photograph, saved again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from data_io.files.names import shown
from data_io.records import ImageList, Ranking

# Equal pixels have equal embeddings; their product is 1 up to rounding in float32.
MIN_SIMILARITY = 1 - 1e-6


def saved_again_notes(
    query: ImageList, gallery: ImageList, ranking: Ranking, junk: Sequence[np.ndarray]
) -> Iterator[str]:
    """Yield a line that counts the queries with an image of equal embedding in the gallery.

    Such files have other bytes, because their metadata or format was changed, but the same pixels.
    They are no copies by content, so they count.

    Args:
        query: Q images to search with.
        gallery: images to search in.
        ranking: of the queries, by similarity of embeddings of length 1.
        junk: for each query, the gallery rows that do not count.

    Yields:
        At most one line, without a line break.
    """
    equal = (ranking.scores >= MIN_SIMILARITY) & (ranking.rows >= 0)
    found = []
    for row in np.flatnonzero(equal.any(axis=1)):
        others = np.setdiff1d(ranking.rows[row][equal[row]], junk[row])
        if len(others):
            found.append((query.paths[row], gallery.paths[others[0]]))
    if not found:
        return
    first, other = map(shown, found[0])
    have = "query has" if len(found) == 1 else "queries have"
    yield (
        f"warning: {len(found)} {have} a gallery image with the same embedding, such as {first} "
        f"and {other}: probably one photograph saved twice. It counts as a result; if it is one, "
        "delete a file."
    )
