"""The examples of CONTRIBUTING.md are real: they install, keep the contract and run, like any package."""

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.runs.recipe import read_layers

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SHOWN = dict(re.findall(r"^`(examples/[^`]+)`:\n\n```\w+\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with both examples installed by pip, without network."""
    folder = tmp_path_factory.mktemp("examples")
    target = folder / "site"
    sources = []
    for example in ("method-plugin", "dataset-plugin"):
        # pip builds in the source folder; the checkout stays clean.
        skip = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
        sources.append(str(shutil.copytree(EXAMPLES / example, folder / example, ignore=skip)))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    done = subprocess.run([*pip, *options, *sources], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def benchmark_command(installed, tmp_path):
    """Run a command of the suite in a process that sees the installed examples; its JSON document."""

    def run(*arguments):
        path = os.pathsep.join(filter(None, [str(installed), os.environ.get("PYTHONPATH", "")]))
        folders = {"BENCHMARK_CACHE": str(tmp_path / "cache"), "BENCHMARK_RESULTS": str(tmp_path / "runs")}
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", *arguments, "--json"],
            capture_output=True, text=True, check=False, env={**os.environ, **folders, "PYTHONPATH": path},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_the_text_shows_the_files_as_they_are():
    files = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for example in ("method-plugin", "dataset-plugin")
        for path in (EXAMPLES / example).iterdir()
        if path.suffix in {".py", ".toml"}
    }
    assert len(files) == 4
    assert files == SHOWN


@pytest.mark.parametrize("name", [name for name in SHOWN if name.endswith(".py")])
def test_an_example_is_short(name):
    assert len(SHOWN[name].splitlines()) < 40


@pytest.mark.parametrize("name", [name for name in SHOWN if name.endswith(".py")])
def test_an_example_uses_public_names_only(name):
    nodes = list(ast.walk(ast.parse(SHOWN[name])))
    taken = {each.name for node in nodes if isinstance(node, ast.Import) for each in node.names}
    assert not any(module.startswith("benchmark") for module in taken)
    ours = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.module.startswith("benchmark")]
    assert ours
    for node in ours:
        assert node.module in ("benchmark", "benchmark.training")
        assert {each.name for each in node.names} <= set(importlib.import_module(node.module).__all__)


def test_the_recipe_of_the_text_is_one(tmp_path):
    (text,) = re.findall(r"^```toml\n(\[paper\].*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    file = tmp_path / "label-ridge.toml"
    file.write_text(text)
    assert set(read_layers(file)) == {"paper", "paper.xmedia", "quick", "tiny"}


@pytest.mark.parametrize("name", ["label-ridge", "digit-halves"])
def test_an_example_keeps_the_contract(benchmark_command, name):
    report = benchmark_command("check", name)
    assert report["passed"]
    assert len(report["checks"]) >= 7
    assert all(check["passed"] for check in report["checks"])


def test_the_examples_run_together(benchmark_command):
    record = benchmark_command(
        "run", "--method", "label-ridge", "--dataset", "digit-halves", "--device", "cpu"
    )
    assert record["method"]["origin"] == "cmr-label-ridge (entry point)"
    for direction in ("upper->lower", "lower->upper"):
        (score,) = record["results"]["map@all"][direction]
        assert 3 * record["chance"][direction] < score < 1
