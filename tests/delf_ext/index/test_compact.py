"""Check that a compact gallery gives the result of exact search, and its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_io.files.artifacts import save_record
from data_io.records import GlobalFeatures
from delf_ext.index import compact, exact
from delf_ext.index.compact import (
    CompactGallery,
    compact_gallery,
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
    query: GlobalFeatures, gallery: GlobalFeatures, gallery_codes: CompactGallery, top_k: int
) -> None:
    found = search_compact(query, gallery_codes, top_k)
    expected = search(query, gallery, top_k)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.gallery_ids.tolist() == gallery.ids.tolist()
    assert found.provenance == expected.provenance


@pytest.mark.parametrize("dtype", ["float16", "int8"])
@settings(max_examples=20)
@given(
    st.integers(0, 10_000),
    st.sampled_from([1, 3, 40, 256]),
    st.integers(1, 300),
    st.sampled_from([0.0, 0.9, 0.999]),
)
def test_search_compact_equals_search(
    dtype: str, seed: int, num_dims: int, top_k: int, likeness: float
) -> None:
    """Also if all images are alike, and if one large component makes the codes coarse."""
    vectors = (1 - likeness) * noise(seed, 270, num_dims) + likeness
    vectors[100:110, 0] += 30
    query, gallery = features(vectors[:20]), features(vectors[20:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(compact.EXTRA_ROOM, "int8", 16)
        patch.setattr(exact, "MAX_QUERIES_PER_BLOCK", 7)
        patch.setattr(compact, "VALUES_PER_TILE", 50 * num_dims)
        assert_same_as_search(query, gallery, compact_gallery(gallery, dtype), top_k)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_random_queries_are_not_compared_with_everything(
    monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    query = features(noise(1, 20, 64))
    gallery = features(noise(2, 5000, 64))
    expected = search(query, gallery, 10)

    def refuse_queries(
        query: np.ndarray, gallery: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        assert not len(query)
        return np.zeros((0, k)), np.zeros((0, k))

    monkeypatch.setattr(exact, "search_everything", refuse_queries)
    np.testing.assert_array_equal(
        search_compact(query, compact_gallery(gallery, dtype), 10).rows, expected.rows
    )


@pytest.mark.parametrize(("dtype", "bytes_each"), [("float16", 2), ("int8", 1)])
def test_errors_bound_the_errors_of_similarities(dtype: str, bytes_each: int) -> None:
    query = features(noise(3, 500, 24))
    gallery = features(noise(4, 300, 24) ** 3)
    gallery_codes = compact_gallery(gallery, dtype)
    (decoded,) = gallery_codes.tiles(300)
    differences = decoded - gallery.embeddings.astype(np.float64)
    errors = np.abs(query.embeddings.astype(np.float64) @ differences.T)
    assert (errors <= gallery_codes.errors).all()
    assert errors.max() > gallery_codes.errors.max() / 10
    assert gallery_codes.codes.nbytes == bytes_each * gallery.embeddings.size


def test_loaded_gallery_equals_the_saved_one(tmp_path: Path) -> None:
    query = features(noise(5, 6, 16), "aaa")
    gallery = features(noise(6, 400, 16), "aaa")
    gallery_codes = compact_gallery(gallery)
    save_compact(tmp_path / "compact", gallery_codes)
    loaded = load_compact(tmp_path / "compact")
    for name in ("ids", "codes", "scales", "errors", "embeddings", "digest"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(gallery_codes, name))
    assert isinstance(loaded.embeddings.base, np.memmap)
    assert_same_as_search(query, gallery, loaded, 9)
    assert sorted(path.name for path in (tmp_path / "compact").iterdir()) == [
        "codes.npz",
        "embeddings.npy",
    ]


def test_load_refuses_damaged_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"codes.npz: not found"):
        load_compact(tmp_path)
    gallery = features(noise(7, 200, 16))
    save_compact(tmp_path, compact_gallery(gallery))
    codes = (tmp_path / "codes.npz").read_bytes()
    embeddings = (tmp_path / "embeddings.npy").read_bytes()

    for size in (0, 7, 100, len(embeddings) - 1):
        (tmp_path / "embeddings.npy").write_bytes(embeddings[:size])
        with pytest.raises(ValueError, match=r"embeddings.npy: cannot be read \("):
            load_compact(tmp_path)
    for other in (noise(8, 200, 16), noise(7, 200, 15), noise(7, 201, 16)):
        np.save(tmp_path / "embeddings.npy", features(other).embeddings)
        with pytest.raises(
            ValueError, match="embeddings.npy: does not hold the embeddings of codes.npz"
        ):
            load_compact(tmp_path)
    np.save(tmp_path / "embeddings.npy", gallery.embeddings.astype(np.float64))
    with pytest.raises(ValueError, match="does not hold the embeddings of codes.npz"):
        load_compact(tmp_path)
    (tmp_path / "embeddings.npy").unlink()
    with pytest.raises(ValueError, match="embeddings.npy: not found"):
        load_compact(tmp_path)

    for size in (0, 7, 100, len(codes) - 1):
        (tmp_path / "codes.npz").write_bytes(codes[:size])
        with pytest.raises(ValueError, match=r"codes.npz: cannot be read \("):
            load_compact(tmp_path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "codes.npz")
    with pytest.raises(ValueError, match="codes.npz: cannot be read"):
        load_compact(tmp_path)
    save_record(tmp_path / "codes.npz", gallery)
    with pytest.raises(ValueError, match="codes.npz: is not a CompactGallery"):
        load_compact(tmp_path)


def test_errors_name_the_value_received() -> None:
    query = features(noise(9, 2, 4), "aaa")
    gallery = features(noise(10, 3, 4), "bbb")
    with pytest.raises(ValueError, match="codes must be float16 or int8. Received float64"):
        compact_gallery(gallery, "float64")
    with pytest.raises(
        ValueError, match="query features have model digest aaa, gallery features bbb"
    ):
        search_compact(query, compact_gallery(gallery), 1)
    with pytest.raises(ValueError, match=r"Received shapes \(2, 5\) and \(3, 4\)"):
        search_compact(features(noise(9, 2, 5)), compact_gallery(gallery), 1)
