"""The original's query expansion: a query is the mean of itself, both mirror images and two turned copies."""

from __future__ import annotations

import dataclasses

from delf_ext.recipes import mandoo_dual, schema

RECIPE = dataclasses.replace(
    mandoo_dual.RECIPE,
    name="mandoo_query_expansion",
    test_time=schema.TestTime(("mirror", "flip", "turn45", "turn315"), queries_only=True),
    about=schema.About(
        summary="mandoo_dual; a query's embedding is the mean over copies of the query.",
        source="NAVER AI Hackathon 2018 (identity, both flips, random turns up to 45 degrees; here the turns are fixed)",
        command="mandoo --recipe=mandoo_query_expansion --pretrained_model=resnet_v1_50.ckpt",
        cost="training as mandoo_dual; a query is embedded five times",
        expected="not measured yet",
    ),
)
