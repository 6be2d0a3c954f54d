"""Tables: placement, comparison, refusal to mix, and the layouts."""

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmark.records.comparable import IncomparableError
from benchmark.report.catalog import items, methods_of
from benchmark.report.formats import csv as csvs
from benchmark.report.formats import latex, markdown
from benchmark.report.published import published_numbers
from benchmark.report.tables import Line, build, caption, heading, places
from tests.report.records import make_record

PUBLISHED = Path("results/published")


def published_table(dataset):
    """A published table through our own code."""
    lines = [Line(name, None, published_numbers(dataset, name), reason="-") for name in methods_of(dataset)]
    return build("t", dataset, lines)


def cells(text, kind):
    """Rows of the first table after a heading of a Markdown text, by their first cell."""
    lines = text.partition(f"### {kind}")[2].partition("###")[0].splitlines()
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[2:]}, rows[0][1:]


@pytest.mark.parametrize(
    ("dataset", "file"),
    [(d, "table2_map_all.csv") for d in ("xmedia", "xmedianet")]
    + [(d, "table3_map_all.csv") for d in ("wikipedia", "websearch", "nuswide")],
)
def test_the_published_tables_come_out_as_printed(dataset, file):
    with (PUBLISHED / file).open(newline="") as lines:
        printed = [row for row in csv.DictReader(lines) if row["dataset"] == dataset]
    table = published_table(dataset)
    rows, head = cells(markdown.render(table), "Published")
    columns = dict(zip(table.columns, head, strict=True))
    assert len(printed) == sum(map(len, rows.values()))
    best = {}
    for row in printed:  # every number, digit by digit
        shown = rows[row["method"]][head.index(columns[row["direction"]])]
        assert re.sub(r"[*]|</?u>", "", shown) == row["map_all"]
        best.setdefault(row["direction"], []).append((row["map_all"], shown))
    for column in best.values():  # and the largest of every column is bold, nothing else
        top = max(value for value, _ in column)
        assert [shown.startswith("**") for _, shown in column] == [value == top for value, _ in column]


def test_published_numbers_that_anybody_can_look_up():
    rows, head = cells(markdown.render(published_table("xmedia")), "Published")
    assert head[:4] == ["I→T", "I→A", "I→3D", "I→V"]
    assert rows["drcl"][-1] == "**0.630**"
    assert rows["mars"][-1] == "<u>0.590</u>"
    text = markdown.render(published_table("xmedia"))
    assert "prints an average of 0.379 for mrl; the mean of its columns is 0.37845" in text


def test_best_and_second_by_what_is_printed():
    assert places([0.5004, 0.5001, 0.3, None, 0.4]) == [1, 1, 0, 0, 2]
    assert places([0.5]) == [0]
    assert places([None, None]) == [0, 0]


def test_our_numbers_beside_published_ones():
    maps = ((0.501, 0.400), (0.503, 0.402), (0.502, 0.401))
    lines = [
        Line("DRCL", make_record(maps=maps), {"image->text": 0.5, "text->image": 0.6, "avg": 0.55}),
        Line("SDML", make_record("sdml", ((0.3, 0.5),) * 3), {}),
        Line("MAN", None, {"avg": 0.1}, reason="not computed", command="python -m benchmark run"),
    ]
    table = build("t3", "Table", lines)
    drcl = table.rows[0].cells
    assert drcl["image->text"].verdict.verdict == "equivalent"
    assert drcl["text->image"].verdict.verdict == "different (lower)"
    assert drcl["avg"].difference == pytest.approx(0.4515 - 0.55)
    assert (drcl["image->text"].place, drcl["text->image"].place) == (1, 2)
    text = markdown.render(table)
    assert "**0.502** ±0.002" in text
    assert "-0.199" in text
    assert "different (lower)" in text
    assert "not computed | `python -m benchmark run`" in text
    assert "MAN" not in cells(text, "Ours - published")[0]


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"profile": "quick"}, "quick profile"), ({"dataset__source": "standin"}, "stand-in data")],
)
def test_what_is_not_comparable_is_not_judged(changes, word):
    line = Line("DRCL", make_record(maps=((0.5, 0.4),) * 2, **changes), {"avg": 0.45})
    table = build("t", "Table", [line])
    assert table.rows[0].cells["avg"].verdict is None
    text = markdown.render(table)
    assert f"Not comparable with the published numbers: {word}." in text
    assert "Ours - published" not in text
    assert ("STAND-IN" in text) == ("source" in str(changes))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"profile": "quick"}, "profile"),
        ({"dataset__source": "standin"}, "source"),
        ({"comparability__fingerprint": "0", "dataset__fingerprint": "0"}, "fingerprint"),
        ({"comparability__metric_version": 9}, "metric_version"),
        ({"comparability__label_noise": {"ratio": 0.4}}, "label_noise"),
    ],
)
def test_runs_that_differ_are_refused_with_the_field(changes, field):
    lines = [Line("a", make_record()), Line("b", make_record("sdml", **changes))]
    with pytest.raises(IncomparableError, match=field):
        build("t", "Table", lines)


