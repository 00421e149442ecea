"""Read the names of Keras' weight files since 2017; the files here have one number per weight."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from pretrained.keras_files import read_keras
from pretrained.resnet_names import conv_scopes, keras_layers, keras_layers_2017, keras_order

CONV = ("kernel", "bias")
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
OLD_ROLES = {
    "kernel": "W",
    "bias": "b",
    "moving_mean": "running_mean",
    "moving_variance": "running_std",
}
Names = Callable[[str, str], str]


def expected() -> dict[str, float]:
    """Return each weight of the network with a number of its own."""
    weights = {}
    for scope in conv_scopes():
        conv, norm = keras_layers(scope)
        for role in CONV:
            weights[f"{conv}/{role}"] = float(len(weights))
        for role in NORM:
            weights[f"{norm}/{role}"] = float(len(weights))
    return weights


def old_layer(layer: str) -> str:
    pairs = [
        pair
        for scope in conv_scopes()
        for pair in zip(keras_layers(scope), keras_layers_2017(scope), strict=True)
    ]
    return dict(pairs)[layer]


def now(layer: str, role: str) -> str:
    return f"{layer}/{layer}/{role}:0"


def nested(layer: str, role: str) -> str:
    return f"resnet50/{layer}/{role}:0"


def second_in_session(layer: str, role: str) -> str:
    return f"{layer}/{layer}_1/{role}:0"


def of_2017(layer: str, role: str) -> str:
    old = old_layer(layer)
    return f"{old}/{old}_{OLD_ROLES.get(role, role)}:0"


def of_2017_again(layer: str, role: str) -> str:
    old = old_layer(layer)
    return f"{old}/{old}_{OLD_ROLES.get(role, role)}_1:0"


def of_2018(layer: str, role: str) -> str:
    old = old_layer(layer)
    return f"{old}/{old}/{role}:0"


def keras3(layer: str, role: str) -> str:
    convs, norms = keras_order()
    kind, order = ("conv2d", convs) if layer in convs else ("batch_normalization", norms)
    number = order.index(layer)
    roles = CONV if layer in convs else NORM
    return f"layers/{kind}{f'_{number}' if number else ''}/vars/{roles.index(role)}"


def keras3_nested(layer: str, role: str) -> str:
    return f"layers/functional/{keras3(layer, role)}"


def keras3_named(layer: str, role: str) -> str:
    roles = CONV if layer.endswith("_conv") else NORM
    return f"layers/{layer}/vars/{roles.index(role)}"


def write(file: h5py.Group, names: Names, **others: float) -> None:
    for name, value in expected().items():
        layer, role = name.split("/")
        file[names(layer, role)] = np.array([value])
    for name, value in others.items():
        file[name] = np.array([value])


STYLES = (
    now, nested, second_in_session, of_2017, of_2017_again, of_2018,
    keras3, keras3_nested, keras3_named,
)  # fmt: skip


@pytest.mark.parametrize("names", STYLES, ids=lambda names: names.__name__)
def test_all_names_since_2017_are_read(tmp_path: Path, names: Names):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, names)
    weights = read_keras(tmp_path / "a.h5")
    assert {name: values[0] for name, values in weights.tensors.items()} == expected()
    assert weights.left_out == ()
    assert weights.epsilons == {}


@pytest.mark.parametrize("names", [now, nested, of_2017, keras3_nested])
def test_another_head_is_left_out_and_named(tmp_path: Path, names: Names):
    head = {"dense/dense/kernel:0": 1.0, "layers/dense/vars/0": 2.0, "head/conv9/kernel:0": 3.0}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, names, **head)
    weights = read_keras(tmp_path / "a.h5")
    assert {name: values[0] for name, values in weights.tensors.items()} == expected()
    assert weights.left_out == tuple(sorted(head))


@pytest.mark.parametrize(("names", "top"), [(now, "predictions"), (of_2017, "fc1000")])
def test_published_classifier_is_read(tmp_path: Path, names: Names, top: str):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        kernel = f"{top}/{top}_W:0" if top == "fc1000" else f"{top}/{top}/kernel:0"
        write(file, names, **{kernel: -1.0})
    assert read_keras(tmp_path / "a.h5").tensors["predictions/kernel"].tolist() == [-1.0]


def config(epsilon: float) -> str:
    norm = {"class_name": "BatchNormalization", "config": {"name": "bn_conv1", "epsilon": epsilon}}
    inner = {"class_name": "Functional", "config": {"name": "resnet50", "layers": [norm]}}
    return json.dumps({"class_name": "Sequential", "config": {"layers": [inner]}})


def test_whole_models_give_the_epsilon_and_no_optimizer(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file.create_group("model_weights"), of_2017)
        file["optimizer_weights/Adam/iteration:0"] = 5
        file.attrs["model_config"] = config(1e-3)
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        write(file, keras3, **{"optimizer/vars/0": 1.0, "metrics/mean/vars/0": 2.0})
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", config(1e-3))
        archive.writestr("model.weights.h5", content.getvalue())
    for name in ("a.h5", "a.keras"):
        weights = read_keras(tmp_path / name)
        assert {name: values[0] for name, values in weights.tensors.items()} == expected()
        assert weights.epsilons == {"conv1_bn": 1e-3}
        assert weights.left_out == ()


def test_two_networks_are_refused(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, nested)
        write(file, lambda layer, role: f"other/{layer}/{role}:0")
    with pytest.raises(ValueError, match="holds several networks, other and resnet50. Save the"):
        read_keras(tmp_path / "a.h5")


def test_cut_file_is_refused(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, now)
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="not readable as HDF5 .*; fetch or copy it again"):
        read_keras(tmp_path / "a.h5")
