"""Record the goldens with the current code: `python tests/goldens/record.py`.

Run it before you change the code. Never run it to make a failing test pass: the tests compare all
later code with these values.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).resolve().parent
LOSSES = ("logits", "sim", "sim_dist", "max_neg", "triplet")
# With a learning rate of 1e-3, a difference in the last bit grows to the fourth digit of a loss
# within three steps of Adam; with 3e-4 only to the sixth. The decay of 0.9 makes the batch
# statistics change visibly within three steps.
USUAL = {"lr": 3e-4, "batch_norm_decay": 0.9}
CHAINS = (
    "",
    "aqe:5@3",
    "dba:10",
    "k_reciprocal:20,6,0.3",
    "diffusion:20,100",
    "dba:10,aqe:5@3,k_reciprocal",
)
SIGNIFICANT_DIGITS = 8


def load_measures() -> ModuleType:
    """Load measures.py, and with it the engine of this repository."""
    sys.path.insert(0, str(FOLDER.parents[1]))
    spec = importlib.util.spec_from_file_location("goldens_measures", FOLDER / "measures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cases() -> dict[str, dict[str, Any]]:
    """Return name -> flags of all command lines that are trained."""
    subsets = [subset for size in range(1, 6) for subset in itertools.combinations(LOSSES, size)]
    both = _flags("logits", "sim")
    all_five = _flags(*LOSSES)
    weights = dict(
        zip((f"{name}_weight" for name in LOSSES), (0.5, 2.0, 3.0, 0.25, 1.5), strict=True)
    )
    named = {"+".join(subset): _flags(*subset) for subset in subsets}
    for subset in subsets:
        if subset[0] == "logits" and len(subset) > 1:
            named["+".join(subset) + " stop"] = {**_flags(*subset), "stop_gradient_sim": True}
    switches = {"skip": "skipcon_attn", "concat": "logit_concat_sim", "stop": "stop_gradient_sim"}
    for size in (1, 2, 3):
        for names in itertools.combinations(switches, size):
            name = " ".join(("logits+sim", *names))
            named.setdefault(name, {**both, **{switches[switch]: True for switch in names}})
    others = {
        "frozen batch norm": {**both, "freeze_batch_norm": True},
        "weight decay": {**both, "weight_decay": 1e-3},
        # The smaller weight decay has hardly any effect within three steps.
        "much weight decay": {**both, "weight_decay": 0.1},
        "one learning rate": {**both, "classifier_lr_factor": 1.0},
        "frozen trunk": {**both, "freeze_backbone": True},
        "frozen trunk, sim alone, stop": {
            **_flags("sim"),
            "freeze_backbone": True,
            "stop_gradient_sim": True,
        },
        "weights": {**all_five, **weights},
        "top 2, margin 0.1": {**all_five, "train_max_neg_topk": 2, "margin": 0.1},
    }
    return named | others


def _flags(*losses: str) -> dict[str, Any]:
    return {**USUAL, **{f"train_{name}": True for name in losses}}


def record() -> None:
    """Measure everything and write the three files."""
    measures = load_measures()
    _write("mandoo_dual.json", _trained(measures))
    _write("zero_shot.json", _zero_shot(measures))
    _write("rankings.json", _rankings(measures))


def _trained(measures: ModuleType) -> dict[str, Any]:
    num_classes = measures.inputs.NUM_CLASSES
    shapes = set()
    trained = {}
    for name, flags in cases().items():
        shapes |= set(measures.shapes(flags, num_classes))
        trained[name] = {
            "flags": flags,
            "num_classes": num_classes,
            **measures.trained(flags, num_classes),
        }
    digest = measures.digest(sorted(shapes), measures.TRAINED_PX, measures.STEPS)
    head = {"shapes": sorted(shapes), "digest": digest}
    return {**head, "end_point": measures.TRAINED_END_POINT, "cases": trained}


def _zero_shot(measures: ModuleType) -> dict[str, Any]:
    shapes = sorted(measures.zero_shot_shapes())
    head = {"shapes": shapes, "digest": measures.digest(shapes, measures.ZERO_SHOT_PX, 1)}
    embeddings = {pooling: measures.zero_shot_embeddings(pooling) for pooling in measures.POOLINGS}
    with tempfile.TemporaryDirectory() as folder:
        metrics = measures.zero_shot_metrics(Path(folder))
    return {
        **head,
        "end_point": measures.ZERO_SHOT_END_POINT,
        "embeddings": embeddings,
        "metrics": metrics,
    }


def _rankings(measures: ModuleType) -> dict[str, Any]:
    chains = {chain: measures.reranked(chain) for chain in CHAINS}
    with tempfile.TemporaryDirectory() as folder:
        return {"chains": chains, "sift": measures.verified(Path(folder))}


def _write(name: str, golden: Mapping[str, Any]) -> None:
    """Write a mapping as JSON; each entry, also of an inner mapping, gets its own line."""
    lines = []
    for key, value in golden.items():
        if isinstance(value, Mapping):
            inner = ",\n".join(
                f"{json.dumps(key)}:{_compact(entry)}" for key, entry in value.items()
            )
            lines.append(f"{json.dumps(key)}:{{\n{inner}\n}}")
        else:
            lines.append(f"{json.dumps(key)}:{_compact(value)}")
    (FOLDER / name).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _compact(value: Any) -> str:
    return json.dumps(_rounded(value), separators=(",", ":"))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, (list, tuple)) else value


if __name__ == "__main__":
    record()
