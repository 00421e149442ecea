from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_io.files.artifacts import StaleArtifact
from data_io.records import ImageKeypoints, LocalFeatures
from data_io.stores.local_features import (
    COMMIT_IMAGES,
    LocalStoreWriter,
    load_local,
    paths_of,
    skipped_of,
)
from data_io.stores.packed_local_features import local_features, packed, record_dtype

FILES = ("features.bin", "images.jsonl")
DIMENSION = 5
COUNTS = {"a": 3, "b/ü 2": 0, "c": 1, "d": 4}
# "bad" is skipped.
ORDER = ("a", "b/ü 2", "bad", "c", "d")
RECORD_BYTES = 16 + 2 * DIMENSION


def keypoints(count: int, dimension: int = DIMENSION, seed: int = 0) -> ImageKeypoints:
    rng = np.random.default_rng([count, dimension, seed])
    descriptors = rng.normal(size=(count, dimension))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return ImageKeypoints(
        rng.uniform(0, 47, (count, 2)),
        rng.uniform(1, 9, count),
        rng.normal(size=count),
        descriptors,
        (64, 48),
    )


def writer(
    folder: Path, digest: str = "d1", dimension: int = DIMENSION, **options: object
) -> LocalStoreWriter:
    return LocalStoreWriter(folder, dimension, digest, {"extractor": "drawn"}, **options)


def in_memory(images: dict[str, ImageKeypoints], dtype: str = "float16") -> LocalFeatures:
    """Return the features as a store rounds them, without a folder."""
    dimension = next(iter(images.values())).descriptors.shape[1]
    record = record_dtype(dimension, dtype)
    rows = np.concatenate([packed(features, record) for features in images.values()])
    counts = [len(features) for features in images.values()]
    sizes_px = [features.size_px for features in images.values()]
    return local_features(list(images), counts, sizes_px, rows, "d1")


def fill(store: LocalStoreWriter) -> None:
    """Add each image that is not stored yet, and note the unreadable one, as an extraction does."""
    for image_id, count in COUNTS.items():
        if image_id == "c":
            store.skip("bad", "bad.jpg", "truncated")
        if image_id not in store.done:
            store.add(image_id, f"{image_id}.jpg", keypoints(count))


def write(folder: Path, **options: object) -> Path:
    with writer(folder, **options) as store:
        fill(store)
    return folder


