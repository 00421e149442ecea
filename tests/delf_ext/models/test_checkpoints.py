"""Test loading by name: both formats, misfits that change nothing, one-line errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.models.checkpoints import LoadReport, load_by_name, open_checkpoint
from delf_ext.models.trunks.slim import SlimTrunk
from pretrained.convert import convert, write_checkpoint

DATA, INDEX = ".data-00000-of-00001", ".index"


def new_trunk(endpoint: str = "resnet_v1_50/block1", layout: str = "slim") -> SlimTrunk:
    trunk = SlimTrunk(endpoint, layout)
    trunk(tf.zeros([1, 64, 64, 3]))
    return trunk


def values_of(trunk: SlimTrunk) -> dict[str, np.ndarray]:
    return {variable.name.removesuffix(":0"): variable.numpy() for variable in trunk.variables}


def is_same(values: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return values.keys() == expected.keys() and all(
        np.array_equal(values[name], expected[name]) for name in values
    )


def write_v1(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write a single-file checkpoint, as TF-Slim's models were published in 2016."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [
            tf.compat.v1.get_variable(name, initializer=value) for name, value in tensors.items()
        ]
        session.run([variable.initializer for variable in variables])
        saver = tf.compat.v1.train.Saver(variables, write_version=tf.compat.v1.train.SaverDef.V1)
        saver.save(session, str(path), write_meta_graph=False, write_state=False)


@pytest.fixture(scope="module")
def trunk() -> SlimTrunk:
    return new_trunk()


@pytest.fixture(scope="module")
def tensors(trunk: SlimTrunk) -> dict[str, np.ndarray]:
    """Return values for each variable of the trunk, and for two that it does not have."""
    rng = np.random.default_rng(0)
    wanted = {
        name: np.abs(rng.normal(size=value.shape)).astype(np.float32)
        for name, value in values_of(trunk).items()
    }
    return wanted | {
        "resnet_v1_50/logits/biases": np.ones(3, np.float32),
        "global_step": np.array(7, np.int64),
    }


@pytest.mark.parametrize("write", [write_v1, write_checkpoint], ids=["V1", "V2"])
def test_both_formats_load_the_same_values_and_report(
    tmp_path: Path,
    trunk: SlimTrunk,
    tensors,
    write: Callable,
):
    path = tmp_path / "resnet_v1_50.ckpt"
    write(path, tensors)
    assert path.is_file() is (write is write_v1)
    for variable in trunk.variables:
        variable.assign(tf.zeros_like(variable))
    report = trunk.load(str(path))
    unused = ("global_step", "resnet_v1_50/logits/biases")
    assert is_same(
        values_of(trunk), {name: value for name, value in tensors.items() if name not in unused}
    )
    assert report == LoadReport(str(path), tuple(sorted(values_of(trunk))), (), unused, ())
    assert str(report) == (
        f"{path}: 55 variables matched, 0 missing, 2 unused, 0 of another shape\n"
        "  unused: global_step, resnet_v1_50/logits/biases"
    )


def test_float16_checkpoint_loads_as_float32(tmp_path: Path, trunk: SlimTrunk, tensors):
    write_checkpoint(
        tmp_path / "half.ckpt", {name: value.astype(np.float16) for name, value in tensors.items()}
    )
    trunk.load(f"{tmp_path}/half.ckpt.index")
    name = "resnet_v1_50/conv1/weights"
    assert np.array_equal(
        values_of(trunk)[name], tensors[name].astype(np.float16).astype(np.float32)
    )


SHORTCUT = "resnet_v1_50/block1/unit_1/bottleneck_v1/shortcut/weights"


@pytest.mark.parametrize(
    ("change", "counts", "named"),
    [
        (
            lambda tensors: {k: v for k, v in tensors.items() if k != SHORTCUT},
            "54 variables matched, 1 missing, 2 unused, 0 of another shape",
            f"  missing: {SHORTCUT}",
        ),
        (
            lambda tensors: tensors | {SHORTCUT: tensors[SHORTCUT][:, :, :9]},
            "54 variables matched, 0 missing, 2 unused, 1 of another shape",
            f"  of another shape: {SHORTCUT}",
        ),
        (
            lambda tensors: {f"other_{k}": v for k, v in tensors.items()},
            "0 variables matched, 55 missing, 57 unused, 0 of another shape",
            "bottleneck_v1/conv1/BatchNorm/moving_variance, ",
        ),
    ],
    ids=["missing", "other shape", "other network"],
)
def test_misfit_raises_value_error_and_changes_no_variable(
    tmp_path: Path, trunk: SlimTrunk, tensors, change: Callable, counts: str, named: str
):
    path = tmp_path / "other.ckpt"
    write_checkpoint(path, change(tensors))
    before = values_of(trunk)
    with pytest.raises(ValueError) as caught:
        trunk.load(str(path))
    message = str(caught.value)
    assert message.startswith(
        f"{path} does not fit the trunk resnet_v1_50; choose another with --resnet_type.\n"
    )
    assert counts in message and named in message
    assert ("and 50 more" in message) is counts.startswith("0 ")
    assert is_same(values_of(trunk), before)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    path.write_bytes(content)


def cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            lambda prefix: cut(Path(f"{prefix}{DATA}"), 1000),
            "damaged (Read less bytes than requested)",
        ),
        (lambda prefix: flip(Path(f"{prefix}{DATA}"), 100), "Checksum does not match"),
        (lambda prefix: cut(Path(f"{prefix}{INDEX}"), 50), "not a readable TensorFlow checkpoint"),
        (
            lambda prefix: Path(f"{prefix}{INDEX}").write_bytes(b""),
            "not a readable TensorFlow checkpoint (file is too short",
        ),
    ],
    ids=["data cut", "data flipped", "index cut", "index empty"],
)
def test_damaged_v2_checkpoint_raises_one_line(
    tmp_path: Path,
    trunk: SlimTrunk,
    tensors,
    damage: Callable,
    reason: str,
):
    prefix = tmp_path / "bad.ckpt"
    write_checkpoint(prefix, tensors)
    damage(prefix)
    assert_refused(trunk, prefix, reason)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: cut(path, 3000), "not a TensorFlow checkpoint, or only the first part"),
        (lambda path: flip(path, path.stat().st_size // 2), "damaged ("),
        (lambda path: path.write_bytes(b""), "is empty (0 bytes): the download or copy failed"),
    ],
    ids=["cut", "flipped", "empty"],
)
def test_damaged_v1_checkpoint_raises_one_line(
    tmp_path: Path,
    trunk: SlimTrunk,
    tensors,
    damage: Callable,
    reason: str,
):
    path = tmp_path / "bad.ckpt"
    write_v1(path, tensors)
    damage(path)
    assert_refused(trunk, path, reason)


def assert_refused(trunk: SlimTrunk, path: Path, reason: str) -> None:
    before = values_of(trunk)
    with pytest.raises(ValueError) as caught:
        trunk.load(str(path))
    message = str(caught.value)
    assert (
        message.startswith(f"{path}: ")
        and reason in message
        and message.lower().endswith(
            ("; fetch or copy it again.", ". fetch it again.", ". fetch or copy it again.")
        )
    )
    assert "\n" not in message
    assert is_same(values_of(trunk), before)


def test_missing_checkpoint_error_names_those_in_the_folder(tmp_path: Path):
    write_checkpoint(tmp_path / "new.ckpt", {"x": np.zeros(3, np.float32)})
    write_v1(tmp_path / "old.ckpt", {"x": np.zeros(3, np.float32)})
    for path in (tmp_path / "resnet.ckpt", tmp_path / "any"):
        with pytest.raises(ValueError) as caught:
            open_checkpoint(path)
        assert (
            str(caught.value) == f"{path}: no such checkpoint. In that folder: new.ckpt, old.ckpt."
        )
    with pytest.raises(ValueError) as caught:
        open_checkpoint(tmp_path / "absent" / "resnet.ckpt")
    assert str(caught.value).endswith(
        f"There is no folder {tmp_path / 'absent'}. "
        "`python -m pretrained.fetch --list` lists the weights that can be "
        "downloaded; lite0, lite1 and lite2 name those of the extra [lite]."
    )


@pytest.mark.parametrize("scope", ["", "siamese/"])
def test_moving_averages_behind_a_scope_are_loaded_and_reported(
    tmp_path: Path, trunk: SlimTrunk, tensors, scope: str
):
    path = tmp_path / "ema.ckpt"
    raw = {f"{scope}{name}": np.zeros_like(value) for name, value in tensors.items()}
    averages = {f"{scope}{name}/ExponentialMovingAverage": value for name, value in tensors.items()}
    write_checkpoint(path, raw | averages)
    report = trunk.load(str(path))
    loaded = values_of(trunk)
    assert is_same(loaded, {name: tensors[name] for name in loaded})
    assert (report.scope, report.num_averages) == (scope, 55)
    text = str(report)
    assert "moving averages (ExponentialMovingAverage) are used for 55 of 55 variables" in text
    assert ("names in the checkpoint begin with the scope siamese/" in text) is bool(scope)


@pytest.mark.parametrize("write", [write_v1, write_checkpoint], ids=["V1", "V2"])
@pytest.mark.parametrize(
    ("part", "value", "fault"),
    [
        ("conv1/BatchNorm/moving_variance", np.nan, "64 of 64 numbers are NaN"),
        ("conv1/BatchNorm/moving_variance", -1.0, "64 of 64 numbers are negative"),
        ("conv1/weights", np.inf, "1 of 9408 numbers are infinite"),
    ],
)
def test_numbers_that_are_not_finite_are_refused_and_named(
    tmp_path: Path, trunk: SlimTrunk, tensors, write: Callable, part: str, value: float, fault: str
):
    path = tmp_path / "bad.ckpt"
    name = f"resnet_v1_50/{part}"
    bad = tensors[name].copy()
    bad.flat[0 if "variance" not in part else slice(None)] = value
    write(path, {**tensors, name: bad})
    before = values_of(trunk)
    with pytest.raises(ValueError) as caught:
        trunk.load(str(path))
    assert str(caught.value).startswith(f"{path}: {name}: {fault}. The training")
    assert is_same(values_of(trunk), before)


def test_trunk_without_variables_fails_an_assertion(tmp_path: Path):
    write_checkpoint(tmp_path / "a.ckpt", {"x": np.zeros(3, np.float32)})
    with pytest.raises(AssertionError, match="after its first call"):
        SlimTrunk().load(str(tmp_path / "a.ckpt"))


def test_load_by_name_works_for_any_variables(tmp_path: Path):
    write_checkpoint(tmp_path / "a.ckpt", {"scope/x": np.arange(3, dtype=np.float32)})
    variable = tf.Variable(tf.zeros([3]), name="scope/x")
    assert load_by_name([variable], tmp_path / "a.ckpt", "mine").matched == ("scope/x",)
    assert variable.numpy().tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="a.ckpt does not fit the trunk mine; choose another"):
        load_by_name([tf.Variable(0.0, name="y")], tmp_path / "a.ckpt", "mine")


def test_converted_torchvision_weights_give_torchvision_logits(
    tmp_path: Path,
    twins: ModuleType,
    images: np.ndarray,
):
    state = twins.random_state_dict()
    np.savez(tmp_path / "torchvision.npz", **state)
    info = convert(tmp_path / "torchvision.npz", tmp_path / "converted.ckpt")
    trunk = new_trunk("resnet_v1_50", info.layout)
    report = trunk.load(str(tmp_path / "converted.ckpt"))
    assert report.unused == ("resnet_v1_50/logits/biases", "resnet_v1_50/logits/weights")
    pooled = trunk(images)[trunk.endpoint].numpy().mean((1, 2))
    logits = pooled @ state["fc.weight"].T + state["fc.bias"]
    assert twins.relative_difference(logits, twins.torchvision_forward(state, images)) < 1e-4


def test_values_that_are_not_used_are_not_listed_by_tensorflow(caplog: pytest.LogCaptureFixture):
    log = tf.get_logger()
    log.warning("Value in checkpoint could not be found in the restored object: (root).step")
    log.warning("Detecting that an object or model or tf.train.Checkpoint is being deleted")
    log.error("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]
