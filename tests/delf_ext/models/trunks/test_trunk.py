"""Test building the trunk of a recipe."""

from __future__ import annotations

from typing import get_args

import pytest

from delf_ext.config import UsageError
from delf_ext.models.trunks.slim import ARCHITECTURES, SlimTrunk
from delf_ext.models.trunks.trunk import SOURCES, build_trunk
from delf_ext.recipes import schema
from delf_ext.recipes.trunk_names import SLIM


@pytest.mark.parametrize(
    "source", [name for name in get_args(schema.Source) if name not in SOURCES]
)
def test_unbuilt_source_raises_usage_error_listing_built_ones(source: str):
    with pytest.raises(UsageError) as caught:
        build_trunk(schema.Trunk(source=source))
    built = ", ".join(SOURCES)
    assert str(caught.value) == f'trunk source "{source}" is not built yet. Built: {built}.'


def test_names_of_tf_slims_networks_are_those_of_the_command_line():
    assert tuple(ARCHITECTURES) == SLIM


def test_default_end_point_is_the_last_feature_map_and_auto_layout_is_tf_slims():
    trunk = build_trunk(schema.Trunk("vgg_16", end_point=""))
    assert isinstance(trunk, SlimTrunk) and trunk.endpoint == "vgg_16/conv5"
    assert build_trunk(schema.Trunk()).layout == build_trunk(schema.Trunk(layout="slim")).layout
    assert build_trunk(schema.Trunk(layout="v1.5")).layout.padded_pool


def test_unknown_name_raises_value_error_listing_known_ones():
    with pytest.raises(ValueError, match=r"^unknown trunk 'resnet_50' .* Known: resnet_v1_50, "):
        build_trunk(schema.Trunk("resnet_50"))
