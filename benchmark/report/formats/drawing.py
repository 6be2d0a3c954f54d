"""Small inline drawings of a page: heat maps of directions and training curves, as SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmark.report.tables import short

CELL = 46
LIGHT, DARK = (244, 248, 252), (8, 64, 129)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
LARGEST = 1e300  # of what numbers can be added up
DASHES = ("", "5 3", "2 2", "8 3 2 3")


def heat_map(names: Sequence[str], values: Mapping[str, float], low: float, high: float) -> str:
    """Queries in rows, databases in columns; darker is better, and every cell has its number.

    Args:
        names: Modalities.
        values: Per ``query->database``.
        low: Value of the lightest colour.
        high: Value of the darkest.
    """
    size = CELL * (len(names) + 1)
    parts = [_open(size, size), "<title>MAP of every direction, row = query, column = database</title>"]
    for place, name in enumerate(names, 1):
        text, at = escape(short(name, names)), CELL * place + CELL / 2
        parts += [_text(at, CELL / 2, text), _text(CELL / 2, at, text)]
    for row, query in enumerate(names, 1):
        for column, database in enumerate(names, 1):
            value = values.get(f"{query}->{database}")
            if value is None:
                continue
            share = min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.0
            red, green, blue = (round(a + share * (b - a)) for a, b in zip(LIGHT, DARK, strict=True))
            x, y = CELL * column, CELL * row
            parts += [
                f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="rgb({red},{green},{blue})"/>',
                _text(x + CELL / 2, y + CELL / 2, f"{value:.3f}", "#fff" if share > 0.5 else "#111"),
            ]
    return "".join([*parts, "</svg>"])


def is_curve(rows: Any) -> bool:
    """Whether this is a list per epoch with one number, or ``None``, per seed; methods may log anything."""
    return isinstance(rows, list) and all(isinstance(row, list) and all(map(_drawn, row)) for row in rows)


def _drawn(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and abs(value) < LARGEST)


def training_curve(quantities: Mapping[str, Sequence[Sequence[float | None]]]) -> str:
    """Quantities of a phase over its epochs, mean over seeds, every one scaled to its own range.

    Args:
        quantities: Per name one list per epoch with one number per seed.
    """
    width, height, left = 260, 120, 6
    parts = [_open(width, height), "<title>training curve</title>"]
    parts += [f'<rect width="{width}" height="{height}" fill="none" stroke="#888" stroke-width=".5"/>']
    for number, (name, rows) in enumerate(quantities.items()):
        means = [sum(v) / len(v) for row in rows if (v := [x for x in row if x is not None])]
        if not means:
            continue
        low, high = min(means), max(means)
        step = (width - 2 * left) / max(len(means) - 1, 1)
        points = " ".join(
            f"{left + step * k:.1f},{height - 24 - (height - 34) * ((m - low) / (high - low or 1)):.1f}"
            for k, m in enumerate(means)
        )
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-dasharray="{dash}"/>',
            f'<text x="{left + 84 * (number % 3)}" y="{height - 12 + 10 * (number // 3)}" font-size="8" '
            f'fill="{colour}">{escape(name)} {means[0]:.3g}→{means[-1]:.3g}</text>',
        ]
    return "".join([*parts, "</svg>"])


def _open(width: int, height: int) -> str:
    size = f'viewBox="0 0 {width} {height}" width="{width}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'


def _text(x: float, y: float, text: str, colour: str = "currentColor") -> str:
    place = 'text-anchor="middle" dominant-baseline="central" font-size="12"'
    return f'<text x="{x}" y="{y}" {place} fill="{colour}">{text}</text>'
