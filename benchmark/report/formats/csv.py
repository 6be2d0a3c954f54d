"""Tables as CSV, one line per number."""

from __future__ import annotations

import csv
import io

from benchmark.report.tables import Table

COLUMNS = (
    "table", "dataset", "source", "profile", "label", "method", "direction", "metric", "seeds", "mean",
    "deviation", "low", "high", "chance", "published", "difference", "verdict", "not_comparable", "missing",
    "key",
)  # fmt: skip
WORDS = ("table", "dataset", "label", "method", "direction", "not_comparable", "missing")
"""Columns whose text comes from elsewhere; the others hold our own words, and numbers, which have signs."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def render(table: Table) -> str:
    """Every number with its spread, its published counterpart, and the run it came from."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        record = row.line.record
        for column in table.columns:
            cell = row.cells[column]
            ours = cell.ours
            line = {
                "table": table.name,
                "dataset": table.facts.get("dataset", ""),
                "source": table.facts.get("source", ""),
                "profile": table.facts.get("profile", ""),
                "label": row.line.label,
                "method": record.method.id if record else "",
                "direction": column,
                "metric": table.metric,
                "seeds": " ".join(map(str, record.seeds)) if record else "",
                "mean": _text(ours.mean if ours else None, 6),
                "deviation": _text(ours.deviation if ours else None, 6),
                "low": _text(ours.low if ours else None, 6),
                "high": _text(ours.high if ours else None, 6),
                "chance": _text(table.chance.get(column), 6),
                "published": _text(cell.published, 3),
                "difference": _text(cell.difference, 6),
                "verdict": cell.verdict.verdict if cell.verdict else "",
                "not_comparable": table.comparable if record and cell.published is not None else "",
                "missing": "" if record else row.line.reason,
                "key": record.key if record else "",
            }
            writer.writerow({name: _inert(name, text) for name, text in line.items()})
    return out.getvalue()


def _inert(column: str, text: str) -> str:
    """Text that a spreadsheet takes for text: it would compute what begins like a formula."""
    return f"'{text}" if column in WORDS and text.startswith(FORMULA) else text


def _text(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
