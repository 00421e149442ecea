"""Define the recipe of `make demo`: a network that two cores train in minutes from random weights.

The trunk ends at block1, so that the time is enough for many epochs. The embedding is the pooled
feature map and has no similarity head: with only 72 products in training, such a head would
overfit them.
"""

from __future__ import annotations

import dataclasses

from delf_ext.recipes import schema
from delf_ext.recipes.mandoo_dual import from_flags

RECIPE = dataclasses.replace(
    from_flags(
        {
            "train_logits": True,
            "resnet_type": "resnet_v1_50/block1",
            "image_size": 64,
            "batch_norm_decay": 0.9,
            "epochs": 28,
            "batch_size": 32,
            "lr": 1e-3,
            "lr_schedule": "cosine",
            "augmentation": True,
            "dev_percent": 0.0,
        }
    ),
    name="demo",
    about=schema.About(
        summary="Small network for drawn products: trunk up to block1, only classification, 64 px.",
        source="this project",
        command="make demo",
        cost="about two minutes on two cores",
        expected="make demo prints the figures, with confidence intervals",
    ),
)
