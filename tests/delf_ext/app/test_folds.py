"""Test folds and ensembles: trained one by one, resumed, reported, joined, weighed and reduced."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_io.datasets import DataSet
from data_io.files.artifacts import read_json
from data_io.records import ImageList
from delf_ext.app import training_job
from delf_ext.app.data import split
from delf_ext.app.ensemble_training import require_members
from delf_ext.app.evaluation import evaluate
from delf_ext.app.member_weights import Judged, _decide, search_shares
from delf_ext.app.training import resume, train
from delf_ext.config import UsageError
from delf_ext.features.embedder import Adapted, Ensemble
from delf_ext.recipes import schema
from delf_ext.recipes.codec import with_settings
from delf_ext.recipes.members import planned, weights_of_models, with_folds
from delf_ext.recipes.schema import Recipe
from delf_ext.runs.opening import open_model
from delf_ext.runs.recipe_run import chosen_weights, members_of, recipe_of
from delf_ext.runs.records import MEMBER_WEIGHTS, PROJECTION, Facts
from delf_ext.runs.run_directory import read_run, write_run
from delf_ext.runs.sources import RunSource, Runtime
from tests.delf_ext.app.conftest import SETTINGS

FLOAT32 = Runtime(mixed_precision="off")


class Killed(BaseException):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def folds(tiny: Recipe, products: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Train two recipes of two folds each with one LDA; killed when the second model starts.

    The dev split of the first is measured by mAP, that of the second by GAP.
    """
    run_dir = tmp_path_factory.mktemp("folds") / "run"
    other = with_settings(tiny, ["optimizer.lr=1e-5", "task=Classification"])
    members = (schema.Member("a", tiny), schema.Member("b", other))
    recipe = schema.EnsembleRecipe("pair", members, choose_weights=True, reduction=schema.Lda())
    lines: list[str] = []

    def kill(line: str) -> None:
        lines.append(line)
        if line.startswith("member 2 of 4"):
            raise Killed

    with pytest.raises(Killed):
        train(recipe, products, run_dir, folds=2, settings=SETTINGS, log=kill)
    with pytest.raises(ValueError, match=r"member 2 of 4 \(a, fold 2 of 2\) is not trained yet"):
        open_model(RunSource(str(run_dir)))
    resumed: list[str] = []
    result = resume(run_dir, log=resumed.append)
    return run_dir, result, lines, resumed


def test_killed_folds_continue_and_finished_ones_are_not_trained_again(folds: Any) -> None:
    run_dir, result, lines, resumed = folds
    assert "member 1 of 4: a, fold 1 of 2" in lines
    queries = "12 queries, fold 1 of 2, searched in the other folds"
    assert any(line.startswith("training ") and line.endswith(queries) for line in lines)
    titles = [line for line in resumed if line.startswith("member ")]
    assert titles == [
        "member 1 of 4: a, fold 1 of 2: finished before",
        "member 2 of 4: a, fold 2 of 2",
        "member 3 of 4: b, fold 1 of 2",
        "member 4 of 4: b, fold 2 of 2",
    ]
    assert all(member.is_fold for member in result.members) and len(result.members) == 4
    seeds = [read_run(member.run_dir).facts.seed for member in result.members]
    assert seeds == [3, 4, 3, 4]


