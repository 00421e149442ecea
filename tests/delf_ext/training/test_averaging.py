"""Check averages of weights against loops in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.recipes.schema import Averaging, Ema, Swa
from delf_ext.training.averaging import Averages

STATES = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


def made(config: Averaging) -> tuple[tf.Variable, Averages]:
    weight = tf.Variable(STATES[0])
    return weight, Averages(config, {"w": weight, "step": tf.Variable(7)})


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_ema_equals_a_loop(decay: float):
    """Source: tf.train.ExponentialMovingAverage, with `num_updates`."""
    weight, averages = made(Ema(decay))
    add = tf.function(averages.add)
    expected = STATES[0].astype(np.float64)
    for number, state in enumerate(STATES[1:], start=1):
        weight.assign(state)
        add()
        kept = min(decay, (1 + number) / (10 + number))
        expected = kept * expected + (1 - kept) * state
        np.testing.assert_allclose(averages.values["w"], expected, rtol=1e-5)
    assert list(averages.values) == ["w"] and averages.adds_updates


def test_swa_is_the_mean_after_its_epochs():
    """After epochs 3, 5 and 7 (arXiv:1803.05407, algorithm 1); before, the weights themselves."""
    weight, averages = made(Swa(start_epoch=3, every_epochs=2))
    for epoch, state in enumerate(STATES[1:], start=1):
        weight.assign(state)
        averages.epoch_ended(epoch)
        averages.refresh()
        chosen = [row for row in (3, 5, 7) if row <= epoch] or [epoch]
        np.testing.assert_allclose(averages.values["w"], STATES[chosen].mean(0), rtol=1e-5)
    assert not averages.adds_updates


def test_weights_come_back_after_the_averages_were_applied():
    weight, averages = made(Ema(0.5))
    weight.assign(STATES[1])
    averages.add()
    with pytest.raises(KeyError), averages.applied():
        np.testing.assert_array_equal(weight, averages.values["w"])
        raise KeyError
    np.testing.assert_array_equal(weight, STATES[1])
