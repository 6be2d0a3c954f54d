"""Damaged copies of MATLAB v5 files, and what reading them does to a process."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np

READ = """
import resource, sys, warnings
from pathlib import Path
from benchmark.arrays import open_arrays
from benchmark.errors import DataError
warnings.simplefilter("ignore")
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, end=" ", flush=True)
    try:
        arrays = open_arrays(path)
        for name in arrays.shapes:
            try:
                arrays.read(name)
            except DataError:
                pass
        print("read", flush=True)
    except DataError as error:
        print("refused", flush=True)
"""
WORDS = (
    0,
    1,
    2,
    5,
    7,
    14,
    15,
    17,
    19,
    20,
    33,
    255,
    1 << 16,
    0x00040001,
    1 << 20,
    1 << 30,
    0x7FFFFFFF,
    0xFFFFFFFF,
)
"""Types, counts and small elements that should not be where they are put."""


def packed(content: bytes) -> bytes:
    """The same file as one compressed variable after the other, as far as its tags can be followed."""
    order = "<" if content[126:128] == b"IM" else ">"
    parts, at = [content[:128]], 128
    while at + 8 <= len(content):
        _, size = struct.unpack_from(f"{order}II", content, at)
        part = zlib.compress(content[at : at + 8 + size])
        parts += [struct.pack(f"{order}II", 15, len(part)), part]
        at += 8 + size
    return b"".join(parts)


def mutated(content: bytes, draw: np.random.Generator) -> bytes:
    """One to three words of a file changed; in half of the cases it is compressed afterwards."""
    changed = bytearray(content)
    order = "<" if content[126:128] == b"IM" else ">"
    for _ in range(draw.integers(1, 4)):
        at = 128 + 4 * int(draw.integers((len(content) - 128) // 4))
        match draw.integers(4):
            case 0:
                changed[at] ^= 1 << int(draw.integers(8))
            case 1:
                changed[at : at + 4] = struct.pack(f"{order}I", draw.choice(WORDS))
            case 2:
                changed[at : at + 4] = struct.pack(f"{order}I", draw.integers(64))
            case _:
                changed[at : at + 4] = draw.bytes(4)
    return packed(bytes(changed)) if draw.integers(2) else bytes(changed)


def read_all(folders: list[Path], seconds: float) -> tuple[dict[str, int], list[str]]:
    """Read every file of each folder in a process of its own.

    Returns:
        How many were read and refused, and what ended a process: the file and the signal.
    """
    command = [sys.executable, "-c", READ]
    running = [
        subprocess.Popen([*command, f], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for f in folders
    ]
    counted, died = {"read": 0, "refused": 0}, []
    for process in running:
        try:
            said, complaint = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            said, complaint = process.communicate()
        lines = said.decode().splitlines()
        for line in lines:
            if line.endswith(("read", "refused")):
                counted[line.split()[1]] += 1
        if process.returncode:
            died.append(f"{lines[-1]}: {process.returncode} {complaint.decode()[-300:]}")
    return counted, died
