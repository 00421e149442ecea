"""Define the recipe of `make demo`: the dual head, trained on two cores within minutes.

The trunk is EfficientNet-Lite0 with ImageNet weights, up to its last map of stride 16, where small
print still has its place. Its lower blocks are not trained: they take the most time, and training
them helped little. Batch norm uses the stored statistics, so frozen blocks do not change.
"""

from __future__ import annotations

import dataclasses

from delf_ext.recipes import schema
from delf_ext.recipes.mandoo_dual import from_flags

FROZEN = ("trunk/stem", "trunk/block1", "trunk/block2", "trunk/block3")
_DUAL = from_flags(
    {
        "train_logits": True,
        "train_sim": True,
        "stop_gradient_sim": True,
        "resnet_type": "lite0/block5",
        "freeze_batch_norm": True,
        "image_size": 96,
        "epochs": 10,
        "batch_size": 32,
        "lr": 3e-4,
        "lr_schedule": "cosine",
        # Queries are more turned, blurred and noisy than the training images.
        "augmentation": True,
        "crop": True,
        "rotate": True,
        "gausian": True,
        "noise": True,
        "dev_percent": 0.0,
    }
)
_TRUNK = dataclasses.replace(_DUAL.model.trunk, weights="lite0", frozen=FROZEN)
RECIPE = dataclasses.replace(
    _DUAL,
    name="demo",
    model=dataclasses.replace(_DUAL.model, trunk=_TRUNK),
    about=schema.About(
        summary="The dual head on EfficientNet-Lite0 up to block5, for drawn products, 96 px.",
        source="this project; weights of the extra [lite]",
        command="make demo",
        cost="about a minute on two cores",
        expected="make demo prints the figures, with confidence intervals",
    ),
)
