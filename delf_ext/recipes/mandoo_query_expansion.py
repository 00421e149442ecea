"""Define the recipe mandoo_query_expansion: a query is embedded with four transformed copies."""

from __future__ import annotations

import dataclasses

from delf_ext.recipes import mandoo_dual, schema

RECIPE = dataclasses.replace(
    mandoo_dual.RECIPE,
    name="mandoo_query_expansion",
    test_time=schema.TestTime(("mirror", "flip", "turn45", "turn315"), queries_only=True),
    about=schema.About(
        summary=(
            "Same as mandoo_dual, but the embedding of a query is the mean over the query and "
            "four copies: two mirrored, two rotated."
        ),
        source=(
            "NAVER AI Hackathon 2018: both mirror images and random rotations up to 45 degrees "
            "(here always 45 degrees)"
        ),
        command=(
            "mandoo --recipe=mandoo_query_expansion "
            "--pretrained_model=pre_trained/resnet_v1_50.ckpt"
        ),
        cost="training: same as mandoo_dual; searching embeds each query five times",
        expected="not measured yet",
    ),
)
