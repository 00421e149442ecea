"""Define the recipe mandoo_block3: the 2018 original on a trunk that ends at block3."""

from __future__ import annotations

import dataclasses

from delf_ext.recipes import mandoo_dual, schema
from delf_ext.recipes.codec import with_settings

RECIPE = dataclasses.replace(
    with_settings(mandoo_dual.RECIPE, ["model.trunk.end_point=block3"]),
    name="mandoo_block3",
    about=schema.About(
        summary=(
            "Same as mandoo_dual, with a trunk that ends at block3: "
            "larger feature maps with fewer channels."
        ),
        source="NAVER AI Hackathon 2018, --resnet_type=resnet_v1_50/block3",
        command="mandoo --recipe=mandoo_block3 --pretrained_model=pre_trained/resnet_v1_50.ckpt",
        cost="less than mandoo_dual, as block4 is not computed",
        expected="not measured yet",
    ),
)
