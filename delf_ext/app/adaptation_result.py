"""Define the result of `mandoo adapt`: the new run, and the table that led to it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from delf_ext.app.head_choice import NO_HEAD, Choice
from delf_ext.evaluation.comparison import format_table, p_text
from delf_ext.recipes import codec
from delf_ext.runs.records import Run
from delf_ext.runs.run_directory import jsonable
from delf_ext.runs.sources import RunSource


@dataclass(frozen=True, eq=False)
class Adaptation:
    """Result of `adapt`.

    Attributes:
        run: the new run directory.
        choice: the cross-validation, and what was chosen.
        num_images: photographs that were used.
        seconds: time of cross-validation and fit, without embedding.
    """

    run: Run
    choice: Choice
    num_images: int
    seconds: float

    @property
    def source(self) -> RunSource:
        """Argument for `open_model`."""
        return RunSource(str(self.run.path))

    def __str__(self) -> str:
        """Return the table, and below it what was chosen and why."""
        return f"{format_table(self.choice.rows)}\n{self.verdict}"

    @property
    def verdict(self) -> str:
        """A line that says what was chosen and why."""
        return verdict_of(self.choice, self.num_images)


def verdict_of(choice: Choice, num_images: int) -> str:
    """Return a line that says what was chosen and why.

    Args:
        choice: what was tried and chosen.
        num_images: number of photographs that it is fitted on.
    """
    if choice.reduction is not None:
        gap = choice.row(choice.kind).difference
        assert gap is not None
        return (
            f"chosen: {choice.title(choice.kind)}, mAP {gap.mean:+.4f} "
            f"(p {p_text(gap.p_value)}); fitted on all {num_images} photographs"
        )
    best = max(choice.rows[1:], key=lambda row: row.mean_average_precision)
    gap = best.difference
    assert gap is not None
    reason = "which may be chance" if gap.mean > 0 else "which is no better"
    if best.name not in map(choice.title, choice.near):
        reason = "but photographs that it has not seen are not clearly nearer to their product"
    return (
        f"chosen: no head. The best one, {best.name}, changes the mAP by {gap.mean:+.4f} "
        f"(p {p_text(gap.p_value)}), {reason}: the run embeds like its base model"
    )


def figures_of(choice: Choice, question: str, data_name: str, seed: int) -> dict[str, Any]:
    """Return the cross-validation as JSON data.

    Args:
        choice: what was tried and chosen.
        question: what the head was chosen for.
        data_name: name or path of the data.
        seed: seed of folds and bootstrap.

    Returns:
        The rows of the table, and the mAP of each candidate.
    """
    return {
        "question": question,
        "data": data_name,
        "seed": seed,
        "chosen": choice.kind,
        "reduction": codec.to_json(choice.reduction),
        "no_head": NO_HEAD,
        "rows": jsonable([dataclasses.asdict(row) for row in choice.rows]),
        "candidates": [
            {"kind": kind, "reduction": codec.to_json(reduction), "mAP": score}
            for kind, reduction, score in choice.tried
        ],
    }
