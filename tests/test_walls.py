"""What may import what: the contracts of pyproject.toml have no holes, and fail when they are broken."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOPS = ("benchmark", "methods", "datasets")
LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
ALLOWED = {
    "methods": {"core", "training", "evaluation", "arrays", "errors"},
    "datasets": {"core", "evaluation", "arrays", "disk", "errors"},
}
FORBIDDEN = {
    top: {name.removeprefix("benchmark.") for name in contract["forbidden_modules"]}
    for contract in LINTER["contracts"]
    for top in ALLOWED
    if contract["type"] == "forbidden" and contract["source_modules"] == [top]
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the sources to break contracts in, with the graph of what is unchanged remembered."""
    folder = tmp_path_factory.mktemp("tree")
    for top in TOPS:
        shutil.copytree(ROOT / top, folder / top, ignore=shutil.ignore_patterns("__pycache__", "*_data"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture
def lint(tree):
    """Run the linter with a module added to a top folder; its exit code and what it says."""
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    written = []

    def run(**sources):
        for top, source in sources.items():
            written.append(tree / top / "added.py")
            written[-1].write_text(source)
        code = "import sys; from importlinter.cli import lint_imports_command as run; sys.exit(run())"
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=False, env=env
        )
        return done.returncode, done.stdout + done.stderr

    yield run
    for file in written:
        file.unlink()


@pytest.mark.parametrize("top", ALLOWED)
def test_every_module_of_the_harness_is_allowed_or_forbidden(top):
    """By folder, so that a module added to one is on its side of the wall without anybody thinking of it."""
    places = (ROOT / "benchmark").iterdir()
    there = {p.stem for p in places if p.suffix == ".py" or (p / "__init__.py").is_file()} - {"__init__"}
    assert ALLOWED[top] | FORBIDDEN[top] == there
    assert not ALLOWED[top] & FORBIDDEN[top]


def test_what_is_allowed_passes(lint):
    public = "from benchmark import Method, Retriever, method\nimport benchmark as bm\n"
    private = "from benchmark.core.method import Method\nfrom benchmark.errors import DataError\n"
    source = f"{public}{private}from benchmark import arrays\n"
    code, said = lint(
        methods=f"{source}from benchmark.training import Adam\nfrom benchmark.training.loop import Loop\n",
        datasets=f"{source}from benchmark.disk import whole\n",
    )
    assert code == 0, said
    assert "0 broken" in said


@pytest.mark.parametrize("name", sorted(FORBIDDEN["methods"] | FORBIDDEN["datasets"]))
def test_what_is_forbidden_is_found_and_named(lint, name):
    folder = ROOT / "benchmark" / name
    inner = next((f".{p.stem}" for p in sorted(folder.glob("[!_]*.py"))), "")
    source = f"def late():\n    from benchmark import {name}\n    import benchmark.{name}{inner}\n"
    tops = [top for top, forbidden in FORBIDDEN.items() if name in forbidden]
    code, said = lint(**dict.fromkeys(tops, source))
    assert code == 1, said
    for top in tops:
        assert f"{top}.added -> benchmark.{name} ({'l.2' if inner else 'l.2, l.3'})" in said
        assert not inner or f"{top}.added -> benchmark.{name}{inner} (l.3)" in said


@pytest.mark.parametrize(
    ("top", "source"),
    [
        ("benchmark/core", "import methods.drcl"),
        ("benchmark/core", "from datasets import emoji"),
        ("benchmark/core", "from benchmark.records import store"),
        ("benchmark/evaluation", "from benchmark import training"),
        ("benchmark", "folder = 1"),
        ("methods", "import datasets.emoji"),
        ("datasets", "import methods.drcl"),
    ],
)
def test_the_other_contracts_are_alive_too(lint, top, source):
    code, said = lint(**{top: source})
    assert code == 1, said
    assert "added" in said


def imported(file):
    """Dotted names of everything a module imports, by the names it has at run time."""
    top, *inner = file.relative_to(ROOT).with_suffix("").parts
    package = [*(("benchmark",) if top == "benchmark" else ("benchmark", top)), *inner[:-1]]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*home, *filter(None, [node.module])])
            yield from (f"{module}.{each.name}" for each in node.names)


@pytest.mark.parametrize("top", TOPS)
def test_no_import_goes_round_the_wall_by_another_name(top):
    """In a checkout the linter sees methods and datasets beside the harness; they run as parts of it."""
    names = {"methods": ("datasets",), "datasets": ("methods",), "benchmark": ("methods", "datasets")}[top]
    ways = tuple(f"{prefix}{name}" for name in names for prefix in ("", "benchmark."))
    found = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in (ROOT / top).rglob("*.py")
        for name in imported(file)
        if any(name == way or name.startswith(f"{way}.") for way in ways)
    ]
    assert not found
