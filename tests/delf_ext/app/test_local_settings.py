"""Test the settings of local features."""

from __future__ import annotations

import pytest

from delf_ext.app.local_settings import LocalSettings


@pytest.mark.parametrize(
    ("wanted", "width", "dim"), [(0, 1024, 128), (0, 112, 112), (40, 112, 40), (200, 112, 200)]
)
def test_default_dimension_fits_into_the_layer(wanted: int, width: int, dim: int) -> None:
    # A number that the user passed is kept: one that is too large is refused later.
    assert LocalSettings(descriptor_dim=wanted).dim_of(width) == dim
