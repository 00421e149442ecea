from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.images import ImageError, load_image
from data_io.stores import pixels
from data_io.stores.pixels import PixelCache, image_loader

SIZE_PX = 16


def picture(path: Path, seed: int = 0, height: int = 90) -> Path:
    content = np.random.default_rng(seed).integers(0, 256, (height, 120, 3), np.uint8)
    Image.fromarray(content).save(path)
    return path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the paths that were decoded, in order."""
    paths: list[str] = []

    def counting(path: str | Path, size_px: int) -> np.ndarray:
        paths.append(str(path))
        return load_image(path, size_px)

    monkeypatch.setattr(pixels, "load_image", counting)
    return paths


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.rgb"))


def test_load_decodes_an_image_once_and_equals_load_image(
    tmp_path: Path, decoded: list[str]
) -> None:
    paths = [picture(tmp_path / f"{seed}.jpg", seed) for seed in range(3)]
    for _ in range(3):
        cache = PixelCache(tmp_path / "cache", SIZE_PX)
        for path in (*paths, *map(str, paths)):
            loaded = cache.load(path)
            assert loaded.dtype == np.uint8
            np.testing.assert_array_equal(loaded, load_image(path, SIZE_PX))
    assert decoded == [str(path) for path in paths]
    sizes = [entry.stat().st_size for entry in entries(tmp_path / "cache")]
    assert sizes == [3 * SIZE_PX**2 + 4] * 3


def test_image_loader_without_a_folder_stores_nothing(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    np.testing.assert_array_equal(image_loader(SIZE_PX, None)(path), load_image(path, SIZE_PX))
    assert os.listdir(tmp_path) == ["a.png"]
    image_loader(SIZE_PX, tmp_path / "cache")(path)
    assert len(entries(tmp_path / "cache")) == 1


def test_a_relative_path_finds_the_same_entry(
    tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = PixelCache(tmp_path / "cache", SIZE_PX)
    path = picture(tmp_path / "a.png")
    cache.load(path)
    monkeypatch.chdir(tmp_path)
    cache.load("a.png")
    assert len(decoded) == 1


def other_pixels(path: Path) -> None:
    picture(path, 1, 91)


def another_time(path: Path) -> None:
    os.utime(path, ns=(0, 7))


@pytest.mark.parametrize("change", [other_pixels, another_time])
def test_a_changed_image_is_decoded_again(
    tmp_path: Path, decoded: list[str], change: Callable[[Path], None]
) -> None:
    cache = PixelCache(tmp_path / "cache", SIZE_PX)
    path = picture(tmp_path / "a.png")
    cache.load(path)
    change(path)
    np.testing.assert_array_equal(cache.load(path), load_image(path, SIZE_PX))
    assert len(decoded) == 2


def test_another_size_or_decoding_version_has_other_entries(
    tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(tmp_path / "a.png")
    for size_px in (8, 16, 8):
        assert PixelCache(tmp_path / "cache", size_px).load(path).shape == (size_px, size_px, 3)
    monkeypatch.setattr(pixels, "DECODING_VERSION", "next")
    PixelCache(tmp_path / "cache", 8).load(path)
    assert len(decoded) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: bytes(len(content)),
        lambda content: content[:99] + bytes([content[99] ^ 1]) + content[100:],
    ],
    ids=["empty", "cut", "longer", "zeros", "one bit"],
)
def test_a_damaged_entry_is_replaced(
    tmp_path: Path, decoded: list[str], damage: Callable[[bytes], bytes]
) -> None:
    cache = PixelCache(tmp_path / "cache", SIZE_PX)
    path = picture(tmp_path / "a.png")
    cache.load(path)
    (entry,) = entries(tmp_path / "cache")
    entry.write_bytes(damage(entry.read_bytes()))
    for _ in range(2):
        np.testing.assert_array_equal(cache.load(path), load_image(path, SIZE_PX))
    assert len(decoded) == 2


def test_unreadable_images_raise_the_error_of_load_image_and_are_not_cached(
    tmp_path: Path,
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    cache = PixelCache(tmp_path / "cache", SIZE_PX)
    for name, reason in (
        ("bad.jpg", "not an image"),
        ("gone.jpg", "file not found"),
        ("a\0b", "null byte"),
        ("", "not found"),
    ):
        for _ in range(2):
            with pytest.raises(ImageError, match=reason):
                cache.load(str(tmp_path / name) if name else "")
    assert not entries(tmp_path / "cache")
    # The failure is not remembered: the file exists now.
    picture(tmp_path / "gone.jpg")
    cache.load(tmp_path / "gone.jpg")


def test_threads_can_share_a_cache(tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"{seed}.png", seed) for seed in range(4)] * 8
    expected = [load_image(path, SIZE_PX) for path in paths]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(2):
            loaded = list(pool.map(PixelCache(tmp_path / "cache", SIZE_PX).load, paths))
            np.testing.assert_array_equal(loaded, expected)
    assert len(entries(tmp_path / "cache")) == 4
    # No temporary file is left.
    assert len([file for file in (tmp_path / "cache").rglob("*") if file.is_file()]) == 4


def test_a_full_disk_stops_the_caching_with_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pixels, "atomic_path", full)
    cache = PixelCache(tmp_path / "cache", SIZE_PX)
    for seed in range(3):
        path = picture(tmp_path / f"{seed}.png", seed)
        np.testing.assert_array_equal(cache.load(path), load_image(path, SIZE_PX))
    reason = "no more images are stored: No space left on device"
    assert capsys.readouterr().err == f"pixel cache {tmp_path / 'cache'}: {reason}\n"


def test_a_folder_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    message = r"file: cannot create this folder for the pixel cache: File exists\.$"
    with pytest.raises(ValueError, match=message):
        PixelCache(tmp_path / "file", SIZE_PX)


def test_statement_names_the_disk_space(tmp_path: Path) -> None:
    statement = PixelCache(tmp_path, 224).statement(7104)
    assert statement == f"pixel cache {tmp_path}: 7,104 images at 224 px take up to 1.07 GB"
