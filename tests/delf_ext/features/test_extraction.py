"""Extraction with a real tf.function, and files that cannot be read among those that can."""

from __future__ import annotations

import functools
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_io import pixel_cache
from data_io.datasets import load_dataset
from data_io.images import decode_image, load_image, sufficient_px
from data_io.records import ImageList
from data_io.synthetic import DrawConfig, draw_dataset
from delf_ext.evaluation.metrics import summarize
from delf_ext.features.embedders import Embedder, zero_shot_embedder
from delf_ext.features.extraction import decoded_batches, extract_global
from delf_ext.pipeline import embed, score, truth_of

SIZE_PX = 16


class Model:
    """A tiny Keras network behind the interface that extraction knows; remembers the batch shapes that it was given."""

    def __init__(self) -> None:
        tf.keras.utils.set_random_seed(0)
        network = tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(6)])
        network.build((None, SIZE_PX, SIZE_PX, 3))
        self.shapes: list[tuple[int, ...]] = []
        self.traces = 0

        @tf.function
        def graph(images: tf.Tensor) -> tf.Tensor:
            self.traces += 1
            return 7.0 * network(tf.cast(images, tf.float32) / 255)

        self.graph = graph
        self.embedder = Embedder("tiny", SIZE_PX, "the digest", self.embed)

    def embed(self, images: np.ndarray) -> np.ndarray:
        self.shapes.append(images.shape)
        return self.graph(tf.constant(images)).numpy()

    def twin(self, path: str) -> np.ndarray:
        vector = self.graph(tf.constant(load_image(path, SIZE_PX)[None])).numpy()[0].astype(np.float64)
        return vector / np.linalg.norm(vector)


def picture(path: Path, seed: int) -> Path:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    return path


def image_list(folder: Path, num_good: int, bad: dict[int, str]) -> ImageList:
    """Pictures, and at the given rows files that are none ("missing" is not even there)."""
    paths = [str(picture(folder / f"{row}.png", row)) for row in range(num_good + len(bad))]
    for row, kind in bad.items():
        if kind == "missing":
            Path(paths[row]).unlink()
        else:
            Path(paths[row]).write_bytes(b"" if kind == "empty" else b"no picture")
    ids = [f"id_{row}" for row in range(len(paths))]
    return ImageList(ids, paths, labels=range(len(paths)), skipped=[("earlier.jpg", "truncated")])


def test_bad_files_are_skipped_and_named_and_every_row_keeps_its_id(tmp_path: Path):
    images = image_list(tmp_path, 6, {1: "missing", 4: "text", 5: "empty"})
    model = Model()
    features, kept = extract_global(model.embedder, images, batch_size=4)
    good = [0, 2, 3, 6, 7, 8]
    assert features.ids.tolist() == kept.ids.tolist() == [f"id_{row}" for row in good]
    assert kept.labels.tolist() == good and features.digest == "the digest"
    for row, embedding in zip(good, features.embeddings, strict=True):
        np.testing.assert_allclose(embedding, model.twin(images.paths[row]), atol=1e-6)
    assert [path for path, _ in kept.skipped] == ["earlier.jpg", *(images.paths[row] for row in (1, 4, 5))]
    reasons = [reason for _, reason in kept.skipped]
    assert reasons[0] == "truncated" and reasons[1] == "file not found" and reasons[3] == "empty file"
    assert reasons[2].startswith("not an image")


def test_every_batch_has_one_shape(tmp_path: Path):
    """Nine images by four, three of them unreadable: a second shape would be traced anew."""
    model = Model()
    extract_global(model.embedder, image_list(tmp_path, 6, {1: "missing", 4: "text", 5: "empty"}), batch_size=4)
    assert model.shapes == [(4, SIZE_PX, SIZE_PX, 3)] * 3 and model.traces == 1


def test_a_batch_without_a_readable_image_is_not_embedded(tmp_path: Path):
    model = Model()
    features, _ = extract_global(model.embedder, image_list(tmp_path, 2, {0: "text", 1: "missing"}), batch_size=2)
    assert len(model.shapes) == 1 and features.ids.tolist() == ["id_2", "id_3"]


def test_the_batch_size_does_not_change_the_embeddings(tmp_path: Path):
    images, model = image_list(tmp_path, 5, {}), Model()
    one, three = (extract_global(model.embedder, images, batch_size)[0] for batch_size in (1, 3))
    np.testing.assert_allclose(one.embeddings, three.embeddings, atol=1e-6)


def test_an_embedding_that_is_zero_or_no_number_counts_as_skipped(tmp_path: Path):
    images = image_list(tmp_path, 3, {})
    vectors = np.array([[0, 0], [np.nan, 1], [3, 4]], np.float32)
    features, kept = extract_global(Embedder("broken", SIZE_PX, "", lambda batch: vectors), images, batch_size=3)
    np.testing.assert_allclose(features.embeddings, [[0.6, 0.8]], atol=1e-6)
    assert kept.skipped[1:] == tuple((path, "the model's embedding is zero or not a number") for path in images.paths[:2])


