"""Standard output and standard error, where they may be closed, full, or read by nobody any more."""

from __future__ import annotations

import errno
import os
import sys
from typing import TextIO

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def silence(stream: TextIO) -> None:
    """Let a stream write to nowhere; else Python would complain again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def reason(error: OSError) -> str:
    """Which file, and what is the matter with it."""
    text, name = error.strerror or str(error), error.filename
    if error.errno == errno.ENAMETOOLONG and name is not None:
        return f"{str(name)[:60]}...: no file can have so long a name"
    if name is None and error.errno in UNWRITABLE:  # whatever else we write to has a name
        silence(sys.stdout)
        name = "standard output"
    return f"{name}: {text}" if name is not None else text
