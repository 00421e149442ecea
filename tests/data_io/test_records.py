from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_io.records import (
    GlobalFeatures,
    GroundTruth,
    ImageKeypoints,
    ImageList,
    LocalFeatures,
    Ranking,
)

FEW = settings(max_examples=60, deadline=None)


def images(labels: list[int] | None = None, names: str = "abc") -> ImageList:
    ids = np.array(list(names))
    return ImageList(
        ids,
        np.array([f"{name}.jpg" for name in names]),
        labels=None if labels is None else np.array(labels),
    )


def ranking(
    rows: list[list[int]], scores: list[list[float]], num_gallery: int = 3, **columns: object
) -> Ranking:
    queries = np.array([f"q{row}" for row in range(len(rows))])
    return Ranking(
        queries,
        np.array([f"g{row}" for row in range(num_gallery)]),
        np.array(rows),
        np.array(scores),
        **columns,
    )


def test_image_list_has_fixed_types_and_is_frozen() -> None:
    made = images([2, 0, 1])
    assert (made.ids.dtype.kind, made.paths.dtype.kind, made.labels.dtype) == (
        "U",
        "U",
        np.int64,
    ) and len(made) == 3
    for column in (made.ids, made.paths, made.labels):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = column[1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.ids = made.paths


def test_a_record_does_not_change_with_the_array_it_was_made_from() -> None:
    labels = np.array([1, 2, 3], np.int64)
    ids = np.array(["a", "b", "c"])
    whole, part = ImageList(ids, ids, labels=labels), ImageList(ids[:2], ids[:2], labels=labels[:2])
    labels[:], ids[:] = 9, "x"
    assert whole.labels.tolist() == [1, 2, 3] and part.labels.tolist() == [1, 2]
    assert whole.ids.tolist() == ["a", "b", "c"] and part.paths.tolist() == ["a", "b"]
    assert labels.flags.writeable  # the caller's own array stays writeable


def test_image_list_refuses_what_does_not_fit() -> None:
    ids = np.array(["a", "b"])
    with pytest.raises(
        ValueError, match=r"paths must have one entry per id. Received \(1,\) for \(2,\) ids"
    ):
        ImageList(ids, ids[:1])
    with pytest.raises(ValueError, match="labels must have one entry per id"):
        ImageList(ids, ids, labels=np.zeros(3, int))
    with pytest.raises(ValueError, match="groups must have one entry per id"):
        ImageList(ids, ids, groups=np.array(["x"]))
    with pytest.raises(ValueError, match="image ids must be unique. Received twice: b"):
        ImageList(np.array(["a", "b", "b"]), np.array(["1", "2", "3"]))


@pytest.mark.parametrize(
    "columns", [{}, {"labels": np.zeros(0, int), "groups": np.zeros(0, "<U1")}]
)
def test_empty_image_list(columns: dict[str, np.ndarray]) -> None:
    empty = ImageList(np.zeros(0), np.zeros(0), **columns)
    assert len(empty) == 0 and empty.ids.dtype.kind == "U" and len(empty.take([])) == 0


@FEW
@given(st.data())
def test_take_keeps_the_columns_together(data: st.DataObject) -> None:
    number = data.draw(st.integers(1, 12))
    ids = np.array([f"i{row}" for row in range(number)])
    whole = ImageList(
        ids,
        np.char.add(ids, ".jpg"),
        np.arange(number) * 10,
        np.char.add("group of ", ids),
        (("bad", "why"),),
    )
    rows = data.draw(st.permutations(range(number)))[: data.draw(st.integers(0, number))]
    for part in (whole.take(rows), whole.take(np.array(rows, int)), whole.take(iter(rows))):
        assert part.ids.tolist() == [f"i{row}" for row in rows]
        assert part.paths.tolist() == [f"i{row}.jpg" for row in rows]
        assert part.labels.tolist() == [10 * row for row in rows]
        assert part.groups.tolist() == [f"group of i{row}" for row in rows]
        assert part.skipped == (("bad", "why"),)
    chosen = np.isin(np.arange(number), rows)
    assert whole.take(chosen, skipped=()).ids.tolist() == ids[sorted(rows)].tolist()
    assert whole.take(chosen, skipped=[("x", "y")]).skipped == (("x", "y"),)


def test_global_features_must_be_of_unit_length() -> None:
    made = GlobalFeatures(np.array(["a"]), np.array([[0.6, 0.8]]), "digest")
    assert made.embeddings.dtype == np.float32 and len(made) == 1
    for bad, length in (([[3.0, 4.0]], "5"), ([[0.0, 0.0]], "0"), ([[np.nan, 0.0]], "nan")):
        with pytest.raises(
            ValueError, match=f"embeddings must be of unit length. b has length {length}"
        ):
            GlobalFeatures(np.array(["a", "b"]), np.array([[1.0, 0.0], *bad]))
    with pytest.raises(
        ValueError, match=r"embeddings must be \[N, D\] for 2 ids. Received shape=\(1, 2\)"
    ):
        GlobalFeatures(np.array(["a", "b"]), np.array([[1.0, 0.0]]))
    with pytest.raises(ValueError, match="must be unique. Received twice: a"):
        GlobalFeatures(np.array(["a", "a"]), np.array([[1.0], [1.0]]))
    assert len(GlobalFeatures(np.zeros(0), np.zeros((0, 8)))) == 0


def test_ranking_takes_ties_padding_and_no_rows() -> None:
    made = ranking([[2, 0, -1], [-1, -1, -1]], [[0.5, 0.5, -np.inf], [np.nan, np.nan, np.nan]])
    assert (made.rows.dtype, made.scores.dtype, made.complete.dtype) == (np.int32, np.float32, bool)
    assert made.complete.tolist() == [True, True]
    assert ranking([[0]], [[1.0]], complete=np.array([False])).complete.tolist() == [False]
    assert ranking([[], []], [[], []], num_gallery=0).rows.shape == (2, 0)


@pytest.mark.parametrize(
    ("rows", "scores", "message"),
    [
        ([[0, 1, 2]], [[3, 2, 2.5]], "scores must never rise along a ranking: higher is nearer"),
        ([[0, 1, 1]], [[3, 2, 1]], "an image may appear only once in a ranking"),
        ([[0, -1, 1]], [[3, 2, 1]], "-1 may only pad the end of a ranking"),
        ([[0, 1, 3]], [[3, 2, 1]], r"rows must lie in -1..2. Received 0..3"),
        ([[0, 1, -2]], [[3, 2, 1]], r"rows must lie in -1..2. Received -2..1"),
        ([[0, 1, 2]], [[3, np.nan, 1]], "scores must be finite"),
        ([[0, 1, 2]], [[np.inf, 2, 1]], "scores must be finite"),
        (
            [[0, 1]],
            [[3, 2, 1]],
            r"rows and scores must be \[Q, k\] for 1 queries. Received \(1, 2\) and \(1, 3\)",
        ),
    ],
)
def test_ranking_refuses(rows: list[list[int]], scores: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ranking(rows, scores)


def test_ranking_refuses_an_id_twice() -> None:
    with pytest.raises(ValueError, match="gallery ids must be unique. Received twice: g"):
        Ranking(np.array(["q"]), np.array(["g", "g"]), np.array([[0]]), np.array([[1.0]]))
    with pytest.raises(ValueError, match="query ids must be unique. Received twice: q"):
        Ranking(
            np.array(["q", "q"]), np.array(["g"]), np.array([[0], [0]]), np.array([[1.0], [1.0]])
        )


def test_ground_truth_from_labels_by_hand() -> None:
    query = ImageList(
        np.array(["q0", "q1", "q2"]),
        np.array(["a.jpg", "q1.jpg", "q2.jpg"]),
        labels=np.array([5, 7, 9]),
    )
    truth = GroundTruth.from_labels(query, images([5, 5, 7]))
    assert [rows.tolist() for rows in truth.relevant] == [
        [1],
        [2],
        [],
    ]  # a.jpg is q0's own photograph; class 9 is not in the gallery
    assert [rows.tolist() for rows in truth.junk] == [[0], [], []]
    assert (truth.num_gallery, len(truth)) == (3, 3)


@FEW
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=15),
    st.lists(st.integers(0, 4), max_size=15),
    st.booleans(),
)
def test_ground_truth_from_labels_row_by_row(
    query_labels: list[int], gallery_labels: list[int], same_files: bool
) -> None:
    query_names = [f"f{row}" for row in range(len(query_labels))]
    gallery_names = [f"f{row}" if same_files else f"g{row}" for row in range(len(gallery_labels))]
    query = ImageList(np.array(query_names), np.array(query_names), labels=np.array(query_labels))
    gallery = ImageList(
        np.array(gallery_names), np.array(gallery_names), labels=np.array(gallery_labels)
    )
    truth = GroundTruth.from_labels(query, gallery)
    for row, (name, label) in enumerate(zip(query_names, query_labels, strict=True)):
        own = {i for i, other in enumerate(gallery_names) if other == name}
        assert set(truth.junk[row]) == own
        assert (
            set(truth.relevant[row])
            == {i for i, other in enumerate(gallery_labels) if other == label} - own
        )


