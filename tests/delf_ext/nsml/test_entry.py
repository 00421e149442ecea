"""Run `dual_main.py` as a session: training, forks, resumed sessions and submissions."""

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
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext import nsml
from delf_ext.app.answers import Answer
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.models.trunks.slim import LAYOUTS, Layout, SlimTrunk
from delf_ext.nsml.entry import RUN_DIR
from delf_ext.recipes import codec, schema
from delf_ext.recipes.registry import RECIPES
from delf_ext.runs.recipe_run import recipe_of
from delf_ext.runs.records import Run
from delf_ext.runs.run_directory import read_run
from pretrained.convert import write_checkpoint

# --- without the platform


def test_mode_test_is_refused_outside_the_platform(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        dual_main.main(["--mode=test", "--iteration=3", "--pause=1"])
    assert end.value.code == 2
    assert "--mode=test is for `nsml submit`" in capsys.readouterr().err


# --- a platform in this process

SIZE_PX = 32
ENDPOINT = "resnet_v1_50/block1/unit_1/bottleneck_v1"
TRAINING = [f"--resnet_type={ENDPOINT}", f"--image_size={SIZE_PX}", "--batch_size=8"]
TRAINING += ["--train_logits", "--dev_percent=0.34", "--eval_every_steps=2"]
TRAINING += ["--mixed_precision=off"]
# Steps of an epoch: 17 training images are not held back.
STEPS = 3


class Platform:
    """Platform in this process: keep checkpoints and reports, and load one to start from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bound: dict[str, Callable[..., Any]] = {}
        self.start_checkpoint: Path | None = None
        self.reports: list[dict[str, Any]] = []
        folder.mkdir(exist_ok=True)

    def bind(self, **functions: Callable[..., Any]) -> None:
        self.bound |= functions

    def save(self, name: Any) -> None:
        shutil.rmtree(self.folder / str(name), ignore_errors=True)
        (self.folder / str(name)).mkdir()
        self.bound["save"](str(self.folder / str(name)))

    def paused(self, scope: Any = None) -> None:
        if self.start_checkpoint is not None:
            self.bound["load"](str(self.start_checkpoint))

    def report(self, **values: Any) -> None:
        self.reports.append(values)

    def checkpoint(self) -> Path:
        """Return the newest checkpoint."""
        return max(self.folder.iterdir(), key=lambda path: int(path.name))


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = DrawConfig(6, num_train=24, num_queries=3, num_gallery=9, image_size_px=48)
    return draw_dataset(tmp_path_factory.mktemp("data") / "products", config, progress=False)


Session = Callable[..., Platform]


def sessions(products: Path, folder: Path, patch: pytest.MonkeyPatch) -> Session:
    """Return a function that runs a session and returns its platform.

    The function gets the session's name, flags and a checkpoint to start from. If the name was used
    before, the session is resumed. The session's folder is the working directory.
    """
    patch.setenv("DATASET_PATH", str(products))
    patch.setenv("MANDOO_CACHE", str(folder / "cache"))
    patch.setattr(nsml, "IS_ON_NSML", True)
    platforms: dict[str, Platform] = {}

    def run(name: str, *flags: str, start_checkpoint: Path | None = None) -> Platform:
        (folder / name).mkdir(exist_ok=True)
        patch.chdir(folder / name)
        platform = platforms.setdefault(name, Platform(folder / f"checkpoints of {name}"))
        platform.start_checkpoint = start_checkpoint
        for function in ("bind", "save", "paused", "report"):
            patch.setattr(nsml, function, getattr(platform, function))
        dual_main.main([*TRAINING, *flags, *(["--pause=1"] if start_checkpoint else [])])
        return platform

    return run


@pytest.fixture
def session(products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    return sessions(products, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def trained_once(products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the parent of all forks for one epoch; return its checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        run = sessions(products, tmp_path_factory.mktemp("once"), patch)
        return run("parent", "--epochs=1").checkpoint()


@pytest.fixture
def parent(trained_once: Path, tmp_path: Path) -> Path:
    """Return a copy of the parent's checkpoint."""
    return Path(shutil.copytree(trained_once, tmp_path / "checkpoints of parent" / str(STEPS)))


def stored(checkpoint: Path) -> dict[str, np.ndarray]:
    """Read the variables that training saved in a checkpoint of the platform."""
    prefix = next((checkpoint / "checkpoint").glob("last-*.index")).with_suffix("")
    reader = tf.train.load_checkpoint(str(prefix))
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith("_")]
    return {name.partition("/.ATTR")[0]: reader.get_tensor(name) for name in names}


