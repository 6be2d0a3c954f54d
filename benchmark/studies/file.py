"""What a study is, and how its file is read.

A study is data, a TOML file ``studies/<name>.toml`` in the package of the methods::

    title = "Where the prior comes from"
    seeds = [1, 2, 3]                     # optional; the profile's if left out
    quick = ["hidden=[64]"]               # optional; set in every run of the quick profile
    orderings = [["text", "image"]]       # optional; published: the first row is better by average
    [published]                           # optional; where the printed numbers are
    file = "table6_prior_swap.csv"
    direction = "metric"                  # columns of the file that hold directions and numbers
    value = "value"
    dataset = "xmedia"                    # of all its rows; left out if the file has such a column
    [[run]]
    label = "{each}"
    description = "prior learned on {each}"
    certainty = "certain"
    method = "drcl"
    set = ["prior=learned:{each}"]
    each = "modality"                     # optional; or a list: one row for each value
    published = { prior = "W" }           # optional; other columns that find its printed row
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.core.registry import METHODS
from benchmark.core.toml import read_toml
from benchmark.errors import RecipeError, UnknownNameError


@dataclass(frozen=True)
class Variant:
    """One row of a study.

    Attributes:
        label: Short name, unique in the study.
        description: What is changed, in words.
        certainty: How sure it is that the publication means this change.
        method: Method id.
        changes: ``name=value`` hyper-parameters.
        printed: Column values that find its row in the published table; empty if there is none.
    """

    label: str
    description: str
    certainty: str
    method: str
    changes: tuple[str, ...] = ()
    printed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A study as its file describes it, every ``each`` written out.

    Attributes:
        name: As the file is called.
        title: One line.
        variants: Its rows.
        seeds: Of its runs; empty for the profile's.
        orderings: Pairs of labels; the publication finds the first better than the second by average.
        published: Where the printed numbers are: ``file``, ``direction``, ``value`` and ``dataset``.
    """

    name: str
    title: str
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...] = ()
    orderings: tuple[tuple[str, str], ...] = ()
    published: Mapping[str, str] = field(default_factory=dict)


def study_file(name: str) -> Path:
    """The file of a study, given by name or as the path of a ``.toml`` file.

    Raises:
        UnknownNameError: No such study.
    """
    known, path = study_files(), Path(name)
    if path.suffix == ".toml" and path.is_file():
        return path
    if (usual := name.replace("_", "-")) not in known:
        raise UnknownNameError("study", name, list(known))
    return known[usual]


def read_study(file: Path, modalities: Sequence[str], profile: str = "paper") -> Study:
    """A study on data with these modalities.

    Args:
        file: Its file.
        modalities: In canonical order.
        profile: Of its runs; ``quick`` takes over the file's ``quick``, ahead of each row's own changes.

    Raises:
        RecipeError: A file that is not a study.
    """
    document = read_document(file)
    try:
        common = tuple(map(str, document.get("quick", ()))) if profile == "quick" else ()
        variants = [one for run in document["run"] for one in _variants(run, modalities, common)]
        labels = [variant.label for variant in variants]
        if len(set(labels)) < len(labels) or not labels:
            raise RecipeError(f"{file}: it needs rows, each with a label of its own")
        pairs = tuple((str(a), str(b)) for a, b in document.get("orderings", ()))
        return Study(
            name=file.stem,
            title=str(document["title"]),
            variants=tuple(variants),
            seeds=tuple(map(int, document.get("seeds", ()))),
            orderings=tuple(pair for pair in pairs if set(pair) <= set(labels)),
            published={str(k): str(v) for k, v in dict(document.get("published", {})).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RecipeError(f"{file}: not a study ({type(error).__name__}: {error})") from None


def read_document(file: Path) -> dict[str, Any]:
    """The content of a study's file.

    Raises:
        RecipeError: It cannot be read.
    """
    try:
        return read_toml(file)
    except ValueError as error:
        raise RecipeError(f"{file}: not a valid TOML file: {error}") from None


def _variants(run: Mapping[str, Any], modalities: Sequence[str], common: tuple[str, ...]) -> list[Variant]:
    each = run.get("each", [""])
    values = modalities if each == "modality" else each

    def fill(text: str, value: Any) -> str:
        return text.replace("{each}", str(value))

    return [
        Variant(
            label=fill(run["label"], value),
            description=fill(run["description"], value),
            certainty=str(run["certainty"]),
            method=str(run["method"]),
            changes=common + tuple(fill(change, value) for change in run.get("set", ())),
            printed={str(k): fill(str(v), value) for k, v in run.get("published", {}).items()},
        )
        for value in values
    ]


def study_files() -> dict[str, Path]:
    """The files of all studies by name, found in ``studies/`` of the package of our methods."""
    spec = importlib.util.find_spec(METHODS.package)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    return {f.stem: f for folder in folders for f in sorted(Path(folder, "studies").glob("*.toml"))}
