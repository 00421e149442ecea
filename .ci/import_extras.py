"""Import every package of every extra of mandoo and print its version.

    python .ci/import_extras.py [EXTRA ...]

Exits with 1 if an import fails. Without arguments all extras are imported, except `dev`.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import metadata, packages_distributions, requires, version

from packaging.requirements import Requirement

# tf2onnx installs them by mistake.
STRAY_MODULES = ("examples", "tests", "tools")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def user_extras() -> list[str]:
    """Return all extras except `dev` (the tests import its packages) and `all` (their sum)."""
    names = metadata("mandoo").get_all("Provides-Extra") or []
    return [name for name in names if name not in ("all", "dev")]


def distributions_of(extra: str) -> list[str]:
    """Return the distributions that an extra adds, in the order of setup.py."""
    requirements = [Requirement(text) for text in requires("mandoo") or ()]
    return [
        requirement.name
        for requirement in requirements
        if requirement.marker is not None
        and requirement.marker.evaluate({"extra": extra})
        and not requirement.marker.evaluate({"extra": ""})
    ]


def modules_of(distribution: str) -> list[str]:
    """Return the public top-level modules that a distribution installs."""
    normal = distribution.lower().replace("_", "-")
    return sorted(
        module
        for module, owners in packages_distributions().items()
        if normal in [owner.lower().replace("_", "-") for owner in owners]
        and module.isidentifier()
        and not module.startswith("_")
        and module not in STRAY_MODULES
    )


def main(extras: list[str]) -> int:
    """Import the packages of the extras, or of all, and return the exit code."""
    failed = False
    for extra in extras or user_extras():
        for distribution in distributions_of(extra):
            try:
                modules = modules_of(distribution)
                for module in modules:
                    importlib.import_module(module)
                print(f"{extra:<9} {distribution} {version(distribution)}: {', '.join(modules)}")
            except Exception as error:  # an import can fail with anything
                failed = True
                print(f"{extra:<9} {distribution}: FAILED ({type(error).__name__}: {error})")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
