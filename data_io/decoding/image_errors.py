"""Say in a few words why an image file cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import UnidentifiedImageError

from data_io.files.artifacts import one_line


class ImageError(ValueError):
    """An image file cannot be read.

    Attributes:
        path: the file.
        reason: what is wrong with it, in a few words.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        # Without this, the error could not be sent from a worker process.
        return ImageError, (self.path, self.reason)


@contextmanager
def image_errors(path: str | Path) -> Iterator[None]:
    """Convert any error of a bad file to an ImageError.

    Args:
        path: the file.

    Yields:
        Nothing.

    Raises:
        ImageError: the block raised an error.
    """
    # Pillow raises a dozen types, from SyntaxError to zlib.error.
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(path, "file not found") from None
    except UnidentifiedImageError:
        raise ImageError(path, "not an image, or its header is damaged") from None
    except MemoryError:
        raise ImageError(path, "not enough memory to decode it") from None
    except Exception as error:
        if "truncated" in str(error).lower():
            raise ImageError(path, "truncated") from error
        if isinstance(error, OSError) and error.strerror:
            raise ImageError(path, f"cannot be read: {error.strerror}") from error
        raise ImageError(path, f"damaged: {one_line(error)[:100]}") from error
