"""Test the extraction job with a model whose embeddings depend on the place in the batch.

So equal bytes mean equal places, on any processor.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_io.files.artifacts import StaleArtifact, save_record, write_npz
from data_io.images import DECODING_VERSION
from data_io.records import ImageList
from data_io.stores import embedding_parts
from data_io.stores.embedding_parts import FeatureParts
from delf_ext.features import extraction_job
from delf_ext.features.extraction import extract_global
from delf_ext.features.extraction_job import _pack, extract_in_parts

SIZE_PX, BATCH = 4, 3


class Model:
    """Model of gray images; `embedded` has the gray values, black ones are not counted."""

    image_size = SIZE_PX

    def __init__(self, digest: str = "d1") -> None:
        self.digest = digest
        self.embedded: list[int] = []

    def embed(self, images: np.ndarray) -> np.ndarray:
        gray = images[:, 0, 0, 0]
        self.embedded += [int(value) for value in gray if value]
        return np.stack(
            [np.cos(gray / 40), np.sin(gray / 40), 0.5 + np.arange(len(images)) * 1e-3], axis=1
        )


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction_job, "PART_IMAGES", 6)


def picture(path: Path, gray: int) -> None:
    Image.fromarray(np.full((SIZE_PX, SIZE_PX, 3), gray, np.uint8)).save(path)


def gallery(folder: Path, num: int, bad: frozenset[int] = frozenset()) -> ImageList:
    """Write images of gray values 1, 2, ...; rows in `bad` have no file or no image."""
    folder.mkdir(exist_ok=True)
    for row in range(num):
        if row not in bad:
            picture(folder / f"{row:03}.png", row + 1)
        elif row % 2:
            (folder / f"{row:03}.png").write_bytes(b"no picture")
    return listed(folder, [f"{row:03}" for row in range(num)])


def listed(folder: Path, names: list[str]) -> ImageList:
    return ImageList(
        names,
        [str(folder / f"{name}.png") for name in names],
        skipped=[("earlier.jpg", "truncated")],
    )


def run(
    images: ImageList,
    folder: Path,
    model: Model | None = None,
    **options: object,
) -> tuple[bytes, bytes] | None:
    """Extract, and return the two records as the bytes of their files."""
    result = extract_in_parts(model or Model(), images, folder / "parts", BATCH, **options)
    if result is None:
        return None
    for name, record in zip(("features", "images"), result, strict=True):
        save_record(folder / f"{name}.npz", record)
    return (folder / "features.npz").read_bytes(), (folder / "images.npz").read_bytes()


def parts_of(images: ImageList, folder: Path) -> FeatureParts:
    return FeatureParts(folder / "parts", f"d1, decoding {DECODING_VERSION}", images.ids, 6)


def fresh(images: ImageList) -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        result = run(images, Path(folder))
        assert result is not None
        return result


class Killed(Exception):
    pass


def killed_after(num_parts: int, images: ImageList, folder: Path, **options: object) -> None:
    """Run a job that is killed when it writes one part more than `num_parts`."""
    save = FeatureParts.save
    saved = iter(range(num_parts))

    def save_or_end(self: FeatureParts, *arguments: object) -> None:
        if next(saved, None) is None:
            raise Killed
        save(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureParts, "save", save_or_end)
        with contextlib.suppress(Killed):
            run(images, folder, **options)


def test_job_returns_the_same_as_extract_global(tmp_path: Path) -> None:
    images, model = gallery(tmp_path / "g", 20), Model()
    run(images, tmp_path, model)
    features, kept = extract_in_parts(model, images, tmp_path / "parts", BATCH)
    assert model.embedded == list(range(1, 21))
    expected, expected_kept = extract_global(Model(), images, BATCH)
    np.testing.assert_array_equal(features.embeddings, expected.embeddings)
    assert (
        features.ids.tolist() == expected.ids.tolist() == kept.ids.tolist()
        and features.digest == "d1"
    )
    assert kept.skipped == expected_kept.skipped


def test_bad_files_are_skipped_and_tried_again(tmp_path: Path) -> None:
    images, model = gallery(tmp_path / "g", 14, frozenset({0, 5, 8})), Model()
    os.mkfifo(tmp_path / "g" / "000.png")
    first = run(images, tmp_path, model)
    _, kept = extract_in_parts(model, images, tmp_path / "parts", BATCH)
    assert kept.skipped[0] == ("earlier.jpg", "truncated")
    assert [path for path, _ in kept.skipped[1:]] == [images.paths[row] for row in (0, 5, 8)]
    reasons = [reason for _, reason in kept.skipped[1:]]
    assert (
        reasons[0] == "is not a regular file"
        and reasons[1].startswith("not an image")
        and reasons[2] == "file not found"
    )
    assert (
        len(model.embedded) == 11
        and run(images, tmp_path, model) == first
        and len(model.embedded) == 11
    )
    picture(tmp_path / "g" / "008.png", 9)
    assert run(images, tmp_path, model) == fresh(images) and model.embedded[11:] == [9]


@settings(max_examples=25, deadline=None)
@given(
    num=st.integers(1, 40),
    bad=st.frozensets(st.integers(1, 39), max_size=8),
    shards=st.integers(1, 3),
    kills=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=4),
    order=st.permutations(range(3)),
)
def test_kills_and_shards_do_not_change_a_byte(
    num: int,
    bad: frozenset,
    shards: int,
    kills: list,
    order: list,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        images = gallery(Path(name) / "g", num, bad)
        for index, num_parts in kills:
            killed_after(num_parts, images, Path(name), shard=(index % shards + 1, shards))
        results = [
            run(images, Path(name), shard=(index + 1, shards)) for index in order if index < shards
        ]
        assert results[-1] == fresh(images)
        assert run(images, Path(name)) == results[-1]


def test_kill_loses_only_the_unfinished_part(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    images, model = gallery(tmp_path / "g", 20), Model()
    killed_after(2, images, tmp_path)
    assert run(images, tmp_path, model) == fresh(images)
    assert model.embedded == list(range(13, 21))
    assert f"{tmp_path}/parts: 12 of 20 images are already embedded" in capsys.readouterr().out


def test_last_shard_joins_the_parts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    images, models = gallery(tmp_path / "g", 20), (Model(), Model())
    assert run(images, tmp_path, models[1], shard=(2, 2)) is None
    assert (
        f"{tmp_path}/parts: 2 of 4 parts are still missing; the shard that ends last joins them"
        in capsys.readouterr().out
    )
    assert run(images, tmp_path, models[0], shard=(1, 2)) == fresh(images)
    assert models[1].embedded == [*range(7, 13), 19, 20] and len(models[0].embedded) == 12


def test_shard_does_not_join_parts_that_are_out_of_date(tmp_path: Path) -> None:
    images, model = gallery(tmp_path / "g", 20), Model()
    run(images, tmp_path)
    picture(tmp_path / "g" / "007.png", 200)
    assert run(images, tmp_path, model, shard=(1, 2)) is None and model.embedded == []
    assert run(images, tmp_path, model, shard=(2, 2)) == fresh(images) and model.embedded == [200]


def test_replaced_images_are_embedded_again_at_their_places(tmp_path: Path) -> None:
    images, model = gallery(tmp_path / "g", 20), Model()
    before = run(images, tmp_path)
    # Three rows share a place in the batch, one has another place.
    for row in (1, 4, 10, 17):
        picture(tmp_path / "g" / f"{row:03}.png", 100 + row)
    assert run(images, tmp_path, model) == fresh(images) != before
    assert sorted(model.embedded) == [101, 104, 110, 117]


def test_unchanged_files_are_not_embedded_again(tmp_path: Path) -> None:
    images, model = gallery(tmp_path / "g", 20), Model()
    before = run(images, tmp_path)
    for path in images.paths:
        os.utime(path, (1, 1))
    assert run(images, tmp_path, model) == before and model.embedded == []


def test_renamed_images_are_known_by_their_content(tmp_path: Path) -> None:
    images, model = gallery(tmp_path / "g", 20), Model()
    run(images, tmp_path)
    before = extract_in_parts(model, images, tmp_path / "parts", BATCH)[0]
    (tmp_path / "g").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "003.png").rename(tmp_path / "elsewhere" / "new.png")
    names = [name for name in images.ids.tolist() if name != "003"] + ["new"]
    after = extract_in_parts(
        model, listed(tmp_path / "elsewhere", names), tmp_path / "parts", BATCH
    )[0]
    assert model.embedded == [] and after.ids.tolist() == names
    np.testing.assert_array_equal(after.embeddings, before.embeddings[[0, 1, 2, *range(4, 20), 3]])


def test_result_follows_a_changed_list(tmp_path: Path) -> None:
    # With a kill and two shards. Only new images are embedded, and parts of earlier lists go.
    images, model = gallery(tmp_path / "g", 20), Model()
    run(images, tmp_path)
    for row in range(4):
        picture(tmp_path / "g" / f"new{row}.png", 100 + row)
    now = listed(
        tmp_path / "g",
        ["new0", "005", "new1", *(f"{row:03}" for row in range(7, 20)), "new2", "new3"],
    )
    killed_after(1, now, tmp_path)
    assert run(now, tmp_path, model, shard=(1, 2)) is None
    run(now, tmp_path, model, shard=(2, 2))
    features, kept = extract_in_parts(model, now, tmp_path / "parts", BATCH)
    assert features.ids.tolist() == kept.ids.tolist() == now.ids.tolist()
    np.testing.assert_allclose(
        features.embeddings, extract_global(Model(), now, BATCH)[0].embeddings, atol=5e-3
    )
    assert (
        set(model.embedded) <= {100, 101, 102, 103} and max(Counter(model.embedded).values()) == 1
    )
    assert parts_of(now, tmp_path).earlier() == []


def test_images_of_equal_content_give_the_same_bytes(tmp_path: Path) -> None:
    images = gallery(tmp_path / "g", 20)
    for row in (3, 4, 11, 19):
        picture(tmp_path / "g" / f"{row:03}.png", 77)
    killed_after(2, images, tmp_path)
    run(images, tmp_path, shard=(2, 2))
    assert run(images, tmp_path) == fresh(images)


@pytest.mark.parametrize("damage", ["cut", "empty", "changed"])
def test_damaged_part_is_written_again(
    tmp_path: Path,
    damage: str,
    capsys: pytest.CaptureFixture,
) -> None:
    images, model = gallery(tmp_path / "g", 20), Model()
    before, path = run(images, tmp_path), parts_of(images, tmp_path).path(1)
    whole = path.read_bytes()
    path.write_bytes(
        {"cut": whole[: len(whole) // 2], "empty": b"", "changed": whole.replace(b"\x3f", b"\x3e")}[
            damage
        ]
    )
    assert run(images, tmp_path, model) == before and path.read_bytes() == whole
    assert model.embedded == list(range(7, 13))
    lines = [line for line in capsys.readouterr().out.splitlines() if "000001.npz" in line]
    assert len(lines) == 1 and lines[0].startswith(f"{path}: not a valid part (")
    assert lines[0].endswith("); its images are embedded again")


@pytest.mark.parametrize(
    ("digest", "decoding", "now"), [("d2", 1, "d2, decoding 1"), ("d1", 2, "d1, decoding 2")]
)
def test_stale_parts_are_refused_before_a_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: str, decoding: int, now: str
) -> None:
    images, model = gallery(tmp_path / "g", 8), Model(digest)
    monkeypatch.setattr(embedding_parts, "DECODING_VERSION", 1)
    run(images, tmp_path)
    monkeypatch.setattr(embedding_parts, "DECODING_VERSION", decoding)
    with monkeypatch.context() as patch:
        patch.setattr(extraction_job, "contents_of", lambda paths: pytest.fail("read"))
        message = rf"parts was made by model d1, decoding 1; now {now}\. Pass --overwrite "
        with pytest.raises(StaleArtifact, match=message):
            run(images, tmp_path, model)
    assert run(images, tmp_path, model, overwrite=True) is not None and len(model.embedded) == 8


def test_two_processes_on_one_shard_raise_value_error(tmp_path: Path) -> None:
    images = gallery(tmp_path / "g", 8)
    with parts_of(images, tmp_path).locked(1, 2):
        with pytest.raises(
            ValueError, match=r"process \d+ is extracting shard 1/2; wait until it ends"
        ):
            run(images, tmp_path, shard=(1, 2))
        assert run(images, tmp_path, shard=(2, 2)) is None


def test_full_disk_loses_no_written_part(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, model = gallery(tmp_path / "g", 20), Model()
    room = iter(range(2))

    def full(path: Path, **columns: np.ndarray) -> None:
        if next(room, None) is None:
            raise OSError(28, "No space left on device")
        write_npz(path, **columns)

    with monkeypatch.context() as patch:
        patch.setattr("data_io.stores.embedding_parts.write_npz", full)
        with pytest.raises(OSError, match="No space left on device"):
            run(images, tmp_path)
    assert [path.name for path in sorted(parts_of(images, tmp_path).path(0).parent.iterdir())] == [
        "000000.npz",
        "000001.npz",
    ]
    assert run(images, tmp_path, model) == fresh(images) and len(model.embedded) == 8


def test_file_that_appears_during_the_run_is_skipped(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Its content is unknown, so its embedding would be used for any other missing file.
    images = gallery(tmp_path / "g", 8)
    with monkeypatch.context() as patch:
        contents = lambda paths: ["" if "003" in path else path for path in paths]  # noqa: E731
        patch.setattr(extraction_job, "contents_of", contents)
        _, kept = extract_in_parts(Model(), images, tmp_path / "parts", BATCH)
    assert kept.skipped[1:] == ((images.paths[3], "changed while it was read"),)
    assert run(images, tmp_path) == fresh(images)


def test_no_readable_image_raises_value_error(tmp_path: Path) -> None:
    images = gallery(tmp_path / "g", 2, frozenset({0, 1}))
    with pytest.raises(
        ValueError,
        match=rf"^none of 2 images could be read; the first: {images.paths[0]}: file not found\.$",
    ):
        run(images, tmp_path)
    with pytest.raises(
        ValueError, match=r"^none of 0 images could be read; the first: the list is empty\.$"
    ):
        run(ImageList([], []), tmp_path)
    with pytest.raises(ValueError, match=r"^batch_size must be at least 1\. Received 0\.$"):
        extract_in_parts(Model(), images, tmp_path / "parts", 0)


def greedy(rows: list[int], batch_size: int) -> Iterator[list[int]]:
    """Yield batches that take the first row of each place, until no row is left."""
    while rows:
        batch = [
            row
            for number, row in enumerate(rows)
            if row % batch_size not in {other % batch_size for other in rows[:number]}
        ]
        yield batch
        rows = [row for row in rows if row not in batch]


@given(st.sets(st.integers(0, 60)), st.integers(1, 9))
def test_pack_equals_its_slow_twin(rows: set[int], batch_size: int) -> None:
    assert _pack(sorted(rows), batch_size) == list(greedy(sorted(rows), batch_size))


def test_pack_keeps_a_whole_part_in_list_order() -> None:
    assert _pack(list(range(6, 14)), 3) == [[6, 7, 8], [9, 10, 11], [12, 13]]