def trained_weights(checkpoint: Path) -> dict[str, np.ndarray]:
    """Read the weights of a checkpoint, without the statistics of batch norms."""
    variables = stored(checkpoint).items()
    return {
        name: value for name, value in variables if name[:7] == "weights" and "moving" not in name
    }


def run_of(tmp_path: Path, name: str) -> Run:
    return read_run(tmp_path / name / RUN_DIR)


def test_session_saves_a_run_that_can_be_opened(session: Session, tmp_path: Path, capsys) -> None:
    parent = session("parent", "--epochs=1")
    model = parent.checkpoint()
    assert model.name == str(STEPS)
    names = {path.name for path in model.iterdir()}
    assert names == {"checkpoint", "recipe.json", "facts.json", "photographs.json"}
    file_names = {path.name for path in (model / "checkpoint").iterdir()}
    assert file_names == {"last.json", "last-3.index", "last-3.data-00000-of-00001"}
    assert read_run(model).facts.class_names == run_of(tmp_path, "parent").facts.class_names
    assert parent.reports[-1]["step"] == STEPS and "dev__mAP" in parent.reports[-1]
    assert "NSML's DATASET_PATH" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [[], ["--epochs=2"]], ids=["nothing changed", "more epochs"])
def test_fork_with_the_same_values_continues_with_optimizers_and_step(
    session: Session,
    parent: Path,
    tmp_path: Path,
    flags: list[str],
    capsys,
) -> None:
    epochs = 1 + len(flags)
    forked = session("fork", "--epochs=1", *flags, start_checkpoint=parent)
    printed = capsys.readouterr().out
    assert f"continuing at step {STEPS} of {epochs * STEPS}" in printed
    run = run_of(tmp_path, "fork")
    recipe = recipe_of(run)
    assert recipe.epochs == epochs and not (tmp_path / "fork/runs/session-parent").exists()
    assert run.facts.history[1:] == ("resumed, epochs 1 -> 2" if flags else "resumed",)
    if flags:
        after = stored(forked.checkpoint())
        assert after["step"] == after["optimizers/0/_iterations"] == 2 * STEPS
        assert np.abs(after["optimizers/0/_variables/1"]).max() > 0


def test_fork_with_new_values_is_a_new_run_from_the_old_weights(
    session: Session,
    parent: Path,
    tmp_path: Path,
    capsys,
) -> None:
    forked = session("fork", "--epochs=1", "--lr=1e-12", start_checkpoint=parent).checkpoint()
    printed = capsys.readouterr().out
    assert "continuing at step" not in printed
    count = sum(name.startswith("weights/") for name in stored(parent))
    lines = [
        f"starts from runs/session-parent (last-{STEPS}): {count} of {count} variables",
        "optimizer.lr: 0.0001 -> 1e-12",
    ]
    assert all(line in printed.splitlines() for line in lines)
    run = run_of(tmp_path, "fork")
    assert run.facts.history == ("made with seed 0", *lines)
    recipe = recipe_of(run)
    assert recipe.optimizer.lr == 1e-12
    before = trained_weights(parent)
    after = trained_weights(forked)
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, atol=1e-9, err_msg=name)
    steps = stored(forked)
    assert steps["step"] == steps["optimizers/0/_iterations"] == STEPS


