"""The network of `make demo`: sized for two cores, random weights and a few hundred drawn photographs.

A trunk cut after block1, which many epochs fit into. What it learns of 72 products carries over to others best as it
is pooled for the classifier: a similarity head trained on so few fits them alone.
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
        summary="A small network for drawn products: block1, classification alone, 64 px.",
        source="this project",
        command="make demo",
        cost="about two minutes on two cores",
        expected="printed by make demo, with intervals",
    ),
)