def test_ground_truth_refuses() -> None:
    with pytest.raises(ValueError, match="ground truth needs labels"):
        GroundTruth.from_labels(images(), images([0, 1, 2]))
    query = np.array(["q"])
    with pytest.raises(ValueError, match=r"rows of q must lie in 0..2"):
        GroundTruth(query, 3, (np.array([3]),), (np.array([]),))
    with pytest.raises(ValueError, match=r"rows of q must lie in 0..2"):
        GroundTruth(query, 3, (np.array([]),), (np.array([-1]),))
    with pytest.raises(ValueError, match="q: a gallery row is both relevant and junk"):
        GroundTruth(query, 3, (np.array([1, 2]),), (np.array([2]),))
    with pytest.raises(
        ValueError, match="one relevant and one junk list per query. Received 0 and 1 for 1"
    ):
        GroundTruth(query, 3, (), (np.array([2]),))


# --- local features


def keypoints(**columns: object) -> ImageKeypoints:
    """Two features of an image of 8 x 6 pixels, some columns replaced."""
    values = dict(
        keypoints_px=[[0, 0], [7, 5]],
        scales_px=[1, 2],
        attention=[3, 1],
        descriptors=np.eye(2, 3),
        size_px=(8, 6),
    )
    return ImageKeypoints(**{**values, **columns})


