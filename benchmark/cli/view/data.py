"""What the ``data`` commands found, as text for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmark.cli.view.console import SOURCES, console, rows


def status(found: Mapping[str, Mapping[str, Any]]) -> None:
    """One line per dataset, then how to get what is missing."""
    lines = [
        (
            name,
            "found" if each["files"] else "missing",
            "yes" if each["fetchable"] else "no",
            len(each["files"]),
        )
        for name, each in found.items()
    ]
    rows(("dataset", "official files", "can be fetched", "files"), lines)
    out = console()
    for each in found.values():
        for file in each["files"]:
            out.print(f"{file['path']} ({file['bytes']:,} bytes)", soft_wrap=True)
    for each in found.values():
        if each["problem"]:
            out.print(each["problem"], soft_wrap=True)


def description(found: Mapping[str, Any]) -> None:
    """Shapes, ranges and problems of a dataset, one line per split and modality."""
    out = console()
    out.print(f"{found['name']}: {SOURCES[found['source']]}, {found['classes']} classes", soft_wrap=True)
    if found["class_names"]:
        out.print(f"classes: {', '.join(found['class_names'])}", soft_wrap=True)
    lines, counts = [], []
    for split, modalities in found["splits"].items():
        for name, m in modalities.items():
            values = (f"{m['min']:.3g}", f"{m['max']:.3g}", f"{m['mean']:.3g}", f"{m['zeros']:.1%}")
            lines.append((split, name, m["rows"], m["columns"], *values))
            least, most = min(m["class_counts"]), max(m["class_counts"])
            counts.append(
                (
                    split,
                    name,
                    m["paired"],
                    f"{least} to {most}",
                    f"{m['row_norm']:.3g}",
                    m["constant_columns"],
                    m["copies"],
                )
            )
    rows(("split", "modality", "rows", "columns", "min", "max", "mean", "zeros"), lines)
    headers = ("split", "modality", "paired", "class sizes", "row norm", "constant columns", "copies")
    rows(headers, counts)
    for note in found["notes"]:
        out.print(f"note: {note}", soft_wrap=True)
    for problem in found["problems"]:
        out.print(f"problem: {problem}", soft_wrap=True)
    out.print("--json gives everything, class counts included")
