"""Test extraction with a real tf.function, stores, ensembles and unreadable files."""

from __future__ import annotations

import functools
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_io.datasets import load_dataset
from data_io.images import decode_image, load_image, sufficient_px
from data_io.records import ImageList
from data_io.stores.embeddings import EmbeddingStore
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.evaluation.metrics import summarize
from delf_ext.features import decoding, extraction
from delf_ext.features.decoding import decoded_batches
from delf_ext.features.embedder import Embedder, Ensemble
from delf_ext.features.extraction import embed_readable, extract_global
from delf_ext.pipeline import embed, score, truth_of
from delf_ext.recipes import schema
from delf_ext.runs.opening import open_model
from delf_ext.runs.sources import CheckpointSource, Runtime

SIZE_PX = 16


class Model:
    """Tiny Keras network; `shapes` has the shapes of the batches that it was given."""

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
        vector = (
            self.graph(tf.constant(load_image(path, SIZE_PX)[None])).numpy()[0].astype(np.float64)
        )
        return vector / np.linalg.norm(vector)


def picture(path: Path, seed: int) -> Path:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    return path


def image_list(folder: Path, num_good: int, bad: dict[int, str]) -> ImageList:
    """Write images; at the rows of `bad` there is no image, or no file ("missing")."""
    paths = [str(picture(folder / f"{row}.png", row)) for row in range(num_good + len(bad))]
    for row, kind in bad.items():
        if kind == "missing":
            Path(paths[row]).unlink()
        else:
            Path(paths[row]).write_bytes(b"" if kind == "empty" else b"no picture")
    ids = [f"id_{row}" for row in range(len(paths))]
    return ImageList(ids, paths, labels=range(len(paths)), skipped=[("earlier.jpg", "truncated")])


def test_bad_files_are_skipped_and_each_row_keeps_its_id(tmp_path: Path):
    images = image_list(tmp_path, 6, {1: "missing", 4: "text", 5: "empty"})
    model = Model()
    features, kept = extract_global(model.embedder, images, batch_size=4)
    good = [0, 2, 3, 6, 7, 8]
    assert features.ids.tolist() == kept.ids.tolist() == [f"id_{row}" for row in good]
    assert kept.labels.tolist() == good and features.digest == "the digest"
    for row, embedding in zip(good, features.embeddings, strict=True):
        np.testing.assert_allclose(embedding, model.twin(images.paths[row]), atol=1e-6)
    assert [path for path, _ in kept.skipped] == [
        "earlier.jpg",
        *(images.paths[row] for row in (1, 4, 5)),
    ]
    reasons = [reason for _, reason in kept.skipped]
    assert (
        reasons[0] == "truncated" and reasons[1] == "file not found" and reasons[3] == "empty file"
    )
    assert reasons[2].startswith("not an image")


def test_all_batches_have_one_shape(tmp_path: Path):
    # Nine images in batches of four, three unreadable: a second shape would be traced again.
    model = Model()
    extract_global(
        model.embedder, image_list(tmp_path, 6, {1: "missing", 4: "text", 5: "empty"}), batch_size=4
    )
    assert model.shapes == [(4, SIZE_PX, SIZE_PX, 3)] * 3 and model.traces == 1


def test_batch_without_a_readable_image_is_not_embedded(tmp_path: Path):
    model = Model()
    features, _ = extract_global(
        model.embedder, image_list(tmp_path, 2, {0: "text", 1: "missing"}), batch_size=2
    )
    assert len(model.shapes) == 1 and features.ids.tolist() == ["id_2", "id_3"]


def test_batch_size_does_not_change_embeddings(tmp_path: Path):
    images, model = image_list(tmp_path, 5, {}), Model()
    one, three = (extract_global(model.embedder, images, batch_size)[0] for batch_size in (1, 3))
    np.testing.assert_allclose(one.embeddings, three.embeddings, atol=1e-6)


def test_image_with_zero_or_nan_embedding_is_marked_as_failed(tmp_path: Path):
    images = image_list(tmp_path, 4, {})
    vectors = np.array([[0, 0], [np.nan, 1], [3, 4], [np.inf, 0]], np.float32)
    embedder = Embedder("broken", SIZE_PX, "", lambda batch: vectors)
    features, kept = extract_global(embedder, images, batch_size=4)
    np.testing.assert_allclose(features.embeddings, [[0, 0], [0, 0], [0.6, 0.8], [0, 0]], atol=1e-6)
    assert features.failed.tolist() == [True, True, False, True]
    assert features.ids.tolist() == images.ids.tolist()
    assert kept.skipped == images.skipped


