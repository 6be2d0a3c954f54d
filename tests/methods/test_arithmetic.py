"""What a method computes does not change under the version it had."""

import json

import pytest

from benchmark.core.registry import METHODS
from tests.methods import arithmetic
from tests.methods.arithmetic import COMMAND, computed, ours, problem, read, renewed


@pytest.mark.parametrize("name", ours())
def test_what_a_method_computes_changes_only_with_its_version(name):
    assert problem(name, read().get(name), computed(name)) == ""


def test_the_table_has_the_methods_there_are():
    assert sorted(read()) == sorted(ours()), f"run `{COMMAND}` to renew the table"


def test_a_changed_formula_is_found_and_not_entered(monkeypatch):
    cls = METHODS.get("mrl").load()
    loss = cls.loss

    def other(self, model, batch):
        terms = loss(self, model, batch)
        return {**terms, "total": terms["total"] * (1 + terms["total"].detach() / 100)}

    kept = read()["mrl"]
    monkeypatch.setattr(cls, "loss", other)
    found = computed("mrl")
    assert "mrl computes something else" in problem("mrl", kept, found)
    assert "raise version in the decorator and run" in problem("mrl", kept, found)
    with pytest.raises(ValueError, match="raise version in the decorator"):
        renewed("mrl", kept, found)
    raised = {**found, "version": 2}
    assert renewed("mrl", kept, raised) == raised
    assert "run `python -m tests.methods.arithmetic`" in problem("mrl", kept, raised)
    with pytest.raises(ValueError, match="version 1 was 2 before"):
        renewed("mrl", raised, found)


def entry(version=1, values="v", number=1.0, fit="recommended, two"):
    return {"version": version, "fits": {fit: {"values": values, "scores": {"a->b": [2.0, number]}}}}


def test_rounding_keeps_an_entry_and_other_values_renew_it():
    kept = entry()
    near = entry(number=1 + 1e-6)
    assert problem("m", kept, near) == ""
    assert renewed("m", kept, near) is kept
    for found in (entry(values="w", number=3.0), entry(fit="published, two")):
        assert "another version or recipe" in problem("m", kept, found)
        assert renewed("m", kept, found) is found
    assert "not in arithmetic.json" in problem("m", None, near)
    assert renewed("m", None, near) is near


def test_the_command_writes_all_or_nothing(monkeypatch, tmp_path, capsys):
    file = tmp_path / "arithmetic.json"
    entries = {"a": entry(), "b": entry()}
    monkeypatch.setattr(arithmetic, "FILE", file)
    monkeypatch.setattr(arithmetic, "ours", lambda: list(entries))
    monkeypatch.setattr(arithmetic, "computed", entries.get)
    arithmetic.main()
    assert json.loads(file.read_text()) == entries
    assert "2 methods, 2 renewed" in capsys.readouterr().out
    before = file.read_bytes()
    entries |= {"a": entry(version=2, number=5.0), "b": entry(number=5.0)}
    with pytest.raises(SystemExit, match=r"b computes something else.*nothing is written"):
        arithmetic.main()
    assert file.read_bytes() == before
    entries["b"] = entry(version=2, number=5.0)
    arithmetic.main()
    assert json.loads(file.read_text()) == entries
