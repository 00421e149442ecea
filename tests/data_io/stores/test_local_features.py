from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_io.artifacts import StaleArtifact
from data_io.records import ImageKeypoints, LocalFeatures
from data_io.stores.local_features import (
    COMMIT_IMAGES,
    LocalStoreWriter,
    load_local,
    paths_of,
    skipped_of,
)
from data_io.stores.packed_local_features import in_memory

FILES = ("features.bin", "images.jsonl")
DIMENSION = 5
COUNTS = {"a": 3, "b/ü 2": 0, "c": 1, "d": 4}
ORDER = ("a", "b/ü 2", "bad", "c", "d")  # "bad" is skipped
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


def fill(store: LocalStoreWriter) -> None:
    """What an extraction does: every image that is not done yet, in order, and what cannot be read is noted."""
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
    """Half a step of 1/127 off at most in int8; half a unit in the last place of 11 binary digits in float16."""
    assert features.ids.tolist() == ids
    for image_id in ids:
        assert_same(
            features.of(image_id),
            keypoints(COUNTS[image_id]),
            0.5 / 127 + 1e-7 if dtype == "int8" else 2**-12,
        )


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_images_come_back_rounded_to_the_nearest_step(tmp_path: Path, dtype: str) -> None:
    write(tmp_path / "new" / "store", dtype=dtype)
    features = load_local(tmp_path / "new" / "store", digest="d1")
    assert (features.digest, features.descriptors.dtype) == ("d1", np.dtype(dtype))
    assert_holds(features, list(COUNTS), dtype)
    assert len(features.of("b/ü 2")) == 0 and features.of("b/ü 2").size_px == (64, 48)
    assert skipped_of(tmp_path / "new" / "store") == (("bad.jpg", "truncated"),)
    assert paths_of(tmp_path / "new" / "store") == {
        image_id: f"{image_id}.jpg" for image_id in COUNTS
    }
    memory = in_memory(list(COUNTS), [keypoints(count) for count in COUNTS.values()], "d1", dtype)
    for name in (
        "ids",
        "offsets",
        "sizes_px",
        "keypoints_px",
        "scales_px",
        "attention",
        "descriptors",
    ):
        np.testing.assert_array_equal(getattr(memory, name), getattr(features, name))


def test_golden_steps() -> None:
    """By hand: 127 x 0.6 = 76.2, 127 x -0.8 = -101.6; 0.6 between neighbours 2^-11 apart is 1229/2048."""
    one = ImageKeypoints([[1, 2]], [3], [4], [[0.6, -0.8]], (8, 8))
    assert in_memory(["a"], [one], dtype="int8").descriptors.tolist() == [[76, -102]]
    assert in_memory(["a"], [one]).descriptors.tolist() == [[1229 / 2048, -1638 / 2048]]
    longer = ImageKeypoints(
        [[1, 2]], [3], [4], [[1.05, 0.0]], (8, 8)
    )  # within a reader's tolerance, beyond int8
    assert in_memory(["a"], [longer], dtype="int8").descriptors.tolist() == [[127, 0]]


def test_a_packed_record_on_disk(tmp_path: Path) -> None:
    write(tmp_path)
    data, index = content(tmp_path)
    assert len(data) == sum(COUNTS.values()) * (4 * 4 + 2 * DIMENSION)
    np.testing.assert_array_equal(np.frombuffer(data[:8], "<f4"), keypoints(3).keypoints_px[0])
    assert json.loads(index.splitlines()[0]) == {
        "id": "a",
        "path": "a.jpg",
        "file_bytes": -1,
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
        assert isinstance(column, np.memmap) and not column.flags.writeable
    with open(tmp_path / "features.bin", "r+b") as file:  # all but the image "c" becomes NaN
        file.write(b"\xff" * 3 * RECORD_BYTES)
        file.seek(4 * RECORD_BYTES)
        file.write(b"\xff" * 4 * RECORD_BYTES)
    assert_same(features.of("c"), keypoints(1), 2**-12)
    with pytest.raises(
        ValueError, match=r"local features of a are damaged \(keypoints_px must be finite"
    ):
        features.of("a")


def test_nan_descriptors_are_refused_with_their_image(tmp_path: Path) -> None:
    write(tmp_path)
    with open(tmp_path / "features.bin", "r+b") as file:
        file.seek(3 * RECORD_BYTES + 16)
        file.write(np.array([np.nan], "<f2").tobytes())
    with pytest.raises(
        ValueError,
        match=r"local features of c are damaged \(descriptors must be finite.\); extract them again",
    ):
        load_local(tmp_path).of("c")


@pytest.mark.parametrize("images", [(), ("b/ü 2",)])
def test_a_store_without_any_feature(tmp_path: Path, images: tuple[str, ...]) -> None:
    with writer(tmp_path) as store:
        for image_id in images:
            store.add(image_id, "x", keypoints(0))
    features = load_local(tmp_path)
    assert features.ids.tolist() == list(images) and features.descriptors.shape == (0, DIMENSION)
    assert (
        all(len(features.of(image_id)) == 0 for image_id in images) and skipped_of(tmp_path) == ()
    )
    assert len(in_memory([], [])) == 0


# --- killed at any moment


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("undisturbed"))