def test_very_short_embedding_gets_unit_length() -> None:
    short = Embedder("short", 4, "d", lambda images: np.full((len(images), 3), 1e-23, np.float32))
    found = embed_readable(short, [np.zeros((4, 4, 3), np.uint8)], 1)[0]
    assert isinstance(found, np.ndarray) and found.dtype == np.float32
    np.testing.assert_allclose(found, np.sqrt(1 / 3), rtol=1e-6)


def test_model_that_fails_on_every_image_is_an_error(tmp_path: Path):
    images = image_list(tmp_path, 3, {1: "text"})
    embedder = Embedder("broken", SIZE_PX, "", lambda batch: np.zeros((len(batch), 2), np.float32))
    message = rf"of each of 3 images is zero or not finite, the first: {images.paths[0]}\. "
    message += "Check the weights: a training with too large a learning rate"
    with pytest.raises(ValueError, match=message):
        extract_global(embedder, images, batch_size=2)


def test_no_readable_image_raises_value_error_naming_the_first(tmp_path: Path):
    images = image_list(tmp_path, 0, {0: "missing", 1: "text"})
    with pytest.raises(
        ValueError,
        match=rf"^none of 2 images could be read; the first: {images.paths[0]}: file not found\.$",
    ):
        extract_global(Model().embedder, images)
    with pytest.raises(
        ValueError, match=r"^none of 0 images could be read; the first: the list is empty\.$"
    ):
        extract_global(Model().embedder, ImageList([], []))


