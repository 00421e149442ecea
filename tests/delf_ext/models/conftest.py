"""Share weights and slow twins among the tests of models."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pretrained.convert import from_torchvision


@pytest.fixture(scope="session")
def twins(root: Path) -> ModuleType:
    """Import tests/pretrained/test_convert.py, which has ResNet-50 in plain tf.nn."""
    spec = importlib.util.spec_from_file_location(
        "convert_twins", root / "tests" / "pretrained" / "test_convert.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def resnet50_tensors(twins: ModuleType) -> dict[str, np.ndarray]:
    """Return random weights of resnet_v1_50 with logits, by TF-Slim's names."""
    return from_torchvision(twins.random_state_dict())


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
