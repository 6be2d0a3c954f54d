"""What can be asked of a run, and everything that follows from how its options are declared."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, fields
from typing import Any

from benchmark.core.dataset import DataRequest
from benchmark.core.option import check, declared, nested, option
from benchmark.errors import BenchmarkError

LARGEST = 1 << 63
"""Bound for seeds."""


def comma_list(text: str) -> tuple[str, ...]:
    """``a, b`` as ``("a", "b")``; empty text is the empty tuple."""
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()


def _seed_list(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise BenchmarkError(f"--seeds {text!r}: expected whole numbers such as 1,2,3") from None


def _check_seeds(seeds: tuple[int, ...]) -> None:
    if any(seed < 0 for seed in seeds):
        raise BenchmarkError(f"seeds must be 0 or greater, got {min(seeds)}")
    if any(seed >= LARGEST for seed in seeds):
        raise BenchmarkError("a seed is larger than 64 bits")
    if len(set(seeds)) != len(seeds):
        raise BenchmarkError(f"a seed is given twice: {','.join(map(str, seeds))}")


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise BenchmarkError(f"label noise must be a share from 0 to 1, got {share}")


def _check_noise_seed(seed: int) -> None:
    if seed < 0:
        raise BenchmarkError(f"the seed of label noise must be 0 or greater, got {seed}")
    if seed >= LARGEST:
        raise BenchmarkError("the seed of label noise is larger than 64 bits")


@dataclass(frozen=True)
class RunSpec:
    """What the user asks for.

    Attributes:
        method: Method id.
        dataset: Dataset id, or the path of a ``.toml`` file that describes the user's own features.
        request: Source, data root, split and options of the dataset.
        profile: ``auto``, ``paper`` or ``quick``.
        seeds: One model each; empty for the profile's.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``, ``tf32``, ``bf16`` or ``fp64``.
        scaling: ``raw`` (as the files are) or ``standardize`` (training mean and deviation).
        modalities: Only these; empty for all.
        overrides: ``name=value`` hyper-parameters.
        replicas: Train seeds ``together``, ``alone``, or (``auto``) together on CUDA and alone on a CPU.
        leave_own_out: Rank a query against every item but the one it shows itself.
        pairwise: Train one model for every two modalities, whatever the method's publication does. On two
            modalities that is what every run is.
        label_noise: Share of the training labels that are corrupted, see :mod:`benchmark.runs.label_noise`.
        label_noise_mode: ``sym``, ``sym_exclusive`` or ``asym``; without effect where the share is 0.
        label_noise_seed: Of the corruption, the same for all methods and training seeds; likewise.
    """

    # Method, dataset and hyper-parameters are in the key by what they are, not by how they are named.
    method: str = option(
        help="Method id, see `list methods`.", typed=str, in_key="never", recorded=False, may_differ=True
    )
    dataset: str = option(
        help="Dataset id, see `list datasets`, or the path of a .toml description of your own.",
        typed=str,
        in_key="never",
        recorded=False,
    )
    request: DataRequest = field(default_factory=DataRequest)
    profile: str = option(
        "auto",
        help="paper: the publication's sizes; quick: minutes on two cores; auto.",
        choices=("auto", "paper", "quick"),
        in_key="always",
        recorded=False,
        trains=False,
    )
    seeds: tuple[int, ...] = option(
        (),
        help="Comma-separated; default a study's own, else 1,2,3 (paper) or 1 (quick).",
        typed=str,
        parse=_seed_list,
        check=_check_seeds,
        in_key="always",
        recorded=False,
        may_differ=True,
        trains=False,
    )
    # Another device, or stacked replicas, is the same run computed elsewhere; see benchmark.runs.plan.
    device: str = option(
        "auto", help="auto, cpu, cuda or cuda:N.", in_key="never", recorded=False, may_differ=True
    )
    precision: str = option(
        "fp32",
        help="fp32, tf32, bf16 or fp64.",
        choices=("fp32", "tf32", "bf16", "fp64"),
        in_key="always",
        may_differ=True,
    )
    scaling: str = option(
        "raw",
        help="raw features, or standardize by training statistics.",
        choices=("raw", "standardize"),
        in_key="always",
        may_differ=True,
    )
    modalities: tuple[str, ...] = option(
        (),
        help="Only these, e.g. image,text.",
        typed=str,
        parse=comma_list,
        in_key="always",
        recorded=False,
    )
    overrides: tuple[str, ...] = option(
        (),
        help="Change a hyper-parameter, or choose variant=NAME; repeatable.",
        flag="--set",
        typed=list[str],
        metavar="NAME=VALUE",
        parse=tuple,
        in_key="never",
        recorded=False,
        may_differ=True,
    )
    replicas: str = option(
        "auto",
        help="Train seeds together, alone, or auto.",
        choices=("auto", "together", "alone"),
        in_key="never",
        recorded=False,
        may_differ=True,
    )
    leave_own_out: bool = option(
        False,
        help="Leave the query's own item out of the database.",
        words="every query without its own item in the database",
        trains=False,
    )
    pairwise: bool = option(
        False,
        help="Train one model for every two modalities, not one for all.",
        words="one model for every two modalities",
        may_differ=True,  # how a method is trained is its own affair: the publication has both in one table
    )
    label_noise: float = option(
        0.0,
        help="Share of the training labels to draw anew, 0 to 1.",
        check=_check_share,
        words="{0[ratio]:.0%} of the training labels drawn anew ({0[mode]}, seed {0[seed]})",
        part="ratio",
    )
    label_noise_mode: str = option(
        "sym",
        help="sym: among all classes; sym_exclusive: among the wrong ones; asym: by a fixed map.",
        choices=("sym", "sym_exclusive", "asym"),
        part="mode",
        part_of="label_noise",
    )
    label_noise_seed: int = option(
        0,
        help="Seed of the label noise, whatever the training seeds.",
        check=_check_noise_seed,
        part="seed",
        part_of="label_noise",
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def noise(self) -> dict[str, Any]:
        """The corruption of training labels as records and keys name it; empty if there is none."""
        noise: dict[str, Any] = values(self)["label_noise"]
        return noise


def values(spec: RunSpec) -> dict[str, Any]:
    """Every option but those of the data, JSON-ready; what has parts is a mapping, empty if it is off."""
    found: dict[str, Any] = {}
    for name, one in declared(type(spec)).items():
        value = one.plain(getattr(spec, name))
        if not one.part:
            found[name] = value
        elif not one.part_of:
            found[name] = {} if value == one.default else {one.part: value}
        elif found[one.part_of]:
            found[one.part_of][one.part] = value
    return found


def changed(spec: RunSpec) -> dict[str, Any]:
    """Those of :func:`values` that are not at their default."""
    known = declared(type(spec))
    off = {name: {} if one.part else one.plain(one.default) for name, one in known.items()}
    return {name: value for name, value in values(spec).items() if value != off[name]}


def in_key(spec: RunSpec, *, training: bool = False) -> dict[str, Any]:
    """What the key of a run says of its options.

    Args:
        spec: The run, with what was left open worked out.
        training: Only what changes the data of training.
    """
    known, new = declared(type(spec)), changed(spec)
    return {
        name: value
        for name, value in values(spec).items()
        if (known[name].in_key == "always" or (known[name].in_key == "changed" and name in new))
        and (known[name].trains or not training)
    }


def recorded(spec: RunSpec) -> tuple[dict[str, Any], list[str]]:
    """What a record says of the options: those that are not at their default, and a caption's words.

    Args:
        spec: The run, with what was left open worked out.
    """
    known = declared(type(spec))
    options = {name: value for name, value in changed(spec).items() if known[name].recorded}
    return options, [known[name].words.format(value) for name, value in options.items() if known[name].words]


def comparability(spec: RunSpec) -> dict[str, Any]:
    """Those recorded options in which the runs of one table must agree."""
    known = declared(type(spec))
    return {name: value for name, value in recorded(spec)[0].items() if not known[name].may_differ}


def command(spec: RunSpec) -> str:
    """The command line that asks for a run."""
    return shlex.join(["python", "-m", "benchmark", "run", *_words(spec)])


def _words(holder: Any) -> list[str]:
    known, inner = declared(type(holder)), nested(type(holder))
    words: list[str] = []
    for each in fields(holder):
        value = getattr(holder, each.name)
        if each.name in inner:
            words += _words(value)
        elif each.name in known:
            words += known[each.name].written(value)
    return words