def test_batches_are_decoded_in_list_order(tmp_path: Path):
    images = image_list(tmp_path, 4, {2: "text"})
    batches = list(decoded_batches(images, SIZE_PX, batch_size=2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    for path, item in zip(images.paths, sum(batches, []), strict=True):
        if path == images.paths[2]:
            assert isinstance(item, str)
        else:
            np.testing.assert_array_equal(item, load_image(path, SIZE_PX))


def test_stopping_early_does_not_wait_for_the_batch_ahead(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    # One thread holds the third image until the generator is closed, so the fourth never begins.
    begun = []
    closing = threading.Event()

    def slow(path: str, size_px: int) -> np.ndarray:
        begun.append(path)
        if len(begun) == 3:
            closing.wait(10)
        return load_image(path, size_px)

    monkeypatch.setattr(decoding, "load_image", slow)
    monkeypatch.setattr(decoding, "NUM_THREADS", 1)
    images = image_list(tmp_path, 4, {})
    batches = decoded_batches(images, SIZE_PX, batch_size=2)
    next(batches)
    threading.Timer(0.1, closing.set).start()
    batches.close()
    assert begun == images.paths[: len(begun)].tolist() and len(begun) <= 3


# --- deadline


def test_images_after_the_deadline_are_skipped(tmp_path: Path):
    images = image_list(tmp_path, 7, {})
    model = Model()
    answers = iter([True, True])
    features, kept = extract_global(
        model.embedder, images, 3, has_time=lambda: next(answers, False)
    )
    assert features.ids.tolist() == [f"id_{row}" for row in range(6)]
    assert kept.skipped[1:] == ((images.paths[6], "no time left"),)


def test_no_time_for_the_first_batch_raises_timeout_error(tmp_path: Path):
    images = image_list(tmp_path, 2, {})
    message = r"^no time left to embed the first of 2 images: the time budget is too short\.$"
    with pytest.raises(TimeoutError, match=message):
        extract_global(Model().embedder, images, has_time=lambda: False)


# --- a model with a store


class Stored(Model):
    """Model whose embeddings are stored; `embedded` is the number of its calls."""

    def __init__(self, folder: Path, digest: str = "the digest") -> None:
        super().__init__()
        self.lines: list[str] = []
        store = EmbeddingStore(folder, digest, self.lines.append)
        self.embedder = Embedder("tiny", SIZE_PX, digest, self.embed, store=store)

    @property
    def embedded(self) -> int:
        return len(self.shapes)


def test_stored_embeddings_are_not_computed_again(tmp_path: Path):
    images = image_list(tmp_path, 5, {2: "text"})
    first = Stored(tmp_path / "store")
    features, kept = extract_global(first.embedder, images, 1, "embedding queries")
    again = Stored(tmp_path / "store")
    # In the same process and in another one.
    for model in (first, again):
        before = model.embedded
        found, kept_again = extract_global(model.embedder, images, 1, "embedding queries")
        assert model.embedded == before
        np.testing.assert_array_equal(found.embeddings, features.embeddings)
        assert found.ids.tolist() == features.ids.tolist() == kept_again.ids.tolist()
        assert kept_again.skipped == kept.skipped and found.digest == features.digest
        folder = model.embedder.store.folder
        assert model.lines == [f"embedding queries: 5 of 6 are stored in {folder}"]
    assert first.embedded == 5 and again.embedded == 0


def test_stored_and_computed_embeddings_are_in_list_order(tmp_path: Path):
    images = image_list(tmp_path, 5, {2: "text"})
    plain, _ = extract_global(Model().embedder, images, 2)
    stored = Stored(tmp_path / "store")
    extract_global(stored.embedder, images.take([1, 4, 5]), 2)
    # Some come from the store and some do not: the order is that of the list.
    found, _ = extract_global(stored.embedder, images, 2)
    assert found.ids.tolist() == plain.ids.tolist()
    np.testing.assert_allclose(found.embeddings, plain.embeddings, atol=1e-6)


def test_changed_file_is_embedded_again_and_renamed_file_is_not(tmp_path: Path):
    images, model = image_list(tmp_path, 4, {}), Stored(tmp_path / "store")
    before, _ = extract_global(model.embedder, images, 1)
    picture(Path(images.paths[1]), 77)
    moved = Path(images.paths[3]).rename(tmp_path / "moved.png")
    paths = [*images.paths[:3], str(moved)]
    after, _ = extract_global(model.embedder, ImageList(["a", "b", "c", "d"], paths), 1)
    assert model.embedded == 4 + 1
    np.testing.assert_array_equal(after.embeddings[[0, 2, 3]], before.embeddings[[0, 2, 3]])
    np.testing.assert_allclose(after.embeddings[1], model.twin(paths[1]), atol=1e-6)
    assert np.abs(after.embeddings[1] - before.embeddings[1]).max() > 1e-3


def test_unreadable_file_is_skipped_although_it_was_stored(tmp_path: Path):
    images, model = image_list(tmp_path, 3, {}), Stored(tmp_path / "store")
    extract_global(model.embedder, images, 1)
    Path(images.paths[0]).unlink()
    Path(images.paths[1]).write_bytes(b"no picture")
    features, kept = extract_global(model.embedder, images, 1)
    assert features.ids.tolist() == ["id_2"] and len(kept.skipped) == 1 + 2


def test_images_without_embedding_are_not_stored(tmp_path: Path):
    images = image_list(tmp_path, 3, {1: "missing"})
    vectors = iter([[1.0, 0.0], [np.nan, 1.0], [3.0, 4.0]])
    store = EmbeddingStore(tmp_path / "store", "broken", print)
    embed_one = lambda batch: np.array([next(vectors)])  # noqa: E731
    extract_global(Embedder("broken", SIZE_PX, "broken", embed_one, store=store), images, 1)
    assert len(store) == 2


def test_images_of_equal_content_are_stored_once(tmp_path: Path):
    seeds = {"a": 1, "b": 2, "c": 1}
    paths = [str(picture(tmp_path / f"{name}.png", seed)) for name, seed in seeds.items()]
    images, model = ImageList(["a", "b", "c"], paths), Stored(tmp_path / "store")
    features, _ = extract_global(model.embedder, images, 1)
    assert len(model.embedder.store) == 2
    np.testing.assert_array_equal(features.embeddings[0], features.embeddings[2])


def test_store_of_another_model_is_empty(tmp_path: Path):
    images = image_list(tmp_path, 3, {})
    extract_global(Stored(tmp_path / "store", "one").embedder, images, 1)
    other = Stored(tmp_path / "store", "other")
    extract_global(other.embedder, images, 1)
    assert other.embedded == 3 and other.lines == []


def test_embeddings_before_the_deadline_are_stored(tmp_path: Path):
    images = image_list(tmp_path, 5, {})
    answers = iter([True, True])
    model = Stored(tmp_path / "store")
    extract_global(model.embedder, images, 1, has_time=lambda: next(answers, False))
    assert len(model.embedder.store) == 2
    answers = iter([True])
    features, kept = extract_global(
        model.embedder, images, 1, has_time=lambda: next(answers, False)
    )
    # Stored embeddings need no time.
    assert features.ids.tolist() == ["id_0", "id_1", "id_2"]
    assert [reason for _, reason in kept.skipped[1:]] == ["no time left"] * 2
    features, _ = extract_global(model.embedder, images.take([0, 2]), 1, has_time=lambda: False)
    assert len(features) == 2


def test_ctrl_c_loses_no_embedding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(extraction, "STORED_TOGETHER", 2)
    images, model = image_list(tmp_path, 6, {}), Stored(tmp_path / "store")

    def killed() -> bool:
        if model.embedded == 5:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        extract_global(model.embedder, images, 1, has_time=killed)
    again = Stored(tmp_path / "store")
    extract_global(again.embedder, images, 1)
    assert again.embedded == 1


# --- ensembles


class Flat:
    """Embed an image as the mean of its first channels; as zeros if its red is in `without`."""

    def __init__(self, dims: int, without: tuple[int, ...] = ()) -> None:
        self.dims = dims
        self.without = without

    def __call__(self, images: np.ndarray) -> np.ndarray:
        colours = images.astype(np.float32).mean(axis=(1, 2))[:, : self.dims]
        unknown = np.isin(images[:, 0, 0, 0], self.without)
        return np.where(unknown[:, None], 0, colours)


def flat_images(folder: Path, grays: list[int]) -> ImageList:
    paths = []
    for row, gray in enumerate(grays):
        paths.append(str(folder / f"{row}.png"))
        pixels = np.full((8, 8, 3), [gray, 100, 50], np.uint8)
        Image.fromarray(pixels).save(paths[-1])
    return ImageList([f"id_{row}" for row in range(len(grays))], paths, labels=grays)


def member(name: str, embed: Flat, **options: object) -> Embedder:
    return Embedder(name, 8, f"digest {name}", embed, **options)  # type: ignore[arg-type]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_ensemble_joins_the_unit_vectors_of_its_members(tmp_path: Path):
    images = flat_images(tmp_path, [10, 60, 110])
    colours = np.array([[gray, 100, 50] for gray in (10, 60, 110)], np.float64)
    members = member("three", Flat(3)), member("two", Flat(2))
    ensemble = Ensemble("both", members, schema.Concatenate((1.0, 0.5)))
    features, kept = extract_global(ensemble, images, 2)
    joined = np.concatenate([unit(colours), 0.5 * unit(colours[:, :2])], axis=1)
    np.testing.assert_allclose(features.embeddings, unit(joined), atol=1e-6)
    assert features.digest == ensemble.digest and features.embeddings.dtype == np.float32
    assert kept.ids.tolist() == images.ids.tolist() and kept.skipped == ()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_image_on_which_one_member_failed_is_marked_by_the_ensemble(
    tmp_path: Path,
    order: tuple[int, ...],
):
    grays = [10, 20, 30, 40, 50, 60]
    images = flat_images(tmp_path, grays)
    Path(images.paths[5]).write_bytes(b"no picture")
    embeds = Flat(3, without=(20,)), Flat(3), Flat(3, without=(40, 10))
    members = tuple(member(f"m{row}", embeds[row]) for row in order)
    ensemble = Ensemble("ours", members, schema.MeanEmbedding())
    features, kept = extract_global(ensemble, images, 2)
    assert features.ids.tolist() == kept.ids.tolist() == [f"id_{row}" for row in range(5)]
    assert features.failed.tolist() == [True, True, False, True, False]
    colours = np.array([[gray, 100, 50] for gray in (30, 50)], np.float64)
    np.testing.assert_allclose(features.embeddings[[2, 4]], unit(colours), atol=1e-6)
    assert not features.embeddings[features.failed].any()
    ((path, reason),) = kept.skipped
    assert path == images.paths[5] and reason.startswith("not an image")


def test_each_member_of_an_ensemble_has_its_own_store(tmp_path: Path):
    images, counts = flat_images(tmp_path, [10, 20, 30]), {"a": 0, "b": 0}

    def counted(name: str) -> Embedder:
        def embed(pixels: np.ndarray) -> np.ndarray:
            counts[name] += len(pixels)
            return Flat(3)(pixels)

        store = EmbeddingStore(tmp_path / "store", f"digest {name}", lambda line: None)
        return Embedder(name, 8, f"digest {name}", embed, store=store)

    a = counted("a")
    extract_global(a, images, 1)
    ensemble = Ensemble("both", (a, counted("b")), schema.Concatenate())
    first, _ = extract_global(ensemble, images, 1)
    assert counts == {"a": 3, "b": 3}
    again, _ = extract_global(ensemble, images, 1)
    assert counts == {"a": 3, "b": 3}
    np.testing.assert_array_equal(first.embeddings, again.embeddings)


def test_ensemble_skips_images_that_a_member_had_no_time_for(tmp_path: Path):
    images = flat_images(tmp_path, [10, 20, 30])
    # Three batches of the first member, two of the second.
    answers = iter([True] * 3 + [True] * 2)
    ensemble = Ensemble("both", (member("a", Flat(3)), member("b", Flat(2))), schema.Concatenate())
    features, kept = extract_global(ensemble, images, 1, has_time=lambda: next(answers, False))
    assert features.ids.tolist() == kept.ids.tolist() == ["id_0", "id_1"]
    assert kept.skipped == ((images.paths[2], "no time left"),)


def test_mean_of_different_dimensions_raises_value_error(tmp_path: Path):
    members = member("a", Flat(3)), member("b", Flat(2))
    message = r"^MeanEmbedding needs members of one dimension\. Received \[3, 2\]\.$"
    ensemble = Ensemble("both", members, schema.MeanEmbedding())
    with pytest.raises(ValueError, match=message):
        extract_global(ensemble, flat_images(tmp_path, [10]))


# --- reduced decoding


def convolutions(size_px: int) -> Embedder:
    tf.keras.utils.set_random_seed(0)
    layers = [tf.keras.layers.Conv2D(width, 3, 2, activation="relu") for width in (16, 32, 64)]
    network = tf.keras.Sequential([*layers, tf.keras.layers.GlobalAveragePooling2D()])
    return Embedder(
        "tiny",
        size_px,
        "",
        lambda images: network(tf.constant(images, tf.float32) / 64 - 2).numpy(),
    )


def test_reduced_decoding_changes_neither_embeddings_nor_average_precision(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    # Drawn images of 256 px at 32 px are decoded at half size. The bounds are those of ResNet-50.
    images = load_dataset(
        draw_dataset(tmp_path, DrawConfig(10, 48, 1, 1, 256), progress=False)
    ).train
    assert sufficient_px(32) <= 256 // 2
    fast = embed(convolutions(32), images, images)
    monkeypatch.setattr(decoding, "load_image", functools.partial(load_image, reduced=False))
    plain = embed(convolutions(32), images, images)
    pairs = fast.query_features.embeddings, plain.query_features.embeddings
    assert np.multiply(*pairs).sum(1).min() >= 0.999 and not np.array_equal(*pairs)
    found, expected = (
        dict(summarize(score(retrieval, truth_of(retrieval))))["mAP"] for retrieval in (fast, plain)
    )
    assert abs(found - expected) <= 0.002


@pytest.mark.shared
def test_resnet_50_embeds_images_of_reduced_decoding_like_full_ones(shared: Path, tmp_path: Path):
    # Images of Grocery Store have 348 px, too few to reduce for 224 px. So nine make a mosaic.
    paths = sorted((shared / "data/grocery/dataset/val").rglob("*.jpg"))
    rng = np.random.default_rng(0)
    pairs = []
    for number in range(16):
        mosaic = Image.new("RGB", (1044, 1044))
        for place, row in enumerate(rng.choice(len(paths), 9, replace=False)):
            tile = Image.fromarray(decode_image(paths[row])[:348, :348])
            mosaic.paste(tile, (348 * (place % 3), 348 * (place // 3)))
        mosaic.save(tmp_path / f"{number}.jpg", quality=92)
        pairs.append(
            [
                load_image(tmp_path / f"{number}.jpg", 224, reduced=reduced)
                for reduced in (True, False)
            ]
        )
        alone = paths[rng.integers(len(paths))]
        np.testing.assert_array_equal(load_image(alone, 224), load_image(alone, 224, reduced=False))
    weights = str(shared / "pretrained/resnet_v1_50_pqf.ckpt")
    source = CheckpointSource(weights, schema.Trunk(layout="v1.5"))
    embedder = open_model(source, Runtime(mixed_precision="off"), store=False)
    assert isinstance(embedder, Embedder)
    fast, plain = (np.stack(images) for images in zip(*pairs))
    assert not any(np.array_equal(*pair) for pair in pairs)
    assert (embedder.embed(fast) * embedder.embed(plain)).sum(1).min() >= 0.999
