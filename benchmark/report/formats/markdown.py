"""Tables as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tabulate import tabulate

from benchmark.records.record import AVERAGE
from benchmark.report.significance import AgainstBest
from benchmark.report.tables import Cell, Row, Table, caption, heading
from benchmark.stats.ranks import Ranking


def render(table: Table) -> str:
    """A table, its counterpart in the publication, the difference, notes, and what is missing."""
    headings = [plain(heading(column, table.modalities)) for column in table.columns]
    parts = [f"## {plain(table.title)}", plain(caption(table))]
    if any(row.line.record for row in table.rows):
        rows = [
            [_label(row), *(number(row.cells[c]) for c in table.columns)]
            for row in table.rows
            if row.line.record
        ]
        rows.append(["random ranking", *(f"{table.chance[c]:.3f}" for c in table.columns)])
        parts += [grid(["", *headings], rows), "Best per column in bold, second underlined."]
    published = [row for row in table.rows if row.line.published]
    if published:
        rows = [[_label(row), *(_printed(row, c) for c in table.columns)] for row in published]
        parts += ["### Published", grid(["", *headings], rows)]
    parts += _comparison(table, published, headings)
    parts += [f"- {plain(note)}" for note in notes(table)]
    if table.missing:
        lines = [[plain(line.label), plain(line.reason), code(line.command)] for line in table.missing]
        parts += ["### Missing", grid(["", "why", "what computes it"], lines)]
    return "\n\n".join(parts) + "\n"


def significance(found: Sequence[AgainstBest], order: Ranking | None) -> str:
    """Differences between methods that are more than chance, and average ranks."""
    parts = ["## Significance"] if found or order else []
    for each in found:
        best, dataset = plain(each.comparisons[0].a), plain(each.dataset)
        rows = [
            [
                plain(one.b),
                f"{one.difference:+.3f}",
                f"{one.low:+.3f} to {one.high:+.3f}",
                small(one.p_holm),
                str(one.queries),
            ]
            for one in each.comparisons
        ]
        head = [
            f"{best} minus",
            "difference",
            "95 % bootstrap interval",
            "p (Wilcoxon, Holm)",
            "queries",
        ]
        parts += [f"{dataset}: the best average against every other, paired over the queries of all "
                  "directions (mean over seeds per query).", grid(head, rows)]  # fmt: skip
    if order is not None:
        rows = [[plain(name), f"{rank:.2f}"] for name, rank in zip(order.methods, order.average, strict=True)]
        joined = plain("; ".join(", ".join(group) for group in order.groups)) or "none"
        parts += [
            f"Average ranks over {order.blocks} directions (1 is best); Friedman p = {order.p:.2g}, Nemenyi "
            f"critical difference {order.critical_difference:.2f} at {order.alpha}. Directions of one "
            "dataset share items and models, so the test sees differences too readily.",
            grid(["", "average rank"], rows),
            f"Not significantly different: {joined}.",
        ]
    return "\n\n".join(parts) + "\n" if parts else ""


def one_line(text: str) -> str:
    """Text without line breaks and other control characters."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)


def plain(text: str) -> str:
    """Text that stays text, on one line: no tags, no links, no cells of its own, no code."""
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", one_line(text))
    return re.sub(r"[\\|`]", r"\\\g<0>", text).replace("](", "]\\(")


def code(text: str) -> str:
    """Text as code in a cell, between more backticks than it has in a row."""
    text = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")


def small(p: float | None) -> str:
    """A p value; one that is 0 in floating point is no 0."""
    if p is None:
        return "-"
    return f"{p:.2g}" if p > 0 else "< 1e-300"


def notes(table: Table) -> list[str]:
    """Remarks below a table, a sentence each; rows with a note first."""
    rows = [f"{row.line.label}: {row.line.note}." for row in table.rows if row.line.note and row.line.record]
    return [*rows, *table.notes]


def number(cell: Cell) -> str:
    """``**0.562** ±.003``: the mean, and half the width of its interval where there are several seeds."""
    if cell.ours is None:
        return "-"
    text = mark(f"{cell.ours.mean:.3f}", cell.place)
    half = cell.half_width
    return text if half is None else f"{text} ±{half:.3f}"


def mark(text: str, place: int) -> str:
    """Bold for the best, underlined for the second."""
    return {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(place, text)


def grid(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Any table of text."""
    align = ["left", *["right"] * (len(headings) - 1)] if len(headings) > 3 else None
    return str(tabulate(rows, headings, tablefmt="pipe", disable_numparse=True, colalign=align))


def _label(row: Row) -> str:
    return plain(row.line.label)


def _printed(row: Row, column: str) -> str:
    value = row.line.published.get(column)
    return "-" if value is None else mark(f"{value:.3f}", row.place[column])


def _comparison(table: Table, published: Sequence[Row], headings: Sequence[str]) -> list[str]:
    both = [row for row in published if row.line.record]
    if not both:
        return []
    if table.comparable:
        return [f"Not comparable with the published numbers: {plain(table.comparable)}."]
    rows = [
        [
            _label(row),
            *("-" if (d := row.cells[c].difference) is None else f"{d:+.3f}" for c in table.columns),
            verdict.verdict if (verdict := row.cells[AVERAGE].verdict) else "-",
        ]
        for row in both
    ]
    return ["### Ours - published", grid(["", *headings, "verdict on the average"], rows)]
