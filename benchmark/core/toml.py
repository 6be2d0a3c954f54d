"""TOML that others wrote: read whole, or refused in one line.

The parser of the standard library goes down on the stack for what lies inside of something, takes minutes for
a key of thousands of parts, and returns numbers of any size; nothing that this suite reads needs those.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from benchmark.disk import read_bytes

MOST = 1 << 20
"""Bytes of a file."""
DEEPEST = 32
"""Tables and lists inside of each other, and parts of a key."""
DEEP = f"it is more than {DEEPEST} tables or lists deep"
LARGE = "a whole number is larger than 64 bits"

_KEY = r"""(?:(?<![\w-])[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG = re.compile(rf"{_KEY}(?:[ \t]*+\.[ \t]*+{_KEY}){{{DEEPEST}}}")


def read_toml(file: Path) -> dict[str, Any]:
    """The content of a file.

    Raises:
        ValueError: It cannot be read, or :func:`parse_toml` refuses it; in one line that does not name it.
    """
    try:
        text = read_bytes(file, MOST).decode()
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
    return parse_toml(text.replace("\r\n", "\n"))


def parse_toml(text: str) -> dict[str, Any]:
    """The content of a text.

    Raises:
        ValueError: Not TOML, too deep, or with a value that is no text, truth value or number of 64 bits.
    """
    if _LONG.search(text):
        raise ValueError(DEEP)
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ValueError(DEEP) from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # of a number with more digits than Python converts
        raise ValueError(LARGE) from None
    _check(document, 0)
    return document


def _check(value: Any, depth: int) -> None:
    if isinstance(value, dict | list):
        if depth > DEEPEST:
            raise ValueError(DEEP)
        for each in value.values() if isinstance(value, dict) else value:
            _check(each, depth + 1)
    elif not isinstance(value, str | int | float):
        raise ValueError(f"{value} is a date or time, which nothing here takes")  # noqa: TRY004 - of a file
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError(LARGE)
