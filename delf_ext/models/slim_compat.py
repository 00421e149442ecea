"""TF-Slim under TensorFlow 2.15: the one place that knows what has to be mended before `import tf_slim`.

tf_slim 1.1.0 reaches TensorFlow's legacy layers through `tensorflow.python.keras`-era names; TF 2.15 resolves those through a
package `tf_keras`, which carries no legacy layers even when it is installed. Keras 2.15 itself still has them.
"""

from __future__ import annotations

import importlib
import sys
import warnings

LEGACY_LAYERS = ("", ".base", ".convolutional", ".core", ".normalization", ".pooling")


def register_legacy_layers() -> None:
    """Makes Keras' own legacy layers known under the name that TF 2.15 asks for. Harmless when called twice."""
    for part in LEGACY_LAYERS:
        wanted = f"tf_keras.legacy_tf_layers{part}"
        if wanted not in sys.modules:
            sys.modules[wanted] = importlib.import_module(f"keras.src.legacy_tf_layers{part}")


register_legacy_layers()

# TF-Slim calls each legacy layer through `layer.apply`, which asks for `layer.updates`: two warnings per layer and trace that
# a user can do nothing about. Filtered for good, not around a call: Keras traces in threads, and filters are the process's.
for method in ("apply", "updates"):
    warnings.filterwarnings(
        "ignore", rf"`layer\.{method}` (is deprecated|will be removed)", UserWarning
    )

import tf_slim as slim  # noqa: E402 - only after the mending
from tf_slim.nets import inception_v3, resnet_utils, resnet_v1, resnet_v2, vgg  # noqa: E402

__all__ = ["inception_v3", "resnet_utils", "resnet_v1", "resnet_v2", "slim", "vgg"]
