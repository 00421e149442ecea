"""Test `mandoo train`: recipe, weights, the files of a run, resuming."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import dual_main
from baseline_keras.run_directory import KIND
from data_io.checkpoint_folder import CheckpointFolder
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.app import training, training_job
from delf_ext.app.training_settings import Settings
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.models.trunks.slim import LAYOUTS, Layout
from delf_ext.recipes import demo, schema
from delf_ext.recipes.codec import to_json, with_settings
from delf_ext.runs.recipe_run import recipe_of
from delf_ext.runs.records import Facts, Run
from delf_ext.runs.run_directory import read_run, write_run
from delf_ext.verbs import train
from delf_ext.verbs.training_flags import recipe_from_flags, settings_from_flags

ENDPOINT = "resnet_v1_50/block1/unit_1/bottleneck_v1"
TINY = [f"--resnet_type={ENDPOINT}", "--image_size=32", "--batch_size=8", "--mixed_precision=off"]
SETS = [
    "model.trunk.end_point=block1",
    "model.trunk.weights=",
    "model.trunk.frozen=[]",
    "input.size_px=32",
    "sampling.batch_size=8",
    "stages.0.epochs=1",
    "validation=None",
]
TINY_RECIPE = [f"--set={one}" for one in SETS]
STEPS = 3


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw 24 training images of six products, without queries."""
    config = DrawConfig(6, num_train=24, num_queries=3, num_gallery=6, image_size_px=48)
    drawn = draw_dataset(tmp_path_factory.mktemp("data") / "drawn", config, progress=False)
    return drawn / "train" / "train_data"


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "first"
    flags = ["--train_logits", "--epochs=1", "--dev_percent=0", *TINY]
    dual_main.main([f"--data={photos}", f"--run_dir={run_dir}", *flags])
    return run_dir


def last_variables(run_dir: Path) -> dict[str, np.ndarray]:
    """Return name -> value of the variables in the last checkpoint of a run."""
    prefix = CheckpointFolder(run_dir / "checkpoint", "last").newest()
    reader = tf.train.load_checkpoint(str(prefix))
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith("_")]
    return {name.partition("/.ATTR")[0]: reader.get_tensor(name) for name in names}