def content(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


def assert_same(one: ImageKeypoints, other: ImageKeypoints, tolerance: float) -> None:
    for name in ("keypoints_px", "scales_px", "attention"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_allclose(one.descriptors, other.descriptors, rtol=0, atol=tolerance)
    assert one.size_px == other.size_px


def assert_holds(features: LocalFeatures, ids: list[str], dtype: str = "float16") -> None:
    """Check all images: int8 is wrong by half a step of 1/127 at most, float16 by half of 2^-11."""
    assert features.ids.tolist() == ids
    tolerance = 0.5 / 127 + 1e-7 if dtype == "int8" else 2**-12
    for image_id in ids:
        assert_same(features.of(image_id), keypoints(COUNTS[image_id]), tolerance)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_load_local_returns_features_rounded_to_the_nearest_step(
    tmp_path: Path, dtype: str
) -> None:
    write(tmp_path / "new" / "store", dtype=dtype)
    features = load_local(tmp_path / "new" / "store", digest="d1")
    assert features.digest == "d1"
    assert features.descriptors.dtype == np.dtype(dtype)
    assert_holds(features, list(COUNTS), dtype)
    assert len(features.of("b/ü 2")) == 0
    assert features.of("b/ü 2").size_px == (64, 48)
    assert skipped_of(tmp_path / "new" / "store") == (("bad.jpg", "truncated"),)
    assert paths_of(tmp_path / "new" / "store") == {
        image_id: f"{image_id}.jpg" for image_id in COUNTS
    }
    memory = in_memory({name: keypoints(count) for name, count in COUNTS.items()}, dtype)
    for name in ("ids", "offsets", "sizes_px"):
        np.testing.assert_array_equal(getattr(memory, name), getattr(features, name))
    for name in ("keypoints_px", "scales_px", "attention", "descriptors"):
        np.testing.assert_array_equal(getattr(memory, name), getattr(features, name))


def test_descriptors_are_rounded_as_by_hand() -> None:
    """127 x 0.6 = 76.2 and 127 x -0.8 = -101.6; the float16 nearest to 0.6 is 1229 / 2048."""
    one = ImageKeypoints([[1, 2]], [3], [4], [[0.6, -0.8]], (8, 8))
    assert in_memory({"a": one}, "int8").descriptors.tolist() == [[76, -102]]
    assert in_memory({"a": one}).descriptors.tolist() == [[1229 / 2048, -1638 / 2048]]
    # 1.05 is within the tolerance of a record, but int8 cannot represent it.
    longer = ImageKeypoints([[1, 2]], [3], [4], [[1.05, 0.0]], (8, 8))
    assert in_memory({"a": longer}, "int8").descriptors.tolist() == [[127, 0]]


def test_store_files_have_the_documented_layout(tmp_path: Path) -> None:
    write(tmp_path)
    data, index = content(tmp_path)
    assert len(data) == sum(COUNTS.values()) * (4 * 4 + 2 * DIMENSION)
    np.testing.assert_array_equal(np.frombuffer(data[:8], "<f4"), keypoints(3).keypoints_px[0])
    assert json.loads(index.splitlines()[0]) == {
        "id": "a",
        "path": "a.jpg",
        "file_bytes": -1,
        "content": "",
        "num_features": 3,
        "width": 64,
        "height": 48,
    }
    assert json.loads(index.splitlines()[2]) == {
        "id": "bad",
        "path": "bad.jpg",
        "skipped": "truncated",
    }
    head = {
        "format": 1,
        "dimension": DIMENSION,
        "dtype": "float16",
        "digest": "d1",
        "made_by": {"extractor": "drawn"},
    }
    assert json.loads((tmp_path / "store.json").read_text()) == head


def test_columns_are_memory_maps_and_only_one_image_is_read(tmp_path: Path) -> None:
    write(tmp_path)
    features = load_local(tmp_path)
    for name in ("keypoints_px", "scales_px", "attention", "descriptors"):
        column = getattr(features, name)
        assert isinstance(column, np.memmap)
        assert not column.flags.writeable
    # All features except those of image "c" become NaN.
    with open(tmp_path / "features.bin", "r+b") as file:
        file.write(b"\xff" * 3 * RECORD_BYTES)
        file.seek(4 * RECORD_BYTES)
        file.write(b"\xff" * 4 * RECORD_BYTES)
    assert_same(features.of("c"), keypoints(1), 2**-12)
    message = r"local features of a are damaged \(keypoints_px must be finite"
    with pytest.raises(ValueError, match=message):
        features.of("a")


def test_nan_descriptors_are_refused_with_the_name_of_their_image(tmp_path: Path) -> None:
    write(tmp_path)
    with open(tmp_path / "features.bin", "r+b") as file:
        file.seek(3 * RECORD_BYTES + 16)
        file.write(np.array([np.nan], "<f2").tobytes())
    message = r"features of c are damaged \(descriptors must be finite.\); extract them again"
    with pytest.raises(ValueError, match=message):
        load_local(tmp_path).of("c")


@pytest.mark.parametrize("images", [(), ("b/ü 2",)])
def test_a_store_can_have_no_feature(tmp_path: Path, images: tuple[str, ...]) -> None:
    with writer(tmp_path) as store:
        for image_id in images:
            store.add(image_id, "x", keypoints(0))
    features = load_local(tmp_path)
    assert features.ids.tolist() == list(images)
    assert features.descriptors.shape == (0, DIMENSION)
    assert all(len(features.of(image_id)) == 0 for image_id in images)
    assert skipped_of(tmp_path) == ()


# --- killed at any moment


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("undisturbed"))


@settings(max_examples=80)
@given(st.data())
def test_a_store_cut_anywhere_keeps_complete_images_and_resumes_to_the_same_bytes(
    undisturbed: Path, data: st.DataObject
) -> None:
    complete = content(undisturbed)
    num_data, num_index = (data.draw(st.integers(0, len(part))) for part in complete)
    # A power cut may leave zeros at the end of a file.
    zeros = bytes(data.draw(st.sampled_from([0, 1, 60])))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(undisturbed / "store.json", folder)
        before = [complete[0][:num_data], complete[1][:num_index] + zeros]
        for name, part in zip(FILES, before):
            (folder / name).write_bytes(part)
        features = load_local(folder)
        # Reading does not repair the store.
        assert content(folder) == before
        ends = np.cumsum([0, *map(len, complete[1].splitlines(keepends=True))])
        counts = [COUNTS.get(image_id, 0) for image_id in ORDER]
        rows = np.cumsum([0, *counts]) * RECORD_BYTES
        num_whole = max(i for i in range(len(ends)) if num_data >= rows[i] and num_index >= ends[i])
        assert_holds(features, [image_id for image_id in ORDER[:num_whole] if image_id != "bad"])
        with writer(folder) as store:
            assert list(store.done) == features.ids.tolist()
            assert store.recovered == len(before[1].splitlines()) - num_whole
            fill(store)
        assert content(folder) == complete


def test_rows_of_zeros_are_removed(tmp_path: Path) -> None:
    complete = content(write(tmp_path))
    (tmp_path / "features.bin").write_bytes(
        complete[0][: 5 * RECORD_BYTES] + bytes(3 * RECORD_BYTES)
    )
    assert_holds(load_local(tmp_path), ["a", "b/ü 2", "c"])
    with writer(tmp_path) as store:
        assert (list(store.done), store.recovered) == (["a", "b/ü 2", "c"], 1)
        fill(store)
    assert content(tmp_path) == complete


def test_images_added_before_an_error_are_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), writer(tmp_path) as store:
        store.add("a", "a.jpg", keypoints(3))
        raise KeyboardInterrupt
    assert_holds(load_local(tmp_path), ["a"])