def test_what_the_data_do_not_allow_is_refused_before_a_run_is_written(
    tiny: Recipe, data: DataSet, tmp_path: Path
) -> None:
    other = with_settings(tiny, ["optimizer.lr=1e-5"])
    members = (schema.Member("a", tiny), schema.Member("b", other))
    images = schema.EnsembleRecipe("e", members, reduction=schema.Pca(200))
    classes = dataclasses.replace(images, reduction=schema.Lda(dims=4))
    single = dataclasses.replace(data, train=data.train.take(np.arange(1)))
    for recipe, images_of, folds, message in (
        (tiny, data, 30, "member .*: the number of folds must be between 2 and .* 24. Received 30"),
        (images, data, 2, "24 training images span at most 23 dimensions. Received dims=200"),
        # 2 of 6 classes are held out.
        (classes, data, 0, "4 training classes span at most 3 dimensions. Received dims=4"),
        (images, single, 0, "member a: "),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            train(recipe, images_of, tmp_path / "run", folds=folds, settings=SETTINGS)
        assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_folds_share_the_split_and_each_holds_out_its_own_part(folds: Any, data: DataSet) -> None:
    facts = [read_run(member.run_dir).facts for member in folds[1].members]
    held_out = [set(one.held_out) for one in facts]
    assert held_out[0] == held_out[2] and held_out[1] == held_out[3]
    assert not held_out[0] & held_out[1]
    assert held_out[0] | held_out[1] == set(data.train.ids.tolist())
    assert len({one.class_names for one in facts}) == 1


def test_table_of_folds_has_figures_mean_and_spread(folds: Any) -> None:
    run_dir, _, _, resumed = folds
    table = next(line for line in resumed if line.startswith("fold "))
    for name in ("a 1", "a 2", "a mean", "a spread (sd)", "b all queries", "mAP", "best epoch"):
        assert name in table
    rows = read_json(run_dir / "metrics" / "folds.json")["folds"]
    assert [row["fold"] for row in rows] == [1, 2, 1, 2]
    # One epoch, evaluated at its end.
    assert {row["best_epoch"] for row in rows} == {1.0}
    assert [row["select_by"] for row in rows] == ["mAP", "mAP", "gap", "gap"]
    assert all(0 < row["best"] <= 1 and 0 < row["mAP"] <= 1 for row in rows)


def test_ensemble_of_folds_is_opened_with_its_reduction(folds: Any, data: DataSet) -> None:
    run_dir, _, _, resumed = folds
    model = open_model(RunSource(str(run_dir)), FLOAT32)
    assert isinstance(model, Adapted) and isinstance(model.base, Ensemble)
    assert model.projection is not None and model.projection.dims == len(data.class_names[:6]) - 1
    assert len(model.base.members) == 4 and (run_dir / PROJECTION).is_file()
    assert evaluate(model, data)["num_queries"] == 3
    assert [line for line in resumed if "reduction Lda" in line and "no dev split" in line]
    # Nothing is trained, chosen or fitted again.
    lines: list[str] = []
    resume(run_dir, log=lines.append)
    assert sum(line.endswith("finished before") for line in lines) == 4
    assert not [line for line in lines if "weights of the members" in line or "Lda" in line]


def test_weights_are_chosen_on_the_pooled_folds(folds: Any, tmp_path: Path) -> None:
    run_dir, _, _, resumed = folds
    line = next(line for line in resumed if line.startswith("weights of the members: a "))
    assert "on 24 dev queries" in line
    stored = read_json(run_dir / MEMBER_WEIGHTS)
    run = read_run(run_dir)
    folders = [str(run_dir / "members" / name) for name in ("a-fold-1", "a-fold-2")]
    assert len(stored["weights"]) == 2 and chosen_weights(run, folders) == ()
    recipe = recipe_of(run)
    assert isinstance(recipe, schema.EnsembleRecipe)
    folders = [str(run_dir / "members" / model.name) for model in planned(recipe)]
    assert chosen_weights(run, folders) == tuple(stored["weights"])
    # A checkpoint of the same name and other content is another model.
    copied = shutil.copytree(folders[0], tmp_path / "a-fold-1")
    (weights,) = (copied / "checkpoint").glob("best-*.data-00000-of-00001")
    weights.write_bytes(weights.read_bytes()[::-1])
    assert chosen_weights(run, [str(copied), *folders[1:]]) == ()
    join = members_of(run).join
    assert isinstance(join, schema.Concatenate)
    assert join.weights == tuple(np.repeat(stored["weights"], 2))


def test_data_without_queries_say_which_folds_were_held_back(
    folds: Any, only_train: DataSet
) -> None:
    model = open_model(RunSource(str(folds[0])), FLOAT32)
    message = (
        r"held back different images \(fold 1 of 2, 12 images; fold 2 of 2, 12 images\), so each "
        "image was trained on by one of them; evaluate them on data that has its own queries"
    )
    with pytest.raises(UsageError, match=message):
        evaluate(model, only_train)
    # A single fold has its own queries.
    one = open_model(RunSource(str(folds[0] / "members" / "a-fold-1")), FLOAT32)
    assert evaluate(one, only_train)["num_queries"] == 12


# --- without TensorFlow


def test_class_of_one_image_is_trained_on_in_every_fold() -> None:
    labels = [0, 0, 0, 1, 1, 2, 3, 3, 3, 3]
    ids = [str(number) for number in range(10)]
    images = ImageList(ids, [f"/none/{name}.jpg" for name in ids], labels)
    data = DataSet("d", images, images.take([]), images.take([]), tuple("abcd"))
    dev: list[str] = []
    for fold in range(3):
        parts = split(images, data, schema.StratifiedFolds(folds=3, fold=fold), 5)
        assert set(parts.train.known_labels("test").tolist()) == {0, 1, 2, 3}
        assert "5" in parts.train.ids.tolist()
        dev += parts.query.ids.tolist()
        notes = list(training_job._notes_on_folds(schema.StratifiedFolds(folds=3), parts))
        assert notes[0] == "1 class of one image: it is trained on in every fold"
        assert notes[1].startswith("1 class of fewer images than there are folds (3)")
    assert sorted(dev) == [name for name in ids if name != "5"]
    other = split(images, data, schema.StratifiedFolds(folds=3, split_seed=6), 5)
    same = split(images, data, schema.StratifiedFolds(folds=3), 6)
    assert other.query.ids.tolist() == same.query.ids.tolist()
    singles = images.take(np.array([0, 3, 5, 6]))
    with pytest.raises(ValueError, match="images of classes with two or more, 0. Received 3"):
        split(singles, data, schema.StratifiedFolds(folds=3), 0)


def test_plan_of_ten_models(tiny: Recipe) -> None:
    members = (schema.Member("a", tiny), schema.Member("b", tiny))
    ten = with_folds(schema.EnsembleRecipe("ten", members), 5)
    assert isinstance(ten, schema.EnsembleRecipe)
    models = planned(ten, 7)
    assert [model.title for model in models[4:6]] == ["a, fold 5 of 5", "b, fold 1 of 5"]
    assert [model.seed for model in models] == [7, 8, 9, 10, 11] * 2
    recipe = models[6].recipe
    assert recipe is not None
    assert recipe.validation == schema.StratifiedFolds(0, 5, 1, 7)
    join = weights_of_models(ten, (1.5, 0.5))
    assert join == schema.Concatenate((1.5,) * 5 + (0.5,) * 5)
    one = with_folds(dataclasses.replace(tiny, name="my-recipe"), 2)
    assert isinstance(one, schema.EnsembleRecipe) and one.name == "my-recipe_folds"
    assert planned(one)[1].name == "my_recipe-fold-2"
    with pytest.raises(UsageError, match="--folds must be 0 or at least 2. Received 1"):
        with_folds(tiny, 1)


def test_members_that_do_not_fit_are_refused_before_training(tiny: Recipe) -> None:
    other = with_settings(tiny, ["validation.share=0.5"])
    fold = with_settings(tiny, ["validation=StratifiedFolds"])

    def pair(one: Recipe, two: Recipe, **options: Any) -> schema.EnsembleRecipe:
        members = (schema.Member("a", one), schema.Member("b", two))
        return schema.EnsembleRecipe("pair", members, **options)

    for ensemble, message in (
        (pair(tiny, other, reduction=schema.Lda()), "hold out different classes, so they see"),
        (pair(tiny, fold, reduction=schema.Lda()), "hold out different classes, so they see"),
        (pair(tiny, other, reduction=schema.Chosen()), "Chosen needs members that hold out the"),
        (pair(tiny, other, choose_weights=True), "choose_weights needs members that hold out"),
        (with_folds(tiny, 2), "this ensemble has one. The folds of a member have one weight"),
        (pair(tiny, tiny, reduction=schema.EncoderDecoder()), "EncoderDecoder is not built yet"),
    ):
        assert isinstance(ensemble, schema.EnsembleRecipe)
        if len(ensemble.members) == 1:
            ensemble = dataclasses.replace(ensemble, choose_weights=True)
        with pytest.raises(UsageError, match=message):
            require_members(ensemble)
    require_members(pair(tiny, tiny, reduction=schema.Chosen(), choose_weights=True))
    with pytest.raises(UsageError, match="choose_weights chooses the weights of Concatenate"):
        pair(tiny, tiny, join=schema.MeanEmbedding(), choose_weights=True)


def test_finished_runs_of_different_classes_have_no_common_reduction(tmp_path: Path) -> None:
    members = []
    for name, classes in (("a", ("cup", "pan")), ("b", ("cup", "pot"))):
        write_run(tmp_path / name, "recipe", {}, Facts(class_names=classes))
        members.append(schema.Member(name, run=str(tmp_path / name)))
    pair = schema.EnsembleRecipe("pair", tuple(members))
    require_members(pair)
    with pytest.raises(UsageError, match="trained on different classes .such as pan., so a red"):
        require_members(dataclasses.replace(pair, reduction=schema.Lda()))


def test_shares_prefer_the_better_member() -> None:
    assert search_shares(lambda shares: -abs(shares[0] - 0.7), 2) == pytest.approx([0.7, 0.3])
    target = np.array([0.7, 0.2, 0.1])
    best = search_shares(lambda shares: -float(np.abs(shares - target).sum()), 3)
    assert np.abs(best - target).sum() < 0.15 and best.sum() == pytest.approx(1)
    # A constant score leaves equal shares.
    assert search_shares(lambda shares: 0.0, 4).tolist() == [0.25] * 4


def test_weights_without_a_clear_gain_are_equal() -> None:
    rng = np.random.default_rng(0)
    is_relevant = np.arange(20) % 5 == np.arange(40)[:, np.newaxis] % 5
    good = is_relevant + rng.normal(0, 0.6, is_relevant.shape)
    noise = rng.normal(0, 1, is_relevant.shape)
    ids = np.array([str(row) for row in range(40)])
    no_junk = np.zeros_like(is_relevant)
    lines: list[str] = []
    for pair, expected in (((good, noise), True), ((good, good), False)):
        judged = Judged(ids, np.stack(pair).astype(np.float32), is_relevant, no_junk)
        weights = _decide(("a", "b"), [judged], 0, lines.append)
        assert (weights[0] > weights[1]) == expected
        if not expected:
            assert weights.tolist() == [1, 1] and "equal weights are used" in lines[-1]
    # The cosine of the concatenation is the mean of the cosines with shares w ** 2.
    vectors = [rng.normal(size=(6, 4)) for _ in range(2)]
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in vectors]
    weighted = np.concatenate([2 * unit[0], unit[1]], axis=1) / np.sqrt(5)
    shares = 0.8 * unit[0] @ unit[0].T + 0.2 * unit[1] @ unit[1].T
    np.testing.assert_allclose(weighted @ weighted.T, shares, atol=1e-12)