# --- the first command


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace `training.train`; return the arguments of each call."""
    recorded: list[dict[str, Any]] = []

    def record(recipe: Any, data: Any, run_dir: Path, **options: Any) -> training.Trained:
        recorded.append({"recipe": recipe, "data": data, "run_dir": run_dir, **options})
        return training.Trained(run_dir, recipe)

    monkeypatch.setattr(training, "train", record)
    monkeypatch.setattr("delf_ext.verbs.train._measure", lambda *_: None)
    return recorded


def test_the_first_command_of_the_readme_trains_200_epochs_on_drawn_products(
    calls: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch,
    capsys,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATASET_PATH", raising=False)
    config = DrawConfig(4, num_train=8, num_queries=1, num_gallery=2, image_size_px=32)
    drawn = draw_dataset(tmp_path / "drawn", config, progress=False)
    asked: list[tuple[Any, ...]] = []

    def draw(*arguments: Any, **options: Any) -> Path:
        asked.append(arguments)
        return drawn

    monkeypatch.setattr("delf_ext.verbs.data.draw_products", draw)
    dual_main.main(["--train_logits", "--train_sim", "--stop_gradient_sim"])
    assert capsys.readouterr().out.splitlines() == [
        "data: challenge tree: 5 classes, 8 training images, 1 query, 2 gallery images, "
        "drawn (drawn products; pass --data for your own)",
        "no --data: training 200 epochs on drawn products. After a few steps a line says how long "
        "an epoch takes on this machine.",
    ]
    (call,) = calls
    assert asked == [(None, 100)] and call["data_path"] == str(drawn)
    assert call["run_dir"].parent == Path("runs") and call["recipe"].name == "mandoo_dual"


def test_with_data_one_line_is_printed_before_training(photos: Path, calls, capsys) -> None:
    dual_main.main(["--train_logits", f"--data={photos}", "--run_dir=here"])
    assert capsys.readouterr().out == "data: folder per class: 6 classes, 24 images\n"
    assert calls[0]["run_dir"] == Path("here") and calls[0]["data_path"] == str(photos)


def test_bad_flags_of_a_later_submission_are_refused_before_training(
    photos: Path, calls, refused
) -> None:
    flags = ["--train_logits", f"--data={photos}"]
    assert "--method: unknown step 'magic'. Steps: dba, aqe" in refused(2, *flags, "--method=magic")
    assert "unknown copy 'blur' (--query_copies" in refused(2, *flags, "--query_copies=blur")
    assert not calls


# --- flags to a recipe and settings


def test_debug_shortens_the_original_unless_a_flag_sets_the_value(flags_of) -> None:
    recipe = recipe_from_flags(flags_of("--train_logits", "--debug"))
    assert recipe.epochs == 2 and recipe.validation.every_steps == 5
    recipe = recipe_from_flags(flags_of("--train_logits", "--debug", "--epochs=7"))
    assert recipe.epochs == 7 and recipe.validation.every_steps == 5


def test_debug_shortens_a_recipe(flags_of) -> None:
    recipe = recipe_from_flags(flags_of("--recipe=mandoo_dual", "--debug"))
    assert recipe.epochs == 2 and recipe.validation.every_steps == 5
    recipe = recipe_from_flags(flags_of("--recipe=demo", "--debug"))
    assert recipe.epochs == 2 and recipe.validation is None


def test_debug_keeps_one_epoch_for_each_stage(tmp_path: Path, flags_of) -> None:
    stages = [{"type": "Stage", "epochs": 5}, {"type": "Stage", "epochs": 9}]
    setting = f"--set=stages={json.dumps([*stages, stages[0]])}"
    recipe = recipe_from_flags(flags_of("--recipe=demo", setting, "--debug"))
    assert [stage.epochs for stage in recipe.stages] == [1, 1, 1]


def test_debug_of_an_ensemble_is_refused(tmp_path: Path, flags_of) -> None:
    members = tuple(schema.Member(name, run=name) for name in ("a", "b"))
    (tmp_path / "two.json").write_text(json.dumps(to_json(schema.EnsembleRecipe("two", members))))
    with pytest.raises(ValueError, match="--debug makes one recipe small; debug the members"):
        recipe_from_flags(flags_of(f"--recipe={tmp_path}/two.json", "--debug"))


def test_settings_come_from_the_flags(flags_of) -> None:
    flags = ["--seed=3", "--deterministic", "--mixed_precision=off", "--checkpoint_every_steps=7"]
    settings = settings_from_flags(flags_of(*flags, "--pixel_cache=p", "--debug"))
    assert settings == Settings(3, True, "off", 7, 240, "p")
    assert settings_from_flags(flags_of()) == Settings()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--seed=-1", "seed must be at least 0 and at most 4294967295. Received -1."),
        ("--checkpoint_every_steps=0", "checkpoint_every_steps must be at least 1. Received 0."),
    ],
)
def test_bad_settings_are_named(flag: str, message: str, photos: Path, refused) -> None:
    assert message in refused(2, "--train_logits", f"--data={photos}", flag)


def test_a_recipe_that_is_not_built_yet_is_refused_before_anything_is_written(
    photos: Path, tmp_path: Path, refused
) -> None:
    place = [f"--data={photos}", f"--run_dir={tmp_path}/r"]
    line = refused(2, "--recipe=demo", "--set=task=LabelPaths", *place)
    assert line.startswith(
        "usage error: LabelPaths is not built yet. Built: Classification, Retrieval."
    )
    assert not (tmp_path / "r").exists()


def test_an_unknown_trunk_is_a_usage_error(photos: Path, refused) -> None:
    flags = ["--train_logits", f"--data={photos}", "--resnet_type=resnet_v3"]
    assert "unknown trunk 'resnet_v3' (--resnet_type). Known: resnet_v1_50, " in refused(2, *flags)


# --- what a run keeps


def test_flags_of_infer_are_stored_in_the_facts(photos: Path, tmp_path: Path) -> None:
    place = [f"--data={photos}", f"--run_dir={tmp_path}/r"]
    flags = ["--method=dba:3,aqe:2@3", "--time_budget=60", "--query_copies=mirror,turn90"]
    dual_main.main(["--recipe=demo", *TINY_RECIPE, *place, *flags, "--local_scales=1,1.5"])
    facts = json.loads((tmp_path / "r" / "facts.json").read_text())
    assert facts["infer"] == {
        "method": "dba:3,aqe:2@3",
        "time_budget": 60.0,
        "query_copies": ["mirror", "turn90"],
        "local_scales": ["1", "1.5"],
    }
    assert facts["data"] == str(photos)


def test_a_run_stores_recipe_facts_and_history(trained: Path, photos: Path) -> None:
    run = read_run(trained)
    assert run.kind == "recipe" and not run.is_old
    recipe = recipe_of(run)
    assert recipe.model.trunk.layout == "slim", "auto becomes the layout that was found"
    assert len(run.facts.class_names) == 6 and run.facts.held_out == ()
    assert run.facts.history == ("made with seed 0",) and run.facts.infer["image_size"] == 32
    assert run.facts.settings["mixed_precision"] == "off" and run.facts.data == str(photos)


def test_without_queries_the_last_line_says_how_to_measure_the_run(
    photos: Path,
    tmp_path: Path,
    capsys,
) -> None:
    run_dir = tmp_path / "r"
    dual_main.main(["--recipe=demo", *TINY_RECIPE, f"--data={photos}", f"--run_dir={run_dir}"])
    last = capsys.readouterr().out.splitlines()[-1]
    command = f"mandoo evaluate --run_dir={run_dir} --data=..."
    assert last == f"trained: {run_dir}. Score it with: {command}"


# --- from the weights of another run


def test_from_run_starts_from_the_weights_of_another_run_and_prints_the_changes(
    trained: Path,
    photos: Path,
    tmp_path: Path,
    capsys,
) -> None:
    run_dir = tmp_path / "second"
    flags = ["--train_logits", "--epochs=1", "--dev_percent=0", "--lr=1e-12", *TINY]
    dual_main.main([f"--data={photos}", f"--run_dir={run_dir}", f"--from_run={trained}", *flags])
    before = last_variables(trained)
    after = last_variables(run_dir)
    count = sum(name.startswith("weights/") for name in before)
    lines = [
        f"starts from {trained} (last-{STEPS}): {count} of {count} variables",
        "optimizer.lr: 0.0001 -> 1e-12",
    ]
    printed = capsys.readouterr().out.splitlines()
    assert all(line in printed for line in lines)
    assert read_run(run_dir).facts.history == ("made with seed 0", *lines)
    trainable = [n for n in before if n.startswith("weights/") and "moving" not in n]
    for name in trainable:
        np.testing.assert_allclose(after[name], before[name], atol=1e-9, err_msg=name)
    assert after["step"] == after["optimizers/0/_iterations"] == STEPS, (
        "step and optimizer start at 0"
    )


def test_from_run_keeps_the_layout_of_the_earlier_run(
    trained: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch,
) -> None:
    # Weights of one layout load into another without an error but give bad embeddings.
    parent = Path(shutil.copytree(trained, tmp_path / "parent"))
    run = read_run(parent)
    recipe = with_settings(recipe_of(run), ["model.trunk.layout=v1.5"])
    write_run(parent, run.kind, to_json(recipe), run.facts)
    layouts: list[Layout] = []
    build = EmbeddingModel.build_variables
    monkeypatch.setattr(
        EmbeddingModel,
        "build_variables",
        lambda model: layouts.append(model.trunk.layout) or build(model),
    )
    flags = ["--train_logits", "--epochs=1", "--dev_percent=0", *TINY]
    place = [f"--data={photos}", f"--run_dir={tmp_path}/second", f"--from_run={parent}"]
    dual_main.main([*flags, *place])
    assert set(layouts) == {LAYOUTS["v1.5"]}
    assert recipe_of(read_run(tmp_path / "second")).model.trunk.layout == "v1.5"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda run: None, "parent/recipe.json: not found."),
        (
            lambda run: write_run(run, KIND, {}, Facts()),
            "holds a run of kind 'keras_baseline'. A run can start only from",
        ),
        (
            lambda run: write_run(run, "recipe", {}, Facts()),
            'recipe.json: no "type". Known types: ',
        ),
    ],
    ids=["no run", "the baseline's", "no recipe"],
)
def test_from_run_refuses_an_unusable_run_before_it_reads_images(
    make: Callable[[Path], Any], message: str, photos: Path, tmp_path: Path, monkeypatch, refused
) -> None:
    make(tmp_path / "parent")
    monkeypatch.setattr(training_job, "check_images", lambda *_: pytest.fail("images were read"))
    place = [f"--data={photos}", f"--run_dir={tmp_path}/r", f"--from_run={tmp_path}/parent"]
    line = refused(1, "--recipe=demo", *TINY_RECIPE, *place)
    assert message in line and not (tmp_path / "r").exists()


# --- resume


@pytest.fixture
def run_dir(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_resume_continues_a_finished_run_with_more_epochs(run_dir: Path, capsys) -> None:
    dual_main.main(["--resume", f"--run_dir={run_dir}", "--epochs=2"])
    assert f"continuing at step {STEPS} of {2 * STEPS}" in capsys.readouterr().out
    run = read_run(run_dir)
    after = last_variables(run_dir)
    assert recipe_of(run).epochs == 2
    assert run.facts.history == ("made with seed 0", "resumed, epochs 1 -> 2")
    assert after["step"] == after["optimizers/0/_iterations"] == 2 * STEPS


@pytest.mark.parametrize(
    ("flags", "difference"),
    [
        (["--lr=1e-3"], "--lr=0.001 has no place"),
        (["--seed=4"], "--seed=4 differs from the run's 0"),
        (["--set=optimizer.lr=0.5"], "--set optimizer.lr=0.5 differs from the run (optimizer.lr: "),
    ],
)
def test_resume_refuses_flags_that_differ_before_it_reads_images(
    flags: list[str], difference: str, run_dir: Path, monkeypatch, refused
) -> None:
    monkeypatch.setattr(train, "load_from", lambda *_: pytest.fail("data were read"))
    before = {path.name: path.read_bytes() for path in run_dir.glob("*.json")}
    line = refused(2, "--resume", f"--run_dir={run_dir}", *flags)
    if "has no place" not in difference:
        assert difference in line
    assert f"--from_run={run_dir} and another --run_dir" in line
    assert line.count("A resumed run can change --epochs, --eval_every_steps, ") == 1
    assert before == {path.name: path.read_bytes() for path in run_dir.glob("*.json")}


def test_resume_refuses_changed_data_and_accepts_them_with_a_flag(
    run_dir: Path, photos: Path, tmp_path: Path, refused, capsys
) -> None:
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    # The same photographs elsewhere are the same data.
    dual_main.main(["--resume", f"--run_dir={run_dir}", f"--data={moved}"])
    assert read_run(run_dir).facts.data == str(moved)
    first, second, *_ = sorted(path for path in moved.iterdir() if path.is_dir())
    first.rename(moved / "zz renamed")
    shutil.rmtree(second)
    flags = ["--resume", f"--run_dir={run_dir}", "--epochs=2"]
    line = refused(1, *flags)
    changes = f"class {first.name} is now named zz renamed; class {second.name} is lost"
    assert line.startswith(
        f"error: {run_dir}: the data have changed since the run was made: {changes}. "
    )
    before = read_run(run_dir).facts.class_names
    assert first.name in before
    dual_main.main([*flags, "--accept_changed_data"])
    renamed = ("zz renamed" if name == first.name else name for name in before)
    facts = read_run(run_dir).facts
    assert facts.class_names == tuple(name for name in renamed if name != second.name)
    assert facts.history[-1] == f"resumed, epochs 1 -> 2 with changed data: {changes}"
    dual_main.main(flags)
    known = ["--allow_trained_photographs", f"--run_dir={run_dir}", f"--data={moved}"]
    dual_main.main(["evaluate", *known])


def test_accepting_changed_data_without_resume_is_refused(refused) -> None:
    line = refused(2, "--accept_changed_data", "--train_logits")
    assert "--accept_changed_data continues a run: pass --resume as well." in line


def test_resume_refuses_a_run_of_the_first_format(tmp_path: Path, monkeypatch, refused) -> None:
    # Only the message is tested here; tests/delf_ext/runs opens such runs.
    old = Run(tmp_path, "recipe", {}, Facts(data="gone"), is_old=True)
    monkeypatch.setattr(train, "read_run", lambda path: old)
    line = refused(1, "--resume", f"--run_dir={tmp_path}")
    assert line.startswith(f"error: {tmp_path}: an earlier version made this run. It can be opened")
    assert line.endswith(f"--from_run={tmp_path}")


def test_the_demo_recipe_has_no_validation() -> None:
    # The tests above pass --set=validation=None and expect no change from it.
    assert demo.RECIPE.validation is None
