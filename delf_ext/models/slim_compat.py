"""Import TF-Slim under TensorFlow 2.15, which needs two repairs.

tf_slim 1.1.0 finds TensorFlow's legacy layers by names from before Keras 2.15. TensorFlow 2.15
looks for them in the package `tf_keras`, which has no legacy layers even if it is installed. Keras
2.15 itself still has them.
"""

from __future__ import annotations

import importlib
import sys
import warnings

LEGACY_LAYERS = ("", ".base", ".convolutional", ".core", ".normalization", ".pooling")


def register_legacy_layers() -> None:
    """Make Keras' legacy layers importable by the names that TensorFlow 2.15 uses."""
    for part in LEGACY_LAYERS:
        wanted = f"tf_keras.legacy_tf_layers{part}"
        if wanted not in sys.modules:
            sys.modules[wanted] = importlib.import_module(f"keras.src.legacy_tf_layers{part}")


register_legacy_layers()

# TF-Slim calls each legacy layer through `layer.apply`, which reads `layer.updates`: two warnings
# per layer and trace that a user cannot act on. The filter is permanent, because Keras traces in
# threads, and filters belong to the whole process.
for method in ("apply", "updates"):
    warnings.filterwarnings(
        "ignore", rf"`layer\.{method}` (is deprecated|will be removed)", UserWarning
    )

import tf_slim as slim  # noqa: E402 - only after the repairs
from tf_slim.nets import inception_v3, resnet_utils, resnet_v1, resnet_v2, vgg  # noqa: E402

__all__ = ["inception_v3", "resnet_utils", "resnet_v1", "resnet_v2", "slim", "vgg"]
