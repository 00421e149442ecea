"""Compare converted weights with Keras' network and with torchvision's, written in tf.nn."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from pretrained.convert import convert, from_keras, from_torchvision, main, write_checkpoint
from pretrained.keras_files import read_keras
from pretrained.lite_names import SCHEMES, torch_tensors
from pretrained.manifest import describe, verify
from pretrained.resnet_names import conv_scopes, keras_layers, kernel_shape
from pretrained.weight_files import read_state_dict

UNITS = (3, 4, 6, 3)
SIZE_PX = 64
NUM_CLASSES = 10


def slim_forward(
    tensors: dict[str, np.ndarray], images: np.ndarray, layout: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Run resnet_v1_50 with tensors that have TF-Slim's names. The epsilon of batch norm is 1e-5.

    Source: He et al. 2015. `WeightsInfo` describes the strides and paddings of the layouts.

    Args:
        tensors: TF-Slim's name -> array.
        images: float32 [B, H, W, 3], without their means.
        layout: as in `WeightsInfo`.

    Returns:
        block4 [B, h, w, 2048], and logits [B, C] (None if the tensors have no classifier).
    """

    def conv(net: tf.Tensor, scope: str, stride: int = 1) -> tf.Tensor:
        kernel = tensors[f"{scope}/weights"]
        margin = kernel.shape[0] // 2
        net = tf.pad(net, [[0, 0], [margin, margin], [margin, margin], [0, 0]])
        net = tf.nn.conv2d(net, kernel, stride, "VALID")
        gamma, beta, mean, variance = (
            tensors[f"{scope}/BatchNorm/{part}"]
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (net - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    net = tf.nn.relu(conv(tf.constant(images, tf.float32), "resnet_v1_50/conv1", 2))
    if layout == "slim":
        net = tf.nn.max_pool2d(net, 3, 2, "SAME")
    else:
        net = tf.nn.max_pool2d(tf.pad(net, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")
    for block, units in enumerate(UNITS, start=1):
        for unit in range(1, units + 1):
            scope = f"resnet_v1_50/block{block}/unit_{unit}/bottleneck_v1"
            if layout == "v1.5":
                has_stride = unit == 1 and block > 1
            else:
                has_stride = unit == units and block < 4
            stride = 2 if has_stride else 1
            if unit == 1:
                shortcut = conv(net, f"{scope}/shortcut", stride)
            else:
                shortcut = net[:, ::stride, ::stride]
            inner = tf.nn.relu(conv(net, f"{scope}/conv1"))
            inner = tf.nn.relu(conv(inner, f"{scope}/conv2", stride))
            net = tf.nn.relu(shortcut + conv(inner, f"{scope}/conv3"))
    if "resnet_v1_50/logits/weights" not in tensors:
        return net.numpy(), None
    pooled = tf.reduce_mean(net, [1, 2])
    weights = tensors["resnet_v1_50/logits/weights"][0, 0]
    logits = pooled @ weights + tensors["resnet_v1_50/logits/biases"]
    return net.numpy(), logits.numpy()


def torchvision_forward(state: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """Run torchvision's resnet50: images [B, H, W, 3], RGB in 0..255 -> logits [B, C]."""
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    std = np.array([0.229, 0.224, 0.225], np.float32)

    def conv(net: tf.Tensor, name: str, norm: str, stride: int = 1) -> tf.Tensor:
        kernel = np.transpose(state[f"{name}.weight"], (2, 3, 1, 0))
        margin = kernel.shape[0] // 2
        net = tf.pad(net, [[0, 0], [margin, margin], [margin, margin], [0, 0]])
        net = tf.nn.conv2d(net, kernel, stride, "VALID")
        deviation = np.sqrt(state[f"{norm}.running_var"] + 1e-5)
        scaled = (net - state[f"{norm}.running_mean"]) / deviation
        return scaled * state[f"{norm}.weight"] + state[f"{norm}.bias"]

    net = tf.constant((images / 255 - mean) / std, tf.float32)
    net = tf.nn.relu(conv(net, "conv1", "bn1", 2))
    net = tf.nn.max_pool2d(tf.pad(net, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")
    for layer, units in enumerate(UNITS, start=1):
        for unit in range(units):
            name = f"layer{layer}.{unit}"
            stride = 2 if unit == 0 and layer > 1 else 1
            shortcut = net
            if unit == 0:
                shortcut = conv(net, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            inner = tf.nn.relu(conv(net, f"{name}.conv1", f"{name}.bn1"))
            inner = tf.nn.relu(conv(inner, f"{name}.conv2", f"{name}.bn2", stride))
            net = tf.nn.relu(conv(inner, f"{name}.conv3", f"{name}.bn3") + shortcut)
    return (tf.reduce_mean(net, [1, 2]) @ state["fc.weight"].T + state["fc.bias"]).numpy()


def random_state_dict() -> dict[str, np.ndarray]:
    """Return a state dict of torchvision's ResNet-50 with random weights and statistics."""
    return dict(_random_state_dict())


@cache
def _random_state_dict() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    state: dict[str, np.ndarray] = {}

    def add(conv: str, norm: str, out_channels: int, in_channels: int, size: int) -> None:
        scale = np.sqrt(2 / (in_channels * size * size))
        state[f"{conv}.weight"] = rng.normal(0, scale, (out_channels, in_channels, size, size))
        state[f"{norm}.weight"] = rng.uniform(0.3, 0.8, out_channels)
        state[f"{norm}.bias"] = rng.normal(0, 0.2, out_channels)
        state[f"{norm}.running_mean"] = rng.normal(0, 0.2, out_channels)
        state[f"{norm}.running_var"] = rng.uniform(0.5, 1.5, out_channels)

    add("conv1", "bn1", 64, 3, 7)
    entering = 64
    for layer, units in enumerate(UNITS, start=1):
        inner = 32 * 2**layer
        for unit in range(units):
            name = f"layer{layer}.{unit}"
            add(f"{name}.conv1", f"{name}.bn1", inner, entering, 1)
            add(f"{name}.conv2", f"{name}.bn2", inner, inner, 3)
            add(f"{name}.conv3", f"{name}.bn3", inner * 4, inner, 1)
            if unit == 0:
                add(f"{name}.downsample.0", f"{name}.downsample.1", inner * 4, entering, 1)
            entering = inner * 4
    state["fc.weight"] = rng.normal(0, 0.02, (NUM_CLASSES, 2048))
    state["fc.bias"] = rng.normal(0, 1, NUM_CLASSES)
    state = {name: array.astype(np.float32) for name, array in state.items()}
    state["bn1.num_batches_tracked"] = np.array(7)
    for array in state.values():
        # All tests share them.
        array.flags.writeable = False
    return state


def read_checkpoint(prefix: Path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def relative_difference(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, SIZE_PX, SIZE_PX, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def keras_model() -> tf.keras.Model:
    model = tf.keras.applications.ResNet50(
        weights=None, classes=NUM_CLASSES, classifier_activation=None, input_shape=(64, 64, 3)
    )
    rng = np.random.default_rng(0)
    for variable in model.weights:
        shape = tuple(variable.shape)
        name = variable.name
        if "kernel" in name:
            value = rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        elif "gamma" in name or "variance" in name:
            value = rng.uniform(0.3, 0.8, shape)
        else:
            value = rng.normal(0, 0.2, shape)
        variable.assign(value)
    # The difference of the two epsilons matters only in channels with almost no variance.
    variance = model.get_layer("conv2_block1_1_bn").moving_variance
    variance.assign(np.where(np.arange(64) < 32, 1e-7, variance))
    return model


@pytest.fixture(scope="module")
def keras_h5(keras_model: tf.keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "resnet50.h5"
    keras_model.save_weights(path)
    return path


def test_converted_keras_weights_give_the_outputs_of_keras(
    keras_model, keras_h5: Path, images: np.ndarray, tmp_path: Path
):
    out = tmp_path / "new" / "from_keras.ckpt"
    info = convert(keras_h5, out)
    assert (info.layout, info.subtract) == ("keras", (123.68, 116.779, 103.939))
    prepared = tf.keras.applications.resnet50.preprocess_input(images.copy())
    block4_output = keras_model.get_layer("conv5_block3_out").output
    trunk = tf.keras.Model(keras_model.input, [block4_output, keras_model.output])
    outputs = trunk(prepared, training=False)
    expected_block4, expected_logits = (tensor.numpy() for tensor in outputs)
    tensors = read_checkpoint(out)
    centred = images - np.float32(info.subtract)
    block4, logits = slim_forward(tensors, centred, info.layout)
    assert relative_difference(block4, expected_block4) < 1e-4
    assert logits is not None and relative_difference(logits, expected_logits) < 1e-4
    # With a wrong layout the weights load without an error, but the outputs are wrong.
    for other in ("slim", "v1.5"):
        wrong_block4, _ = slim_forward(tensors, centred, other)
        assert relative_difference(wrong_block4, expected_block4) > 0.1
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "from_keras.ckpt.data-00000-of-00001",
        "from_keras.ckpt.index",
        "from_keras.ckpt.json",
    ]


def test_side_file_describes_the_checkpoint(keras_h5: Path, tmp_path: Path):
    out = tmp_path / "mine.ckpt"
    info = convert(keras_h5, out)
    assert describe(out) == info
    assert all(line.endswith("(as expected)") for line in verify(out, info))
    assert info.source.startswith("converted from resnet50.h5 (keras), sha256 ")
    stored = json.loads((tmp_path / "mine.ckpt.json").read_text())
    assert set(stored) == set(info.__dataclass_fields__)


def test_keras_weights_without_classifier_and_saved_models_are_read(
    keras_model, keras_h5: Path, tmp_path: Path
):
    whole = tmp_path / "whole.h5"
    keras_model.save(whole, save_format="h5")
    weights = read_keras(keras_h5).tensors
    assert set(read_keras(whole).tensors) == set(weights)
    top = {"predictions/kernel", "predictions/bias"}
    tensors = from_keras({name: array for name, array in weights.items() if name not in top})
    assert len(tensors) == 265 and not any("logits" in name for name in tensors)


def test_files_of_keras_3_have_the_same_weights(keras_model, keras_h5: Path, tmp_path: Path):
    expected = read_keras(keras_h5).tensors
    inner = tf.keras.Model(keras_model.input, keras_model.get_layer("avg_pool").output)
    nested = tf.keras.Sequential([inner, tf.keras.layers.Dense(3)])
    keras_model.save_weights(tmp_path / "a.weights.h5")
    nested.save(tmp_path / "a.keras")
    for name, left_out in (("a.weights.h5", 2), ("a.keras", 2)):
        weights = read_keras(tmp_path / name)
        assert len(weights.tensors) == 318 and len(weights.left_out) == left_out
        assert all(np.array_equal(weights.tensors[key], expected[key]) for key in weights.tensors)
    assert set(read_keras(tmp_path / "a.keras").epsilons.values()) == {1.001e-5}


def test_batch_norm_absorbs_epsilon_and_biases_exactly():
    source: dict[str, np.ndarray] = {}
    for scope in conv_scopes():
        conv, norm = keras_layers(scope)
        shape = kernel_shape(scope)
        channels = shape[3:]
        source[f"{conv}/kernel"] = np.zeros(shape, np.float32)
        source[f"{conv}/bias"] = np.full(channels, 0.25, np.float32)
        source[f"{norm}/gamma"] = np.ones(channels, np.float32)
        source[f"{norm}/beta"] = np.ones(channels, np.float32)
        source[f"{norm}/moving_mean"] = np.full(channels, 1.0)
        source[f"{norm}/moving_variance"] = np.zeros(channels, np.float32)
    # Keras reads BGR, so this is blue.
    source["conv1_conv/kernel"][:, :, 0] = 1.0
    tensors = from_keras(source)
    assert tensors["resnet_v1_50/conv1/BatchNorm/moving_mean"][0] == np.float32(0.75)
    assert tensors["resnet_v1_50/conv1/BatchNorm/moving_variance"][0] == np.float32(1e-8)
    # Keras before 2018 had an epsilon of 1e-3; a file of a whole model says so.
    old = from_keras(source, {"conv1_bn": 1e-3})
    assert old["resnet_v1_50/conv1/BatchNorm/moving_variance"][0] == np.float32(1e-3 - 1e-5)
    kernel = tensors["resnet_v1_50/conv1/weights"]
    assert np.all(kernel[:, :, 2] == 1) and np.all(kernel[:, :, :2] == 0)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_converted_torchvision_weights_give_the_outputs_of_torchvision(
    images: np.ndarray, tmp_path: Path, ending: str
):
    state = random_state_dict()
    source = tmp_path / f"resnet50.{ending}"
    if ending == "npz":
        np.savez(source, **state)
    else:
        reason = "safetensors is optional"
        pytest.importorskip("safetensors.numpy", reason=reason).save_file(state, source)
    info = convert(source, tmp_path / "out.ckpt")
    assert (info.layout, info.subtract) == ("v1.5", (123.675, 116.28, 103.53))
    tensors = read_checkpoint(tmp_path / "out.ckpt")
    _, logits = slim_forward(tensors, images - np.float32(info.subtract), info.layout)
    assert logits is not None
    assert relative_difference(logits, torchvision_forward(state, images)) < 1e-4


def test_keras_and_torchvision_give_the_same_names_and_shapes(keras_h5: Path):
    def shapes(tensors: dict) -> dict:
        return {name: (array.shape, array.dtype) for name, array in tensors.items()}

    assert shapes(from_keras(read_keras(keras_h5).tensors)) == shapes(
        from_torchvision(random_state_dict())
    )


def without(state: dict, name: str) -> dict:
    return {key: array for key, array in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: without(s, "layer2.0.bn1.bias"),
            r"Missing: layer2\.0\.bn1\.bias\. Unexpected: none",
        ),
        (lambda s: without(s, "fc.bias"), r"Missing: fc\.bias\. Unexpected: none"),
        (
            lambda s: s | {"layer3.6.conv1.weight": s["conv1.weight"]},
            r"Missing: none\. Unexpected: layer3\.6\.conv1\.weight",
        ),
        (
            lambda s: s | {"layer1.0.conv2.weight": np.zeros((64, 2, 3, 3))},
            r"block1/unit_1.*\(3, 3, 2, 64\) instead of \(3, 3, 64, 64\)",
        ),
        (lambda s: {}, "Missing: bn1.bias, bn1.running_mean"),
    ],
    ids=["missing", "half a classifier", "resnet101", "resnext", "empty"],
)
def test_another_network_is_an_error_that_names_the_tensors(change, message: str):
    with pytest.raises(ValueError, match=message):
        from_torchvision(change(random_state_dict()))


def test_damaged_source_is_an_error_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    np.savez(tmp_path / "pickled.npz", a=np.array([{}], dtype=object))
    np.savez(tmp_path / "bytes.npz", a=np.zeros(3, "V2"))
    np.savez(tmp_path / "complex.npz", a=np.zeros(3, complex))
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "cut.safetensors").write_bytes(b"12")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "page.h5").write_text("<!DOCTYPE html><html></html>")
    (tmp_path / "weights.bin").write_text("version https://git-lfs.github.com/spec/v1")
    before = sorted(path.name for path in tmp_path.iterdir())
    for name, reason in {
        "pickled.npz": "not readable as .npz (Object arrays cannot be loaded",
        "bytes.npz": "its tensor a is of type |V2, which is not read. Save it as float32",
        "complex.npz": "its tensor a is of type complex128, which is not read. Save it as",
        "cut.h5": "not readable as HDF5",
        "cut.npz": "not readable as .npz (File is not a zip file)",
        "cut.safetensors": "safetensors",
        "empty.pth": "not readable as .npz",
        "page.h5": "not readable as HDF5",
        "weights.bin": "is a pointer of Git LFS, not the weights. Run `git lfs pull`",
        "absent.h5": "No such file",
    }.items():
        assert main([str(tmp_path / name), f"--out={tmp_path}/out.ckpt"]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"error: {tmp_path / name}: ") and error.count("\n") == 1
        assert reason in error
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_types_of_safetensors(tmp_path: Path):
    """NumPy has no bfloat16: 1.5 is the upper half of its float32, 0x3FC00000."""
    pytest.importorskip("safetensors", reason="safetensors is optional")
    for kind, content, expected in (
        ("BF16", bytes.fromhex("c03f"), 1.5),
        ("F16", bytes.fromhex("003e"), 1.5),
        ("I64", (7).to_bytes(8, "little"), 7),
    ):
        _write_safetensors(tmp_path / "a.safetensors", kind, content)
        tensors, _ = read_state_dict(tmp_path / "a.safetensors")
        assert tensors["a"].tolist() == [expected]
    _write_safetensors(tmp_path / "a.safetensors", "F8_E4M3", b"1")
    with pytest.raises(ValueError, match="its tensor a is of type F8_E4M3, which is not read"):
        read_state_dict(tmp_path / "a.safetensors")


def _write_safetensors(path: Path, kind: str, content: bytes) -> None:
    tensor = {"dtype": kind, "shape": [1], "data_offsets": [0, len(content)]}
    header = json.dumps({"a": tensor}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content)


def test_missing_safetensors_is_an_error_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "a.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.safetensors: .*pip install safetensors"):
        convert(tmp_path / "a.safetensors", tmp_path / "out.ckpt")


def test_other_hdf5_file_is_refused(tmp_path: Path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["res2a_branch2a/kernel:0"] = np.zeros(3)
    message = (
        r"other\.h5: not a ResNet-50\. Missing: conv1_bn/beta.* and 313 more\. Unexpected: none\."
    )
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "other.h5", tmp_path / "out.ckpt")


def test_prefix_and_head_of_a_trainer_are_found(tmp_path: Path):
    state = random_state_dict()
    wrapped = {f"module.backbone.{name}": values for name, values in state.items()}
    del wrapped["module.backbone.fc.weight"], wrapped["module.backbone.fc.bias"]
    wrapped["module.head.weight"] = np.zeros((3, 2048), np.float32)
    np.savez(tmp_path / "a.npz", **wrapped)
    np.savez(tmp_path / "two.npz", **wrapped, **state)
    lines: list[str] = []
    convert(tmp_path / "a.npz", tmp_path / "a.ckpt", log=lines.append)
    assert lines == [
        "the names in the file begin with module.backbone.",
        "left out, not of the ResNet-50: module.head.weight",
    ]
    tensors = read_checkpoint(tmp_path / "a.ckpt")
    assert len(tensors) == 265
    name = "resnet_v1_50/block4/unit_3/bottleneck_v1/conv3/BatchNorm/beta"
    assert np.array_equal(tensors[name], state["layer4.2.bn3.bias"])
    with pytest.raises(ValueError, match=r"holds several networks,  and module\.backbone\.\. Save"):
        convert(tmp_path / "two.npz", tmp_path / "two.ckpt")


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path):
    name = "layer3.1.bn2.running_var"
    np.savez(tmp_path / "a.npz", **random_state_dict() | {name: np.full(256, -1.0)})
    fault = r"a\.npz: resnet_v1_50/block.*: 256 of 256 numbers are negative"
    with pytest.raises(ValueError, match=fault):
        convert(tmp_path / "a.npz", tmp_path / "a.ckpt")
    assert not list(tmp_path.glob("a.ckpt*"))


def test_kernels_of_theano_are_refused():
    source = {f"{layer}/{part}": np.zeros(1) for layer, part in _all_keras_names()}
    source["conv1_conv/kernel"] = np.zeros((64, 3, 7, 7))
    with pytest.raises(ValueError, match="the order of Theano.*tf_dim_ordering_tf_kernels"):
        from_keras(source)


def _all_keras_names() -> list[tuple[str, str]]:
    parts = ("gamma", "beta", "moving_mean", "moving_variance")
    names = [keras_layers(scope) for scope in conv_scopes()]
    convs = [(conv, part) for conv, _ in names for part in ("kernel", "bias")]
    return convs + [(norm, part) for _, norm in names for part in parts]


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("conv4_block23_1_conv/kernel", "ResNet-101"),
        ("conv4_block36_1_conv/kernel", "ResNet-152"),
        ("conv2_block1_preact_bn/gamma", "ResNet-50 V2"),
    ],
)
def test_other_resnets_of_keras_are_named(name: str, network: str):
    source = {f"{layer}/{part}": np.zeros(1) for layer, part in _all_keras_names()}
    with pytest.raises(ValueError, match=f"not a ResNet-50 but a {network}. Missing: none"):
        from_keras(source | {name: np.zeros(1)})


def test_command_converts_and_prints_the_description(tmp_path: Path, capsys: pytest.CaptureFixture):
    np.savez(tmp_path / "weights.npz", **random_state_dict())
    flags = [str(tmp_path / "weights.npz"), f"--out={tmp_path}/out.ckpt"]
    # The second run replaces the files of the first.
    for _ in range(2):
        assert main([*flags, "--from=torchvision"]) == 0
    description = "out.ckpt: layout v1.5, input RGB 0..255 minus (123.675, 116.28, 103.53)"
    assert description in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main([*flags, "--from=caffe"])
    assert caught.value.code == 2


def test_failed_write_keeps_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_checkpoint(tmp_path / "a.ckpt", {"x": np.ones(3, np.float32)})

    def full_disk(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tf.raw_ops, "SaveV2", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(tmp_path / "a.ckpt", {"x": np.zeros(3, np.float32)})
    assert read_checkpoint(tmp_path / "a.ckpt")["x"].tolist() == [1, 1, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.ckpt.data-00000-of-00001",
        "a.ckpt.index",
    ]


@pytest.mark.shared
def test_names_and_shapes_equal_those_of_a_real_checkpoint(shared: Path):
    path = shared / "pretrained" / "resnet_v1_50_pqf.ckpt"
    stored = tf.train.load_checkpoint(str(path)).get_variable_to_shape_map()
    stored["resnet_v1_50/logits/weights"][-1] = NUM_CLASSES
    stored["resnet_v1_50/logits/biases"][-1] = NUM_CLASSES
    tensors = from_torchvision(random_state_dict())
    assert {name: list(array.shape) for name, array in tensors.items()} == stored


def test_efficientnet_lite_needs_no_conversion(tmp_path: Path) -> None:
    shapes = torch_tensors("efficientnet_lite0", SCHEMES["conv_stem.weight"])
    state = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    np.savez(tmp_path / "a.npz", **state)
    with pytest.raises(ValueError, match=r"a\.npz: this network needs no conversion\. "):
        convert(tmp_path / "a.npz", tmp_path / "a.ckpt")
