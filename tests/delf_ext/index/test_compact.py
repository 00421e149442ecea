from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_io.artifacts import save_record
from data_io.records import GlobalFeatures
from delf_ext.index import compact, exact
from delf_ext.index.compact import (
    CompactGallery,
    compacted,
    load_compact,
    save_compact,
    search_compact,
)
from delf_ext.index.exact import search


def features(vectors: np.ndarray, digest: str = "") -> GlobalFeatures:
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return GlobalFeatures(np.arange(len(vectors)).astype(str), vectors, digest)


def noise(seed: int, num_images: int, num_dims: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num_images, num_dims))


def assert_same_as_search(
    query: GlobalFeatures, gallery: GlobalFeatures, held: CompactGallery, top_k: int
) -> None:
    found, expected = search_compact(query, held, top_k), search(query, gallery, top_k)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert (
        found.gallery_ids.tolist() == gallery.ids.tolist()
        and found.provenance == expected.provenance
    )


@pytest.mark.parametrize("dtype", ["float16", "int8"])
@settings(max_examples=20)
@given(
    st.integers(0, 10_000),
    st.sampled_from([1, 3, 40, 256]),
    st.integers(1, 300),
    st.sampled_from([0.0, 0.9, 0.999]),
)
def test_the_result_of_search(
    dtype: str, seed: int, num_dims: int, top_k: int, likeness: float
) -> None:
    """Also where all are much alike, and a few rows have one component far larger than the others: their codes are coarse."""
    vectors = (1 - likeness) * noise(seed, 270, num_dims) + likeness
    vectors[100:110, 0] += 30
    query, gallery = features(vectors[:20]), features(vectors[20:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(compact.ROOMS, "int8", 16)
        patch.setattr(exact, "MAX_QUERIES_PER_BLOCK", 7)
        patch.setattr(compact, "VALUES_PER_TILE", 50 * num_dims)
        assert_same_as_search(query, gallery, compacted(gallery, dtype), top_k)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_few_are_compared_exactly(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    query, gallery = features(noise(1, 20, 64)), features(noise(2, 5000, 64))
    expected = search(query, gallery, 10)

    def refused(query: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        assert not len(query)
        return np.zeros((0, k)), np.zeros((0, k))

    monkeypatch.setattr(exact, "search_everything", refused)
    np.testing.assert_array_equal(
        search_compact(query, compacted(gallery, dtype), 10).rows, expected.rows
    )


@pytest.mark.parametrize(("dtype", "bytes_each"), [("float16", 2), ("int8", 1)])
def test_no_similarity_is_off_by_more_than_its_error(dtype: str, bytes_each: int) -> None:
    query, gallery = features(noise(3, 500, 24)), features(noise(4, 300, 24) ** 3)
    held = compacted(gallery, dtype)
    (decoded,) = held.tiles(300)
    off = np.abs(
        query.embeddings.astype(np.float64) @ (decoded - gallery.embeddings.astype(np.float64)).T
    )
    assert (off <= held.errors).all() and off.max() > held.errors.max() / 10
    assert held.codes.nbytes == bytes_each * gallery.embeddings.size


def test_saved_and_loaded(tmp_path: Path) -> None:
    query, gallery = features(noise(5, 6, 16), "aaa"), features(noise(6, 400, 16), "aaa")
    held = compacted(gallery)
    save_compact(tmp_path / "held", held)
    loaded = load_compact(tmp_path / "held")
    for name in ("ids", "codes", "scales", "errors", "embeddings", "digest"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(held, name))
    assert isinstance(loaded.embeddings.base, np.memmap)
    assert_same_as_search(query, gallery, loaded, 9)
    assert sorted(path.name for path in (tmp_path / "held").iterdir()) == [
        "codes.npz",
        "embeddings.npy",
    ]


def test_damaged_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"codes.npz: not found"):
        load_compact(tmp_path)
    gallery = features(noise(7, 200, 16))
    save_compact(tmp_path, compacted(gallery))
    codes, embeddings = ((tmp_path / name).read_bytes() for name in ("codes.npz", "embeddings.npy"))

    for left in (0, 7, 100, len(embeddings) - 1):
        (tmp_path / "embeddings.npy").write_bytes(embeddings[:left])
        with pytest.raises(ValueError, match=r"embeddings.npy: not readable \("):
            load_compact(tmp_path)
    for other in (noise(8, 200, 16), noise(7, 200, 15), noise(7, 201, 16)):
        np.save(tmp_path / "embeddings.npy", features(other).embeddings)
        with pytest.raises(
            ValueError, match="embeddings.npy: not the embeddings that codes.npz was made of"
        ):
            load_compact(tmp_path)
    np.save(tmp_path / "embeddings.npy", gallery.embeddings.astype(np.float64))
    with pytest.raises(ValueError, match="not the embeddings that codes.npz was made of"):
        load_compact(tmp_path)
    (tmp_path / "embeddings.npy").unlink()
    with pytest.raises(ValueError, match="embeddings.npy: not found"):
        load_compact(tmp_path)

    for left in (0, 7, 100, len(codes) - 1):
        (tmp_path / "codes.npz").write_bytes(codes[:left])
        with pytest.raises(ValueError, match=r"codes.npz: not a readable record \("):
            load_compact(tmp_path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "codes.npz")
    with pytest.raises(ValueError, match="codes.npz: not a readable record"):
        load_compact(tmp_path)
    save_record(tmp_path / "codes.npz", gallery)
    with pytest.raises(ValueError, match="codes.npz: holds no CompactGallery"):
        load_compact(tmp_path)


def test_refusals_say_what_came() -> None:
    query, gallery = features(noise(9, 2, 4), "aaa"), features(noise(10, 3, 4), "bbb")
    with pytest.raises(ValueError, match="codes must be float16 or int8. Received float64"):
        compacted(gallery, "float64")
    with pytest.raises(
        ValueError, match="query features were made by config aaa, gallery features by bbb"
    ):
        search_compact(query, compacted(gallery), 1)
    with pytest.raises(ValueError, match=r"Received shapes \(2, 5\) and \(3, 4\)"):
        search_compact(features(noise(9, 2, 5)), compacted(gallery), 1)
