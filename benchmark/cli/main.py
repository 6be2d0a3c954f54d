"""Every command. Options are read here, the work is done elsewhere and imported when a command needs it.

Standard output holds the result (with ``--json`` exactly one JSON document); progress, warnings and errors
go to standard error. Exit codes: 0 done, 1 checked and found wanting, 2 an error the user can set right,
130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import cast

import typer

from benchmark.cli.data import data_app
from benchmark.cli.options import emit, one_line
from benchmark.cli.query import query
from benchmark.cli.report import report
from benchmark.cli.results import results_app
from benchmark.cli.run import run
from benchmark.cli.show import list_app, show, show_config
from benchmark.cli.streams import reason, silence
from benchmark.cli.study import study
from benchmark.cli.text import say
from benchmark.cli.tools import check, doctor, score
from benchmark.errors import BenchmarkError, memory_line

app = typer.Typer(
    help="Reference benchmark for category-based cross-modal retrieval.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data", help="Feature files: list, status, fetch, verify, describe.")
app.add_typer(list_app, name="list", help="What can be run: methods, datasets.")
app.add_typer(
    results_app, name="results", help="Stored runs: list (alone), show, array, export, import, rm, gc."
)
app.command()(run)
app.command()(doctor)
app.command()(score)
app.command()(check)
app.command()(query)
app.command()(report)
app.command()(show)
app.command("show-config")(show_config)
app.command()(study)


COMMAND = "cmr-benchmark"
COMPLETION = {"--install-completion", "--show-completion"}
INTERRUPTED = (
    "interrupted; nothing was stored of the unfinished run, and the same command goes on after the last "
    "finished phase"
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; errors of the user, disk and memory become one line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if sys.stderr is None:  # closed; what is told there is not the result
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - while we run
    if sys.stdout is None:  # known now, not after hours; and the next file opened would be taken for it
        say("error: standard output: closed; the result has nowhere to go")
        return 2
    # Typer brings its own click or uses the installed one; this is the base of its complaints in both.
    usage_error = cast(type[Exception], typer.BadParameter.__base__)
    try:
        code = app(args=arguments, prog_name=_called(arguments), standalone_mode=False)
        sys.stdout.flush()
    except BenchmarkError as error:
        return _fail(str(error), arguments, 2)
    except (KeyboardInterrupt, typer.Abort) as stop:
        if isinstance(stop.__cause__, EOFError):  # taken for Ctrl-D at a prompt, but no command asks anything
            raise stop.__cause__ from None
        code = 130
    except BrokenPipeError:  # the reader of our output has gone (`| head`)
        silence(sys.stdout)
        return 1
    except OSError as error:
        return _fail(reason(error), arguments if error.filename else [], 2)  # output may be what fails
    except (MemoryError, RuntimeError, ImportError, AttributeError) as error:
        if not (line := memory_line(error) or _hidden(error)):
            raise
        return _fail(line, arguments, 2)
    except usage_error as error:
        # A group without a command has shown its help and says nothing more.
        return _fail(text, arguments, 2) if (text := one_line(error)) else 2
    if code == 130:  # newer typer turns an interrupt into this code
        return _fail(INTERRUPTED, arguments, 130)
    return code if isinstance(code, int) else 0


def _hidden(error: Exception) -> str:
    """One line, if a name is missing because another file is imported in place of a package; else empty."""
    from benchmark.inspection.shadow import hidden_packages

    return "; ".join(hidden_packages()) if isinstance(error, ImportError | AttributeError) else ""


def _called(arguments: list[str]) -> str:
    """The name in the help; completion is always that of the installed command, a shell knows no other."""
    completion = {argument.partition("=")[0] for argument in arguments[:1]} & COMPLETION
    return COMMAND if completion or Path(sys.argv[0]).stem == COMMAND else "python -m benchmark"


def _fail(text: str, arguments: list[str], code: int) -> int:
    line = " ".join(text.split())
    if "--json" in arguments:
        try:
            emit({"error": line}, as_json=True)
        except OSError:
            silence(sys.stdout)
        else:
            return code
    say(f"error: {line}")
    return code
