"""Stop a training whose numbers are not finite, before it saves them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tensorflow as tf


class NotFinite(ValueError):
    """A loss or a weight is NaN or infinite: training cannot continue from this state."""


def remedies(run_dir: Path) -> str:
    """Return a sentence that names what helps most often."""
    return (
        f"Likely remedies: a new run with a smaller learning rate (--from_run={run_dir} starts it "
        "from the good weights); labels and images without errors; --mixed_precision=off."
    )


def first_not_finite(variables: Mapping[str, tf.Variable]) -> str:
    """Return the name of the first variable with NaN or Inf; "" if all numbers are finite."""
    floats = {name: value for name, value in variables.items() if value.dtype.is_floating}
    if not floats:
        return ""
    # One transfer from the device, not one for each variable.
    finite = _are_finite(list(floats.values())).numpy()
    return next((name for name, good in zip(floats, finite, strict=True) if not good), "")


def _are_finite(values: Sequence[tf.Variable]) -> tf.Tensor:
    return tf.stack([tf.reduce_all(tf.math.is_finite(value)) for value in values])


def require_finite_losses(
    losses: Mapping[str, float], step: int, advice: Callable[[], str]
) -> None:
    """Check the losses of an epoch so far.

    Args:
        losses: means by name.
        step: number of the step that ended.
        advice: returns sentences about the last good checkpoint and the remedies.

    Raises:
        NotFinite: one of them is NaN or infinite.
    """
    if all(math.isfinite(value) for value in losses.values()):
        return
    shown = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    raise NotFinite(f"training stopped at step {step}: {shown}. {advice()}")
