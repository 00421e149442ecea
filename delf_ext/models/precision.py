"""Switch bfloat16 arithmetic on or off in graphs whose variables stay float32."""

from __future__ import annotations

from pathlib import Path

CHOICES = ("auto", "off", "bfloat16")
# Value that TensorFlow has now; None if unknown. It is not set twice, because each call empties
# TensorFlow's caches.
_applied: bool | None = False


def cpu_has_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 in hardware (AVX512-BF16 or AMX).

    Returns:
        False also if it is unknown. Emulated bfloat16 would be slow.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def uses_bfloat16(choice: str) -> bool:
    """Return whether --mixed_precision=`choice` means bfloat16 on this processor."""
    return choice == "bfloat16" or (choice == "auto" and cpu_has_bfloat16())


def computes_in_bfloat16() -> bool:
    """Return whether graphs that are traced now compute in bfloat16."""
    return bool(_applied)


def set_mixed_precision(choice: str) -> str:
    """Set the precision of graphs that are traced later.

    Source: TensorFlow's oneDNN auto mixed precision.

    Args:
        choice: one of CHOICES.

    Returns:
        The precision, "bfloat16" or "off".

    Raises:
        ValueError: the choice is unknown.
    """
    if choice not in CHOICES:
        raise ValueError(f"unknown --mixed_precision={choice}. Known: {', '.join(CHOICES)}.")
    global _applied
    use = uses_bfloat16(choice)
    if _applied != use:
        # Imported here, so that the choice alone needs no TensorFlow.
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": use})
        _applied = use
    return "bfloat16" if use else "off"
