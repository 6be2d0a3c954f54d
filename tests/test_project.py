"""The project as a whole: what the README promises exists, versions agree, optional parts stay optional."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [
    *PROJECT["dependencies"],
    *(r for extra in PROJECT["optional-dependencies"].values() for r in extra),
]
README, CONTRIBUTING = ((ROOT / f"{name}.md").read_text() for name in ("README", "CONTRIBUTING"))


def commands(text):
    """Arguments of every ``python -m benchmark`` in the shell blocks of a document."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    found = [re.search(r"(?:^|/)python -m benchmark (.*)", line) for line in lines]
    return [match[1] for match in found if match]


def resolve(arguments):
    """The command that the first words name, and the words left; some groups are commands by themselves."""
    import typer

    from benchmark.cli.main import app

    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        if command.invoke_without_command and (not arguments or arguments[0].startswith("-")):
            break
        command = command.commands[arguments.pop(0)]
    return command, arguments


def all_options():
    import typer

    from benchmark.cli.main import app

    open_, found = [typer.main.get_command(app)], set()
    while open_:
        command = open_.pop()
        open_ += getattr(command, "commands", {}).values()
        found.update(option for parameter in command.params for option in parameter.opts)
    return found


def test_the_readme_shows_every_command():
    shown = {line.split()[0] for line in commands(README)}
    wanted = {"list", "doctor", "run", "show-config", "data", "score", "check", "results", "query"}
    assert shown == wanted | {"show", "study", "report"}


@pytest.mark.parametrize("line", dict.fromkeys(commands(README) + commands(CONTRIBUTING)))
def test_a_documented_command_exists_with_its_options(line):
    command, words = resolve(shlex.split(line))
    options = {o: p for p in command.params if p.param_type_name == "option" for o in p.opts}
    places = [p for p in command.params if p.param_type_name == "argument"]
    given, used = [], set()
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            used.add(options[word])
            if not options[word].is_flag:
                words.pop(0)
        else:
            given.append(word)
    assert len(given) >= sum(place.required for place in places)
    assert len(given) <= len(places) or any(place.nargs == -1 for place in places)
    assert {option for option in options.values() if option.required} <= used


@pytest.mark.parametrize(
    ("text", "some"),
    [(README, {"--profile", "--source", "--json"}), (CONTRIBUTING, set())],
    ids=["README", "CONTRIBUTING"],
)
def test_sessions_and_options_in_the_text_exist(text, some):
    source = (ROOT / "noxfile.py").read_text()
    sessions = set(re.findall(r"^@nox.session\ndef (\w+)\(session", source, flags=re.MULTILINE))
    listed = re.findall(r'^    "([\w-]+)": "', source, flags=re.MULTILINE)  # of the studies and reports
    sessions |= {"report", *(name.replace("-", "_") for name in listed)}
    named = {name for names in re.findall(r"nox -s ((?:[a-z0-9]+ ?)+)", text) for name in names.split()}
    assert {"tests", "lint", "types", "layers", "bench"} <= named <= sessions
    options = set(re.findall(r"`[^`\n]*?(--[a-z-]+)", text))
    assert some <= options <= all_options()


@pytest.mark.parametrize("target", re.findall(r"\]\(([^):#]+)\)", README + CONTRIBUTING))
def test_a_file_linked_to_exists(target):
    assert (ROOT / target).is_file()


def test_the_readmes_description_of_own_features_works(tmp_path, capsys):
    from benchmark.cli.main import main

    (tmp_path / "flowers.toml").write_text(re.search(r"^```toml\n(.*?)^```", README, re.M | re.S)[1])
    rng = np.random.default_rng(0)
    arrays = {}
    for split, rows in (("train", 30), ("test", 6)):
        for modality, width in (("photo", 5), ("caption", 3)):
            arrays[f"{split}_{modality}"] = rng.normal(size=(rows, width))
            arrays[f"{split}_{modality}_labels"] = np.array(["rose", "tulip", "lily"])[np.arange(rows) % 3]
    np.savez(tmp_path / "flowers.npz", **arrays)
    assert main(["data", "describe", str(tmp_path / "flowers.toml"), "--json"]) == 0
    assert "photo" in capsys.readouterr().out


