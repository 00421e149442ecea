"""Learning rate over the steps of a run."""

from __future__ import annotations

import tensorflow as tf


def learning_rate(base: float, schedule: str, total_steps: int) -> float | tf.keras.optimizers.schedules.LearningRateSchedule:
    """ "constant" (the original), or "cosine" down to zero at the last step (Loshchilov & Hutter, arXiv:1608.03983)."""
    if schedule == "cosine":
        return tf.keras.optimizers.schedules.CosineDecay(base, total_steps)
    return base
