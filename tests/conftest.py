"""Share settings of all tests: the hypothesis profile, TensorFlow's log level, folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# pytest-xdist sets a width of 80 columns; tables must not depend on how the tests are run.
os.environ.pop("COLUMNS", None)
# No test depends on time: a busy machine draws examples slowly, and that is no error.
settings.register_profile(
    "mandoo",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("mandoo")

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the files with long tests first: two processes then end at about the same time."""
    long_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long_files)


@pytest.fixture(autouse=True)
def float32() -> Iterator[None]:
    """Switch bfloat16 off after each test, because TensorFlow keeps it on for the whole process."""
    yield
    precision = sys.modules.get("delf_ext.models.precision")
    if precision is not None:
        precision.set_mixed_precision("off")


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real data and weights; skip the test if it does not exist."""
    folder = Path(os.environ.get("MANDOO_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist (set MANDOO_SHARED to another folder)")
    return folder