@settings(max_examples=80)
@given(st.data())
def test_cut_anywhere_it_keeps_whole_images_and_resumes_to_the_same_bytes(
    undisturbed: Path, data: st.DataObject
) -> None:
    whole = content(undisturbed)
    num_data, num_index = (data.draw(st.integers(0, len(part))) for part in whole)
    zeros = bytes(data.draw(st.sampled_from([0, 1, 60])))  # a power cut may leave them
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(undisturbed / "store.json", folder)
        before = [whole[0][:num_data], whole[1][:num_index] + zeros]
        for name, part in zip(FILES, before):
            (folder / name).write_bytes(part)
        features = load_local(folder)
        assert content(folder) == before  # reading repairs nothing
        ends = np.cumsum([0, *map(len, whole[1].splitlines(keepends=True))])
        rows = (
            np.cumsum([0, *(({**COUNTS, "bad": 0})[image_id] for image_id in ORDER)]) * RECORD_BYTES
        )
        num_whole = max(i for i in range(len(ends)) if num_data >= rows[i] and num_index >= ends[i])
        assert_holds(features, [image_id for image_id in ORDER[:num_whole] if image_id != "bad"])
        with writer(folder) as store:
            assert list(store.done) == features.ids.tolist()
            assert store.recovered == len(before[1].splitlines()) - num_whole
            fill(store)
        assert content(folder) == whole


def test_rows_of_zeros_are_none(tmp_path: Path) -> None:
    whole = content(write(tmp_path))
    (tmp_path / "features.bin").write_bytes(whole[0][: 5 * RECORD_BYTES] + bytes(3 * RECORD_BYTES))
    assert_holds(load_local(tmp_path), ["a", "b/ü 2", "c"])
    with writer(tmp_path) as store:
        assert (list(store.done), store.recovered) == (["a", "b/ü 2", "c"], 1)
        fill(store)
    assert content(tmp_path) == whole


def test_what_was_added_before_an_error_is_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), writer(tmp_path) as store:
        store.add("a", "a.jpg", keypoints(3))
        raise KeyboardInterrupt
    assert_holds(load_local(tmp_path), ["a"])


