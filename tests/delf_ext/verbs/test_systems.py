"""Which runtime and which batch the verbs use: --runtime, --onnx_model, and the calibration that --batch_size overrides."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import dual_main
from data_io.artifacts import load_record
from data_io.records import GlobalFeatures
from delf_ext.config import UsageError
from delf_ext.features.fast_runtime import TOLERANCE
from delf_ext.models.backbones import Backbone
from delf_ext.verbs import systems
from delf_ext.verbs.flags import new_flags
from delf_ext.verbs.systems import one_system, systems_of
from pretrained.convert import write_checkpoint

ENDPOINT, SIZE_PX = "resnet_v1_50/block1", 32


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MANDOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags of a small trunk with random weights."""
    backbone = Backbone(ENDPOINT)
    backbone(tf.zeros([1, SIZE_PX, SIZE_PX, 3]))
    path = tmp_path_factory.mktemp("weights") / "block1.ckpt"
    write_checkpoint(path, {variable.name.removesuffix(":0"): variable.numpy() for variable in backbone.variables})
    return [f"--pretrained_model={path}", f"--resnet_type={ENDPOINT}", f"--image_size={SIZE_PX}", "--mixed_precision=off"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(5):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def onnx_model(tmp_path: Path) -> Path:
    """[B, 3, S, S] to the mean colour, with its sidecar."""
    onnx = pytest.importorskip("onnx", reason="the network is written with onnx: pip install mandoo[dev]")
    images, vector = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("images", ["B", 3, SIZE_PX, SIZE_PX]), ("vector", ["B", 3]))
    )
    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        onnx.helper.make_node("Flatten", ["pooled"], ["vector"]),
    ]
    graph = onnx.helper.make_graph(nodes, "mean", [images], [vector])
    path = tmp_path / "mean.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), str(path))
    Path(f"{path}.json").write_text(json.dumps({"image_size": SIZE_PX, "scaling": "0..1"}))
    return path


def extracted(photos: Path, out: Path, *arguments: str) -> GlobalFeatures:
    dual_main.main(["extract", f"--data={photos}", f"--out={out}", "--batch_size=2", *arguments])
    return load_record(out / "features.npz", GlobalFeatures)


def test_a_verb_gives_the_same_embeddings_in_openvino(photos: Path, trunk: list[str], tmp_path: Path, cache: Path):
    pytest.importorskip("openvino", reason="pip install mandoo[fast]")
    plain = extracted(photos, tmp_path / "plain", *trunk)
    fast = extracted(photos, tmp_path / "fast", *trunk, "--runtime=openvino")
    assert np.linalg.norm(plain.embeddings - fast.embeddings, axis=1).max() < TOLERANCE
    assert plain.digest == fast.digest and [path.stem for path in (cache / "graphs").iterdir()] == [plain.digest]


def test_a_verb_embeds_in_8_bit_integers(
    photos: Path, trunk: list[str], tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("openvino"), pytest.importorskip("nncf", reason="pip install mandoo[int8]")
    plain = extracted(photos, tmp_path / "plain", *trunk)
    int8 = extracted(photos, tmp_path / "int8", *trunk, "--runtime=openvino-int8")
    assert np.multiply(plain.embeddings, int8.embeddings).sum(1).min() > 0.99 and plain.digest != int8.digest
    said = f"on 5 of 5 photographs, {photos}/0.png to {photos}/4.png ({cache}/graphs/{int8.digest}-int8/network.xml)"
    assert f"int8: calibrated now {said}" in capsys.readouterr().out
    dual_main.main(["search", f"--data={photos}", f"--image={photos}/3.png", *trunk, "--runtime=openvino-int8", "--top_k=1"])
    out = capsys.readouterr().out
    assert f"int8: calibrated before {said}" in out and out.splitlines()[-1].endswith(f"1. 1.0000  {photos}/3.png")


@pytest.mark.parametrize(
    ("split", "chosen"), [("query,gallery", ["2.png", "3.png", "4.png"]), ("train,train", [f"{row}.png" for row in range(5)])]
)
def test_int8_is_calibrated_on_what_is_searched_in(photos: Path, tmp_path: Path, split: str, chosen: list[str]):
    query, gallery = split.split(",")
    rows = [f"{photos}/{row}.png,{row},{query if row < 2 else gallery}" for row in range(5)]
    (tmp_path / "products.csv").write_text("\n".join(["path,label,split", *rows]))
    flags = new_flags()
    flags(["dual_main.py", f"--data={tmp_path}/products.csv"])
    assert [Path(path).name for path in systems._photographs(flags).paths] == chosen


@pytest.mark.parametrize("runtime", ["auto", "openvino", "onnxruntime"])
def test_a_verb_uses_a_users_onnx_model(photos: Path, onnx_model: Path, tmp_path: Path, runtime: str):
    pytest.importorskip("openvino"), pytest.importorskip("onnxruntime")
    found = extracted(photos, tmp_path / "out", f"--onnx_model={onnx_model}", f"--runtime={runtime}")
    np.testing.assert_allclose(found.embeddings, np.full((5, 3), 3**-0.5), atol=0.05)  # noise is gray on the whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which model"),
        (["--onnx_model=x.onnx", "--runtime=tensorflow"], "--runtime=tensorflow does not run --onnx_model"),
        (["--onnx_model=x.onnx", "--runtime=openvino-int8"], "--runtime=openvino-int8 does not run --onnx_model"),
        (["--run_dir=r", "--runtime=onnxruntime"], "--runtime=onnxruntime runs --onnx_model; for runs and checkpoints"),
    ],
)
def test_flags_that_do_not_fit_are_refused(arguments: list[str], message: str):
    flags = new_flags()
    flags(["dual_main.py", *arguments])
    with pytest.raises(UsageError, match=message):
        systems_of(flags)


def test_the_batch_is_calibrated_once_unless_it_is_given(trunk: list[str], cache: Path, capsys: pytest.CaptureFixture[str]):
    def batch_size(*arguments: str) -> tuple[int, str]:
        flags = new_flags()
        flags(["dual_main.py", *trunk, *arguments])
        one_system(flags)
        return flags.batch_size, capsys.readouterr().out.splitlines()[-1]

    assert batch_size("--batch_size=7")[0] == 7 and not cache.exists()
    assert batch_size("--time_budget=60")[0] == 64 and not cache.exists()
    chosen, line = batch_size()
    (kept,) = (cache / "calibration").iterdir()
    assert json.loads(kept.read_text())["batch_size"] == chosen
    assert line.startswith(f"batches of {chosen}: ") and f"(measured now; --batch_size overrides; {kept})" in line
    kept.write_text('{"batch_size": 5, "threads": 0, "images_per_s": 9.0}')
    assert batch_size() == (5, f"batches of 5: 9.0 images/s (measured before; --batch_size overrides; {kept})")
    assert batch_size("--time_budget=60")[0] == 5


def test_threads_are_chosen_where_the_runtime_lets_them(trunk: list[str], cache: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("openvino", reason="pip install mandoo[fast]")
    flags = new_flags()
    flags(["dual_main.py", *trunk, "--runtime=openvino"])
    model, _ = one_system(flags)
    assert re.match(r"batches of \d+ on \d+ threads?: ", capsys.readouterr().out.splitlines()[-1])
    assert model.embed(np.zeros((2, SIZE_PX, SIZE_PX, 3), np.uint8)).shape == (2, 256)
