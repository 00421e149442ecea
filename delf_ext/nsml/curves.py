"""What a session reports: a line of JSON for every call of `report`, and the same numbers for TensorBoard.

A line is {"time": Unix seconds, "summary": whether `nsml ps` shows it, "values": {"epoch": 1, "train/loss": 0.5}}.
"""

from __future__ import annotations

import io
import json
import math
import numbers
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Curves:
    """The reports of one process: lines of report.jsonl, and an event file of its own."""

    def __init__(self, folder: Path) -> None:
        self.lines = folder / "report.jsonl"
        self.events = (
            folder / f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        )
        self.count = 0
        if self.lines.exists() and not self.lines.read_bytes().endswith(
            b"\n"
        ):  # cut short when an earlier process was killed
            _append(self.lines, b"\n")

    def add(self, values: dict[str, Any], summary: bool) -> None:
        """values: text and numbers by name; a__b is shown as a/b, and `step`, else `epoch`, is the place on TensorBoard's axis.

        Raises: TypeError naming what is neither text nor a number; OSError on a full disk: no file holds half of the report.
        """
        plain = {name.replace("__", "/"): _plain(name, value) for name, value in values.items()}
        record = {"time": time.time(), "summary": bool(summary), "values": plain}
        _append(self.lines, json.dumps(record).encode() + b"\n")
        head = b"" if self.count else _event(file_version="brain.Event:2")
        _append(self.events, head + _scalars(plain, self.count))
        self.count += 1


def newest_reports(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the reports of a session, newest first, without lines that are cut short."""
    path = folder / "report.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:  # half-written: its process was killed
            continue
        if isinstance(record, dict) and isinstance(record.get("values"), dict):
            yield record


def last_summary(folder: Path) -> dict[str, Any]:
    """Return the values that were last reported with `summary`; empty if there are none."""
    for record in newest_reports(folder):
        if record.get("summary"):
            return dict(record["values"])
    return {}


def _plain(name: str, value: Any) -> Any:
    """As JSON holds it: NumPy's numbers and tensors without axes become Python's."""
    try:
        return json.loads(
            json.dumps(
                value,
                default=lambda one: int(one) if isinstance(one, numbers.Integral) else float(one),
            )
        )
    except (TypeError, ValueError):
        raise TypeError(
            f"nsml.report: {name} must be text or a number. Received {type(value).__name__}."
        ) from None


def _scalars(values: dict[str, Any], count: int) -> bytes:
    from tensorboard.compat.proto.summary_pb2 import Summary

    shown = {
        name: value
        for name, value in values.items()
        if isinstance(value, (int, float)) and name != "step"
    }
    step = values.get("step", values.get("epoch"))
    step = int(step) if isinstance(step, (int, float)) and math.isfinite(step) else count
    scalars = [Summary.Value(tag=name, simple_value=value) for name, value in shown.items()]
    return _event(step=step, summary=Summary(value=scalars))


def _event(**fields: Any) -> bytes:
    """One record of an event file. TensorBoard's own EventFileWriter would import TensorFlow."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    record = io.BytesIO()
    RecordWriter(record).write(Event(wall_time=time.time(), **fields).SerializeToString())
    return record.getvalue()


def _append(path: Path, data: bytes) -> None:
    """All of it or nothing: what a full disk cuts short is taken back."""
    with open(path, "ab", buffering=0) as file:
        size = file.tell()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(size)
            raise
