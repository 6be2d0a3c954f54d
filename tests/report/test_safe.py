"""What names, titles and labels say stays text in every format."""

import csv
import io
import re

import pytest

from benchmark.report.formats import csv as csvs
from benchmark.report.formats import latex, markdown, page
from benchmark.report.formats.figures import critical_difference_svg
from benchmark.report.tables import Line, build
from tests.report.records import make_record

EVIL = {
    "tag": "<script>alert(1)</script>",
    "comment": "<!-- hidden",
    "cell": "a | b \\| c \\\\| d",
    "line": "a\n# b\r\n| c |",
    "code": "a ` b `` <i>",
    "link": "[a](javascript:alert(1)) ![b](http://c)",
    "input": "}\\input{/etc/passwd}{",
    "control": "a\x00b\x1b[31mc\u2028d",
    "dollars": r"$\frac{$ and $x$",
    "formula": "=1+1",
    "plus": "+1+1",
    "minus": "-1+1",
    "at": "@SUM(A1)",
    "tab": "\t=1+1",
}


@pytest.fixture(params=EVIL.values(), ids=EVIL)
def evil(request):
    return request.param


def table_of(evil, record):
    missing = Line(evil, None, reason=evil, command=f"python -m benchmark run '{evil}'")
    lines = [Line(evil, record, {"avg": 0.5}, note=evil), missing]
    return build(f"table-{evil}", evil, lines, notes=(evil,))


@pytest.fixture
def table(evil):
    record = make_record(dataset__title=evil, dataset__split=evil, dataset__splits=["a", evil], words=[evil],
                         versions__suite=evil, method__title=evil)  # fmt: skip
    return table_of(evil, record)


def test_markdown_has_no_tags_links_or_cells_of_their_own(table):
    text = markdown.render(table)
    outside = re.sub(r"(`+) ?.*?\1", "", re.sub(r"\\[\\`|]", "", text))  # escaped characters, code
    assert not re.search(r"<(?!/?u>)[A-Za-z/!?]", outside)
    assert "](" not in outside
    assert "`" not in outside
    rows = [line for line in text.splitlines() if line.startswith("|")]
    columns = [len(re.sub(r"\\[\\|]", "", row).split("|")) for row in rows]
    assert set(columns) == {len(table.columns) + 3, 5}
    assert [line for line in text.splitlines() if line.startswith("# ")] == []
    assert all(line.isprintable() for line in text.split("\n"))


def test_latex_has_no_commands_of_their_own(table):
    text = latex.render([table])
    assert r"\input" not in text
    labels = re.findall(r"\\label{(.*)}", text)
    assert all(re.fullmatch(r"tab:[A-Za-z0-9.:_/-]+", label) for label in labels)
    assert all(line.isprintable() for line in text.split("\n"))
    bare = text.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    for formula in re.findall(r"(?<!\\)\$(.*?)(?<!\\)\$", text):
        assert formula.startswith((r"\to", r"\pm"))


def test_spreadsheets_compute_nothing(table):
    rows = list(csv.DictReader(io.StringIO(csvs.render(table))))
    assert len(rows) == 2 * len(table.columns)
    for row in rows:
        for name, value in row.items():
            if value.startswith(("=", "+", "-", "@", "\t")):
                float(value)
                assert name not in csvs.WORDS


def test_numbers_in_a_spreadsheet_keep_their_sign():
    table = build("t", "T", [Line("a", make_record(), {"avg": 0.9})])
    last = list(csv.DictReader(io.StringIO(csvs.render(table))))[-1]
    assert float(last["difference"]) == pytest.approx(0.45 - 0.9)


def test_a_page_and_its_drawings_have_no_tags_of_their_own(table, evil):
    assert page._table(table)["title"] == evil  # the template escapes what it is given
    drawn = critical_difference_svg({evil: 1.0, "b": 2.0}, [], 1.0)
    assert "<script" not in drawn
    assert "<!-- hidden -->" not in drawn


def test_what_is_safe_stays_as_it_is():
    for text in (
        "A > B (+0.1)",
        "0.5 < 0.6",
        "image→text",
        "a_b*c",
        "--split 1",
        "x ± y",
        "[1]",
    ):
        assert markdown.plain(text) == text
    assert markdown.code("python -m benchmark") == "`python -m benchmark`"
    assert latex.escape("A > B_1") == r"A \textgreater{} B\_1"