def test_writer_commits_after_a_fixed_number_of_images(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        for number in range(COMMIT_IMAGES):
            assert len(load_local(tmp_path)) == 0
            store.add(f"i{number}", "x", keypoints(1))
        assert len(load_local(tmp_path)) == COMMIT_IMAGES
        store.add("one more", "x", keypoints(2))
        store.flush()
        assert len(load_local(tmp_path)) == COMMIT_IMAGES + 1


def test_a_full_disk_leaves_a_store_that_can_be_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first commit fails after the features are written; the second one repeats all of it."""

    def full(file: object) -> None:
        raise OSError(28, "No space left on device")

    with writer(tmp_path) as store:
        fill(store)
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
            patch.setattr("os.fsync", full)
            store.flush()
        assert len(load_local(tmp_path)) == 0
    assert content(tmp_path) == content(write(tmp_path / "other"))


# --- skipped images


def test_a_skipped_image_is_noted_once_and_can_be_stored_later(tmp_path: Path) -> None:
    complete = content(write(tmp_path))
    with writer(tmp_path) as store:
        assert "bad" not in store.done
        store.skip("bad", "bad.jpg", "truncated")
    assert content(tmp_path) == complete
    with writer(tmp_path) as store:
        store.add("bad", "bad.jpg", keypoints(2))
    assert skipped_of(tmp_path) == ()
    assert len(load_local(tmp_path).of("bad")) == 2


# --- refused


def test_add_refuses_a_stored_image_and_another_dimension(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        store.add("a", "a.jpg", keypoints(3))
        with pytest.raises(ValueError, match="a: stored already, from a.jpg"):
            store.add("a", "b.jpg", keypoints(3))
        with pytest.raises(ValueError, match="a: stored already, from a.jpg"):
            store.skip("a", "b.jpg", "why")
        with pytest.raises(ValueError, match=r"b: descriptors must be \[2, 5\]. Received \[2, 4\]"):
            store.add("b", "b.jpg", keypoints(2, dimension=4))
    assert load_local(tmp_path).ids.tolist() == ["a"]


def test_packed_refuses_descriptors_that_int8_cannot_represent() -> None:
    """Each of 70,000 equal entries is below half a step of 1/127."""
    flat = ImageKeypoints([[1, 2]], [3], [4], np.full((1, 70_000), 70_000**-0.5), (8, 8))
    message = "descriptors lose their unit length as int8; choose float16, or fewer dimensions"
    with pytest.raises(ValueError, match=message):
        packed(flat, record_dtype(70_000, "int8"))
    assert len(in_memory({"a": flat}).of("a")) == 1


def test_a_store_of_another_config_is_stale_unless_overwritten(tmp_path: Path) -> None:
    write(tmp_path)
    remedy = r"Pass --overwrite \(overwrite=True\)\."
    stale = f"{tmp_path} was made by config d1; now d2. {remedy}"
    with pytest.raises(StaleArtifact, match=stale):
        writer(tmp_path, digest="d2").__enter__()
    with pytest.raises(StaleArtifact, match=stale):
        load_local(tmp_path, digest="d2")
    with pytest.raises(StaleArtifact, match=f"contains dtype float16; now int8. {remedy}"):
        writer(tmp_path, dtype="int8").__enter__()
    with pytest.raises(StaleArtifact, match=f"contains dimension 5; now 6. {remedy}"):
        writer(tmp_path, dimension=6).__enter__()
    before = load_local(tmp_path)
    with writer(tmp_path, digest="d2", dtype="int8", overwrite=True) as store:
        assert not store.done
        assert store.recovered == 0
        # A reader can still read the store that it opened.
        assert_holds(before, list(COUNTS))
        fill(store)
    assert_holds(load_local(tmp_path, digest="d2"), list(COUNTS), "int8")


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with writer(tmp_path):
        writing = f"process {os.getpid()} is writing these local features; wait until it ends."
        message = f"{tmp_path}: {writing}"
        with pytest.raises(ValueError, match=message):
            writer(tmp_path, overwrite=True).__enter__()
        load_local(tmp_path)
    write(tmp_path)


def test_missing_and_damaged_stores_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path}/none/store.json: not found"):
        load_local(tmp_path / "none")
    complete = content(write(tmp_path))
    lines = complete[1].splitlines(keepends=True)
    for damage in (b"{}\n", b"\0" * 30 + b"\n", b"[1]\n", b"\xff\n"):
        (tmp_path / "images.jsonl").write_bytes(lines[0] + damage + b"".join(lines[2:]))
        message = f"{tmp_path}: corrupt or incomplete .* .line 2 of images.jsonl is not readable"
        with pytest.raises(ValueError, match=message):
            load_local(tmp_path)
        with pytest.raises(ValueError, match=message):
            writer(tmp_path).__enter__()
    (tmp_path / "images.jsonl").write_bytes(lines[0] + lines[0])
    with pytest.raises(ValueError, match="Received twice: a.*extract again with --overwrite"):
        load_local(tmp_path)
    (tmp_path / "images.jsonl").unlink()
    with pytest.raises(ValueError, match="images.jsonl is missing"):
        load_local(tmp_path)
    (tmp_path / "store.json").write_text('{"format": 2}')
    with pytest.raises(ValueError, match="store.json is not of format 1"):
        load_local(tmp_path)


def test_record_dtype_refuses_other_dtypes() -> None:
    message = "must be float16 or int8, of at least 1 dimension. Received float32, 4"
    with pytest.raises(ValueError, match=message):
        record_dtype(4, "float32")


def test_a_line_with_values_of_other_types_is_ignored(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        store.add("a", "a.jpg", keypoints(3))
    index = tmp_path / "images.jsonl"
    index.write_bytes(index.read_bytes().replace(b'"num_features": 3', b'"num_features": "3"'))
    assert len(load_local(tmp_path)) == 0
