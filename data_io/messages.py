"""Word the lines that tell a user about files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def skipped_lines(
    skipped: Sequence[tuple[str, str]], verb: str = "skipped", num_shown: int = 5
) -> Iterator[str]:
    """Yield one line for each of the first skipped files, and one with the number of all if there are more.

    Args:
        skipped: (path, reason) of each file.
        verb: what was done with the files, such as "skipped" or "placed last".
        num_shown: number of files that get a line each.

    Yields:
        Lines without a line break.
    """
    for path, reason in skipped[:num_shown]:
        yield f"{verb} {path}: {reason}"
    if len(skipped) > num_shown:
        yield f"{verb} {len(skipped)} files in all"
