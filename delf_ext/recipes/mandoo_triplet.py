"""Define the recipe mandoo_triplet: one head, trained with batch-hard triplets."""

from __future__ import annotations

import dataclasses

from delf_ext.recipes import schema
from delf_ext.recipes.mandoo_dual import from_flags

RECIPE = dataclasses.replace(
    from_flags({"train_triplet": True}),
    name="mandoo_triplet",
    about=schema.About(
        summary="Only the similarity head, trained with batch-hard triplets.",
        source="NAVER AI Hackathon 2018, --train_triplet; Hermans et al., arXiv:1703.07737",
        command="mandoo --recipe=mandoo_triplet --pretrained_model=pre_trained/resnet_v1_50.ckpt",
        cost="same as mandoo_dual",
        expected="not measured yet",
    ),
)
