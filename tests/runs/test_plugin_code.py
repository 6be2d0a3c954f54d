"""A plugin is edited: what it gave before the edit is not taken for what it gives now."""

import importlib
import sys

import pytest

from benchmark.core.plugin import code_of
from benchmark.core.registry import METHODS, Registry
from benchmark.records.store import Store
from benchmark.runs.plan import make_plan
from benchmark.runs.spec import RunSpec
from tests.stored import rewrite, save
from tests.world import World

FILES = {
    "__init__": "",
    "methods/__init__": "",
    "methods/first": """
        from dataclasses import dataclass
        from benchmark import Method, Retriever, method
        @dataclass(frozen=True)
        class Config: ...
        class First(Retriever):
            def embed(self, modality, features):
                from ..settings import COLUMNS
                return features[:, :COLUMNS]
        @method("theirs", title="T", paper="P", venue="V", year=2020, group="paired-free", trained=False)
        class Theirs(Method):
            Config = Config
            def fit(self, train, val, run, log):
                return [First() for _ in run.seeds]
    """,
    "settings": "import os, torch\nfrom . import deep\nCOLUMNS = 1",
    "deep": "from theirs.settings import *",
    "other": "COLUMNS = 7",
}


class Plugin:
    """An installed package with a method, and a helper module beside it that the package also installs."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch = folder, monkeypatch
        for name, text in FILES.items():
            self.write(f"theirs/{name}.py", text)
        self.write("their_helper.py", "HELP = 1")
        about = folder / "their_package-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("[benchmark.methods]\ntheirs = theirs.methods.first:Theirs\n")
        (about / "top_level.txt").write_text("theirs\ntheir_helper\n")
        self.again()

    def write(self, name, text):
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(line.removeprefix(" " * 8) for line in text.splitlines()) + "\n")

    def edit(self, name, old, new):
        file = self.folder / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        self.again()

    def again(self):
        """As a new process would find it."""
        importlib.invalidate_caches()
        for name in [each for each in sys.modules if each.partition(".")[0] in ("theirs", "their_helper")]:
            self.monkeypatch.delitem(sys.modules, name)
        Registry.entries.cache_clear()

    @property
    def code(self):
        return METHODS.get("theirs").code


@pytest.fixture
def world(tmp_path, monkeypatch):
    made = World(tmp_path, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def plugin(world, monkeypatch):
    return Plugin(world.folder, monkeypatch)


RUN = ("run", "--method", "theirs", "--dataset", "blobs", "--device", "cpu")


def test_an_edited_method_is_computed_anew_everywhere(world, plugin, capsys, tmp_path):
    old = world.json(capsys, *RUN)
    assert world.json(capsys, *RUN)["key"] == old["key"]
    table = ("report", "methods", "--dataset", "blobs", "--methods", "theirs", "--output", tmp_path / "out")
    assert world.json(capsys, *table, "--stored")["missing"] == []
    plugin.edit("theirs/settings.py", "COLUMNS = 1", "COLUMNS = 2 + 1")
    assert len(world.json(capsys, *table, "--stored")["missing"]) == 1
    new = world.json(capsys, *RUN)
    assert new["key"] != old["key"]
    assert new["results"] != old["results"]
    assert new["method"]["code"] == plugin.code != old["method"]["code"]
    plugin.edit("theirs/settings.py", "COLUMNS = 2 + 1", "COLUMNS = 1")  # back again: nothing is lost
    assert world.json(capsys, *RUN)["key"] == old["key"]


def test_runs_of_other_code_are_marked_where_they_are_looked_at(world, plugin, capsys):
    old = world.json(capsys, *RUN)
    assert world.json(capsys, "results")["runs"][0]["stale"] == ""
    plugin.edit("theirs/settings.py", "COLUMNS = 1", "COLUMNS = 2 + 1")
    new = world.json(capsys, *RUN)
    said = {run["key"]: run["stale"] for run in world.json(capsys, "results")["runs"]}
    assert said == {old["key"]: "stale: the method's code has changed", new["key"]: ""}
    code, out, _ = world.call(capsys, "results", "show", old["key"][:16])
    assert code == 0
    assert "warning: stale: the method's code has changed\n" in out
    assert "stale" not in world.call(capsys, "results", "show", new["key"][:16])[1]
    assert "stale" in world.call(capsys, "results")[1]
    assert world.json(capsys, "results", "show", old["key"][:16])["stale"]
    ask = ("query", "row:0", "--from", "image", "--to", "text", "--run")
    assert "stale: the method's code has changed" in world.call(capsys, *ask, old["key"][:16])[2]
    assert "stale" not in world.call(capsys, *ask, new["key"][:16])[2]


def test_runs_of_another_version_of_ours_are_stale_and_those_of_methods_that_are_gone_are_not(world, capsys):
    store = Store()
    new, old, gone = save(store, "a"), save(store, "b", method__version=0), save(store, "c", method="gone")
    said = {run["key"]: bool(run["stale"]) for run in world.json(capsys, "results")["runs"]}
    assert said == {new.record.key: False, old.record.key: True, gone.record.key: False}


def test_a_run_of_a_plugin_can_be_imported_whatever_its_code_is_now(world, plugin, capsys):
    run, file = world.json(capsys, *RUN), world.folder / "runs.zip"
    assert run["method"]["code"]
    assert world.call(capsys, "results", "export", file)[0] == 0
    plugin.edit("theirs/settings.py", "COLUMNS = 1", "COLUMNS = 2 + 1")
    found = world.json(capsys, "results", "import", file, "--results", world.folder / "new")
    assert found["added"] == [run["key"][:16]]
    rewrite(world.folder / "new" / run["key"][:16], lambda document: document["method"].pop("code"))
    again = ("--results", world.folder / "new")
    assert world.call(capsys, "results", "export", world.folder / "x.zip", *again)[0] == 0
    code, _, err = world.call(capsys, "results", "import", world.folder / "x.zip")
    assert code == 2
    assert "is not that of the run it describes" in err


def test_phases_of_other_code_are_not_shared(world, plugin):
    def facts():
        return make_plan(RunSpec("theirs", "blobs")).training_data()

    before = facts()
    plugin.edit("theirs/settings.py", "COLUMNS = 1", "COLUMNS = 2 + 1")
    assert facts() != before


@pytest.mark.parametrize("name", ["__init__", "methods/__init__", "methods/first", "settings", "deep"])
def test_the_hash_changes_with_every_module_the_method_reads(plugin, name):
    before = plugin.code
    assert len(before) == 64
    plugin.edit(f"theirs/{name}.py", "\n", "\nX = 1\n")
    assert plugin.code != before


def test_a_module_beside_the_package_counts_once_it_is_imported(plugin):
    before = plugin.code
    plugin.edit("their_helper.py", "HELP = 1", "HELP = 1 + 1")
    assert plugin.code == before
    plugin.edit("theirs/deep.py", "from", "import their_helper\nfrom")
    imported = plugin.code
    plugin.edit("their_helper.py", "HELP = 1 + 1", "HELP = 2 + 1")
    assert len({before, imported, plugin.code}) == 3


def test_modules_it_does_not_read_and_line_ends_make_no_difference(plugin):
    before = plugin.code
    plugin.edit("theirs/other.py", "7", "8 + 1")
    (plugin.folder / "theirs" / "deep.py").write_bytes(b"from theirs.settings import *\r\n")
    plugin.again()
    assert plugin.code == before


def test_the_hash_is_that_of_the_code_that_was_imported(plugin):
    """Edited while a study runs: this process goes on with the old code, and says so."""
    before = plugin.code
    (plugin.folder / "theirs" / "settings.py").write_text("COLUMNS = 5 + 1\n")
    assert plugin.code == before


def test_sources_are_read_without_being_imported(plugin):
    (point,) = (each for each in _points() if each.name == "theirs")
    before = plugin.code
    plugin.again()
    assert code_of(point, "theirs.methods.first") == before
    assert not [name for name in sys.modules if name.startswith("theirs")]


def test_a_record_whose_code_is_no_text_is_refused(world, capsys):
    run = save(Store(), "a", method__code="c" * 64)
    assert Store().starting_with(run.folder.name).record.method.code == "c" * 64
    rewrite(run.folder, method__code=7)
    code, _, err = world.call(capsys, "results", "show", run.folder.name)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "'method.code' is not a text" in err


def _points():
    from importlib.metadata import entry_points

    return entry_points(group="benchmark.methods")
