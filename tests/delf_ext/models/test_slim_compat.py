"""Test TF-Slim with and without the repairs, each in a new process because they are permanent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BATCH_NORM = (
    "import tensorflow as tf; print('shape', slim.batch_norm(tf.zeros([1, 2, 2, 3])).shape)"
)
WITHOUT = f"import tf_slim as slim; {BATCH_NORM}"
WITH = f"""
import sys
from delf_ext.models.slim_compat import register_legacy_layers, slim
before = dict(sys.modules)
register_legacy_layers()
print('idempotent', before == dict(sys.modules))
{BATCH_NORM}
import warnings
from delf_ext.models.trunks.slim import SlimTrunk
backbone = SlimTrunk('resnet_v1_50/block1')
backbone(tf.zeros([1, 32, 32, 3]), training=True)
tf.function(lambda images: backbone(images, training=True))(tf.zeros([2, 32, 32, 3]))
class Fitted(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.trunk = backbone
    def call(self, images, training=False):
        features = self.trunk(images, training=training)['resnet_v1_50/block1']
        return tf.reduce_mean(features, [1, 2, 3])
fitted = Fitted()
fitted.compile('sgd', 'mse')
fitted.fit(tf.zeros([2, 32, 32, 3]), tf.zeros([2]), verbose=0)
warnings.warn('`layer.call` is another thing')
print('done')
"""


def run(root: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-W", "always::UserWarning", "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=root, check=False
    )


def test_batch_norm_fails_without_the_repairs(root: Path):
    found = run(root, WITHOUT)
    assert found.returncode != 0 and "tf_keras" in found.stderr


@pytest.fixture(scope="module")
def repaired(root: Path) -> subprocess.CompletedProcess[str]:
    found = run(root, WITH)
    assert found.returncode == 0, found.stderr
    return found


def test_repairs_make_batch_norm_work_and_are_idempotent(
    repaired: subprocess.CompletedProcess[str],
):
    assert "shape (1, 2, 2, 3)" in repaired.stdout
    assert "idempotent True" in repaired.stdout


def test_building_tracing_and_fitting_do_not_warn_of_layer_apply(
    repaired: subprocess.CompletedProcess[str],
):
    assert "done" in repaired.stdout
    assert "layer.apply" not in repaired.stderr and "layer.updates" not in repaired.stderr
    assert "`layer.call` is another thing" in repaired.stderr
