"""Test what works on a system without the modules and functions that only POSIX has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# What Python lacks on Windows, as far as a library could have used it.
WITHOUT_POSIX = """
import os, signal, sys
# Modules of other packages decide by sys.platform: they are loaded before.
import asyncio, multiprocessing, selectors, shutil, subprocess, tempfile, tarfile, zipfile
import psutil
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tensorflow_addons"):
    sys.modules[name] = None
for name in ("fork", "getuid", "geteuid", "killpg", "getpgid", "setsid", "mkfifo",
             "sched_getaffinity", "getloadavg", "nice", "lchown", "chroot"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGALRM", "SIGHUP", "SIGBUS", "SIGUSR1", "SIGUSR2", "alarm", "setitimer"):
    if hasattr(signal, name):
        delattr(signal, name)
"""
IMPORT_ALL = """
import pkgutil, importlib
for package in ("data_io", "delf_ext", "baseline_keras", "pretrained"):
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(module.__path__, f"{package}."):
        if not found.name.endswith("__main__") and ".shim" not in found.name:
            importlib.import_module(found.name)
print("all")
"""
VERBS = """
import dual_main
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from pathlib import Path
config = DrawConfig(num_classes=3, num_train=6, num_queries=2, num_gallery=4, image_size_px=32)
data = draw_dataset(Path("drawn"), config, progress=False)
small = ["--resnet_type=resnet_v1_50/block1/unit_1/bottleneck_v1", "--image_size=32", "--epochs=1",
         "--batch_size=4", "--mixed_precision=off"]
dual_main.main([*small, "--train_logits", "--dev_percent=0", f"--data={data}", "--run_dir=run"])
query = next(Path(data).rglob("query*.*"))
of_run = [f"--data={data}", "--run_dir=run", "--mixed_precision=off"]
dual_main.main(["evaluate", *of_run])
dual_main.main(["search", f"--data={query.parent}", *of_run[1:], f"--image={query}"])
dual_main.main(["rerank", *of_run, "--method=aqe:1,k_reciprocal", "--out=better"])
try:
    small += ["--train_triplet", "--batch_size=8"]
    dual_main.main([*small, f"--data={data}", "--run_dir=triplets"])
except SystemExit as end:
    print("triplet", end.code)
"""


def run_without_posix(code: str, root: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        f"{WITHOUT_POSIX}\nsys.path.insert(0, {str(root)!r})\n{code}",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)


def test_every_module_can_be_imported(root: Path, tmp_path: Path) -> None:
    ended = run_without_posix(IMPORT_ALL, root, tmp_path)
    assert ended.stdout.endswith("all\n"), ended.stderr


@pytest.mark.slow
def test_train_evaluate_search_and_rerank_work(root: Path, tmp_path: Path) -> None:
    ended = run_without_posix(VERBS, root, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "mAP" in ended.stdout and ended.stdout.endswith("triplet 2\n")
    assert "usage error: the triplet loss (--train_triplet) needs the package" in ended.stderr
    assert not (tmp_path / "triplets").exists()