def test_the_caption_says_what_the_numbers_are():
    text = caption(build("t", "Table", [Line("DRCL", make_record(maps=((0.5, 0.4),) * 3))]))
    for word in ("MAP@all", "official data", "paper profile", "3 seeds", "95 %", "2026-01-02", "0.1.0"):
        assert word in text
    assert "found within k" in text  # the definition of the metric


def test_csv_holds_every_number():
    lines = [Line("DRCL", make_record(maps=((0.5, 0.4), (0.52, 0.4))), {"avg": 0.46})]
    lines.append(Line("MAN", None, {"avg": 0.1}, reason="not computed"))
    rows = list(csv.DictReader(io.StringIO(csvs.render(build("t", "Table", lines)))))
    assert len(rows) == 6
    found = {(row["label"], row["direction"]): row for row in rows}
    one = found["DRCL", "image->text"]
    assert (float(one["mean"]), float(one["low"]) < 0.51 < float(one["high"])) == (0.51, True)
    assert found["DRCL", "avg"]["verdict"]
    assert found["MAN", "avg"]["missing"] == "not computed"
    assert found["MAN", "avg"]["published"] == "0.100"


def test_headings_are_short_unless_letters_clash():
    names = ("image", "text", "audio", "3d", "video")
    assert [heading(c, names) for c in ("image->3d", "avg")] == ["I→3D", "Avg"]
    assert heading("text->tactile", ("text", "tactile")) == "text→tactile"


def test_latex_spells_special_characters_out():
    assert latex.escape("a_b & 95 % -> {x}\\") == r"a\_b \& 95 \% $\to$ \{x\}\textbackslash{}"


@pytest.mark.parametrize(("profile", "tables"), [("paper", 1), ("quick", 2)])
def test_latex_never_mixes_what_is_not_comparable(profile, tables):
    line = Line("DRCL", make_record(profile=profile), {"avg": 0.45, "image->text": 0.5})
    text = latex.environment(build("t3", "Table", [line]))
    assert text.count(r"\begin{table}") == tables
    first = text.partition(r"\end{table}")[0]
    assert ("as published" in first) == (tables == 1)
    assert "0.450" in first  # our own average, printed in either


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex (Debian: texlive-latex-extra)")
def test_latex_compiles_as_it_is(tmp_path):
    ours = build(
        "t3",
        "Table & more_less",
        [
            Line("DRCL", make_record(maps=((0.5, 0.4),) * 2), {"avg": 0.45}, "100 % of it"),
            Line("MAN", None, {"avg": 0.1}, reason="it_failed"),
        ],
    )
    file = tmp_path / "t.tex"
    file.write_text(latex.render([published_table("xmedia"), ours]), encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", file.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert (tmp_path / "t.pdf").read_bytes().startswith(b"%PDF")


def test_the_catalog_names_what_the_publication_shows():
    assert {"table2", "table3", "map50", "table5", "table6", "figure2", "figure3"} <= set(items())
