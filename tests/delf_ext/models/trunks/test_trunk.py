"""From a trunk record to a trunk; a source that is not built says which are."""

from __future__ import annotations

import pytest

from delf_ext.config import UsageError
from delf_ext.models.trunks.slim import SlimTrunk
from delf_ext.models.trunks.trunk import SOURCES, build_trunk
from delf_ext.recipes import schema


@pytest.mark.parametrize("source", [name for name in schema.SOURCES if name not in SOURCES])
def test_a_source_that_is_not_built_says_which_are(source: str):
    with pytest.raises(UsageError) as caught:
        build_trunk(schema.Trunk(source=source))
    built = ", ".join(SOURCES)
    assert str(caught.value) == f'trunk source "{source}" is not built yet. Built: {built}.'


def test_a_trunk_without_an_end_point_goes_to_its_last_map_and_auto_is_tf_slims_layout():
    trunk = build_trunk(schema.Trunk("vgg_16", end_point=""))
    assert isinstance(trunk, SlimTrunk) and trunk.endpoint == "vgg_16/conv5"
    assert build_trunk(schema.Trunk()).layout == build_trunk(schema.Trunk(layout="slim")).layout
    assert build_trunk(schema.Trunk(layout="v1.5")).layout.padded_pool


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"^unknown backbone 'resnet_50' .* Known: resnet_v1_50, "):
        build_trunk(schema.Trunk("resnet_50"))