def test_it_commits_by_itself_features_first(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        for number in range(COMMIT_IMAGES):
            assert len(load_local(tmp_path)) == 0
            store.add(f"i{number}", "x", keypoints(1))
        assert len(load_local(tmp_path)) == COMMIT_IMAGES
        store.add("one more", "x", keypoints(2))
        store.flush()
        assert len(load_local(tmp_path)) == COMMIT_IMAGES + 1


def test_a_full_disk_leaves_a_store_that_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first commit breaks off with the features written; the second tries all of it again."""

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


def test_a_skipped_image_is_tried_again_and_noted_once(tmp_path: Path) -> None:
    whole = content(write(tmp_path))
    with writer(tmp_path) as store:
        assert "bad" not in store.done
        store.skip("bad", "bad.jpg", "truncated")
    assert content(tmp_path) == whole
    with writer(tmp_path) as store:
        store.add("bad", "bad.jpg", keypoints(2))
    assert skipped_of(tmp_path) == () and len(load_local(tmp_path).of("bad")) == 2


# --- refused


def test_an_image_is_stored_once_and_of_the_stores_dimension(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        store.add("a", "a.jpg", keypoints(3))
        for again in (
            lambda: store.add("a", "b.jpg", keypoints(3)),
            lambda: store.skip("a", "b.jpg", "why"),
        ):
            with pytest.raises(ValueError, match="a: stored already, from a.jpg"):
                again()
        with pytest.raises(ValueError, match=r"b: descriptors must be \[2, 5\]. Received \[2, 4\]"):
            store.add("b", "b.jpg", keypoints(2, dimension=4))
    assert load_local(tmp_path).ids.tolist() == ["a"]


def test_what_int8_cannot_hold_is_refused_when_written() -> None:
    """Each of 70,000 equal entries is under half a step of 1/127."""
    flat = ImageKeypoints([[1, 2]], [3], [4], np.full((1, 70_000), 70_000**-0.5), (8, 8))
    with pytest.raises(
        ValueError,
        match="descriptors lose their unit length as int8; choose float16, or fewer dimensions",
    ):
        in_memory(["a"], [flat], dtype="int8")
    assert len(in_memory(["a"], [flat]).of("a")) == 1


def test_a_store_of_another_config_is_stale_unless_overwritten(tmp_path: Path) -> None:
    write(tmp_path)
    for stale in (
        lambda: writer(tmp_path, digest="d2").__enter__(),
        lambda: load_local(tmp_path, digest="d2"),
    ):
        with pytest.raises(
            StaleArtifact, match=f"{tmp_path} was made by config d1; now d2. Pass --overwrite."
        ):
            stale()
    with pytest.raises(StaleArtifact, match="holds dtype float16; now int8. Pass --overwrite"):
        writer(tmp_path, dtype="int8").__enter__()
    with pytest.raises(StaleArtifact, match="holds dimension 5; now 6. Pass --overwrite"):
        writer(tmp_path, dimension=6).__enter__()
    before = load_local(tmp_path)
    with writer(tmp_path, digest="d2", dtype="int8", overwrite=True) as store:
        assert not store.done and store.recovered == 0
        assert_holds(before, list(COUNTS))  # a reader keeps what it has opened
        fill(store)
    assert_holds(load_local(tmp_path, digest="d2"), list(COUNTS), "int8")


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with writer(tmp_path):
        with pytest.raises(
            ValueError,
            match=f"{tmp_path}: another run is writing these local features; let it end first.",
        ):
            writer(tmp_path, overwrite=True).__enter__()
        load_local(tmp_path)
    write(tmp_path)


def test_missing_and_damaged_stores_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path}/none/store.json: not found"):
        load_local(tmp_path / "none")
    whole = content(write(tmp_path))
    lines = whole[1].splitlines(keepends=True)
    for damage in (b"{}\n", b"\0" * 30 + b"\n", b"[1]\n", b"\xff\n"):
        (tmp_path / "images.jsonl").write_bytes(lines[0] + damage + b"".join(lines[2:]))
        for opened in (lambda: load_local(tmp_path), lambda: writer(tmp_path).__enter__()):
            with pytest.raises(
                ValueError,
                match=f"{tmp_path}: not a whole store .* .line 2 of images.jsonl is not readable",
            ):
                opened()
    (tmp_path / "images.jsonl").write_bytes(lines[0] + lines[0])
    with pytest.raises(ValueError, match="Received twice: a.*extract again with --overwrite"):
        load_local(tmp_path)
    (tmp_path / "images.jsonl").unlink()
    with pytest.raises(ValueError, match="images.jsonl is missing"):
        load_local(tmp_path)
    (tmp_path / "store.json").write_text('{"format": 2}')
    with pytest.raises(ValueError, match="store.json is not of format 1"):
        load_local(tmp_path)


def test_descriptor_types_are_two() -> None:
    with pytest.raises(
        ValueError,
        match="descriptors must be float16 or int8, of at least 1 dimension. Received float32, 4",
    ):
        in_memory(["a"], [keypoints(1, 4)], dtype="float32")


def test_a_line_of_other_types_is_no_line(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        store.add("a", "a.jpg", keypoints(3))
    index = tmp_path / "images.jsonl"
    index.write_bytes(index.read_bytes().replace(b'"num_features": 3', b'"num_features": "3"'))
    assert len(load_local(tmp_path)) == 0
