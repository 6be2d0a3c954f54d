"""Tables as LaTeX that compiles as it is (booktabs), laid out as in the publication."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from benchmark.records.record import AVERAGE
from benchmark.report.formats.markdown import notes, one_line
from benchmark.report.tables import Cell, Row, Table, caption, heading, short

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "->": r"$\to$", "→": r"$\to$",
    "±": r"$\pm$", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
HEAD = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{lmodern}
\usepackage[a4paper,landscape,margin=15mm]{geometry}
\usepackage{booktabs,graphicx}
\pagestyle{empty}
\begin{document}
"""
WIDE = 8
"""More columns than these are scaled to the width of the page."""


def render(tables: Sequence[Table]) -> str:
    """A document with one table environment per table; each can be copied into a paper as it is."""
    body = "\n".join(environment(table) for table in tables)
    return f"{HEAD}{body}\\end{{document}}\n"


def environment(table: Table) -> str:
    """Our numbers and the published ones: in one ``table`` environment only if they are comparable.

    The second environment, where there is one, holds the published numbers alone.
    """
    ours = [_line(row.line.label, [_number(row.cells[c]) for c in table.columns]) for row in _ours(table)]
    if ours:
        ours.append(_line("random ranking", [f"{table.chance[c]:.3f}" for c in table.columns]))
    with_print = [row for row in table.rows if row.line.published]
    printed = [_line(row.line.label, [_printed(row, c) for c in table.columns]) for row in with_print]
    remarks = notes(table)
    reasons: dict[str, list[str]] = {}
    for line in table.missing:
        reasons.setdefault(line.reason, []).append(line.label)
    remarks += [f"Missing ({reason}): {', '.join(labels)}." for reason, labels in reasons.items()]
    apart = bool(ours and printed and table.comparable)
    if apart:
        remarks.insert(0, f"Not comparable with the published numbers: {table.comparable}.")
    span = len(table.columns) + 1
    heading = [r"\midrule", f"\\multicolumn{{{span}}}{{l}}{{\\emph{{as published}}}} \\\\"] if printed else []
    below = [] if apart else [*heading, *printed]
    found = _environment(table, caption(table), table.name, [*ours, *below], remarks)
    if apart:
        title = f"{table.title}, as published. MAP@all."
        found += "\n" + _environment(table, title, f"{table.name}-published", printed, [])
    return found


def _ours(table: Table) -> list[Row]:
    return [row for row in table.rows if row.line.record]


def _environment(table: Table, words: str, label: str, rows: Sequence[str], remarks: Sequence[str]) -> str:
    groups = [(q, list(cs)) for q, cs in groupby(table.columns, lambda c: c.partition("->")[0])]
    wide = len(table.columns) > WIDE
    lines = [r"\begin{table}[p]", r"\centering", f"\\caption{{{escape(words)}}}"]
    lines += [f"\\label{{tab:{re.sub('[^A-Za-z0-9.:_/-]+', '-', label)}}}"]  # it may come from a path
    lines += [r"\resizebox{\textwidth}{!}{%"] if wide else []
    lines += [r"\setlength{\tabcolsep}{4pt}"]
    lines += [f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule"]
    if len(table.modalities) > 2:
        lines += _two_levels(table, groups)
    else:
        names = [escape(heading(column, table.modalities)) for column in table.columns]
        lines += [" & ".join(["Method", *names]) + r" \\"]
    rule = [] if rows and rows[0] == r"\midrule" else [r"\midrule"]
    lines += [*rule, *rows, r"\bottomrule", r"\end{tabular}" + ("}" if wide else "")]
    if remarks:
        below = " ".join(map(escape, remarks))
        lines += [r"\par\smallskip\begin{minipage}{\textwidth}\footnotesize " + below + r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table}", ""])


def escape(text: str) -> str:
    """Text with the characters that mean something to LaTeX spelt out, on one line."""
    text = one_line(text)
    found, place = [], 0
    while place < len(text):
        pair = text[place : place + 2]
        key = pair if pair in SPECIAL else text[place]
        found.append(SPECIAL.get(key, key))
        place += len(key)
    return "".join(found)


def _two_levels(table: Table, groups: Sequence[tuple[str, list[str]]]) -> list[str]:
    first, rules, second, at = ["Query"], [], ["Target"], 2
    for query, columns in groups:
        if query == AVERAGE:
            first.append("Avg")
            second.append("")
            continue
        first.append(f"\\multicolumn{{{len(columns)}}}{{c}}{{{escape(query)}}}")
        rules.append(f"\\cmidrule(lr){{{at}-{at + len(columns) - 1}}}")
        second += [escape(short(column.partition("->")[2], table.modalities)) for column in columns]
        at += len(columns)
    return [" & ".join(first) + r" \\", " ".join(rules), " & ".join(second) + r" \\"]


def _line(label: str, cells: Sequence[str]) -> str:
    return " & ".join([escape(label), *cells]) + r" \\"


def _number(cell: Cell) -> str:
    if cell.ours is None:
        return "--"
    half = cell.half_width
    spread = "" if half is None else f"{{\\tiny$\\pm${half:.3f}}}"
    return _marked(f"{cell.ours.mean:.3f}", cell.place) + spread


def _printed(row: Row, column: str) -> str:
    value = row.line.published.get(column)
    return "--" if value is None else _marked(f"{value:.3f}", row.place[column])


def _marked(text: str, place: int) -> str:
    return {1: f"\\textbf{{{text}}}", 2: f"\\underline{{{text}}}"}.get(place, text)