def test_no_readable_image_is_an_error_that_names_the_first(tmp_path: Path):
    images = image_list(tmp_path, 0, {0: "missing", 1: "text"})
    with pytest.raises(ValueError, match=rf"^none of 2 images could be read; the first: {images.paths[0]}: file not found\.$"):
        extract_global(Model().embedder, images)
    with pytest.raises(ValueError, match=r"^none of 0 images could be read; the first: the list is empty\.$"):
        extract_global(Model().embedder, ImageList([], []))


def test_batches_are_decoded_in_list_order(tmp_path: Path):
    images = image_list(tmp_path, 4, {2: "text"})
    batches = list(decoded_batches(images, SIZE_PX, batch_size=2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    for path, item in zip(images.paths, sum(batches, []), strict=True):
        assert isinstance(item, str) if path == images.paths[2] else np.array_equal(item, load_image(path, SIZE_PX))


def test_who_stops_early_does_not_wait_for_the_batch_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One thread holds the third photograph until the generator is closed: the fourth is never begun."""
    begun, closing = [], threading.Event()

    def slow(path: str, size_px: int) -> np.ndarray:
        begun.append(path)
        if len(begun) == 3:
            closing.wait(10)
        return load_image(path, size_px)

    monkeypatch.setattr(pixel_cache, "load_image", slow)
    images = image_list(tmp_path, 4, {})
    batches = decoded_batches(images, SIZE_PX, batch_size=2, num_threads=1)
    next(batches)
    threading.Timer(0.1, closing.set).start()
    batches.close()
    assert begun == images.paths[: len(begun)].tolist() and len(begun) <= 3


def test_decoded_batches_come_out_of_the_cache_the_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    images = image_list(tmp_path, 4, {2: "text"})
    first, second = (sum(decoded_batches(images, SIZE_PX, batch_size=2, pixel_cache=tmp_path / "cache"), []) for _ in range(2))
    assert first[2].startswith("not an image") and first[2] == second[2]
    monkeypatch.setattr(pixel_cache, "load_image", None)
    good = images.take(np.array([0, 1, 3, 4]))
    third = sum(decoded_batches(good, SIZE_PX, batch_size=2, pixel_cache=tmp_path / "cache"), [])
    np.testing.assert_array_equal(third, [first[row] for row in (0, 1, 3, 4)])


def convolutions(size_px: int) -> Embedder:
    tf.keras.utils.set_random_seed(0)
    layers = [tf.keras.layers.Conv2D(width, 3, 2, activation="relu") for width in (16, 32, 64)]
    network = tf.keras.Sequential([*layers, tf.keras.layers.GlobalAveragePooling2D()])
    return Embedder("tiny", size_px, "", lambda images: network(tf.constant(images, tf.float32) / 64 - 2).numpy())


def test_reduced_decoding_changes_neither_embeddings_nor_average_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Drawn photographs of 256 px at 32 px: decoded at a half. The bounds are those that ResNet-50 has to keep."""
    images = load_dataset(draw_dataset(tmp_path, DrawConfig(10, 48, 1, 1, 256), progress=False)).train
    assert sufficient_px(32) <= 256 // 2
    fast = embed(convolutions(32), images, images)
    monkeypatch.setattr(pixel_cache, "load_image", functools.partial(load_image, reduced=False))
    plain = embed(convolutions(32), images, images)
    pairs = fast.query_features.embeddings, plain.query_features.embeddings
    assert np.multiply(*pairs).sum(1).min() >= 0.999 and not np.array_equal(*pairs)
    found, expected = (dict(summarize(score(retrieval, truth_of(retrieval))))["mAP"] for retrieval in (fast, plain))
    assert abs(found - expected) <= 0.002


@pytest.mark.shared
def test_resnet_50_embeds_reduced_photographs_as_whole_ones(shared: Path, tmp_path: Path):
    """Real pixels at real size: photographs of Grocery have 348 px, which 224 px need undivided, so nine are laid together."""
    paths = sorted((shared / "data/grocery/dataset/val").rglob("*.jpg"))
    rng = np.random.default_rng(0)
    pairs = []
    for number in range(16):
        mosaic = Image.new("RGB", (1044, 1044))
        for place, row in enumerate(rng.choice(len(paths), 9, replace=False)):
            tile = Image.fromarray(decode_image(paths[row])[:348, :348])
            mosaic.paste(tile, (348 * (place % 3), 348 * (place // 3)))
        mosaic.save(tmp_path / f"{number}.jpg", quality=92)
        pairs.append([load_image(tmp_path / f"{number}.jpg", 224, reduced=reduced) for reduced in (True, False)])
        alone = paths[rng.integers(len(paths))]
        np.testing.assert_array_equal(load_image(alone, 224), load_image(alone, 224, reduced=False))
    weights = str(shared / "pretrained/resnet_v1_50_pqf.ckpt")
    embedder, _ = zero_shot_embedder(weights, "resnet_v1_50/block4", "v1.5", "avg", 224)
    fast, plain = (np.stack(images) for images in zip(*pairs))
    assert not any(np.array_equal(*pair) for pair in pairs)
    assert (embedder.embed(fast) * embedder.embed(plain)).sum(1).min() >= 0.999
