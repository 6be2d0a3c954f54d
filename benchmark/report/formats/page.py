"""One self-contained HTML page of everything that was made; it needs no network and no other file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from benchmark.core.registry import METHODS
from benchmark.disk import write_text
from benchmark.errors import DataError
from benchmark.inspection.card import card
from benchmark.inspection.query import answer, reload
from benchmark.records.store import StoredRun
from benchmark.report.formats import drawing, figures
from benchmark.report.formats.markdown import notes, small
from benchmark.report.made import Made, Options, caption_of
from benchmark.report.tables import Cell, Row, Table, caption, heading
from benchmark.stats.ranks import Ranking

GALLERY = 6
"""Queries shown of a dataset."""
CURVES = ("train/total", "val/map", "val/total")


def write_page(made: Sequence[Made], file: Path, options: Options) -> Path:
    """Write the page.

    Args:
        made: Items, tables worked out.
        file: Where to.
        options: As the items were made with.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    environment = Environment(
        loader=PackageLoader("benchmark.report.formats"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return write_text(file, environment.get_template("report.html.j2").render(content(made, options)))


def content(made: Sequence[Made], options: Options) -> dict[str, Any]:
    """Everything the page shows."""
    runs = {key: run for each in made for key, run in each.runs.items()}
    records = [run.record for run in runs.values()]
    sources = sorted({record.dataset.source for record in records})
    labels = [("STAND-IN DATA" if s == "standin" else f"{s} data", s) for s in sources]
    labels += [(f"{profile} profile", "") for profile in sorted({r.profile for r in records})]
    return {
        "title": "Cross-modal retrieval benchmark",
        "labels": labels,
        "about": " ".join(caption_of(runs)) or "No runs are stored.",
        "sections": [_section(each, options) for each in made],
        "missing": [
            {"table": table.title, "row": line.label, "reason": line.reason, "command": line.command}
            for each in made
            for table in each.tables
            for line in table.missing
        ],
        "problems": [problem for each in made for problem in each.problems],
        "cards": _cards({record.method.id: None for record in records}),
        "runs": [_run(run) for run in runs.values()],
    }


def _section(made: Made, options: Options) -> dict[str, Any]:
    order = made.order
    tests = [
        {
            "title": f"Is the best better? {found.title}",
            "text": "The best average against every other, paired over the queries of all directions "
            "(mean over seeds per query): bootstrap interval, Wilcoxon test, Holm-corrected.",
            "head": [f"{found.comparisons[0].a} minus", "difference", "low", "high", "p"],
            "rows": [
                [c.b, f"{c.difference:+.3f}", f"{c.low:+.3f}", f"{c.high:+.3f}", small(c.p_holm)]
                for c in found.comparisons
            ],
        }
        for found in made.comparisons
    ]
    if order is not None:
        joined = "; ".join(", ".join(group) for group in order.groups) or "none"
        tests.append(
            {
                "title": "Average ranks",
                "text": f"Over {order.blocks} directions, 1 is best; Friedman p = {order.p:.2g}, critical "
                f"difference {order.critical_difference:.2f}. Not significantly different: {joined}.",
                "head": ["method", "average rank"],
                "rows": [[n, f"{a:.2f}"] for n, a in zip(order.methods, order.average, strict=True)],
            }
        )
    drawn = []
    if order is not None:
        drawn.append({"svg": _ranks(order), "caption": "Methods under one bar do not differ significantly."})
    for panels in made.panels.values():
        drawn.append({"svg": _svg(figures.svg(panels)), "caption": " ".join(caption_of(made.runs))})
    return {
        "id": made.item.name,
        "title": made.item.title,
        "tables": [_table(table) for table in made.tables],
        "significance": tests,
        "figures": drawn,
        "shelves": [shelf for table in made.tables if (shelf := _gallery(table, made, options))],
    }


def _svg(text: str) -> Markup:
    """A drawing of this package, whose labels it has escaped, to stand in the page as it is."""
    return Markup(text)  # noqa: S704 - not text from outside


def _ranks(order: Ranking) -> Markup:
    ranks = dict(zip(order.methods, order.average, strict=True))
    return _svg(figures.critical_difference_svg(ranks, order.groups, order.critical_difference))


def _table(table: Table) -> dict[str, Any]:
    head = ["method", *(heading(column, table.modalities) for column in table.columns)]
    parts = []
    filled = [row for row in table.rows if row.line.record]
    if filled:
        rows = [{"label": r.line.label, "chance": False, "cells": _ours(r, table)} for r in filled]
        level = [_cell(table.chance[column], f"{table.chance[column]:.3f}") for column in table.columns]
        rows.append({"label": "random ranking", "chance": True, "cells": level})
        parts.append({"title": "ours", "head": head, "rows": rows})
    published = [row for row in table.rows if row.line.published]
    if published:
        rows = [{"label": r.line.label, "chance": False, "cells": _printed(r, table)} for r in published]
        parts.append({"title": "published", "head": head, "rows": rows})
    both = [row for row in published if row.line.record]
    if both and not table.comparable:
        rows = [{"label": r.line.label, "chance": False, "cells": _off(r, table)} for r in both]
        parts.append({"title": "ours - published", "head": head, "rows": rows})
    remarks = notes(table)
    if both and table.comparable:
        remarks.insert(0, f"Not comparable with the published numbers: {table.comparable}.")
    return {
        "title": table.title,
        "caption": caption(table),
        "parts": parts,
        "notes": remarks,
        "maps": _maps(filled, table) if len(table.modalities) > 2 else [],
    }


def _cell(value: float | None, text: str, kind: str = "", hint: str = "") -> dict[str, Any]:
    return {"value": "" if value is None else f"{value:.6f}", "text": text, "kind": kind, "hint": hint}


def _kind(place: int) -> str:
    return {1: "best", 2: "second"}.get(place, "")


def _ours(row: Row, table: Table) -> list[dict[str, Any]]:
    def one(cell: Cell) -> dict[str, Any]:
        assert cell.ours is not None, "the row has a run"
        half = "" if cell.half_width is None else f" ±{cell.half_width:.3f}"
        verdict = cell.verdict.verdict if cell.verdict else ""
        return _cell(cell.ours.mean, f"{cell.ours.mean:.3f}{half}", _kind(cell.place), verdict)

    return [one(row.cells[column]) for column in table.columns]


def _printed(row: Row, table: Table) -> list[dict[str, Any]]:
    values = [(row.line.published.get(column), row.place[column]) for column in table.columns]
    return [_cell(v, "-" if v is None else f"{v:.3f}", _kind(place)) for v, place in values]


def _off(row: Row, table: Table) -> list[dict[str, Any]]:
    cells = [row.cells[column] for column in table.columns]
    return [
        _cell(c.difference, "-" if c.difference is None else f"{c.difference:+.3f}", "", _judged(c))
        for c in cells
    ]


def _judged(cell: Cell) -> str:
    return cell.verdict.verdict if cell.verdict else ""


def _maps(rows: Sequence[Row], table: Table) -> list[dict[str, Any]]:
    found = {
        row.line.label: {c: cell.ours.mean for c, cell in row.cells.items() if cell.ours} for row in rows
    }
    numbers = [value for values in found.values() for value in values.values()]
    low, high = min(numbers), max(numbers)
    return [
        {"label": label, "svg": _svg(drawing.heat_map(table.modalities, values, low, high))}
        for label, values in found.items()
    ]


def _gallery(table: Table, made: Made, options: Options) -> dict[str, Any] | None:
    """Queries of the best method, where test items have characters to show."""
    if made.item.kind != "methods" or table.metric != "map@all":
        return None
    best = [row.line.record for row in table.rows if row.line.record and row.cells["avg"].place == 1]
    if not best:
        return None
    run = made.runs[best[0].key]
    names = run.record.modalities
    if names[0] not in run.record.dataset.named_items:
        return None
    title = f"Queries of {run.record.method.title}"
    root = options.spec.request.data_root
    try:
        data = reload(run, root)
    except DataError as error:
        return {"title": title, "text": f"Not shown: {error}", "answers": []}
    shown = [item.symbol for item in data.items.get(names[0], ())]
    if not any(shown):
        return None
    spread = range(0, len(shown), max(len(shown) // GALLERY, 1))
    answers = []
    for number, row in enumerate(list(spread)[:GALLERY]):
        target = names[1:][number % (len(names) - 1)]
        answers.append(answer(run, names[0], target, f"row:{row}", data_root=root))
    return {
        "title": title,
        "text": "Test queries at even distances in the file, and the ten items ranked first. The character "
        "stands for the item; the method saw features of the modality named, not the character.",
        "answers": answers,
    }


def _cards(methods: Iterable[str]) -> list[dict[str, Any]]:
    known = METHODS.entries()
    found = []
    for name in methods:
        if name in known and not known[name].problem:
            facts = card(known[name])
            protocol: Mapping[str, Any] = facts["protocol"]
            served = [f"{protocol['modalities']} modalities", *protocol["kinds"]]
            served += [word for word in ("pairwise", "transductive") if protocol[word]]
            found.append({**facts, "served": ", ".join(served)})
    return found


def _run(run: StoredRun) -> dict[str, Any]:
    record = run.record
    data, device, versions = record.dataset, record.device, record.versions
    times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in record.timings.items())
    facts = [
        f"{data.source.replace('standin', 'STAND-IN')} data (fingerprint {data.fingerprint[:12]})",
        f"split {record.split}" if record.split else "",
        f"{record.profile} profile, seeds {','.join(map(str, record.seeds))}",
        f"modalities {', '.join(record.modalities)}, {record.scaling} features",
        f"{record.precision} on {device['type']} ({device['name']}, {device['threads']} threads)",
        f"Python {versions['python']}, torch {versions['torch']}, version {versions['suite']}, "
        f"commit {str(versions.get('commit'))[:12]}",
        f"started {record.started}",
        times,
    ]
    curves = []
    for phase, quantities in record.history.items():
        known = quantities if isinstance(quantities, Mapping) else {}
        chosen = {name: known[name] for name in CURVES if drawing.is_curve(known.get(name))}
        if chosen:
            curves.append({"label": phase, "svg": _svg(drawing.training_curve(chosen))})
    return {
        "id": run.folder.name,
        "title": f"{record.method.title} on {data.title}",
        "facts": "; ".join(filter(None, facts)),
        "warnings": record.warnings,
        "curves": curves,
        "recipe": [(name, json.dumps(value.value), value.source) for name, value in record.recipe.items()],
    }
