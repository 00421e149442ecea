r"""Write any file name as text, and read it back: one reversible escape for all outputs.

A file name is bytes; Python holds the bytes that are not UTF-8 as lone surrogates, which neither a
file in UTF-8 nor a terminal accepts. In every output, such a byte is written as `\xbb` (two
hexadecimal digits), and a character that the output cannot encode as `\u00e9` or `\U0001f34e`. If a
name already looks like such an escape, its backslash is written as `\x5c`, so every name can be
read back. Other names do not change: a Windows path keeps its backslashes.

    >>> escaped("\udcbb\udce7.jpg")
    '\\xbb\\xe7.jpg'
    >>> escaped(r"a\b.jpg"), escaped(r"\xbb.jpg")
    ('a\\b.jpg', '\\x5cxbb.jpg')
    >>> unescaped(r"\xbb\x5cxbb.jpg") == "\udcbb\\xbb.jpg"
    True
"""

from __future__ import annotations

import codecs
import html
import io
import re
import sys
from typing import Any

import numpy as np

_ESCAPE = r"\\(?:x(?:5c|[89a-f][0-9a-f])|u[0-9a-f]{4}|U00(?:0[0-9a-f]|10)[0-9a-f]{4})"
_FROM_ESCAPE = re.compile(_ESCAPE)
_TO_ESCAPE = re.compile(rf"[\ud800-\udfff]|\\(?={_ESCAPE[2:]})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_FIRST_BYTE = 0xDC80
_LAST_BYTE = 0xDCFF
ERRORS = "mandoo-names"
"""Name of the error handler that escapes what an encoding cannot hold."""


def escaped(name: str) -> str:
    """Return a name as text that UTF-8 can hold; `unescaped` gives the name back."""
    return _TO_ESCAPE.sub(lambda match: _escape_of(match[0]), name)


def unescaped(text: str) -> str:
    """Return the name that `escaped` or `shown` was given."""
    return _FROM_ESCAPE.sub(lambda match: _character_of(match[0]), text)


def shown(name: object) -> str:
    r"""Return a name for one line of a terminal: control characters are escaped too.

    >>> shown("two\nlines.jpg")
    'two\\u000alines.jpg'
    """
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", escaped(str(name)))


def html_text(text: object) -> str:
    """Return text for an HTML page: escaped for HTML, and each name as `escaped` writes it."""
    return html.escape(escaped(str(text)))


def is_text(path: object) -> bool:
    """Return whether a name is UTF-8, so that libraries which insist on it accept it."""
    return not re.search(r"[\ud800-\udfff]", str(path))


def escaped_values(value: Any) -> Any:
    """Return JSON data with every string as `escaped` writes it."""
    return _mapped(value, escaped)


def unescaped_values(value: Any) -> Any:
    """Return the JSON data that `escaped_values` was given."""
    return _mapped(value, unescaped)


def escaped_texts(texts: np.ndarray) -> np.ndarray:
    """Return names as `escaped` writes them.

    Args:
        texts: str of any shape; another dtype is returned unchanged.

    Returns:
        str of the same shape; `texts` itself if no name changes.
    """
    return _mapped_texts(texts, _TO_ESCAPE, escaped)


def unescaped_texts(texts: np.ndarray) -> np.ndarray:
    """Return the names that `escaped_texts` was given.

    Args:
        texts: str of any shape; another dtype is returned unchanged.

    Returns:
        str of the same shape.
    """
    return _mapped_texts(texts, _FROM_ESCAPE, unescaped)


def print_any_name() -> None:
    """Let this process print every name on its terminal, whatever the encoding is."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def _escape_of(character: str) -> str:
    number = ord(character)
    if _FIRST_BYTE <= number <= _LAST_BYTE:
        return f"\\x{number - 0xDC00:02x}"
    if character == "\\":
        return "\\x5c"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _character_of(escape: str) -> str:
    number = int(escape[2:], 16)
    is_byte = escape[1] == "x" and escape != "\\x5c"
    return chr(0xDC00 + number if is_byte else number)


def _mapped(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_mapped(key, change): _mapped(entry, change) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_mapped(entry, change) for entry in value)
    return value


def _mapped_texts(texts: np.ndarray, pattern: re.Pattern[str], change: Any) -> np.ndarray:
    if texts.dtype.kind != "U" or not any(pattern.search(text) for text in texts.flat):
        return texts
    changed = [change(text) for text in texts.flat]
    return np.asarray(changed, dtype=str).reshape(texts.shape)


def _escape_characters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(map(_escape_of, characters)), error.end


codecs.register_error(ERRORS, _escape_characters)
