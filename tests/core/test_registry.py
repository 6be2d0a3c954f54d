"""The registry: names are listed cheaply, plugins may break, nothing is taken twice."""

import re
import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint

import pytest

from benchmark.core import registry
from benchmark.core.info import MethodInfo
from benchmark.core.registry import DATASETS, METHODS, Registry, dataset, method
from benchmark.errors import BenchmarkError, UnknownNameError

FACTS = 'title="T", paper="P", venue="V", year=2020, group="paired-free"'
ONE = f'@method("one", {FACTS})\nclass One: ...\n'


class Outside:
    """What a plugin's module would hold."""


@method("outside", title="Outside", paper="P", venue="V", year=2021, group="paired-free")
class Decorated:
    """A decorated plugin class."""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write modules of a package of its own and return the registry that reads it."""

    def write(**sources):
        folder = tmp_path / "plugged"
        folder.mkdir()
        for name, text in {"__init__": "", **sources}.items():
            start = "" if "import" in text else "from benchmark.core.registry import method\n"
            (folder / f"{name}.py").write_text(f"{start}{textwrap.dedent(text)}", encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        for name in [m for m in sys.modules if m.partition(".")[0] == "plugged"]:
            monkeypatch.delitem(sys.modules, name)
        return Registry("method", "plugged", "no.such.group", MethodInfo)

    return write


@pytest.fixture
def with_points(tmp_path, monkeypatch):
    """A registry without modules of ours that sees the given entry points."""

    (tmp_path / "empty_package").mkdir()
    (tmp_path / "empty_package" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(*points, package="empty_package"):
        monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "a.group" else ())
        return Registry("method", package, "a.group", MethodInfo)

    return make


def point(name, value):
    return EntryPoint(name, value, "a.group")


# --- ours


@pytest.mark.parametrize("listed", [METHODS, DATASETS], ids=["methods", "datasets"])
def test_info_read_from_the_source_is_the_info_of_the_class(listed):
    ours = [entry for entry in listed.entries().values() if not entry.external]
    assert ours
    for entry in ours:
        cls = entry.load()
        assert entry.info == cls.info, entry.id
        assert entry.path.name == f"{cls.__module__.rpartition('.')[2]}.py"


def test_our_names_are_sorted_and_loaded_on_demand(package):
    found = package(zebra=ONE.replace("one", "zebra"), ant=ONE.replace("one", "ant"))
    assert list(found.entries()) == ["ant", "zebra"]
    assert "plugged.ant" not in sys.modules
    assert found.get("ant").load().info.id == "ant"
    assert "plugged.ant" in sys.modules


def test_private_modules_and_other_decorators_are_not_listed(package):
    source = """
        import functools
        from elsewhere import method
        @method("three", title="T")
        class C: ...
        @functools.total_ordering
        class A: ...
        @functools.wraps(len)
        class B: ...
    """
    assert package(_hidden=ONE, other=source).entries() == {}


def test_two_of_ours_with_one_name_are_refused_with_both_places(package):
    found = package(first=ONE, second=ONE)
    with pytest.raises(BenchmarkError, match=r"'one'.*twice.*plugged\.first.*plugged\.second"):
        found.entries()


@pytest.mark.parametrize(
    "decorator",
    [
        f"@method(NAME, {FACTS})",
        f'@method("one", {FACTS.replace("2020", "2019 + NEXT")})',
        f'@method("one", {FACTS}, colour="red")',
        '@method("one", title="only")',
        "@method()",
        f'@method("one", "surplus", {FACTS})',
        f'@method("one", **REST, {FACTS})',
    ],
    ids=["name", "value", "unknown", "incomplete", "empty", "surplus", "unpacked"],
)
def test_a_decorator_that_cannot_be_read_is_named_with_file_and_line(package, decorator):
    found = package(odd=f"NAME, NEXT, REST = 'one', 1, {{}}\n\n{decorator}\nclass One: ...\n")
    with pytest.raises(BenchmarkError, match=r"odd\.py:4: @method") as caught:
        found.entries()
    assert "\n" not in str(caught.value)


def test_a_source_that_is_not_python_is_named(package):
    found = package(odd="class One(:\n")
    with pytest.raises(BenchmarkError, match=r"odd\.py:2") as caught:
        found.entries()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("imports", "decorator"),
    [
        ("from benchmark import method", "method"),
        ("from benchmark import method as m", "m"),
        ("import benchmark", "benchmark.method"),
        ("import benchmark as bm", "bm.method"),
        ("import benchmark.core.registry", "benchmark.core.registry.method"),
        ("import benchmark.core.registry as names", "names.method"),
        ("from benchmark.core import registry", "registry.method"),
        ("try:\n    from benchmark import method\nexcept ImportError:\n    pass", "method"),
    ],
)
def test_a_decorator_is_known_however_it_was_imported(package, imports, decorator):
    (entry,) = package(a=f"{imports}\n{ONE.replace('@method', f'@{decorator}')}").entries().values()
    assert entry.info.title == "T"
    assert entry.load().info == entry.info


UNDECORATED = {
    "direct": "from benchmark import Method\n\nclass One(Method): ...",
    "attribute": "import benchmark as bm\n\nclass One(bm.Method): ...",
    "module": "from benchmark.core import method\n\nclass One(method.Method): ...",
    "other-decorator": "from benchmark import Method\n@print\nclass One(Method): ...",
    "same-file": "from benchmark import Method\nclass _Base(Method): ...\nclass One(_Base): ...",
    "same-package": "from ._bases import Base\n\nclass One(Base): ...",
    "absolute": "from plugged import _bases\n\nclass One(_bases.Base): ...",
}


@pytest.mark.parametrize("source", UNDECORATED.values(), ids=UNDECORATED)
def test_a_method_without_a_decorator_is_named_with_file_and_line(package, source):
    found = package(_bases="from benchmark import Method\nclass Base(Method): ...", odd=source)
    with pytest.raises(
        BenchmarkError, match=r"odd\.py:3: One is a Method without @method\(\.\.\.\)"
    ) as caught:
        found.entries()
    assert "\n" not in str(caught.value)


def test_bases_of_methods_and_other_classes_need_no_decorator(package):
    source = """
        import abc
        from dataclasses import dataclass
        from collections import OrderedDict
        from benchmark import Method, Retriever
        class _Private(Method): ...
        class Abstract(Method, abc.ABC): ...
        class Open(Method):
            @abc.abstractmethod
            def network(self): ...
        class Own(Retriever): ...
        class Strange(Strange, OrderedDict, print): ...
        @dataclass
        class Config: ...
    """
    assert package(other=source).entries() == {}


def test_a_decorator_that_is_not_called_is_refused(package):
    with pytest.raises(BenchmarkError, match=r"odd\.py:2: @method takes the id.*no arguments"):
        package(odd="@method\nclass One: ...").entries()


@pytest.mark.parametrize("kind", ["nothing", "namespace"])
def test_methods_that_are_nowhere_are_an_error_that_says_what_to_do(tmp_path, monkeypatch, kind):
    """Not an empty list; a folder of old bytecode is no package either."""
    if kind == "namespace":
        (tmp_path / "gone_package").mkdir()
        monkeypatch.syspath_prepend(str(tmp_path))
    found = Registry("method", "gone_package", "no.such.group", MethodInfo)
    for ask in (found.entries, found.names, lambda: found.get("drcl")):
        with pytest.raises(BenchmarkError, match=r"no package gone_package.*pip install -e \.") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_an_unknown_name_is_answered_with_the_nearest_and_all_valid_ones(package):
    found = package(a=ONE.replace("one", "drcl"), b=ONE.replace("one", "mcca"))
    with pytest.raises(UnknownNameError) as caught:
        found.get("DRLC")
    assert str(caught.value) == "unknown method 'DRLC'; did you mean 'drcl'? Valid: drcl, mcca"
    with pytest.raises(UnknownNameError) as caught:
        found.get("nothing alike")
    assert str(caught.value) == "unknown method 'nothing alike'. Valid: drcl, mcca"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("drlc", "drcl"),  # swapped neighbours are one slip: nearer than drsl
        ("DRCL", "drcl"),
        ("drl", "drcl"),
        ("rdsl", "drsl"),
        ("dscmrr", "dscmr"),
        ("gnn", "gnn4cmr"),
        ("wiki", "wikipedia"),
        ("wikipedia_classic", "wikipedia-classic"),
        ("xyz", ""),
        ("q", ""),
    ],
)
def test_the_name_suggested_is_the_one_with_the_fewest_slips(typed, meant):
    valid = ["dscmr", "drsl", "drcl", "gnn4cmr", "wikipedia-classic", "wikipedia", "mcca"]
    said = re.search(r"did you mean '(.*?)'", str(UnknownNameError("name", typed, valid)))
    assert (said[1] if said else "") == meant


def test_names_are_listed_without_importing_plugins(with_points):
    found = with_points(point("outside", f"{__name__}:Decorated"), point("broken", "no_such_module:X"))
    assert found.names() == ["broken", "outside"]
    assert METHODS.names()[: len(METHODS.entries())] == sorted(METHODS.names())


def test_decorators_attach_the_info_of_their_kind():
    @dataset("d", title="D", modalities=("image", "text"), classes=3, citation="C")
    class Data: ...

    assert (Decorated.info.id, Decorated.info.year) == ("outside", 2021)
    assert (Data.info.id, Data.info.modalities, Data.info.label_form) == ("d", ("image", "text"), "single")


# --- other people's


def test_an_entry_point_is_listed_and_loads_its_class(with_points):
    entry = with_points(point("outside", f"{__name__}:Decorated")).get("outside")
    assert (entry.external, entry.problem) == (True, "")
    assert entry.info == Decorated.info
    assert entry.path.name == "test_registry.py"
    assert entry.load() is Decorated


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("gone", "no_such_module:Thing", "ModuleNotFoundError.*no_such_module"),
        ("gone", f"{__name__}:NoSuchClass", "AttributeError.*NoSuchClass"),
        ("plain", f"{__name__}:Outside", "not decorated with @method"),
        ("other-name", f"{__name__}:Decorated", "called 'other-name' but the class 'outside'"),
    ],
    ids=["module", "class", "undecorated", "misnamed"],
)
def test_a_plugin_that_fails_is_listed_as_unavailable_with_its_reason(with_points, name, value, reason):
    found = with_points(point(name, value), point("outside", f"{__name__}:Decorated"))
    assert re.search(reason, found.entries()[name].problem)
    assert found.get("outside").problem == ""
    with pytest.raises(BenchmarkError, match=f"'{name}'.*unavailable.*{reason}") as caught:
        found.get(name).load()
    assert "\n" not in str(caught.value)


def test_a_plugin_whose_import_raises_many_lines_or_exits_gives_a_one_line_reason(
    with_points, tmp_path, monkeypatch
):
    (tmp_path / "noisy_plugin.py").write_text("raise RuntimeError('first line\\nsecond line')")
    (tmp_path / "exiting_plugin.py").write_text("import sys; sys.exit('no licence')")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = with_points(point("noisy", "noisy_plugin:X"), point("exiting", "exiting_plugin:X")).entries()
    assert found["noisy"].problem == "RuntimeError: first line second line"
    assert found["exiting"].problem == "SystemExit: no licence"


def test_a_plugin_cannot_take_one_of_our_names(package, monkeypatch):
    ours = package(mine=ONE.replace("one", "outside"))
    monkeypatch.setattr(registry, "entry_points", lambda group: (point("outside", f"{__name__}:Decorated"),))
    entries = ours.entries()
    assert entries["outside"].external is False
    (clash,) = [entry for entry in entries.values() if entry.external]
    assert "taken by plugged.mine" in clash.problem
    with pytest.raises(BenchmarkError, match="unavailable"):
        ours.get(clash.id).load()


def test_of_two_plugins_with_one_name_the_second_is_refused(with_points):
    found = with_points(
        point("outside", f"{__name__}:Decorated"), point("outside", f"{__name__}:Outside")
    ).entries()
    assert found["outside"].problem == ""
    (refused,) = [entry for entry in found.values() if entry.id != "outside"]
    assert "taken by" in refused.problem


def test_an_installed_distribution_is_found(tmp_path):
    (tmp_path / "their_method.py").write_text(f"from benchmark.core.registry import method\n{ONE}")
    folder = tmp_path / "their_package-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[benchmark.methods]\none = their_method:One\n")
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        from benchmark.core.registry import METHODS
        entry = METHODS.get("one")
        print(entry.origin, entry.info.year, entry.path.name, entry.load().__name__, sep="|")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "their-package (entry point)|2020|their_method.py|One"
