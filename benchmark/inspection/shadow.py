"""Files that hide a package the suite needs: a ``torch.py`` that somebody has put on the path of Python."""

from __future__ import annotations

import importlib.util
import re
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

DISTRIBUTION = "cmr-benchmark"


def hidden_packages() -> list[str]:
    """One line for every required package in whose place something else is imported."""
    try:
        wanted = [line for line in requires(DISTRIBUTION) or [] if "extra ==" not in line]
    except PackageNotFoundError:
        return []
    names = [re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0] for line in wanted]
    return [line for name in names if (line := hidden(name))]


def hidden(name: str) -> str:
    """What is imported in place of an installed package; empty if it is the package."""
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        return ""
    if '"editable"' in (installed.read_text("direct_url.json") or ""):
        return ""  # lies anywhere
    home = Path(str(installed.locate_file(""))).resolve()
    tops, same = (installed.read_text("top_level.txt") or "").split(), name.replace("-", "_")
    module = tops[0] if tops and same not in tops else same
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:  # a module without a specification
        return ""
    if spec is None or spec.origin is None or Path(spec.origin).resolve().is_relative_to(home):
        return ""
    return f"{spec.origin} hides the installed package {name}; rename it, or take it off PYTHONPATH"
