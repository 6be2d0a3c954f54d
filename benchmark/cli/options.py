"""Options that several commands share, and how their text is read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.cli.completion import dataset_ids
from benchmark.errors import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmark.core.dataset import DataRequest
    from benchmark.runs.spec import RunSpec

AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output, nothing else there.")
]
Dataset = Annotated[
    str,
    typer.Option(
        help="Dataset id, see `list datasets`, or the path of a .toml description of your own.",
        autocompletion=dataset_ids,
    ),
]
Source = Annotated[str, typer.Option(help="official files, standin (generated), or auto.")]
SplitName = Annotated[str, typer.Option("--split", help="Another split than the dataset's default.")]
DataRoot = Annotated[Path | None, typer.Option(help="Folder with feature files, searched first.")]
DataOptions = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="Option of the dataset; repeatable.")
]
Results = Annotated[
    Path | None,
    typer.Option("--results", help="Folder of stored runs; default $BENCHMARK_RESULTS or results/runs."),
]
Profile = Annotated[
    str, typer.Option(help="paper: the publication's sizes; quick: minutes on two cores; auto.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Change a hyper-parameter, or choose variant=NAME; repeatable."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Precision = Annotated[str, typer.Option(help="fp32, tf32, bf16 or fp64.")]
Scaling = Annotated[str, typer.Option(help="raw features, or standardize by training statistics.")]
Modalities = Annotated[str, typer.Option(help="Only these, e.g. image,text.")]
Replicas = Annotated[str, typer.Option(help="Train seeds together, alone, or auto.")]
LeaveOwnOut = Annotated[
    bool, typer.Option("--leave-own-out", help="Leave the query's own item out of the database.")
]
Pairwise = Annotated[
    bool, typer.Option("--pairwise", help="Train one model for every two modalities, not one for all.")
]
LabelNoise = Annotated[float, typer.Option(help="Share of the training labels to draw anew, 0 to 1.")]
NoiseMode = Annotated[
    str,
    typer.Option(help="sym: among all classes; sym_exclusive: among the wrong ones; asym: by a fixed map."),
]
NoiseSeed = Annotated[int, typer.Option(help="Seed of the label noise, whatever the training seeds.")]


def run_spec(options: Mapping[str, Any], method: str = "", dataset: str = "") -> RunSpec:
    """The run a command's options ask for.

    Args:
        options: Values of the options above, by the names of the command's parameters.
        method: Method id; empty where the command has several.
        dataset: Dataset id; likewise.

    Raises:
        BenchmarkError: An option that cannot be read, or a value that does not exist.
    """
    from benchmark.runs.spec import RunSpec

    request = data_request(options["source"], options["data_root"], options["split"], options["data_option"])
    same = ("profile", "device", "precision", "scaling", "replicas", "leave_own_out", "pairwise")
    noise = ("label_noise", "label_noise_mode", "label_noise_seed")
    return RunSpec(
        method=method,
        dataset=dataset,
        request=request,
        seeds=seed_list(options["seeds"]),
        modalities=comma_list(options["modalities"]),
        overrides=tuple(options["changes"] or ()),
        **{name: options[name] for name in (*same, *noise)},
    )


def seed_list(text: str) -> tuple[int, ...]:
    """``1,2,3`` as numbers; empty text is no seeds.

    Raises:
        BenchmarkError: Anything else.
    """
    try:
        return tuple(int(part) for part in comma_list(text))
    except ValueError:
        raise BenchmarkError(f"--seeds {text!r}: expected whole numbers such as 1,2,3") from None


def comma_list(text: str) -> tuple[str, ...]:
    """``a, b`` as ``("a", "b")``; empty text is the empty tuple."""
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()


def data_request(source: str, root: Path | None, split: str, options: list[str] | None) -> DataRequest:
    """What the user asked of a dataset.

    Raises:
        BenchmarkError: An option that is not ``name=value``.
    """
    from benchmark.core.dataset import DataRequest

    pairs: dict[str, str] = {}
    for option in options or ():
        name, equals, value = option.partition("=")
        if not (name.strip() and equals):
            raise BenchmarkError(f"--data-option {option!r}: expected name=value")
        pairs[name.strip()] = value.strip()
    return DataRequest(source, root, split, pairs)


def emit(document: Any, as_json: bool) -> None:
    """A document on standard output: as JSON, or as indented lines."""
    if as_json:
        sys.stdout.write(json.dumps(document, indent=1, default=_plain) + "\n")
        sys.stdout.flush()
        return
    from benchmark.cli.view import console as show_console

    show_console.tree(json.loads(json.dumps(document, default=_plain)))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy numbers and arrays
        return value.tolist()
    return dict(value) if hasattr(value, "keys") else str(value)


def one_line(error: BaseException) -> str:
    """What click has to say about a wrong option."""
    return str(error.format_message()) if hasattr(error, "format_message") else str(error)
