"""Names are completed by the shell's own protocol, quickly, and the completion installs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.cli import completion
from benchmark.core.registry import DATASETS, METHODS
from benchmark.report.catalog import items
from benchmark.studies.file import study_files

START = "import sys; from benchmark.cli.main import main; sys.argv = ['cmr-benchmark', *sys.argv[1:]]; "


@pytest.fixture
def command(tmp_path):
    """Run the installed command, as its script does, in a home folder of its own."""

    def run(*arguments, code="sys.exit(main())", **environment):
        home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
        return subprocess.run(
            [sys.executable, "-c", START + code, *arguments],
            capture_output=True, text=True, check=False, env={**os.environ, **home, **environment},
        )  # fmt: skip

    return run


@pytest.fixture
def complete(command):
    """What bash is offered for a line that ends where the cursor is."""

    def run(line, **options):
        words = line.split(" ")
        asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        done = command(**asked, _CMR_BENCHMARK_COMPLETE="complete_bash", **options)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return run


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("cmr-benchmark run --method d", ["drcl", "drsl", "dscmr"]),
        ("cmr-benchmark run --method drcl --dataset wiki", ["wikipedia", "wikipedia-classic"]),
        ("cmr-benchmark study prior", ["prior-source", "prior-swap"]),
        ("cmr-benchmark study ablation --dataset xmedian", ["xmedianet"]),
        ("cmr-benchmark report tab", ["table2", "table3", "table5", "table6"]),
        ("cmr-benchmark report methods --methods mcca,drc", ["mcca,drcl"]),
        ("cmr-benchmark report methods --dataset xmedia,emoji-", ["xmedia,emoji-coarse"]),
        ("cmr-benchmark show gnn", ["gnn4cmr"]),
        ("cmr-benchmark show-config mcca nus", ["nuswide"]),
        ("cmr-benchmark check mc", ["mcca"]),
        ("cmr-benchmark data describe feat", ["features"]),
        ("cmr-benchmark results export x.zip --method rono", ["rono"]),
        ("cmr-benchmark query a --method mrl --dataset emoji-", ["emoji-coarse"]),
        ("cmr-benchmark run --method nothing", []),
        ("cmr-benchmark stu", ["study"]),
    ],
)
def test_bash_is_offered_the_names_that_fit(complete, line, offered):
    assert sorted(complete(line)) == offered


def test_all_names_are_offered_where_nothing_is_typed():
    assert completion.method_ids("") == METHODS.names()
    assert completion.ids("") == METHODS.names() + DATASETS.names()
    assert completion.study_names("") == ["list", *study_files()]
    assert completion.report_names("") == ["list", "all", *items()]


def test_completing_imports_neither_torch_nor_numpy(complete):
    code = """
import atexit
heavy = ("torch", "numpy", "pandas", "scipy")
atexit.register(lambda: print(*(name for name in heavy if name in sys.modules), sep=chr(10)))
sys.exit(main())
"""
    for line in ("run --method mcc", "run --dataset nusw", "study abl", "report figure2", "check mcc"):
        (name,) = complete(f"cmr-benchmark {line}", code=code)
        assert name in ("mcca", "nuswide", "ablation", "figure2")


def test_names_that_cannot_be_listed_are_not_offered(monkeypatch):
    monkeypatch.setattr(METHODS, "package", "no_such_package")
    assert completion.method_ids("d") == []


@pytest.mark.parametrize("called", ["cmr-benchmark", "python -m benchmark"])
def test_the_completion_installs_for_the_command(command, tmp_path, called):
    """However it was asked for: a shell completes the word that a line begins with."""
    code = (
        "sys.exit(main())" if called == "cmr-benchmark" else "sys.argv[0] = '__main__.py'; sys.exit(main())"
    )
    done = command(
        "--install-completion", "bash", code=code, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert done.returncode == 0, done.stderr
    script = tmp_path / ".bash_completions" / "cmr-benchmark.sh"
    assert "_CMR_BENCHMARK_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_bash_completes_with_what_was_installed(command, tmp_path):
    command("--install-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    script = tmp_path / "bin" / "cmr-benchmark"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\n{START.replace('; ', chr(10))}sys.exit(main())\n")
    script.chmod(0o755)
    ask = f"""
        source {tmp_path}/.bash_completions/cmr-benchmark.sh
        COMP_WORDS=(cmr-benchmark run --method dscm)
        COMP_CWORD=3
        _cmr_benchmark_completion cmr-benchmark
        echo ${{COMPREPLY[@]}}
        complete -p cmr-benchmark
    """
    path = os.pathsep.join([str(script.parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", ask], capture_output=True, text=True, check=True, env={**os.environ, "PATH": path}
    )
    offered, installed = done.stdout.splitlines()
    assert offered == "dscmr"
    assert "-F _cmr_benchmark_completion" in installed


def test_the_help_names_the_command_that_was_called(command):
    assert "Usage: cmr-benchmark " in command("--help").stdout
    assert "--install-completion" in command("--help").stdout
    module = subprocess.run(
        [sys.executable, "-m", "benchmark", "--help"], capture_output=True, text=True, check=True
    )
    assert "Usage: python -m benchmark " in module.stdout


def test_the_script_of_this_environment_is_the_command_meant():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"cmr-benchmark": "benchmark.cli.main:main"}
