from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from delf_ext.nsml import session

ROOT = Path(session.__file__).parents[2]
SHIM = Path(session.__file__).with_name("shim")
REAL = """
IS_ON_NSML, DATASET_PATH, SESSION_NAME = True, "/data/ir_ph1_v2", "KR1/ir_ph1_v2/3"
def bind(save=None, load=None, infer=None, **kwargs): print("real bind")
save = load = report = paused = print
"""
REPORT = (
    "from delf_ext import nsml; print(nsml.bind.__module__, nsml.IS_ON_NSML, nsml.DATASET_PATH)"
)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    (tmp_path / "nsml").mkdir()
    (tmp_path / "nsml" / "__init__.py").write_text(REAL)
    return tmp_path


def printed(code: str, *paths: Path, in_session: bool = False, cwd: Path = ROOT) -> str:
    """Return the output of a new interpreter with these folders first on its path."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("NSML_")}
    env["PYTHONPATH"] = os.pathsep.join(map(str, [*paths, ROOT]))
    if in_session:
        env |= {"NSML_SESSION_DIR": str(cwd), "NSML_DATASET_PATH": "/datasets/d"}
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_our_module_is_used_without_the_platform(tmp_path: Path) -> None:
    assert printed(REPORT, cwd=tmp_path) == "delf_ext.nsml.session False"


def test_real_package_is_used_if_installed(real: Path) -> None:
    assert printed(REPORT, real) == "nsml True /data/ir_ph1_v2"
    assert printed(f"{REPORT}; print(nsml.time_left_s(), nsml.cache.__module__)", real).endswith(
        "inf delf_ext.nsml.session",
    )


def test_folder_named_nsml_without_code_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "nsml").mkdir()
    assert printed(REPORT, cwd=tmp_path) == "delf_ext.nsml.session False"


def test_our_sessions_ignore_an_installed_package(real: Path) -> None:
    assert printed(REPORT, real, in_session=True) == "delf_ext.nsml.session True /datasets/d"
    assert printed(REPORT, SHIM, real, in_session=True) == "delf_ext.nsml.session True /datasets/d"


@pytest.mark.parametrize("in_session", [True, False])
@pytest.mark.parametrize("first", ["import nsml, delf_ext.nsml", "import delf_ext.nsml, nsml"])
def test_shim_and_package_can_be_imported_in_any_order(in_session: bool, first: str) -> None:
    code = f"{first}; print(nsml.bind is delf_ext.nsml.bind, nsml.__file__, nsml.IS_ON_NSML)"
    assert printed(code, SHIM, in_session=in_session) == f"True {SHIM / 'nsml.py'} {in_session}"


def test_user_code_can_import_all_names_of_2018(tmp_path: Path) -> None:
    names = "DATASET_NAME DATASET_PATH GPU_NUM HAS_DATASET IS_ON_NSML SESSION_NAME"
    names += " bind cache load paused report save time_left_s"
    code = f"from nsml import {', '.join(names.split())}; import nsml"
    code += "; print(*sorted(name for name in dir(nsml) if name[0] != '_'))"
    assert printed(code, SHIM, in_session=True, cwd=tmp_path) == names


def test_import_loads_no_slow_package() -> None:
    slow = {"tensorflow", "tensorboard", "scipy", "PIL", "numba"}
    code = f"import sys, delf_ext.nsml; print(*({slow} & set(sys.modules)))"
    assert printed(code) == ""
