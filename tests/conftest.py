"""What all tests share: a fixed hypothesis profile, quiet TensorFlow, and where real data lie when they are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
settings.register_profile("mandoo", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("mandoo")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and weights beside the project (MANDOO_SHARED, else ../shared); the test is skipped where there are none."""
    folder = Path(os.environ.get("MANDOO_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder.name}/ does not lie beside the project, and MANDOO_SHARED is not set")
    return folder
