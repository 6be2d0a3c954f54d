"""TOML from outside is read within bounds; whatever lies beyond them is one line."""

import os
import time

import pytest
from benchmark.datasets.features import read_description

from benchmark.core.toml import MOST, parse_toml, read_toml
from benchmark.errors import DataError, RecipeError
from benchmark.runs.recipe import read_layers
from benchmark.studies.file import read_document

BEYOND = {
    "lists in lists": ("notes = " + "[" * 3000 + "]" * 3000, "more than 32"),
    "lists that the parser can follow": ("notes = " + "[" * 200 + "]" * 200, "more than 32"),
    "tables in tables": ("notes = " + "{a = " * 3000 + "1" + "}" * 3000, "more than 32"),
    "a key of many parts": (".".join(["a"] * 20_000) + " = 1", "more than 32"),
    "a key of many quoted parts": (" . ".join(["'a b'"] * 20_000) + " = 1", "more than 32"),
    "a table of many parts": ("[" + ".".join(["a"] * 20_000) + "]", "more than 32"),
    "a number of 400 digits": ("seed = " + "9" * 400, "larger than 64 bits"),
    "a number of 5,000 digits": ("seed = " + "9" * 5000, "larger than 64 bits"),
    "a date": ("seed = 1979-05-27", "date"),
    "bytes": (b"\xff\xfe", "decode"),
    "twenty megabytes": ("# " + "x" * 20_000_000, "more than the 1,048,576 allowed"),
}


@pytest.mark.parametrize("what", BEYOND)
@pytest.mark.parametrize(
    ("read", "kind"),
    [(read_description, DataError), (read_layers, RecipeError), (read_document, RecipeError)],
)
def test_what_is_beyond_the_bounds_is_refused(read, kind, what, tmp_path):
    text, reason = BEYOND[what]
    file = tmp_path / "a.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    begun = time.monotonic()
    with pytest.raises(kind, match=reason) as caught:
        read(file)
    assert time.monotonic() - begun < 2
    assert "a.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("path", ["a.toml", "/dev/zero"])
def test_only_regular_files_are_opened(path, tmp_path):
    os.mkfifo(tmp_path / "a.toml")
    with pytest.raises(ValueError, match="not a regular file"):
        read_toml(tmp_path / path)


def test_what_is_within_them_is_read():
    text = "a = [[1, -2.5], [true]]\nb.c.'d e' = 'word. word. word'\n[x.y]\nz = {u = 9223372036854775807}\n"
    assert parse_toml(text) == {
        "a": [[1, -2.5], [True]],
        "b": {"c": {"d e": "word. word. word"}},
        "x": {"y": {"z": {"u": 2**63 - 1}}},
    }
    dots = "1.5, " * 1000
    assert len(parse_toml(f"a = [{dots}]\nb = '{'Of words. ' * 1000}'")["a"]) == 1000
    many = "".join(f"key_{i} = {i}\n" for i in range(50_000))
    assert len(many) < MOST
    assert len(parse_toml(many)) == 50_000
