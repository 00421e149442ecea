"""Find variables behind scopes and as moving averages, on names alone."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from delf_ext.models.checkpoint_names import AVERAGE, Names, find_names, misfit_reason

WANTED = ("net/conv1/weights", "net/conv1/BatchNorm/moving_mean", "net/conv2/weights")


def find(stored: Iterable[str], values: dict[str, float] | None = None) -> Names:
    known = values or {}
    return find_names("a.ckpt", WANTED, list(stored), lambda key: np.array(known.get(key, 0.0)))


def behind(scope: str, ending: str = "") -> dict[str, str]:
    return {name: f"{scope}{name}{ending}" for name in WANTED}


@pytest.mark.parametrize("scope", ["", "siamese/", "model/", "module/", "tower_0/net/"])
def test_scope_in_front_is_found(scope: str):
    stored = [*behind(scope).values(), f"{scope}net/logits/weights", "global_step"]
    assert find(stored) == Names(behind(scope), scope, 0)
    slots = [f"{name}/Momentum" for name in behind(scope).values()]
    assert find([*stored, *slots]) == Names(behind(scope), scope, 0)


@pytest.mark.parametrize("scope", ["", "siamese/"])
def test_moving_averages_are_preferred(scope: str):
    averages = behind(scope, AVERAGE)
    assert find(averages.values()) == Names(averages, scope, 3)
    assert find([*behind(scope).values(), *averages.values()]) == Names(averages, scope, 3)
    # Often only the trainable variables have an average.
    mean = WANTED[1]
    some = {**averages, mean: f"{scope}{mean}"}
    assert find([*behind(scope).values(), *some.values()]) == Names(some, scope, 2)
    repeated = behind(f"{scope}{scope}", AVERAGE)
    assert find([*behind(scope).values(), *repeated.values()]).keys == repeated


def test_missing_variables_have_no_key():
    assert find(WANTED[:2]).keys == dict(zip(WANTED[:2], WANTED[:2]))
    assert find(["other/conv1/weights", "conv1/weights"]) == Names({}, "", 0)
    assert find([]) == Names({}, "", 0)


def test_two_scopes_must_have_the_same_values():
    stored = [*behind("tower_0/").values(), *behind("tower_1/").values()]
    assert find(stored).scope == "tower_0/"
    with pytest.raises(ValueError) as caught:
        find(stored, {"tower_1/net/conv2/weights": 1.0})
    assert str(caught.value) == (
        "a.ckpt: holds the network twice, with different weights, in the scopes tower_0/ and "
        "tower_1/. Save a checkpoint with one of them."
    )
    # The network without a scope is meant, whatever else the checkpoint has.
    assert find([*stored, *WANTED], {"tower_1/net/conv2/weights": 1.0}).scope == ""


@pytest.mark.parametrize(
    ("missing", "stored", "reason"),
    [
        (["net/bn/moving_mean", "net/bn/moving_variance"], WANTED, "it was saved with the train"),
        (WANTED, ["model/conv/.ATTRIBUTES/VARIABLE_VALUE"], "Of a run of this project pass --run"),
        (WANTED, ["x/other/conv1/weights"], "holds other, not net: pass --resnet_type=other."),
        (
            WANTED,
            ["x/conv1/weights"],
            "does not fit the trunk net; choose another with --resnet_ty",
        ),
    ],
)
def test_reason_of_a_misfit(missing: list[str], stored: list[str], reason: str):
    assert reason in misfit_reason("net", missing, stored, ["net", "other"])
