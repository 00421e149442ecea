"""Test search, rerank and extract."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_io.datasets import DataSet
from data_io.images import load_image
from data_io.records import ImageList
from delf_ext.app.reranking import Request
from delf_ext.app.searching import Hit, extract, images_of, rerank, search
from delf_ext.config import UsageError
from delf_ext.features.embedder import Adapted, AnyEmbedder, Embedder, Ensemble
from delf_ext.recipes import schema
from delf_ext.reranking.chain import parse_chain
from delf_ext.reranking.deadline import Deadline

SIZE_PX = 32


def mean_colour(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(1, 2)) - 127.0


COLOUR = Embedder("colour", SIZE_PX, "v1", mean_colour)


def unit_colours(images: ImageList) -> np.ndarray:
    vectors = mean_colour(np.stack([load_image(path, SIZE_PX) for path in images.paths]))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_search_returns_the_nearest_images_in_order(data: DataSet) -> None:
    hits = search(COLOUR, data.query, data.gallery, top_k=4)
    scores = unit_colours(data.query) @ unit_colours(data.gallery).T
    assert len(hits) == len(data.query)
    for row, (path, found) in enumerate(hits):
        order = np.argsort(-scores[row], kind="stable")[:4]
        assert path == data.query.paths[row]
        assert [hit.path for hit in found] == data.gallery.paths[order].tolist()
        np.testing.assert_allclose([hit.score for hit in found], scores[row][order], atol=1e-6)
        assert found == hits.of(row) and isinstance(found[0], Hit)


def test_search_takes_folders_and_single_files(products: Path, data: DataSet) -> None:
    folder = products / "test" / "test_data" / "reference"
    image_path = data.gallery.paths[2]
    ((path, found),) = search(COLOUR, str(image_path), folder, top_k=1)
    assert path == image_path == found[0].path and found[0].score == pytest.approx(1.0, abs=1e-6)
    whole = search(COLOUR, Path(image_path), folder, top_k=None)
    assert len(whole.of(0)) == len(data.gallery)
    assert len(search(COLOUR, image_path, folder, top_k=1000).of(0)) == len(data.gallery)


def test_search_and_extract_take_archives_and_tables(
    products: Path, data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANDOO_CACHE", str(tmp_path / "cache"))
    archive = shutil.make_archive(str(tmp_path / "products"), "zip", products.parent, products.name)
    image_path = data.query.paths[0]
    expected = search(COLOUR, image_path, data.gallery, top_k=3)
    table = tmp_path / "products.csv"
    rows = [f"{path},x,gallery" for path in data.gallery.paths.tolist()]
    table.write_text("\n".join(["path,label,split", f"{image_path},x,query", *rows]))
    # Both name a gallery, so the queries and training images are not searched.
    for source in (archive, table):
        hits = search(COLOUR, image_path, source, top_k=3)
        names = [Path(hit.path).name for hit in hits.of(0)]
        assert names == [Path(hit.path).name for hit in expected.of(0)]
        assert len(search(COLOUR, image_path, source, top_k=None).of(0)) == len(data.gallery)
    num_images = len(data.train) + len(data.query) + len(data.gallery)
    assert len(extract(COLOUR, archive)[1]) == num_images
    assert len(extract(COLOUR, table)[1]) == 1 + len(data.gallery)


def test_search_uses_the_copies_of_the_models_recipe(data: DataSet) -> None:
    half = Embedder("left", SIZE_PX, "v1", lambda images: mean_colour(images[:, :, :16]))
    copies = Embedder("left", SIZE_PX, "v1", half.embed, test_time=schema.TestTime(("mirror",)))
    plain, mirrored = (search(model, data.query, data.gallery) for model in (half, copies))
    assert not np.allclose(plain.ranking.scores, mirrored.ranking.scores)
    named = search(half, data.query, data.gallery, test_time=copies.test_time)
    np.testing.assert_array_equal(named.ranking.scores, mirrored.ranking.scores)


@pytest.mark.parametrize("top_k", [0, -3])
def test_search_refuses_top_k_below_one(data: DataSet, top_k: int) -> None:
    with pytest.raises(UsageError) as caught:
        search(COLOUR, data.query, data.gallery, top_k=top_k)
    assert str(caught.value) == f"top_k must be at least 1. Received {top_k}."


def test_search_refuses_empty_or_unreadable_lists(tmp_path: Path, data: DataSet) -> None:
    with pytest.raises(ValueError, match="none: not found. Give an image, a folder of"):
        search(COLOUR, tmp_path / "none", data.gallery)
    with pytest.raises(ValueError, match="no image in it"):
        search(COLOUR, data.query, tmp_path)
    (tmp_path / "broken.jpg").write_text("no image")
    with pytest.raises(ValueError, match="none of 1 images could be read; the first: "):
        search(COLOUR, tmp_path / "broken.jpg", data.gallery)


def test_search_skips_unreadable_images(tmp_path: Path, data: DataSet) -> None:
    for row, path in enumerate(data.gallery.paths[:2]):
        (tmp_path / f"{row}.jpg").write_bytes(Path(path).read_bytes())
    (tmp_path / "broken.jpg").write_text("no image")
    hits = search(COLOUR, data.query, tmp_path, top_k=None)
    assert len(hits.of(0)) == 2
    ((path, reason),) = hits.retrieval.skipped
    assert path == str(tmp_path / "broken.jpg") and reason


def test_rerank_returns_the_same_images_in_a_new_order(data: DataSet) -> None:
    hits = search(COLOUR, data.query, data.gallery, top_k=None)
    better = rerank(hits, "dba:2, k_reciprocal:3,2")
    assert better.retrieval is hits.retrieval
    assert "k-reciprocal 3,2,0.3 (3 of 3 queries)" in better.ranking.provenance
    for row in range(len(hits)):
        assert {hit.path for hit in better.of(row)} == {hit.path for hit in hits.of(row)}
    assert rerank(hits, "").ranking is hits.ranking


def test_rerank_refuses_unknown_methods_and_missing_folders(data: DataSet) -> None:
    hits = search(COLOUR, data.query, data.gallery)
    with pytest.raises(UsageError, match="--method: unknown step 'best'. Steps: dba, aqe, "):
        rerank(hits, "best")
    with pytest.raises(UsageError) as caught:
        rerank(hits, "geometric:2")
    message = (
        "the geometric step stores local features: pass a folder (--out=FOLDER or --run_dir=RUN)."
    )
    assert str(caught.value) == message


def test_rerank_uses_the_deadline_of_the_request_and_not_its_chains(data: DataSet) -> None:
    hits = search(COLOUR, data.query, data.gallery, top_k=None)
    late = Request(Deadline(0.0), (parse_chain("dba:2"),))
    found = rerank(hits, "aqe:2", request=late).ranking
    assert not found.complete.any() and "dba" not in found.provenance
    np.testing.assert_array_equal(found.rows, hits.ranking.rows)


@pytest.mark.parametrize("kind", ["folder", "list", "text"])
def test_extract_returns_embeddings_and_images(kind: str, products: Path, data: DataSet) -> None:
    folder = products / "test" / "test_data" / "query"
    images = {"folder": folder, "text": str(folder), "list": data.query}[kind]
    features, kept = extract(COLOUR, images, batch_size=2)
    assert kept.ids.tolist() == features.ids.tolist() and features.digest == "v1"
    expected = dict(zip(data.query.paths, unit_colours(data.query), strict=True))
    for path, embedding in zip(kept.paths, features.embeddings, strict=True):
        np.testing.assert_allclose(embedding, expected[path], atol=1e-6)


def test_extract_and_search_embed_the_copies_of_the_recipe(data: DataSet) -> None:
    def corner(images: np.ndarray) -> np.ndarray:
        return mean_colour(images[:, :5, :5])

    mirror = schema.TestTime(("mirror",))
    network = Embedder("corner", SIZE_PX, "v1", corner, test_time=mirror)
    models: list[AnyEmbedder] = [
        network,
        Ensemble("two", (network, COLOUR), schema.Concatenate()),
        Adapted("head", network, None, mirror),
    ]
    for model in models:
        searched = search(model, data.query, data.gallery).retrieval.gallery_features.embeddings
        extracted, _ = extract(model, data.gallery)
        np.testing.assert_array_equal(extracted.embeddings, searched)
        plain, _ = extract(model, data.gallery, test_time=schema.TestTime())
        assert np.abs(plain.embeddings - searched).max() > 1e-3


def test_images_of_returns_a_list_unchanged_and_lists_a_folder(
    data: DataSet, products: Path
) -> None:
    assert images_of(data.query) is data.query
    listed = images_of(products / "test" / "test_data" / "query")
    assert sorted(listed.paths.tolist()) == sorted(data.query.paths.tolist())
