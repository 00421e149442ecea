"""Test the switch of bfloat16 arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tensorflow as tf

from delf_ext.models import precision

OPTION = "auto_mixed_precision_onednn_bfloat16"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = tf.config.optimizer.get_experimental_options().get(OPTION, False)
    precision._applied = None
    yield
    precision._applied = None
    tf.config.optimizer.set_experimental_options({OPTION: before})


@pytest.mark.parametrize(
    ("choice", "has_bfloat16", "chosen"),
    [
        ("off", True, "off"),
        ("bfloat16", False, "bfloat16"),
        ("auto", True, "bfloat16"),
        ("auto", False, "off"),
    ],
)
def test_choice_is_applied_and_returned(
    monkeypatch: pytest.MonkeyPatch,
    choice: str,
    has_bfloat16: bool,
    chosen: str,
):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: has_bfloat16)
    assert precision.set_mixed_precision(choice) == chosen
    assert tf.config.optimizer.get_experimental_options()[OPTION] is (chosen == "bfloat16")


def test_tensorflow_is_set_only_if_the_choice_changes(monkeypatch: pytest.MonkeyPatch):
    # Each call of TensorFlow's switch empties its caches.
    applied: list[dict[str, bool]] = []
    monkeypatch.setattr(tf.config.optimizer, "set_experimental_options", applied.append)
    for choice in ("off", "off", "bfloat16", "bfloat16", "off"):
        precision.set_mixed_precision(choice)
    assert [options[OPTION] for options in applied] == [False, True, False]


def test_unknown_choice_raises_value_error():
    with pytest.raises(
        ValueError, match=r"unknown --mixed_precision=float16\. Known: auto, off, bfloat16\."
    ):
        precision.set_mixed_precision("float16")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : avx2 avx512_bf16", True),
        ("flags : amx_bf16 amx_tile", True),
        ("flags : avx2 avx512f", False),
        (None, False),
    ],
)
def test_auto_means_bfloat16_only_if_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch,
    flags: str | None,
    expected: bool,
):
    def read_text(_: object) -> str:
        if flags is None:
            raise FileNotFoundError("/proc/cpuinfo")
        return flags

    monkeypatch.setattr(precision.Path, "read_text", read_text)
    assert precision.cpu_has_bfloat16() is precision.uses_bfloat16("auto") is expected
    assert precision.uses_bfloat16("bfloat16") and not precision.uses_bfloat16("off")