def test_fork_with_new_values_counts_from_zero_and_can_be_resumed(
    session: Session,
    parent: Path,
    tmp_path: Path,
    capsys,
) -> None:
    flags = ["--epochs=2", "--lr=1e-12"]
    fork = session("fork", *flags, start_checkpoint=parent)
    early = min(fork.folder.iterdir(), key=lambda path: int(path.name))
    assert int(early.name) < 2 * STEPS
    history = run_of(tmp_path, "fork").facts.history
    assert history[2:] == ("optimizer.lr: 0.0001 -> 1e-12", "stages.0.epochs: 1 -> 2")
    # The resumed run saves it again.
    assert fork.checkpoint().name == str(2 * STEPS)
    shutil.rmtree(fork.checkpoint())
    capsys.readouterr()
    session("fork", *flags, start_checkpoint=early)
    printed = capsys.readouterr().out
    assert f"continuing at step {early.name} of {2 * STEPS}" in printed
    assert "starts from" not in printed
    run = run_of(tmp_path, "fork")
    assert run.facts.history == (*history, "resumed") and recipe_of(run).optimizer.lr == 1e-12
    finished = stored(fork.folder / str(2 * STEPS))
    assert finished["optimizers/0/_iterations"] == 2 * STEPS


def test_fork_of_a_fork_with_other_values_is_a_new_run_from_its_weights(
    session: Session,
    parent: Path,
    tmp_path: Path,
    capsys,
) -> None:
    child = session("child", "--epochs=1", "--lr=1e-5", start_checkpoint=parent).checkpoint()
    capsys.readouterr()
    # The platform appends the new flags to those of the parent.
    flags = ["--epochs=1", "--lr=1e-5", "--lr=1e-6"]
    session("grandchild", *flags, start_checkpoint=child)
    assert "optimizer.lr: 1e-05 -> 1e-06" in capsys.readouterr().out.splitlines()
    assert recipe_of(run_of(tmp_path, "grandchild")).optimizer.lr == 1e-6


def test_fork_with_one_more_head_loads_the_weights_that_fit(
    session: Session,
    parent: Path,
    tmp_path: Path,
    capsys,
) -> None:
    forked = session("fork", "--epochs=1", "--train_sim", start_checkpoint=parent).checkpoint()
    old, new = (
        sum(name.startswith("weights/") for name in stored(checkpoint))
        for checkpoint in (parent, forked)
    )
    assert new > old
    message = f"starts from runs/session-parent (last-{STEPS}): {old} of {new} variables"
    assert message in capsys.readouterr().out


def test_resumed_session_continues(
    session: Session,
    tmp_path: Path,
    capsys,
) -> None:
    first = session("parent", "--epochs=2")
    early = min(first.folder.iterdir(), key=lambda path: int(path.name))
    capsys.readouterr()
    session("parent", "--epochs=2", start_checkpoint=early)
    assert f"continuing at step {early.name} of {2 * STEPS}" in capsys.readouterr().out
    assert not (tmp_path / "parent/runs/session-parent").exists()


@pytest.fixture(scope="module")
def torchvision_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a checkpoint whose side file gives torchvision's stride layout."""
    path = tmp_path_factory.mktemp("weights") / "torchvision.ckpt"
    trunk = SlimTrunk(ENDPOINT, "v1.5")
    trunk(tf.zeros([1, SIZE_PX, SIZE_PX, 3]))
    write_checkpoint(path, {var.name.removesuffix(":0"): var.numpy() for var in trunk.variables})
    facts = {"name": "t", "backbone": "resnet_v1_50", "layout": "v1.5", "channels": "RGB"}
    means = {"subtract": [123.675, 116.28, 103.53], "licence": "", "source": ""}
    Path(f"{path}.json").write_text(json.dumps({**facts, **means, "files_sha256": {}}))
    return path


