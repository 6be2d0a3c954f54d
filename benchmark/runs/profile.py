"""Profiles: the publication's sizes, or the same code in minutes on two CPU cores; and which device.

Decided without importing torch, so that a stored run is found again in well under a second.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from functools import cache
from pathlib import Path
from types import MappingProxyType

from benchmark.errors import BenchmarkError

DEFAULT_SEEDS = MappingProxyType({"paper": (1, 2, 3), "quick": (1,)})
DEFAULT_ROWS = MappingProxyType(
    {
        "paper": MappingProxyType({"train": 0, "val": 0}),
        "quick": MappingProxyType({"train": 1000, "val": 500}),
    }
)
"""Rows per modality, balanced over classes; 0 is all. Test rows are always all."""


def choose_profile(profile: str, device: str) -> tuple[str, str]:
    """The profile meant by ``auto``, and a sentence that says why (empty if it was named)."""
    if profile != "auto":
        return profile, ""
    if device.startswith("cuda"):
        return "paper", "profile paper: a CUDA device is used (--profile quick for a run of minutes)"
    return "quick", "profile quick: no CUDA device is used (--profile paper for the publication's sizes)"


def choose_device(device: str, *, cuda: bool | None = None) -> str:
    """The device meant by ``auto``.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        cuda: Whether CUDA can be used; looked up with :func:`cuda_likely` if not given.

    Raises:
        BenchmarkError: Not the name of a device, or CUDA where there is none.
    """
    if device == "cpu":
        return device
    if device != "auto" and not re.fullmatch(r"cuda(:\d+)?", device):
        raise BenchmarkError(f"--device {device!r}: expected auto, cpu, cuda or cuda:N")
    usable = cuda_likely() if cuda is None else cuda
    if device == "auto":
        return "cuda" if usable else "cpu"
    if not usable:
        raise BenchmarkError(
            f"--device {device}: no CUDA device can be used here (see `python -m benchmark doctor`); use cpu"
        )
    return device


@cache
def cuda_likely() -> bool:
    """Whether torch will find a CUDA device, judged by driver, environment and torch's build alone."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and (not visible.strip() or visible.strip().startswith("-1")):
        return False
    driver = Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()
    if not driver and shutil.which("nvidia-smi") is None:
        return False
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    version = Path(spec.origin).parent / "version.py"
    if not version.is_file():
        return True
    # The build's version file says `cuda = None`, or `cuda: Optional[str] = '12.8'`.
    found = re.search(r"^cuda\b[^=\n]*=\s*(\S+)", version.read_text(encoding="utf-8"), re.MULTILINE)
    return found is None or found[1] != "None"
