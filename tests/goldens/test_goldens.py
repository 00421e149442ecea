"""Compare training, embeddings and rankings with the values that `record.py` recorded."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

# Relative tolerance for another processor. Measured with the recorded engine without oneDNN, and
# with weights changed by 1e-7 of their size: losses differ by at most 5e-5 (nine of ten by 6e-7),
# changes of weights by at most 2e-3 (nine of ten by 1e-5).
LOSS_TOLERANCE = 1e-4
SMALLEST_LOSS = 1e-6
# Relative to the length of the change of a variable. Adam divides a gradient by its own size, so a
# gradient near zero gives a full step in either direction. Among the 64 numbers of a batch norm,
# one such step is a few hundredths of the whole change. So a few variables of a case may miss the
# strict tolerance, but none may miss the loose one.
CHANGE_TOLERANCE = 1e-3
MAX_MISSED = 4
LOOSE_TOLERANCE = 0.05
# Absolute, for embeddings of unit length.
EMBEDDING_TOLERANCE = 1e-5
METRIC_TOLERANCE = 1e-3
# dba gives several neighbours the mean of the same ten images, so their scores differ only in the
# last bit and their order may differ. The steps after dba depend on that order: there, a share of
# the places may hold other images (measured: 3 %).
TIED = 1e-5
SHARE_AFTER_DBA = 0.05

LOSSES = ("logits", "sim", "sim_dist", "max_neg", "triplet")
SIMILARITY_LOSSES = LOSSES[1:]


def _measures() -> ModuleType:
    path = Path(__file__).with_name("measures.py")
    spec = importlib.util.spec_from_file_location("goldens_measures", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _golden(name: str) -> dict[str, Any]:
    return json.loads(Path(__file__).with_name(name).read_text())


measures = _measures()
TRAINED = _golden("mandoo_dual.json")
ZERO_SHOT = _golden("zero_shot.json")
RANKINGS = _golden("rankings.json")


def test_random_inputs_are_those_of_the_record() -> None:
    # If this test fails, all others fail too: they need the same random numbers.
    assert (
        measures.digest(TRAINED["shapes"], measures.TRAINED_PX, measures.STEPS) == TRAINED["digest"]
    )
    assert measures.digest(ZERO_SHOT["shapes"], measures.ZERO_SHOT_PX, 1) == ZERO_SHOT["digest"]
    assert TRAINED["end_point"] == measures.TRAINED_END_POINT
    assert ZERO_SHOT["end_point"] == measures.ZERO_SHOT_END_POINT


@pytest.mark.parametrize("name", TRAINED["cases"])
def test_three_training_steps_give_the_recorded_losses_and_changes(name: str) -> None:
    case = TRAINED["cases"][name]
    measured = measures.trained(case["flags"], case["num_classes"])
    assert set(measured["losses"]) == set(case["losses"])
    for loss, values in case["losses"].items():
        np.testing.assert_allclose(
            measured["losses"][loss], values, rtol=LOSS_TOLERANCE, atol=SMALLEST_LOSS, err_msg=loss
        )
    assert set(measured["changes"]) == set(case["changes"])
    errors = {}
    for role, (projection, length) in case["changes"].items():
        if length == 0:
            assert measured["changes"][role] == [0, 0], f"{role} must not change"
            continue
        measured_projection, measured_length = measured["changes"][role]
        errors[role] = (
            max(abs(measured_projection - projection), abs(measured_length - length)) / length
        )
    missed = {role: error for role, error in errors.items() if error > CHANGE_TOLERANCE}
    assert len(missed) <= MAX_MISSED and max(errors.values()) <= LOOSE_TOLERANCE, missed


def _largest_gradients(losses: tuple[str, ...], **flags: Any) -> dict[str, dict[str, float]]:
    flags = {**flags, **{f"train_{name}": True for name in losses}}
    built = measures.engine.build(flags, measures.inputs.NUM_CLASSES, measures.TRAINED_END_POINT)
    return built.largest_gradients(*measures.inputs.batch(0))


@pytest.mark.parametrize(
    ("losses", "switches"),
    [
        (LOSSES, ()),
        (LOSSES, ("skipcon_attn",)),
        (LOSSES, ("logit_concat_sim",)),
        (LOSSES, ("skipcon_attn", "logit_concat_sim")),
        (SIMILARITY_LOSSES, ()),
        (SIMILARITY_LOSSES, ("skipcon_attn",)),
    ],
    ids=lambda names: "+".join(names) or "plain",
)
def test_stop_gradient_sim_makes_gradients_exactly_zero(
    losses: tuple[str, ...], switches: tuple[str, ...]
) -> None:
    flags = dict.fromkeys(switches, True)
    # With --stop_gradient_sim, similarity losses alone are accepted only with a frozen trunk.
    frozen = {"freeze_backbone": "logits" not in losses}
    stopped = _largest_gradients(losses, stop_gradient_sim=True, **flags, **frozen)
    joint = _largest_gradients(losses, **flags)
    assert set(stopped) == set(joint) == set(losses)
    for loss in SIMILARITY_LOSSES:
        unreached = set() if "logit_concat_sim" in switches else {"logits"}
        assert _parts_reached(joint[loss]) == set(joint[loss]) - unreached
        assert _parts_reached(stopped[loss]) == {"similarity"}
    if "logits" in losses:
        for gradients in (stopped, joint):
            assert _parts_reached(gradients["logits"]) == {"trunk", "attention", "logits"}


def _parts_reached(gradients: dict[str, float]) -> set[str]:
    return {part for part, largest in gradients.items() if largest != 0}


@pytest.mark.parametrize("pooling", ZERO_SHOT["embeddings"])
def test_zero_shot_embeddings_are_those_of_the_record(pooling: str) -> None:
    measured = measures.zero_shot_embeddings(pooling)
    np.testing.assert_allclose(
        measured, ZERO_SHOT["embeddings"][pooling], rtol=0, atol=EMBEDDING_TOLERANCE
    )


def test_zero_shot_metrics_are_those_of_the_record(tmp_path: Path) -> None:
    measured = measures.zero_shot_metrics(tmp_path / "products")
    assert measured == pytest.approx(ZERO_SHOT["metrics"], abs=METRIC_TOLERANCE)


@pytest.mark.parametrize("chain", RANKINGS["chains"], ids=lambda chain: chain or "plain search")
def test_rankings_are_those_of_the_record(chain: str) -> None:
    golden = RANKINGS["chains"][chain]
    measured = measures.reranked(chain)
    queries = zip(
        golden["rows"], golden["scores"], measured["rows"], measured["scores"], strict=True
    )
    differences = np.array([_other_places(*map(np.array, places)) for places in queries])
    assert differences.mean() <= (SHARE_AFTER_DBA if chain.startswith("dba:10,") else 0)


def _other_places(
    rows: np.ndarray, scores: np.ndarray, measured_rows: np.ndarray, measured_scores: np.ndarray
) -> list[bool]:
    """Return for each place of a query whether its score or image differs.

    Images of equal score may change places. At the last score, images behind it may replace them.
    """
    tied = np.isclose(scores[:, None], scores, rtol=TIED, atol=TIED)
    right = (tied & (measured_rows[:, None] == rows)).any(axis=1) | tied[:, -1]
    return (~right | ~np.isclose(measured_scores, scores, rtol=TIED, atol=TIED)).tolist()


def test_geometric_verification_by_sift(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    assert measures.verified(tmp_path) == RANKINGS["sift"]