def test_fork_has_the_layout_of_its_weights(
    session: Session,
    torchvision_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights of one layout can be loaded into another without an error, but work badly."""
    layouts: list[Layout] = []
    build = EmbeddingModel.build_variables
    monkeypatch.setattr(
        EmbeddingModel,
        "build_variables",
        lambda model: layouts.append(model.trunk.layout) or build(model),
    )
    weights = f"--pretrained_model={torchvision_weights}"
    parent = session("parent", weights, "--epochs=1").checkpoint()
    for name, changed in (("same", ["--epochs=2"]), ("new", ["--epochs=1", "--lr=1e-5"])):
        layouts.clear()
        session(name, weights, *changed, start_checkpoint=parent)
        assert set(layouts) == {LAYOUTS["v1.5"]}
        assert recipe_of(run_of(tmp_path, name)).model.trunk.layout == "v1.5"


# --- submissions


def submit(
    platform: Platform, model: Path, products: Path, patch: pytest.MonkeyPatch, *flags: str
) -> Answer:
    """Return the answer of a checkpoint to the queries."""
    answers: list[Answer] = []

    def paused(scope: Any = None) -> None:
        folder = products / "test" / "test_data"
        platform.bound["load"](str(model))
        paths = [sorted(map(str, (folder / kind).iterdir())) for kind in ("query", "reference")]
        answers.append(platform.bound["infer"](*paths))

    patch.setattr(nsml, "paused", paused)
    reserved = ["--mode=test", f"--iteration={model.name}", "--pause=1"]
    dual_main.main([*TRAINING, "--epochs=1", *flags, *reserved])
    return answers[0]


def test_submission_ranks_every_reference(
    parent: Path,
    products: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    """Regression: an unlimited time became a budget of 0, so that no image was embedded."""
    platform = Platform(tmp_path / "platform")
    monkeypatch.setattr(nsml, "IS_ON_NSML", True)
    monkeypatch.setattr(nsml, "bind", platform.bind)
    monkeypatch.setenv("MANDOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    answer = submit(platform, parent, products, monkeypatch)
    assert "the answer is not ranked" not in capsys.readouterr().out
    listed = [f"refer_{i}" for i in range(9)]
    assert [name for _, (name, _) in answer] == ["query_0", "query_1", "query_2"]
    assert all(sorted(found) == listed for _, (_, found) in answer)
    assert any(found != listed for _, (_, found) in answer)


def test_submission_verifies_with_the_trunk_of_its_checkpoint_and_the_run_keeps_its_flags(
    session: Session,
    products: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    layer = ENDPOINT.partition("/")[2]
    flags = ["--method=geometric:3", "--time_budget=600", "--query_copies=mirror"]
    flags += ["--local_image_size=64", "--local_scales=1", "--local_rotations=0"]
    flags += [f"--local_layer={layer}", "--descriptor_dim=16"]
    platform = session("parent", "--epochs=1", *flags)
    checkpoint = tmp_path / "checkpoints of parent" / str(STEPS)
    answer = submit(platform, checkpoint, products, monkeypatch, *flags)
    printed = capsys.readouterr().out
    assert f"DELF: {checkpoint}, {ENDPOINT}; attention: trained" in printed
    assert all(len(found) == 9 for _, (_, found) in answer)
    infer = run_of(tmp_path, "parent").facts.infer
    assert infer["method"] == "geometric:3" and infer["time_budget"] == 600.0
    assert infer["query_copies"] == ["mirror"] and infer["batch_size"] == 8
    assert "epochs" not in infer and "run_dir" not in infer and "top_k" not in infer


def test_ensemble_is_refused_on_the_platform(
    products: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATASET_PATH", str(products))
    monkeypatch.setattr(nsml, "IS_ON_NSML", True)
    members = tuple(schema.Member(name, RECIPES["demo"]) for name in ("a", "b"))
    (tmp_path / "both.json").write_text(
        json.dumps(codec.to_json(schema.EnsembleRecipe("both", members)))
    )
    with pytest.raises(SystemExit) as ended:
        dual_main.main([f"--recipe={tmp_path}/both.json"])
    assert ended.value.code == 2
    assert "train each member in its own session" in capsys.readouterr().err
