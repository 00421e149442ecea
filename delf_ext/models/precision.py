"""--mixed_precision: bfloat16 arithmetic inside a graph whose variables stay float32."""

from __future__ import annotations

from pathlib import Path

CHOICES = ("auto", "off", "bfloat16")
_applied = [False]  # what TensorFlow was told last: telling it again would empty its caches


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself (AVX512-BF16 or AMX). Elsewhere it would be emulated, and slow."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def uses_bfloat16(choice: str) -> bool:
    """Return whether --mixed_precision=`choice` means bfloat16 on this processor."""
    return choice == "bfloat16" or (choice == "auto" and cpu_has_bfloat16())


def set_mixed_precision(choice: str) -> str:
    """Applies to graphs traced from now on; returns what was chosen, "bfloat16" or "off".

    Source: TensorFlow's oneDNN auto mixed precision. Raises: ValueError naming the known choices.
    """
    if choice not in CHOICES:
        raise ValueError(f"unknown --mixed_precision={choice}. Known: {', '.join(CHOICES)}.")
    use = uses_bfloat16(choice)
    if _applied != [use]:
        import tensorflow as tf  # here, so that the choice alone needs no TensorFlow

        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": use})
        _applied[:] = [use]
    return "bfloat16" if use else "off"
