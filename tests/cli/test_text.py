"""What comes from data is text on a terminal: it is neither markup nor obeyed."""

import io
import os
import sys

import pytest

from benchmark.cli import progress
from benchmark.cli.main import main
from benchmark.cli.text import printable, say, tell
from benchmark.cli.view import console as show_console
from benchmark.cli.view import run as show_run
from benchmark.records.store import Store, StoredRun
from benchmark.report.published import compare
from benchmark.runs.runner import Outcome
from tests.stored import make_record, save

HOSTILE = "[/x][red]:smile:\x1b]0;title\x07\x1b[2J\x9b31m\u202eabc"
SHOWN = "[/x][red]:smile:]0;title[2J31mabc"


class Terminal(io.StringIO):
    """A stream that says it is one."""

    encoding = "utf-8"

    def isatty(self):
        return True

    def __enter__(self):
        self.before = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = self
        return self

    def __exit__(self, *error):
        sys.stdout, sys.stderr = self.before


@pytest.fixture
def terminal(monkeypatch):
    """Standard output and error, within a ``with``, as one terminal without colours of its own."""
    monkeypatch.setenv("TERM", "dumb")
    return Terminal()


def clean(text):
    return not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text)


def test_printable_keeps_letters_and_drops_what_is_obeyed():
    assert printable(HOSTILE) == SHOWN
    assert printable("tab\tline\nübergroß 👩‍🚀 日本") == "tab\tline\nübergroß 👩‍🚀 日本"
    assert printable(os.fsdecode(b"a\xff")) == "a?"


def test_lines_are_cleaned(terminal):
    with terminal:
        say(HOSTILE)
        tell(HOSTILE)
    assert terminal.getvalue() == f"{SHOWN}\n" * 2


def test_everything_a_console_draws_is_cleaned(terminal):
    with terminal:
        out = show_console.console()
        out.print(HOSTILE)
        out.print(show_console.matrix([HOSTILE, "text"], lambda direction: direction))
        show_console.rows((HOSTILE, "b"), [(HOSTILE, 1)], HOSTILE)
        show_console.tree({HOSTILE: [HOSTILE], "a": {HOSTILE: {"b": HOSTILE}}})
    assert clean(terminal.getvalue())
    assert terminal.getvalue().count(SHOWN) >= 8


def test_a_document_of_any_depth_is_drawn(terminal):
    document = 1
    for _ in range(300):
        document = {"a": document}
    with terminal:
        show_console.tree(document)
    assert terminal.getvalue().count("\n") == 33


def test_the_bar_of_a_run_takes_any_name(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    with terminal, progress.reporting(quiet=False) as reporter:
        assert isinstance(reporter, progress.Bar)
        reporter.say(HOSTILE)
        reporter.warn(HOSTILE)
        reporter.epoch(HOSTILE, 1, 2, {HOSTILE: 0.5})
        reporter.epoch(HOSTILE, 2, 2, {HOSTILE: 0.5})
    written = terminal.getvalue()
    assert "[/x]" in written
    assert ":smile:" in written
    assert not {"\x07", "\x9b", "\u202e"} & set(written)
    assert "\x1b]0;title" not in written


def test_a_record_with_hostile_names_is_shown(terminal, tmp_path):
    directions = {f"{a}->{b}": [0.5] for a, b in ((HOSTILE, "text"), ("text", HOSTILE))}
    changes = {"method__title": HOSTILE, "dataset__title": HOSTILE, "warnings": [HOSTILE]}
    record = make_record(results={"map@all": directions, "map@50": directions}, **changes)
    with terminal:
        show_run.outcome(Outcome(StoredRun(tmp_path, record), cached=True), compare(record))
        show_run.stored([record], {})
    assert clean(terminal.getvalue())
    assert "[/x]" in terminal.getvalue()


def test_an_error_is_one_clean_line(terminal, tmp_path):
    with terminal:
        assert main(["results", "show", "--results", str(tmp_path), HOSTILE + "\n"]) == 2
        assert main(["data", "describe", f"{HOSTILE}.toml"]) == 2
    assert clean(terminal.getvalue())
    assert terminal.getvalue().count("\n") == 2


def test_stored_titles_are_cleaned_in_the_list(terminal, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_RESULTS", str(tmp_path / "runs"))
    save(Store(), **{"method__id": "[/x]\x1b[2J"})
    with terminal:
        assert main(["results"]) == 0
    assert "[/x][2J" in terminal.getvalue()
    assert clean(terminal.getvalue())


@pytest.mark.parametrize(
    "command",
    [
        ["score", "{}"],
        ["score", "a={}"],
        ["data", "describe", "{}"],
        ["data", "describe", "{}.toml"],
        ["data", "status", "{}", "--data-root", "{}"],
        ["results", "show", "{}"],
        ["results", "rm", "{}"],
        ["results", "--results", "{}"],
        ["results", "import", "{}"],
        ["study", "{}.toml", "--dataset", "emoji"],
        ["show", "{}"],
        ["run", "--method", "mcca", "--dataset", "emoji", "--data-root", "{}"],
        ["run", "--method", "mcca", "--dataset", "{}.toml"],
    ],
    ids=" ".join,
)
def test_a_name_longer_than_names_can_be_is_one_line(command, terminal, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_RESULTS", str(tmp_path / "runs"))
    with terminal:
        assert main([each.format("x" * 300) for each in command]) == 2
    said = terminal.getvalue().strip()  # a bar that has nothing to show ends its line
    assert said.startswith("error: ")
    assert "\n" not in said
