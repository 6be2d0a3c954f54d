"""What the examination of this machine found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmark.cli.view.console import console, rows


def doctor(found: Mapping[str, Any]) -> None:
    """What `doctor` found, the problems last, where they are seen."""
    out = console()
    rows(
        ("package", "version", "wanted", "problem"),
        [
            (
                name,
                fact["version"],
                f">={fact['wanted']}" if fact["wanted"] else "any",
                fact["problem"] or "ok",
            )
            for name, fact in found["packages"].items()
        ],
        f"Python {found['python']}",
    )
    for device in found["devices"]:
        facts = ", ".join(
            f"{name} {value}" for name, value in device.items() if name not in {"device", "name"}
        )
        out.print(f"device {device['device']}: {device['name']}, {facts}", soft_wrap=True)
    for name, folder in found["folders"].items():
        out.print(
            f"{name} folder: {folder['path']} ({folder['problem'] or 'can be written'})", soft_wrap=True
        )
    for root in found["data_roots"]:
        out.print(f"data root: {root['path']}{'' if root['exists'] else ' (does not exist)'}", soft_wrap=True)
    data = [(name, fact["official"], fact["standin"]) for name, fact in found["data"].items()]
    rows(("dataset", "official files", "stand-in"), data)
    if any(official == "missing" for _, official, _ in data):
        out.print("`python -m benchmark data status` tells how to get missing files")
    for problem in found["problems"]:
        out.print(f"PROBLEM: {problem}", soft_wrap=True)
    out.print("ready" if found["ok"] else "not ready")
