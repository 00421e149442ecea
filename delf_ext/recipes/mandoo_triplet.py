"""The original's triplet towers (`--train_triplet --margin`): one head, batch-hard triplets, batches of P x K."""

from __future__ import annotations

import dataclasses

from delf_ext.recipes import schema
from delf_ext.recipes.mandoo_dual import from_flags

RECIPE = dataclasses.replace(
    from_flags({"train_triplet": True}),
    name="mandoo_triplet",
    about=schema.About(
        summary="The similarity head alone, trained with batch-hard triplets.",
        source="NAVER AI Hackathon 2018, --train_triplet; Hermans et al. 2017",
        command="mandoo --recipe=mandoo_triplet --pretrained_model=resnet_v1_50.ckpt",
        cost="as mandoo_dual",
        expected="not measured yet",
    ),
)
