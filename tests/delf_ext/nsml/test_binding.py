from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from delf_ext import nsml
from delf_ext.nsml import session
from delf_ext.nsml.entry import TrainingSession

ROOT, SHIM = Path(session.__file__).parents[2], Path(session.__file__).with_name("shim")
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
    """What a fresh interpreter prints, with these folders first on its path."""
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


def test_without_the_platform_it_is_the_stand_in(tmp_path: Path) -> None:
    assert printed(REPORT, cwd=tmp_path) == "delf_ext.nsml.session False"


def test_the_real_package_is_taken_where_it_is(real: Path) -> None:
    assert printed(REPORT, real) == "nsml True /data/ir_ph1_v2"
    assert printed(f"{REPORT}; print(nsml.time_left_s(), nsml.cache.__module__)", real).endswith(
        "inf delf_ext.nsml.session",
    )


def test_a_folder_of_that_name_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "nsml").mkdir()
    assert printed(REPORT, cwd=tmp_path) == "delf_ext.nsml.session False"


def test_a_session_takes_the_stand_in_without_looking(real: Path) -> None:
    assert printed(REPORT, real, in_session=True) == "delf_ext.nsml.session True /datasets/d"
    assert printed(REPORT, SHIM, real, in_session=True) == "delf_ext.nsml.session True /datasets/d"


@pytest.mark.parametrize("in_session", [True, False])
@pytest.mark.parametrize("first", ["import nsml, delf_ext.nsml", "import delf_ext.nsml, nsml"])
def test_the_shim_makes_no_circle_whoever_comes_first(in_session: bool, first: str) -> None:
    code = f"{first}; print(nsml.bind is delf_ext.nsml.bind, nsml.__file__, nsml.IS_ON_NSML)"
    assert printed(code, SHIM, in_session=in_session) == f"True {SHIM / 'nsml.py'} {in_session}"


def test_user_code_finds_all_names_of_2018(tmp_path: Path) -> None:
    names = "DATASET_NAME DATASET_PATH GPU_NUM HAS_DATASET IS_ON_NSML SESSION_NAME bind cache load paused report save time_left_s"
    code = f"from nsml import {', '.join(names.split())}; import nsml; print(*sorted(n for n in dir(nsml) if n[0] != '_'))"
    assert printed(code, SHIM, in_session=True, cwd=tmp_path) == names


def test_the_import_is_quick() -> None:
    code = "import sys, delf_ext.nsml; print(*({'tensorflow', 'tensorboard', 'scipy', 'PIL', 'numba'} & set(sys.modules)))"
    assert printed(code) == ""


def test_a_checkpoints_summary_has_its_own_dev_metrics(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported: list[dict[str, object]] = []
    monkeypatch.setattr(nsml, "report", lambda **values: reported.append(values))
    monkeypatch.setattr(nsml, "save", lambda step: reported.append({"saved": step}))
    monkeypatch.setattr(nsml, "bind", lambda **functions: None)
    training = TrainingSession(tmp_path, epochs=2)
    training.epoch_ended(1, 10, {"loss": 0.5})
    training.evaluated(10, {"mAP": 0.25, "recall_at_1": 0.75}, is_best=True)
    place = {"summary": True, "epoch": 1, "epoch_total": 2, "step": 10}
    dev = {"dev__mAP": 0.25, "dev__recall_at_1": 0.75}
    assert reported == [place | {"loss": 0.5}, {"saved": 10}, place | dev, {"saved": 10}]
