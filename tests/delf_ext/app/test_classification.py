"""Test labels of photographs: from images to figures, what is chosen on, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.datasets import DataSet, load_dataset
from data_io.photographs import Photographs, digests_of
from data_io.records import ImageList
from delf_ext.app.classification import classify
from delf_ext.app.label_choice import Wanted
from delf_ext.app.label_requests import Request
from delf_ext.app.label_work import Work
from delf_ext.app.trained_on import TrainedPhotographs
from delf_ext.config import UsageError
from delf_ext.features.embedder import Adapted, Embedder, Ensemble, HeldBack
from delf_ext.features.extraction import extract_global
from delf_ext.features.logits import Logits
from delf_ext.features.reductions.build import fit_reduction
from delf_ext.recipes import codec, schema
from delf_ext.recipes.label_parts import Labelling

NUM_CLASSES = 5
NAMES = tuple(f"class{label}" for label in range(NUM_CLASSES))


def draw(folder: Path, per_class: int, seed: int, classes: range = range(NUM_CLASSES)) -> Path:
    """Write photographs whose class is their hue, with noise."""
    rng = np.random.default_rng(seed)
    for label in classes:
        parent = folder / f"class{label}"
        parent.mkdir(parents=True)
        for number in range(per_class):
            angle = 2 * np.pi * label / NUM_CLASSES + rng.normal(0, 0.25)
            colour = 128 + 90 * np.array([np.cos(angle), np.sin(angle), 0.2 * rng.normal()])
            pixels = np.tile(colour.clip(0, 255).astype(np.uint8), (8, 8, 1))
            pixels[0, 0] = (number, seed, label)
            Image.fromarray(pixels).save(parent / f"{seed}-{number}.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    draw(tmp_path / "photos" / "train", 8, 1)
    draw(tmp_path / "photos" / "query", 4, 2)
    return tmp_path / "photos"


@pytest.fixture
def labelled(photos: Path) -> DataSet:
    data = load_dataset(photos)
    assert data.gallery is data.train
    return data


def colour(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(1, 2)).astype(np.float32) - 127.0


COLOUR = Embedder("colour", 8, "v1", colour)


def with_classifier(names: tuple[str, ...] = NAMES, **changes: object) -> Embedder:
    """Return a model whose logits are cosines with the hue of each class, times 10."""
    angles = [2 * np.pi * int(name[-1]) / NUM_CLASSES for name in names]
    directions = np.array([[np.cos(a), np.sin(a), 0] for a in angles], np.float32)

    def rows(images: np.ndarray) -> np.ndarray:
        embedding = colour(images)
        unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
        return np.concatenate([embedding, 10 * unit @ directions.T], axis=1)

    longer = Embedder("colour", 8, "v1-logits", rows, logit_names=names)
    return dataclasses.replace(COLOUR, with_logits=longer, **changes)  # type: ignore[arg-type]


def test_labels_are_chosen_on_the_gallery_and_measured(labelled: DataSet) -> None:
    lines: list[str] = []
    result = classify(COLOUR, labelled, log=lines.append)
    assert any(line.startswith("chosen on 3 folds of the gallery (40") for line in lines)
    assert [one.labelling.method for one in result.tried] == ["vote", "centres", "product"]
    assert not result.warning and len(result) == 20
    figures = result.figures()
    assert figures["accuracy"] > 0.7 and figures["num_labelled"] == 20
    for name in ("accuracy", "macro_f1", "gap", "ece"):
        low, high = figures[f"{name}_ci95"]
        assert 0 <= low <= figures[name] <= high <= 1
    rows = list(result.rows())
    assert figures["labels"] == rows
    right = np.mean([row["label"] == row["true_label"] for row in rows])
    assert figures["accuracy"] == pytest.approx(right)
    assert list(rows[0]) == [
        *("path", "label", "probability", "best_label", "second_label", "second_probability"),
        *("third_label", "third_probability", "true_label"),
    ]
    again = classify(COLOUR, labelled)
    assert again.figures() == figures


def test_labels_that_are_all_right_leave_room_for_a_wrong_one(labelled: DataSet) -> None:
    right = dataclasses.replace(labelled, query=labelled.query.take(np.arange(3)))
    metrics = classify(COLOUR, right, request=Request(Wanted("centres", temperature=0.1))).metrics
    assert metrics["accuracy"][0] == metrics["macro_f1"][0] == metrics["gap"][0] == 1
    assert 0.2 < metrics["gap"][1] == metrics["macro_f1"][1] == metrics["accuracy"][1] < 0.4


def test_settings_of_an_earlier_call_are_used_again(labelled: DataSet) -> None:
    first = classify(COLOUR, labelled, request=Request(Wanted(precision=0.9)))
    values = first.figures()["labelling"]
    like = codec.from_json(values)
    assert isinstance(like, Labelling) and like == first.labelling
    second = classify(COLOUR, labelled, request=Request(like=like))
    assert list(second.rows()) == list(first.rows())
    assert second.choosing == "" and second.tried == ()


def test_unlabelled_photographs_get_the_names_of_classes(photos: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    for label in (0, 3):
        source = next((photos / "query" / f"class{label}").iterdir())
        (new / f"{label}.png").write_bytes(source.read_bytes())
    (new / "broken.png").write_bytes(b"nothing")
    result = classify(COLOUR, photos, new)
    assert result.names == ["class0", "class3"] and not result.is_measured
    assert "true_label" not in next(result.rows()) and "accuracy" not in result.figures()
    assert [Path(path).name for path, _ in result.retrieval.skipped] == ["broken.png"]
    one = classify(COLOUR, photos, new / "3.png")
    assert one.names == ["class3"]


def test_uncertain_labels_are_unknown(labelled: DataSet) -> None:
    everything = classify(COLOUR, labelled, request=Request(Wanted("centres")))
    limit = float(np.median(everything.labels.probabilities[:, 0]))
    result = classify(COLOUR, labelled, request=Request(Wanted("centres", unknown_below=limit)))
    names = np.array(result.names)
    shares = result.labels.probabilities[:, 0]
    np.testing.assert_array_equal(names == "unknown", shares < limit)
    assert 0 < np.sum(names == "unknown") < len(names)
    number, share = result.answered
    is_right = result.predicted.is_right[shares >= limit]
    assert (number, share) == (len(is_right), pytest.approx(is_right.mean()))


def test_classifier_is_tried_if_it_has_not_seen_the_gallery(labelled: DataSet) -> None:
    result = classify(with_classifier(), labelled)
    methods = [one.labelling.method for one in result.tried]
    assert methods == ["vote", "centres", "softmax", "lotte", "product"]
    softmax = classify(with_classifier(), labelled, request=Request(Wanted("softmax")))
    assert softmax.figures()["accuracy"] > 0.7 and softmax.labelling.method == "softmax"
    # Other classes, in another order: one of them is not in the gallery's.
    fewer = with_classifier(("class3", "class1", "class0", "class9"))
    lines: list[str] = []
    partly = classify(
        fewer, labelled, request=Request(Wanted("softmax", temperature=1.0)), log=lines.append
    )
    assert "the classifier has 3 of the 5 classes of the gallery" in "".join(lines)
    assert set(partly.names) <= {"class0", "class1", "class3"}


def trained_on(labelled: DataSet, rows: np.ndarray) -> HeldBack:
    images = labelled.train
    return HeldBack(
        schema.StratifiedFolds(),
        classes=NAMES,
        photographs=Photographs(
            digests_of(images.take(rows), labelled.class_names),
            digests_of(images.take(~rows), labelled.class_names),
        ),
    )


def test_photographs_that_a_run_held_out_choose(labelled: DataSet) -> None:
    rows = np.arange(40) % 8 < 4
    model = with_classifier(held_back=trained_on(labelled, rows))
    lines: list[str] = []
    result = classify(model, labelled, log=lines.append)
    assert result.choosing == ("20 photographs of the gallery that the network was not trained on")
    assert not result.warning and len(result.tried) == 5
    gallery = classify(model, labelled, request=Request(choose_on="gallery"))
    assert "the network was trained on these photographs" in gallery.warning
    assert [one.labelling.method for one in gallery.tried] == ["vote", "centres", "product"]
    assert gallery.tried[2].labelling.factors == ("vote", "centres")


def test_no_logits_are_computed_for_photographs_that_cannot_judge_them(
    labelled: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: list[int] = []
    compute = Work.logits

    def counted(work: Work, images: ImageList) -> Logits:
        numbers.append(len(images))
        return compute(work, images)

    monkeypatch.setattr(Work, "logits", counted)
    model = with_classifier(held_back=trained_on(labelled, np.ones(40, bool)))
    classify(model, labelled)
    assert numbers == [20]
    classify(with_classifier(), labelled)
    assert sum(numbers) == 20 + 20 + 40


def test_queries_choose_only_if_they_are_named(labelled: DataSet) -> None:
    model = with_classifier(held_back=trained_on(labelled, np.ones(40, bool)))
    auto = classify(model, labelled)
    assert "folds of the gallery" in auto.choosing and auto.warning
    named = classify(model, labelled, request=Request(choose_on="queries"))
    assert named.choosing.startswith("20 queries of the data") and named.warning
    with pytest.raises(UsageError, match="has no photograph that the run held out"):
        classify(model, labelled, request=Request(choose_on="held_out"))


def test_a_head_is_fitted_again_without_the_fold(labelled: DataSet) -> None:
    """Labels at random: a head that saw the fold would look good on it."""
    rng = np.random.default_rng(0)
    images = labelled.train
    noise = {path: rng.normal(0, 1, 30) for path in images.paths.tolist()}
    vectors = np.array([noise[path] for path in images.paths.tolist()], np.float32)

    def embed(pixels: np.ndarray) -> np.ndarray:
        keys = [tuple(image[0, 0]) for image in pixels]
        return np.array(
            [vectors[8 * key[2] + key[0]] if key[1] == 1 else np.ones(30) for key in keys],
            np.float32,
        )

    base = Embedder("noise", 8, "v1", embed)
    features = extract_global(base, images)[0]
    labels = images.known_labels("a test")
    config = schema.Lda(0.03)
    model = Adapted(
        "head",
        base,
        fit_reduction(config, features.embeddings, labels),
        fitted_on=dataclasses.replace(trained_on(labelled, np.ones(40, bool)), validation=None),
        reduction=config,
    )
    honest = classify(model, labelled)
    assert not honest.warning and max(one.accuracy for one in honest.tried) < 0.6
    unknown = classify(dataclasses.replace(model, reduction=None), labelled)
    assert "a head was fitted on these photographs" in unknown.warning
    assert max(one.accuracy for one in unknown.tried) > 0.8
    # The head of a member is not fitted again, also behind another head.
    ensemble = Ensemble("two", (model, base), schema.Concatenate())
    outer = Adapted("outer", ensemble, None, None, reduction=schema.Lda(0.6))
    assert "a head was fitted" in classify(outer, labelled).warning
    # The network did not see the last photographs of each class, but the head did.
    held_back = trained_on(labelled, np.arange(40) % 8 < 4)
    member = dataclasses.replace(model, base=dataclasses.replace(base, held_back=held_back))
    chosen = classify(Ensemble("two", (member, base), schema.Concatenate()), labelled)
    assert chosen.choosing.startswith("20 photographs") and "a head was" in chosen.warning


def test_coarse_labels_add_up_their_classes(labelled: DataSet) -> None:
    levels = {"coarse": ("warm", "warm", "cold", "cold", "cold")}
    result = classify(COLOUR, dataclasses.replace(labelled, levels=levels))
    figures = result.figures()
    assert figures["accuracy_coarse"] >= figures["accuracy"]
    for row in result.rows():
        assert row["coarse"] in ("warm", "cold")
        assert float(row["coarse_probability"]) >= float(row["probability"]) - 1e-6 or (
            levels["coarse"][int(str(row["best_label"])[-1])] != row["coarse"]
        )


def test_without_queries_each_photograph_is_labelled_by_the_others(tmp_path: Path) -> None:
    data = load_dataset(draw(tmp_path / "photos", 6, 1))
    result = classify(COLOUR, data, request=Request(Wanted("vote", neighbours=1)))
    # With itself as neighbour, each would be right with certainty.
    assert len(result) == 30 and 0.5 < result.figures()["accuracy"] < 1


def test_ensemble_members_of_other_classes_are_refused(labelled: DataSet) -> None:
    members = (with_classifier(), with_classifier(NAMES[:4]))
    pair = Ensemble("pair", members, schema.Concatenate())
    with pytest.raises(UsageError, match="pair: its members were trained on different classes"):
        classify(pair, labelled)
    assert classify(pair, labelled, request=Request(Wanted("vote"))).figures()["accuracy"] > 0.7
    twice = Ensemble("twice", (with_classifier(), with_classifier()), schema.Concatenate())
    one = classify(with_classifier(), labelled, request=Request(Wanted("softmax")))
    two = classify(twice, labelled, request=Request(Wanted("softmax")))
    np.testing.assert_allclose(two.labels.probabilities, one.labels.probabilities, atol=1e-5)


def test_the_recipe_of_an_ensemble_says_how_labels_are_given(labelled: DataSet) -> None:
    vote = schema.LabelVote(3, 2.0, 1.0)
    members = (with_classifier(), with_classifier())
    ensemble = Ensemble("twice", members, schema.Concatenate(), label=vote)
    lines: list[str] = []
    result = classify(ensemble, labelled, log=lines.append)
    assert result.labelling == Labelling("lotte", vote)
    assert any("by the vote of the recipe" in line for line in lines)
    wanted = classify(ensemble, labelled, request=Request(Wanted("centres")))
    assert wanted.labelling.method == "centres"
    without = dataclasses.replace(ensemble, members=(COLOUR, COLOUR))
    assert classify(without, labelled, log=lines.append).labelling.method != "lotte"
    assert any("needs logits, and a member has no classifier" in line for line in lines)


def test_photographs_that_were_trained_on_are_refused(labelled: DataSet) -> None:
    query = labelled.query
    photographs = Photographs(digests_of(query, labelled.class_names))
    model = with_classifier(held_back=HeldBack(classes=NAMES, photographs=photographs))
    with pytest.raises(TrainedPhotographs, match="20 of 20 query photographs were trained on"):
        classify(model, labelled)
    assert classify(model, labelled, allow_trained_photographs=True).is_measured


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted("nearest"), "--method must be one of vote, centres, softmax"),  # type: ignore
        (Wanted(neighbours=0), "--neighbours must be at least 1"),
        (Wanted(temperature=0.0), "--temperature must be above 0"),
        (Wanted(precision=1.0), "--precision must be above 0 and below 1"),
        (Wanted(unknown_below=-0.1), "--unknown_below must be above 0 and below 1"),
        (Wanted(unknown_below=0.5, precision=0.9), "--precision chooses --unknown_below"),
    ],
)
def test_wrong_requests_are_refused(wanted: Wanted, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Request(wanted)


def test_what_does_not_fit_is_refused(labelled: DataSet, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--method=softmax needs a classifier, and colour has"):
        classify(COLOUR, labelled, request=Request(Wanted("softmax")))
    with pytest.raises(UsageError, match="--neighbours=41: the gallery has only 40"):
        classify(COLOUR, labelled, request=Request(Wanted(neighbours=41)))
    bare = dataclasses.replace(labelled.train, labels=None)
    with pytest.raises(ValueError, match="the gallery has no labels"):
        classify(COLOUR, dataclasses.replace(labelled, train=bare, gallery=bare), labelled.query)
    alone = labelled.train.take(labelled.train.known_labels("a test") == 1)
    with pytest.raises(ValueError, match=r"the gallery has 1 class \(class1\)"):
        classify(COLOUR, dataclasses.replace(labelled, train=alone, gallery=alone), labelled.query)
    with pytest.raises(UsageError, match="--like has method and settings"):
        Request(Wanted("vote"), like=Labelling())


def test_one_photograph_of_each_class_leaves_nothing_to_choose(tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "train", 1, 1)
    draw(tmp_path / "photos" / "query", 3, 2)
    lines: list[str] = []
    result = classify(COLOUR, tmp_path / "photos", log=lines.append)
    assert result.labelling == Labelling("centres")
    assert any("each class of the gallery has one photograph" in line for line in lines)
    with pytest.raises(UsageError, match="so nothing can be chosen on it"):
        classify(COLOUR, tmp_path / "photos", request=Request(Wanted("product")))


def test_a_failed_photograph_has_no_label(labelled: DataSet) -> None:
    def rows(images: np.ndarray) -> np.ndarray:
        values = colour(images)
        values[(images[:, 0, 0] == (0, 2, 0)).all(axis=1)] = np.nan
        return values

    result = classify(Embedder("partly", 8, "v2", rows), labelled)
    assert result.failed.sum() == 1 and result.names[int(result.failed.argmax())] == "unknown"
    assert result.figures()["num_failed"] == 1
    row = list(result.rows())[int(result.failed.argmax())]
    assert (row["best_label"], row["probability"], row["true_label"]) == ("", 0, "class0")
