"""What all tests share: a fixed hypothesis profile, quiet TensorFlow, and where real data lie when they are there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
settings.register_profile("mandoo", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("mandoo")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def float32() -> Iterator[None]:
    """Switch bfloat16 off after a test that ran a model in it: TensorFlow's switch holds for the whole process."""
    yield
    precision = sys.modules.get("delf_ext.models.precision")
    if precision is not None:
        precision.set_mixed_precision("off")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and weights beside the project (MANDOO_SHARED, else ../shared); the test is skipped where there are none."""
    folder = Path(os.environ.get("MANDOO_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(
            f"no real data: {folder.name}/ does not lie beside the project, and MANDOO_SHARED is not set"
        )
    return folder
