"""Print figures to the terminal."""

from __future__ import annotations

import math
from typing import Any

from data_io.messages import skipped_lines

MAIN_METRICS = {"mAP": "mAP", "recall_at_1": "R@1"}


def show_figures(result: dict[str, Any]) -> None:
    """Print the figures of one model, first mAP and R@1 with their intervals.

    Args:
        result: the figures that `evaluate` writes to --json.
    """
    interval = f"95 % bootstrap over {result['num_queries']} queries, seed {result['seed']}"
    for name, title in MAIN_METRICS.items():
        low, high = result[f"{name}_ci95"]
        print(f"{title:<20} {result[name]:.4f}  [{low:.4f}, {high:.4f}] {interval}")
    for name, value in result["metrics"].items():
        if name in MAIN_METRICS or math.isnan(value):
            continue
        text = str(int(value)) if name.startswith("num_") else f"{value:.4f}"
        print(f"{name:<20} {text}")
    for group, figures in result.get("groups", {}).items():
        print(
            f"group {group}: mAP {figures['mAP']:.4f}, R@1 {figures['recall_at_1']:.4f}, "
            f"{int(figures['num_queries'])} queries"
        )
    for line in skipped_lines(result["skipped"]):
        print(line)
