"""Train our network and the challenge's baseline on drawn products, and compare them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.messages import shown_path
from data_io.progress import say
from delf_ext.app.demo import SETUP, run_demo


def run(flags: Any) -> None:
    """Run the demo in --out (default: .demo). A second call continues with the files there."""
    result = run_demo(Path(flags.out or ".demo"), flags.seed, SETUP, log=say)
    say(str(result))
    say(f"report: {shown_path(result.page)}")
    say(f"picture: {shown_path(result.sheet)}")
