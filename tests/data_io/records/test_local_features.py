from __future__ import annotations

import numpy as np
import pytest

from data_io.records import ImageKeypoints, LocalFeatures


def keypoints(**columns: object) -> ImageKeypoints:
    """Return two features of an image of 8 x 6 pixels, some columns replaced."""
    values = dict(
        keypoints_px=[[0, 0], [7, 5]],
        scales_px=[1, 2],
        attention=[3, 1],
        descriptors=np.eye(2, 3),
        size_px=(8, 6),
    )
    return ImageKeypoints(**{**values, **columns})


def local_features(**columns: object) -> LocalFeatures:
    """Return the images a (2 features), b (none) and c (1), some columns replaced."""
    values = dict(
        ids=np.array(["a", "b", "c"]),
        offsets=np.array([0, 2, 2, 3]),
        sizes_px=np.array([[8, 6], [4, 4], [9, 9]]),
        keypoints_px=np.array([[0, 0], [7, 5], [8, 8]], np.float32),
        scales_px=np.array([1, 2, 3], np.float32),
        attention=np.array([3, 1, 2], np.float32),
        descriptors=np.eye(3, 4, dtype=np.float16),
    )
    return LocalFeatures(**{**values, **columns})


def test_keypoints_have_fixed_types_and_are_frozen() -> None:
    places_px = np.zeros((2, 2), np.float32)
    made = keypoints(keypoints_px=places_px, size_px=(np.int32(8), np.int64(6)))
    assert len(made) == 2
    assert [type(side) for side in made.size_px] == [int, int]
    for name in ("keypoints_px", "scales_px", "attention", "descriptors"):
        assert getattr(made, name).dtype == np.float32
        assert not getattr(made, name).flags.writeable
    places_px[:] = 5
    assert made.keypoints_px.max() == 0
    empty = ImageKeypoints(np.zeros((0, 2)), [], [], np.zeros((0, 128)), (1, 1))
    assert len(empty) == 0
    assert empty.descriptors.shape == (0, 128)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"keypoints_px": [[0, np.nan], [7, 5]]}, "keypoints_px must be finite"),
        ({"scales_px": [1, np.inf]}, "scales_px must be finite"),
        ({"attention": [np.nan, 1]}, "attention must be finite"),
        ({"descriptors": [[np.nan, 0], [0, 1]]}, "descriptors must be finite"),
        ({"descriptors": [[1, 0], [0.5, 0.5]]}, "descriptors must be of unit length"),
        ({"descriptors": [[1, 0], [0, 0]]}, "descriptors must be of unit length"),
        (
            {"descriptors": np.eye(3)},
            "keypoints_px, scales_px and attention must have one row per descriptor",
        ),
        (
            {"keypoints_px": [[0, 0, 0], [1, 1, 1]]},
            "keypoints_px, scales_px and attention must have one row per descriptor",
        ),
        (
            {"scales_px": [1]},
            "keypoints_px, scales_px and attention must have one row per descriptor",
        ),
        # (7.1, 5) would be inside, so this detects (y, x).
        ({"keypoints_px": [[0, 0], [5, 7.1]]}, "keypoints must be inside the image of 8 x 6 pixel"),
        ({"keypoints_px": [[-1.1, 0], [5, 5]]}, "keypoints must be inside the image of 8 x 6 pix"),
    ],
)
def test_keypoints_refuse_wrong_columns(columns: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        keypoints(**columns)


def test_of_returns_the_features_of_one_image() -> None:
    features = local_features()
    assert len(features) == 3
    assert "b" in features
    assert "x" not in features
    first = features.of("a")
    empty = features.of("b")
    last = features.of("c")
    assert (len(first), len(empty), len(last)) == (2, 0, 1)
    assert empty.descriptors.shape == (0, 4)
    assert first.size_px == (8, 6)
    assert last.size_px == (9, 9)
    assert last.keypoints_px.tolist() == [[8, 8]]
    assert last.scales_px.tolist() == [3]
    assert last.attention.tolist() == [2]
    assert last.descriptors.tolist() == [[0, 0, 1, 0]]
    assert last.descriptors.dtype == np.float32


def test_of_divides_int8_descriptors_by_127() -> None:
    features = local_features(descriptors=np.eye(3, 4, dtype=np.int8) * 127)
    np.testing.assert_array_equal(features.of("a").descriptors, np.eye(2, 4))


def test_local_features_keep_read_only_columns_and_copy_others() -> None:
    writeable = np.eye(3, 4, dtype=np.float16)
    read_only = writeable.copy()
    read_only.setflags(write=False)
    assert local_features(descriptors=read_only).descriptors is read_only
    features = local_features(descriptors=writeable)
    writeable[:] = 0
    assert features.descriptors.max() == 1
    assert not features.descriptors.flags.writeable


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"offsets": np.array([0, 2, 3])},
            r"offsets must be \[N \+ 1\], start at 0 and never fall. Received 3 for 3 ids",
        ),
        ({"offsets": np.array([1, 2, 2, 3])}, "start at 0 and never fall"),
        ({"offsets": np.array([0, 2, 1, 3])}, "start at 0 and never fall"),
        ({"offsets": np.zeros(0, int)}, "Received 0 for 3 ids"),
        ({"sizes_px": np.zeros((2, 2))}, r"sizes_px must be \(3, 2\). Received shape=\(2, 2\)"),
        (
            {"keypoints_px": np.zeros((2, 2), np.float32)},
            r"keypoints_px must be \(3, 2\). Received shape=\(2, 2\)",
        ),
        (
            {"scales_px": np.zeros(4, np.float32)},
            r"scales_px must be \(3,\). Received shape=\(4,\)",
        ),
        ({"attention": np.zeros(3)}, "attention must be float32. Received float64"),
        ({"descriptors": np.eye(3)}, "descriptors must be float16 or int8. Received float64"),
        (
            {"descriptors": np.eye(2, 4, dtype=np.int8)},
            r"descriptors must be \[3, d\]. Received shape=\(2, 4\)",
        ),
        ({"ids": np.array(["a", "b", "a"])}, "image ids must be unique. Received twice: a"),
    ],
)
def test_local_features_refuse_wrong_columns(columns: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        local_features(**columns)


def test_of_names_damaged_and_missing_images() -> None:
    descriptors = np.eye(3, 4, dtype=np.float16)
    descriptors[2, 2] = np.nan
    features = local_features(descriptors=descriptors)
    assert len(features.of("a")) == 2
    message = r"local features of c are damaged \(descriptors must be finite.\); extract them again"
    with pytest.raises(ValueError, match=message):
        features.of("c")
    with pytest.raises(ValueError, match="x: no local features of this image are stored"):
        features.of("x")
