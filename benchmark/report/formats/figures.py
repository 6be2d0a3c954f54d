"""Figures: PNG, PDF and SVG of the same drawing, readable in grey and by colour-blind readers.

Lines differ in colour, dash and marker; files do not depend on when they were made.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.disk import whole
from benchmark.report.made import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf", "svg")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "osD^vPX<>*"
SHADES = 10
"""Colours of the palette."""


def draw(panels: Sequence[Panel], file: Path, note: str = "", columns: int = 2) -> list[Path]:
    """Draw panels side by side, with one legend, and save them.

    Args:
        panels: One or more.
        file: Path without suffix.
        note: Small print below.
        columns: Panels per line.

    Returns:
        The files, one per format.
    """
    with _style():
        return _save(_figure(panels, note, columns), file)


def svg(panels: Sequence[Panel], columns: int = 2) -> str:
    """The same drawing as text, to be put into a page."""
    with _style():
        return _text(_figure(panels, "", columns))


def _text(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _style() -> AbstractContextManager[None]:
    """Settings while a figure is drawn and saved; with a fixed salt the names inside an SVG repeat."""
    import matplotlib as mpl
    import seaborn as sns

    style: dict[Any, Any] = {**sns.axes_style("whitegrid"), **sns.plotting_context("paper")}
    return mpl.rc_context(
        style
        | {"svg.hashsalt": "cmr-benchmark", "svg.fonttype": "path", "pdf.fonttype": 42}
        | {"text.parse_math": False}  # a title with dollars is no formula
    )


def _save(figure: Figure, file: Path) -> list[Path]:
    """One file per format, without the time in it; each is replaced in one step."""
    files = []
    for kind in FORMATS:
        path = file.with_suffix(f".{kind}")
        when: dict[str, Any] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
        with whole(path) as stream:
            figure.savefig(stream, format=kind, metadata=when, dpi=160)
        files.append(path)
    return files


def _figure(panels: Sequence[Panel], note: str, columns: int) -> Figure:
    import seaborn as sns
    from matplotlib.figure import Figure

    columns = min(columns, len(panels))
    lines = -(-len(panels) // columns)
    labels = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    figure = Figure(figsize=(4.2 * columns + 1.6, 3.4 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    colours = sns.color_palette("colorblind", SHADES)
    for panel, at in zip(panels, axes, strict=False):
        _panel(at, panel, {label: n for n, label in enumerate(labels)}, colours)
    for at in axes[len(panels) :]:
        at.set_visible(False)
    if len(labels) > 1 or any(panel.level is not None for panel in panels):
        pairs = [zip(*at.get_legend_handles_labels(), strict=True) for at in axes]
        handles = {text: handle for each in pairs for handle, text in each}
        figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
    if note:
        figure.supxlabel("\n".join(wrap(note, 62 * columns)), fontsize=6, color="0.25")
    return figure


def _panel(at: Axes, panel: Panel, number: Mapping[str, int], colours: Sequence[Any]) -> None:
    at.set_title(panel.title, fontsize=9)
    at.set_xlabel(panel.x)
    at.set_ylabel(panel.y)
    for curve in panel.curves:
        n = number[curve.label]
        mean, colour = curve.y.mean(axis=0), colours[n % SHADES]
        if panel.bars:
            wide = 0.8 / max(len(number), 1)
            spread = curve.y.std(axis=0, ddof=1) if len(curve.y) > 1 else None
            at.bar(
                curve.x + wide * (n - (len(number) - 1) / 2),
                mean,
                wide,
                yerr=spread,
                color=colour,
                edgecolor="0.2",
                hatch=("", "//", "..", "xx")[n % 4],
                label=curve.label,
            )
            continue
        few = len(curve.x) <= 12
        every = 1 if few else (n % 7 + 5, max(len(curve.x) // 6, 1))
        at.plot(
            curve.x,
            mean,
            color=colour,
            linestyle=DASHES[
                (n + n // SHADES) % len(DASHES)
            ],  # a colour that comes again is dashed otherwise
            marker=MARKERS[n % len(MARKERS)],
            markerfacecolor=colour if n < len(MARKERS) else "white",
            markevery=every,
            markersize=4,
            linewidth=1.2,
            label=curve.label,
        )
        if len(curve.y) > 1:
            at.fill_between(curve.x, curve.y.min(axis=0), curve.y.max(axis=0), color=colour, alpha=0.15)
    if panel.level is not None:
        at.axhline(panel.level, color="0.4", linewidth=0.8, linestyle=(0, (1, 2)), label="random ranking")
    if panel.categories:
        at.set_xticks(np.arange(len(panel.categories)), panel.categories)


def critical_difference(
    ranks: Mapping[str, float], groups: Sequence[Sequence[str]], difference: float, file: Path, note: str = ""
) -> list[Path]:
    """Average ranks on a line, with bars over methods that do not differ significantly.

    Args:
        ranks: Average rank per method, 1 is best.
        groups: Sets of methods within the critical difference of each other.
        difference: The critical difference.
        file: Path without suffix.
        note: Small print below.
    """
    with _style():
        return _save(_ranks(ranks, groups, difference, note), file)


def critical_difference_svg(
    ranks: Mapping[str, float], groups: Sequence[Sequence[str]], difference: float
) -> str:
    """The same as text, to be put into a page."""
    with _style():
        return _text(_ranks(ranks, groups, difference, ""))


def _ranks(
    ranks: Mapping[str, float], groups: Sequence[Sequence[str]], difference: float, note: str
) -> Figure:
    from matplotlib.figure import Figure

    names = sorted(ranks, key=lambda name: ranks[name])
    half = -(-len(names) // 2)
    figure = Figure(figsize=(7, 1.6 + 0.2 * half + 0.12 * len(groups)), layout="constrained")
    at = figure.subplots()
    aside = 0.18 * len(names)  # room for the labels beside the ranks
    at.set_xlim(1 - aside, len(names) + aside)
    top = 0.35 * len(groups) + 0.5
    at.set_ylim(-half - 0.5, top + 1.2)
    at.axis("off")
    at.plot([1, len(names)], [top, top], color="black", linewidth=1)
    for tick in range(1, len(names) + 1):
        at.plot([tick, tick], [top, top + 0.2], color="black", linewidth=1)
        at.text(tick, top + 0.3, str(tick), ha="center", va="bottom")
    at.plot([1, 1 + difference], [top + 1.1, top + 1.1], color="black", linewidth=2)
    at.text(1 + difference + 0.1, top + 1.1, f"critical difference {difference:.2f}", va="center")
    for place, name in enumerate(names):
        left = place < half
        y = -(place if left else len(names) - 1 - place) - 0.2
        end = 1 - aside if left else len(names) + aside
        at.plot([ranks[name], ranks[name], end], [top, y, y], color="0.3", linewidth=0.8)
        text = f"{name} ({ranks[name]:.2f})"
        at.text(end, y + 0.05, text, ha="left" if left else "right", va="bottom", fontsize=8)
    for number, group in enumerate(groups):
        ends = [ranks[name] for name in group]
        y = top - 0.3 * (number + 1)
        at.plot([min(ends) - 0.04, max(ends) + 0.04], [y, y], color="black", linewidth=2.5)
    if note:
        figure.supxlabel(note, fontsize=6, color="0.25")
    return figure
