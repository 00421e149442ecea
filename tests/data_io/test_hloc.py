from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_io.hloc import export_hloc
from data_io.records import ImageKeypoints, LocalFeatures
from data_io.stores.packed_local_features import local_features, packed, record_dtype


def features(dtype: str = "float16") -> LocalFeatures:
    """Return an image of 9 x 6 pixels with three features, and one without features."""
    first = ImageKeypoints(
        [[0.25, 1], [7, 5], [3, 3]], [4, 5, 6], [0.9, 0.5, 0.1], np.eye(4)[:3], (9, 6)
    )
    rows = packed(first, record_dtype(4, dtype))
    return local_features(["q0", "q1"], [3, 0], [(9, 6), (20, 10)], rows, "")


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_export_writes_the_layout_of_hloc(tmp_path: Path, dtype: str) -> None:
    """hloc: N x 2 keypoints, D x N descriptors, (width, height); 0 is the first pixel's centre.

    Source: hloc/extract_features.py.
    """
    path = tmp_path / "new" / "features.h5"
    export_hloc(
        features(dtype), path, {"q0": "query/a ü.jpg", "q1": "/query/deep/b.jpg", "unused": ""}
    )
    with h5py.File(path) as file:
        group = file["query/a ü.jpg"]
        assert set(group) == {"keypoints", "descriptors", "scores", "image_size"}
        np.testing.assert_array_equal(
            group["keypoints"], np.array([[0.25, 1], [7, 5], [3, 3]], np.float32)
        )
        np.testing.assert_array_equal(group["descriptors"], np.eye(4)[:3].T)
        np.testing.assert_array_equal(group["scores"], np.array([0.9, 0.5, 0.1], np.float32))
        np.testing.assert_array_equal(group["image_size"], [9, 6])
        kinds = {name: data.dtype for name, data in group.items()}
        assert kinds == {
            "keypoints": np.float32,
            "descriptors": np.float16,
            "scores": np.float32,
            "image_size": np.int64,
        }
        empty = file["query/deep/b.jpg"]
        assert empty["keypoints"].shape == (0, 2)
        assert empty["descriptors"].shape == (4, 0)
        assert empty["scores"].shape == (0,)
    assert [path.name for path in path.parent.iterdir()] == ["features.h5"]


def test_export_refuses_missing_and_repeated_names(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    with pytest.raises(
        ValueError,
        match="q1: cannot be exported: it has no name, and hloc identifies images by name",
    ):
        export_hloc(features(), path, {"q0": "a.jpg"})
    with pytest.raises(ValueError, match="q1: cannot be exported: q0 already has the name 'a.jpg'"):
        export_hloc(features(), path, {"q0": "a.jpg", "q1": "a.jpg"})
    assert not list(tmp_path.iterdir())


def test_a_failed_export_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "features.h5").write_text("old")
    stored = features()
    damaged = LocalFeatures(
        stored.ids,
        stored.offsets,
        stored.sizes_px,
        np.full_like(stored.keypoints_px, np.nan),
        stored.scales_px,
        stored.attention,
        stored.descriptors,
    )
    with pytest.raises(ValueError, match="local features of q0 are damaged"):
        export_hloc(damaged, tmp_path / "features.h5", {"q0": "a", "q1": "b"})
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_export_without_h5py_names_the_package_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match="exporting to hloc needs h5py: run `pip install h5py`"):
        export_hloc(features(), tmp_path / "x.h5", {"q0": "a", "q1": "b"})