def test_the_readmes_notebook_runs(tmp_path, monkeypatch):
    """On a small record in place of one that takes a training to make."""
    from benchmark.runs.runner import Outcome
    from benchmark.studies import notebook
    from tests.stored import save

    def execute(spec, store, *_, force):
        assert (spec.method, spec.dataset, spec.overrides) == ("drcl", "emoji", ("alpha=0.2",))
        return Outcome(save(store, method="drcl", dataset="emoji"), cached=force)

    monkeypatch.setenv("BENCHMARK_RESULTS", str(tmp_path))
    monkeypatch.setattr(notebook, "execute", execute)
    found = {}
    exec(re.search(r"^```python\n(.*?)^```", README, re.M | re.S)[1], found)
    assert found["record"] == found["bm"].load().record


def test_versions_agree():
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)[1]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1]
    assert PROJECT["version"] == citation == newest


# --- pinned versions


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert len(found) == len({canonicalize_name(pin.name) for pin in found})
    return {canonicalize_name(pin.name): pin for pin in found}


def test_every_pin_is_one_version_that_the_project_allows():
    pinned = pins()
    assert all(re.fullmatch(r"==[^*,]+", str(pin.specifier)) for pin in pinned.values())
    assert str(pinned["torch"].specifier) == "==2.13.0"
    for requirement in map(Requirement, DIRECT):
        if requirement.name != PROJECT["name"]:
            (exact,) = pinned[canonicalize_name(requirement.name)].specifier
            assert exact.version in requirement.specifier, requirement


def test_everything_the_project_pulls_in_is_pinned():
    pinned, seen = pins(), set()
    waiting = list(DIRECT)
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if (marker := requirement.marker) and not any(marker.evaluate({"extra": e}) for e in extras):
            continue
        if name in seen or name == PROJECT["name"]:
            continue
        seen.add(name)
        assert name in pinned
        try:
            installed = distribution(name)
        except PackageNotFoundError:  # a tool that is not in this environment
            continue
        if installed.version in pinned[name].specifier:  # another version has other needs
            waiting += installed.requires or []
    assert {"torch", "numpy", "sympy", "click"} & seen


# --- optional parts, and what must not be committed


def test_everything_imports_without_the_parts_needed_only_when_used():
    code = """
        import importlib, pkgutil, sys

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("h5py", "requests", "matplotlib", "seaborn", "tabulate"):
                    raise ModuleNotFoundError(f"{name} is not needed yet", name=name)

        sys.meta_path.insert(0, Absent())
        import benchmark

        for prefix in ("benchmark.", "benchmark.methods.", "benchmark.datasets."):
            path = importlib.import_module(prefix[:-1]).__path__[:1]
            for module in pkgutil.walk_packages(path, prefix):
                apart = ("benchmark.__main__", "benchmark.report", "benchmark.datasets.build")
                if not module.name.startswith(apart):
                    importlib.import_module(module.name)
        from benchmark.cli.main import main
        sys.exit(main(["list", "datasets"]) or main(["list", "methods"]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "xmedia" in done.stdout
    assert "drcl" in done.stdout


def committed():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_committed_files_speak_of_this_project_only():
    """No path of the machine something was written on, no document that is not here."""
    foreign = re.compile(rb"(?<!\w)(?:/work/|shared/|DESIGN\.md|STYLE\.md|spec/(?:methods|datasets))")
    allowed = {ROOT / ".ci/run", Path(__file__)}
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line[:100]!r}"
        for path in committed()
        if path not in allowed and path.suffix not in {".npz", ".png"}
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if foreign.search(line)
    ]
    assert not found, "\n".join(found)


def test_missing_real_data_fail_where_they_are_required(tmp_path):
    """Otherwise a check that quietly stopped running would look like one that passes."""
    (tmp_path / "test_needs.py").write_text(
        "import pytest\n\n@pytest.mark.real_data\ndef test_needs(data_folder):\n    data_folder('none')\n"
    )

    def outcome(**environment):
        call = [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            str(ROOT / "pyproject.toml"),
            "--rootdir",
            str(tmp_path),
        ]
        call += ["-p", "tests.conftest", "-p", "no:cacheprovider", str(tmp_path)]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("BENCHMARK_", "PYTEST_"))}
        done = subprocess.run(
            call, capture_output=True, text=True, check=False, cwd=ROOT, env={**inherited, **environment}
        )
        return done.returncode, done.stdout

    code, text = outcome()
    assert (code, "1 skipped" in text) == (0, True), text
    code, text = outcome(BENCHMARK_REQUIRE_DATA="1")
    assert code == 1, text
    assert "real data are missing" in text
    assert "BENCHMARK_DATA is not set" in text
