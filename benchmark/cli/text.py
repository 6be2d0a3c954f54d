"""Text that comes from data, made fit for a terminal. This module does not import rich."""

from __future__ import annotations

import sys

from benchmark.cli.streams import silence

_CONTROL = [*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)]  # all but tab and line feed
_TURNING = [0x200E, 0x200F, 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_DROPPED = dict.fromkeys([*_CONTROL, *_TURNING])
_BROKEN = dict.fromkeys(range(0xD800, 0xE000), "?")
_TABLE = _DROPPED | _BROKEN


def printable(text: str) -> str:
    """The text without what a terminal obeys: control characters, and marks that turn the direction of text.

    Halves of characters, as names of files may hold them, become question marks.
    """
    return text if text.isascii() and text.isprintable() else text.translate(_TABLE)


def say(text: str) -> None:
    """A line on standard error, if it can be written: what is computed is worth more than a line about it."""
    try:
        sys.stderr.write(f"{printable(text)}\n")
        sys.stderr.flush()
    except OSError:
        silence(sys.stderr)


def warn(text: str) -> None:
    """What the user must not miss, on standard error."""
    say(f"WARNING: {text}")


def tell(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(f"{printable(text)}\n")
