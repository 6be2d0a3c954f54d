"""Checks of the project: `nox` runs them all, `nox -s tests -- -k drcl` one of them with arguments.

Every session runs in one environment, made once per Python version under .nox/ with plain venv and pip
(torch alone weighs more than the checks together) and brought up to date when pyproject.toml or
constraints.txt change.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "types", "layers", "tests"]
nox.options.default_venv_backend = "none"  # environment() below makes the one they share

ROOT = Path(__file__).parent
INPUTS = ("pyproject.toml", "constraints.txt")


def environment(session: nox.Session) -> Path:
    """Return the folder of the shared environment's commands, installing the project first where needed."""
    folder = session.cache_dir.parent / f"py{sys.version_info.major}.{sys.version_info.minor}"
    commands = folder / ("Scripts" if os.name == "nt" else "bin")
    wanted = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in INPUTS))
    wanted.update(f"{ROOT}|{sys.version}".encode())
    stamp = folder / "installed"
    if not (stamp.exists() and stamp.read_text() == wanted.hexdigest()):
        stamp.unlink(missing_ok=True)
        session.run(sys.executable, "-m", "venv", str(folder), external=True)
        pip = (str(commands / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        session.run(*pip, "--constraint", "constraints.txt", "--editable", ".[dev]", external=True)
        stamp.write_text(wanted.hexdigest())
    return commands


def run(session: nox.Session, command: str, *arguments: str, **env: str) -> None:
    """Run a command of the shared environment."""
    session.run(str(environment(session) / command), *arguments, external=True, env=env)


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite, in two processes of one thread each (`-- -n0` for one process)."""
    run(session, "pytest", "-n", "2", *session.posargs, OMP_NUM_THREADS="1")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and common mistakes."""
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Static types, strict."""
    run(session, "mypy", *session.posargs)


@nox.session
def layers(session: nox.Session) -> None:
    """Which folder may import which."""
    run(session, "lint-imports", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Speed and memory, with the numbers printed."""
    run(session, "pytest", "tests/bench", "--benchmark-enable", "--benchmark-only", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Killed processes, damaged files, full disks, hostile servers: ten minutes of it, and a table."""
    run(session, "python", "-m", "tests.faults.campaign", *session.posargs)


STUDIES = {
    "ablation": "DRCL without one of its parts.",
    "prior-swap": "SDML, MARS and DRCL on a random and on a learned prior.",
    "prior-source": "DRCL on the prior of each modality.",
    "sensitivity": "DRCL over alpha and beta.",
}
REPORTS = {
    "table2": "Table II: methods on XMedia and XMediaNet.",
    "table3": "Table III: methods on Wikipedia, INRIA-Websearch and NUS-WIDE.",
    "map50": "Tables II and III at 50.",
    "table5": "Table V: DRCL without one of its parts.",
    "table6": "Table VI: random orthogonal or learned prior.",
    "figure2": "Fig. 2: precision and recall.",
    "figure3": "Fig. 3: weights of the loss, and the prior of each modality.",
    "all": "Every table and figure, and the page.",
}


def study(session: nox.Session, name: str) -> None:
    """Run one study, on the dataset named after `--` or on emoji."""
    named = any(each.split("=")[0] == "--dataset" for each in session.posargs)
    arguments = session.posargs if named else ["--dataset", "emoji", *session.posargs]
    run(session, "python", "-m", "benchmark", "study", name, *arguments)


def report(session: nox.Session, name: str) -> None:
    """Make one report; what is missing is computed first, options after `--` are passed on."""
    run(session, "python", "-m", "benchmark", "report", name, *session.posargs)


def add(work: Callable[[nox.Session, str], None], argument: str, title: str, name: str) -> None:
    """A session that does the work for one argument."""

    def session(session: nox.Session) -> None:
        work(session, argument)

    session.__doc__ = title
    nox.session(session, name=name)


for argument, title in STUDIES.items():
    add(study, argument, title, argument.replace("-", "_"))
for argument, title in REPORTS.items():
    add(report, argument, title, "report" if argument == "all" else argument)