def local_features(**columns: object) -> LocalFeatures:
    """Images a (2 features), b (none) and c (1), some columns replaced."""
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
    places = np.zeros((2, 2), np.float32)
    made = keypoints(keypoints_px=places, size_px=(np.int32(8), np.int64(6)))
    assert len(made) == 2 and [type(side) for side in made.size_px] == [int, int]
    for name in ("keypoints_px", "scales_px", "attention", "descriptors"):
        assert getattr(made, name).dtype == np.float32 and not getattr(made, name).flags.writeable
    places[:] = 5
    assert made.keypoints_px.max() == 0
    empty = ImageKeypoints(np.zeros((0, 2)), [], [], np.zeros((0, 128)), (1, 1))
    assert len(empty) == 0 and empty.descriptors.shape == (0, 128)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"keypoints_px": [[0, np.nan], [7, 5]]}, "keypoints_px must be finite"),
        ({"scales_px": [1, np.inf]}, "scales_px must be finite"),
        ({"attention": [np.nan, 1]}, "attention must be finite"),
        ({"descriptors": [[np.nan, 0], [0, 1]]}, "descriptors must be finite"),
        ({"descriptors": [[1, 0], [0.5, 0.5]]}, "descriptors must be of unit length"),
        ({"descriptors": [[1, 0], [0, 0]]}, "descriptors must be of unit length"),
        ({"descriptors": np.eye(3)}, "one keypoint, scale and attention per descriptor"),
        (
            {"keypoints_px": [[0, 0, 0], [1, 1, 1]]},
            "one keypoint, scale and attention per descriptor",
        ),
        ({"scales_px": [1]}, "one keypoint, scale and attention per descriptor"),
        (
            {"keypoints_px": [[0, 0], [5, 7.1]]},
            "keypoints must lie in the image of 8 x 6 pixels",
        ),  # as (y, x) would
        ({"keypoints_px": [[-1.1, 0], [5, 5]]}, "keypoints must lie in the image of 8 x 6 pixels"),
    ],
)
def test_keypoints_refuse(columns: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        keypoints(**columns)


def test_local_features_of_one_image() -> None:
    made = local_features()
    assert len(made) == 3 and "b" in made and "x" not in made
    first, none, last = (made.of(image_id) for image_id in ("a", "b", "c"))
    assert (len(first), len(none), len(last)) == (2, 0, 1) and none.descriptors.shape == (0, 4)
    assert first.size_px == (8, 6) and last.size_px == (9, 9)
    assert (
        last.keypoints_px.tolist() == [[8, 8]]
        and last.scales_px.tolist() == [3]
        and last.attention.tolist() == [2]
    )
    assert last.descriptors.tolist() == [[0, 0, 1, 0]] and last.descriptors.dtype == np.float32
    steps = local_features(descriptors=np.eye(3, 4, dtype=np.int8) * 127)
    np.testing.assert_array_equal(steps.of("a").descriptors, np.eye(2, 4))


def test_local_features_keep_what_is_read_only_and_copy_the_rest() -> None:
    own, mapped = np.eye(3, 4, dtype=np.float16), np.eye(3, 4, dtype=np.float16)
    mapped.setflags(write=False)
    assert local_features(descriptors=mapped).descriptors is mapped
    made = local_features(descriptors=own)
    own[:] = 0
    assert made.descriptors.max() == 1 and not made.descriptors.flags.writeable


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"offsets": np.array([0, 2, 3])},
            r"offsets must be \[N \+ 1\], from 0, never falling. Received 3 for 3 ids",
        ),
        ({"offsets": np.array([1, 2, 2, 3])}, "from 0, never falling"),
        ({"offsets": np.array([0, 2, 1, 3])}, "from 0, never falling"),
        ({"offsets": np.zeros(0, int)}, "Received 0 for 3 ids"),
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
def test_local_features_refuse(columns: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        local_features(**columns)


def test_damaged_local_features_are_named_when_they_are_read() -> None:
    broken = np.eye(3, 4, dtype=np.float16)
    broken[2, 2] = np.nan
    made = local_features(descriptors=broken)
    assert len(made.of("a")) == 2
    with pytest.raises(
        ValueError,
        match=r"local features of c are damaged \(descriptors must be finite.\); extract them again",
    ):
        made.of("c")
    with pytest.raises(ValueError, match="x: has no local features here"):
        made.of("x")


# --- records from checked parts


def columns_of(record: GlobalFeatures | Ranking) -> dict[str, object]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def assert_same_record(left: GlobalFeatures | Ranking, right: GlobalFeatures | Ranking) -> None:
    assert type(left) is type(right)
    for name, value in columns_of(left).items():
        np.testing.assert_array_equal(value, getattr(right, name), strict=True)
        if isinstance(value, np.ndarray):
            assert not value.flags.writeable


def drawn_ranking(num_queries: int, num_gallery: int, k: int, seed: int) -> Ranking:
    rng = np.random.default_rng(seed)
    rows = np.argsort(rng.random((num_queries, num_gallery)), axis=1)[:, :k]
    scores = -np.sort(rng.random(rows.shape), axis=1)
    complete = rng.random(num_queries) < 0.5
    return ranking(rows, scores, num_gallery, complete=complete, provenance="drawn")


def test_trusted_features_equal_checked_features_without_a_copy() -> None:
    checked = GlobalFeatures(["a", "b"], np.eye(2), "digest")
    embeddings = np.eye(2, dtype=np.float32)
    trusted = GlobalFeatures.trusted(
        ids=np.array(["a", "b"]), embeddings=embeddings, digest="digest"
    )
    assert_same_record(checked, trusted)
    assert trusted.embeddings is embeddings
    assert_same_record(trusted, GlobalFeatures.trusted(**columns_of(trusted)))


@FEW
@given(st.integers(0, 5), st.integers(0, 6), st.integers(0, 6), st.integers(0, 99))
def test_trusted_ranking_equals_checked_ranking_without_a_copy(
    num_queries: int, num_gallery: int, k: int, seed: int
) -> None:
    checked = drawn_ranking(num_queries, num_gallery, k, seed)
    columns = columns_of(checked) | {"rows": checked.rows.copy(), "scores": checked.scores.copy()}
    trusted = Ranking.trusted(**columns)
    assert_same_record(checked, trusted)
    assert trusted.rows is columns["rows"]
    assert trusted.scores is columns["scores"]
    assert_same_record(
        Ranking.trusted(**columns | {"complete": None}),
        dataclasses.replace(checked, complete=None),
    )


def test_trusted_records_assert_types_and_shapes() -> None:
    made = ranking([[0, 1]], [[2.0, 1.0]])
    wrong = {
        "query_ids": np.array([1]),
        "gallery_ids": np.array([b"g"]),
        "rows": made.rows.astype(np.int64),
        "scores": made.scores[:, :1],
        "complete": np.array([True, True]),
    }
    for name, value in wrong.items():
        with pytest.raises(AssertionError):
            Ranking.trusted(**columns_of(made) | {name: value})
    for embeddings in (np.eye(2), np.eye(3, dtype=np.float32), np.ones(2, np.float32)):
        with pytest.raises(AssertionError):
            GlobalFeatures.trusted(ids=np.array(["a", "b"]), embeddings=embeddings)


@FEW
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 7), st.integers(0, 99))
def test_parts_of_a_ranking_equal_checked_ones(
    num_queries: int, num_gallery: int, k: int, seed: int
) -> None:
    whole = drawn_ranking(num_queries, num_gallery, num_gallery, seed)
    cut = dataclasses.replace(whole, rows=whole.rows[:, :k], scores=whole.scores[:, :k])
    assert_same_record(cut, whole.cut(k))
    assert whole.cut(k).rows.flags.c_contiguous
    blocks = [whole.block(slice(start, start + 2)) for start in range(0, num_queries, 2)]
    assert [len(block) for block in blocks[:-1]] == [2] * (len(blocks) - 1)
    assert_same_record(whole, Ranking.joined(blocks))
    assert_same_record(blocks[0], Ranking(**columns_of(blocks[0])))


def test_a_replaced_field_is_checked() -> None:
    made = Ranking(["q"], ["a", "b", "c"], np.array([[2, 0]]), np.array([[0.9, 0.5]]))
    assert dataclasses.replace(made, provenance="told").provenance == "told"
    with pytest.raises(ValueError, match="rows must lie in"):
        dataclasses.replace(made, gallery_ids=np.array(["a", "b"]))
    with pytest.raises(ValueError, match="never rise"):
        dataclasses.replace(made, scores=np.array([[0.1, 0.5]], np.float32))
