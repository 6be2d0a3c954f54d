"""The committed reports are what the commands make of the records beside them."""

import re
from pathlib import Path

import pytest

from benchmark.cli.main import main

REPORTS = Path(__file__).parents[2] / "reports"
FOLDER = REPORTS / "emoji" / "image-text"


def test_a_committed_report_is_rendered_again_from_its_records(tmp_path, capsys):
    store, out = str(tmp_path / "runs"), tmp_path / "out"
    assert main(["results", "import", str(FOLDER / "runs.zip"), "--results", store]) == 0
    command = re.search(
        r"`python -m benchmark (report methods [^`]*image-text)`", (REPORTS / "README.md").read_text()
    )
    words = command[1].split()
    words[words.index("--output") + 1] = str(out)
    assert main([*words, "--stored", "--results", store]) == 0, capsys.readouterr().err
    for name in ("methods.md", "methods.tex", "methods.csv"):
        assert (out / name).read_text(encoding="utf-8") == (FOLDER / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize(
    "file", sorted(REPORTS.rglob("*.md")), ids=lambda file: str(file.relative_to(REPORTS))
)
def test_every_committed_table_says_what_its_data_are(file):
    text = file.read_text(encoding="utf-8")
    if file.parent == REPORTS:
        return
    assert "quick profile" in text
    assert ("STAND-IN data" in text) == ("standin" in file.parts)
    assert "Ours - published" not in text  # nothing here is comparable
