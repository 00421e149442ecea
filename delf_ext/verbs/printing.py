"""Results to lines on the screen."""

from __future__ import annotations

import math
from typing import Any


def show_figures(result: dict[str, Any]) -> None:
    """Print the figures of one model: mAP and R@1 with their intervals first."""
    over = f"95 % bootstrap over {result['num_queries']} queries, seed {result['seed']}"
    for title, name in (("mAP", "mAP"), ("R@1", "recall_at_1")):
        low, high = result[f"{name}_ci95"]
        print(f"{title:<20} {result[name]:.4f}  [{low:.4f}, {high:.4f}] {over}")
    for name, value in result["metrics"].items():
        if name not in ("mAP", "recall_at_1") and not math.isnan(value):
            print(
                f"{name:<20} {value:.4f}"
                if not name.startswith("num_")
                else f"{name:<20} {int(value)}"
            )
    for group, part in result.get("groups", {}).items():
        print(
            f"group {group}: mAP {part['mAP']:.4f}, R@1 {part['recall_at_1']:.4f}, {int(part['num_queries'])} queries"
        )
    for path, reason in result["skipped"][:5]:
        print(f"skipped {path}: {reason}")
    if result["num_skipped"]:
        print(f"skipped {result['num_skipped']} files in all")
