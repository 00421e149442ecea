"""Store the values that a session reports, as lines of JSON and as TensorBoard event files.

A line of report.jsonl is
{"time": Unix seconds, "summary": shown by `nsml ps`, "values": {"epoch": 1, "train/loss": 0.5}}.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import numbers
import os
import socket
import time
from pathlib import Path
from typing import Any


class Curves:
    """Writer of one process: lines of report.jsonl and one event file.

    Args:
        folder: folder of the session.
    """

    def __init__(self, folder: Path) -> None:
        host_and_process = f"{socket.gethostname()}.{os.getpid()}"
        self.lines = folder / "report.jsonl"
        self.events = folder / f"events.out.tfevents.{time.time():.0f}.{host_and_process}"
        self.count = 0
        # The last line is cut short if an earlier process was killed while writing it.
        if self.lines.exists() and not self.lines.read_bytes().endswith(b"\n"):
            _append(self.lines, b"\n")
        _append(self.events, _event(file_version="brain.Event:2"))

    def add(self, values: dict[str, Any], summary: bool) -> None:
        """Store one report.

        Args:
            values: text and numbers by name. A name a__b is stored as a/b. `step`, or `epoch` if
                there is no step, is the position on TensorBoard's axis.
            summary: show the values in `nsml ps`.

        Raises:
            TypeError: A value is neither text nor a number.
            OSError: The disk is full. No file then holds a part of the report.
        """
        plain = {name.replace("__", "/"): _plain(name, value) for name, value in values.items()}
        record = {"time": time.time(), "summary": bool(summary), "values": plain}
        _append(self.lines, json.dumps(record).encode() + b"\n")
        _append(self.events, _scalars(plain, self.count))
        self.count += 1


def last_summary(folder: Path) -> dict[str, Any]:
    """Return the values last reported with `summary=True`; empty if there are none."""
    path = folder / "report.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    for line in reversed(lines):
        # A line is cut short if the process was killed while writing it.
        with contextlib.suppress(ValueError, TypeError, KeyError):
            record = json.loads(line)
            if record["summary"]:
                return dict(record["values"])
    return {}


def _plain(name: str, value: Any) -> Any:
    """Convert numbers of NumPy and tensors with one element to Python numbers."""
    try:
        return json.loads(json.dumps(value, default=_python_number))
    except (TypeError, ValueError):
        raise TypeError(
            f"nsml.report: {name} must be text or a number. Received {type(value).__name__}."
        ) from None


def _python_number(value: Any) -> int | float:
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _scalars(values: dict[str, Any], count: int) -> bytes:
    """Encode the numbers of a report as an event at `step`, `epoch` or the report's number."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    scalars = [
        Summary.Value(tag=name, simple_value=value)
        for name, value in values.items()
        if isinstance(value, (int, float)) and name != "step"
    ]
    step = values.get("step", values.get("epoch"))
    if not isinstance(step, (int, float)) or not math.isfinite(step):
        step = count
    return _event(step=int(step), summary=Summary(value=scalars))


def _event(**fields: Any) -> bytes:
    """Encode one record of an event file."""
    # TensorBoard's own EventFileWriter would import TensorFlow.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    record = io.BytesIO()
    RecordWriter(record).write(Event(wall_time=time.time(), **fields).SerializeToString())
    return record.getvalue()


def _append(path: Path, data: bytes) -> None:
    """Append data to a file; if the disk is full, remove the part that was written."""
    with open(path, "ab", buffering=0) as file:
        size = file.tell()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(size)
            raise
