"""What a run leaves to read: everything needed to judge its numbers, or to compute them again.

A record is checked once, when it is read, and brought up to the present layout; whoever holds a
:class:`RunRecord` need not ask again. This module imports neither numpy nor torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from statistics import fmean
from typing import Any, TypeVar

from benchmark.records.document import METRICS, checked

AVERAGE = "avg"
"""In place of a direction: the mean over all of them."""
SET = "--set"
"""Origin of a hyper-parameter that the user changed."""
VARIANT = "variant"
"""Hyper-parameter that names the variant of the recipe, where it is not the recommended one."""

T = TypeVar("T")


@dataclass(frozen=True)
class Value:
    """One resolved hyper-parameter.

    Attributes:
        value: A TOML value (number, string, boolean, list, or table, e.g. one number per modality).
        source: Who says so: a section of the paper, a file of the public code, a deduction.
        origin: The layer that set it: ``paper``, ``quick.xmedia``, ``--set``, ``method default``, ...
    """

    value: Any
    source: str
    origin: str


@dataclass(frozen=True)
class RecordedMethod:
    """The method of a run.

    Attributes:
        id, title, version: As registered.
        origin: Where it is defined.
        pairwise: Its publication has one model for every two modalities.
        transductive: Its scores depend on all test items.
        code: Hash of a plugin's source; ``None`` of ours, and in records from before it was kept.
        more: Everything else that is known of it (citation, group, ...).
    """

    id: str
    title: str
    version: int
    origin: str
    pairwise: bool = False
    transductive: bool = False
    code: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RecordedDataset:
    """The data of a run, as they were loaded.

    Attributes:
        id, title: As registered.
        source: ``official``, ``standin`` or ``user``.
        fingerprint: Hash of the content.
        split: The one that was used; empty where there is only one.
        splits: All there are, the default first.
        files: What was read.
        options: Of the dataset, by name.
        description: The user's file that describes them; empty if there is none.
        modalities: All of the data, in canonical order.
        named_items: Modalities whose test rows have names.
        more: Everything else that is known of them (shapes, classes, ...).
    """

    id: str
    title: str
    source: str
    fingerprint: str
    split: str
    splits: tuple[str, ...]
    files: tuple[str, ...]
    options: Mapping[str, Any]
    description: str
    modalities: tuple[str, ...]
    named_items: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """A finished run.

    Attributes:
        schema: Layout of the document, the present one.
        key: Hex sha256 of what the run is.
        started: ISO time.
        comparability: What may not differ inside one table, by name; absent is off.
        method, dataset: What was run on what.
        recipe: Hyper-parameters by name.
        profile: ``paper`` or ``quick``.
        seeds: One model each.
        precision, scaling: As asked for, the defaults included.
        modalities: Those of the run, in canonical order.
        options: The run options that are not at their default, by name, as far as they make another run.
        words: How captions say the run: its options, and what its method does in a way of its own.
        device, versions: Where it was computed, and with what.
        results: Per metric and direction ``query->database`` one number per seed.
        averages: Per metric the mean over directions, one number per seed.
        chance: Per direction the expectation of MAP@all under a random ranking.
        sizes: Per direction ``queries`` and ``database``, numbers of test rows.
        timings: Seconds by step, ``total`` among them.
        warnings: One line each.
        protocol: ``paired-free``, ``paired`` or ``pairwise``: how training rows were served.
        replicas: How seeds were asked to be trained.
        overrides: ``name=value`` as the user gave them.
        rows: Per split and modality the rows that were used.
        config: Hyper-parameters as the method saw them.
        ties: Per direction and seed the share of queries with ties that matter.
        history: Per phase and quantity one list per epoch with one number per seed.
        notes: What the method had to say.
        top: Ranks kept per query; ``None`` if the run was stored without rankings.
        peak_memory_bytes: Of the GPU; ``None`` on a CPU.
        named_files: Sha256 of every file that a hyper-parameter names, by the name of the hyper-parameter;
            ``None`` if none does.
        arrays_sha256: Of ``arrays.npz``; ``None`` before it is stored, and in old records.
        more: Entries of the document that have no attribute here.
    """

    schema: int
    key: str
    started: str
    comparability: Mapping[str, Any]
    method: RecordedMethod
    dataset: RecordedDataset
    recipe: Mapping[str, Value]
    profile: str
    seeds: tuple[int, ...]
    precision: str
    scaling: str
    modalities: tuple[str, ...]
    options: Mapping[str, Any]
    words: tuple[str, ...]
    device: Mapping[str, Any]
    versions: Mapping[str, Any]
    results: Mapping[str, Mapping[str, Sequence[float]]]
    averages: Mapping[str, Sequence[float]]
    chance: Mapping[str, float]
    sizes: Mapping[str, Mapping[str, int]]
    timings: Mapping[str, float]
    warnings: tuple[str, ...]
    protocol: str = ""
    replicas: str = ""
    overrides: tuple[str, ...] = ()
    rows: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    ties: Mapping[str, Any] = field(default_factory=dict)
    history: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    top: int | None = None
    peak_memory_bytes: int | None = None
    named_files: Mapping[str, str] | None = None
    arrays_sha256: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, document: Any) -> RunRecord:
        """A record from a JSON document of this layout or an older one.

        Raises:
            InvalidRecordError: It is not sound; one line that names the field.
        """
        document = checked(document)
        return _made(
            cls,
            document,
            method=_made(RecordedMethod, document["method"]),
            dataset=_made(RecordedDataset, document["dataset"]),
            recipe={name: Value(**value) for name, value in document["recipe"].items()},
        )

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON document that :meth:`from_json` reads: everything it was read from."""
        recipe = {name: dict(vars(value)) for name, value in self.recipe.items()}
        return {**_plain(self), "recipe": recipe}

    @property
    def name(self) -> str:
        """Of its folder in a store: the start of its key."""
        return self.key[:16]

    @property
    def directions(self) -> tuple[str, ...]:
        """``query->database`` for every ordered pair of modalities."""
        return tuple(self.chance)

    @property
    def default_split(self) -> str:
        """Name of the split that is used if none is asked for; empty where there is only one."""
        return next(iter(self.dataset.splits), "")

    @property
    def split(self) -> str:
        """Name of the split that was used; empty where there is only one."""
        return self.dataset.split or self.default_split

    @property
    def is_standin(self) -> bool:
        """Whether the data were generated."""
        return self.dataset.source == "standin"

    @property
    def is_pairwise(self) -> bool:
        """Whether every two modalities had a model of their own."""
        return self.protocol == "pairwise"

    @property
    def is_partial(self) -> bool:
        """Whether some modalities of the data took no part."""
        return self.modalities != self.dataset.modalities

    @property
    def changed(self) -> dict[str, Any]:
        """Values of the hyper-parameters that the user changed, the choice of a variant among them."""
        return {name: each.value for name, each in self.recipe.items() if each.origin == SET}

    @property
    def mean_chance(self) -> float:
        """Expectation of MAP@all under a random ranking, mean over directions."""
        return fmean(self.chance.values())

    def values(self, metric: str = METRICS[0], direction: str = AVERAGE) -> list[float]:
        """The numbers of a direction, or of the average over all, one per seed."""
        return list(self.averages[metric] if direction == AVERAGE else self.results[metric][direction])

    def mean(self, metric: str = METRICS[0], direction: str = AVERAGE) -> float:
        """The mean of :meth:`values` over seeds."""
        return fmean(self.values(metric, direction))


def _made(cls: type[T], document: Mapping[str, Any], **converted: Any) -> T:
    """A part of a record from its document; lists of attributes become tuples."""
    names = {each.name for each in fields(cls)} - {"more"}  # type: ignore[arg-type]  # only dataclasses
    known = {n: tuple(v) if isinstance(v, list) else v for n, v in document.items() if n in names}
    more = {n: v for n, v in document.items() if n not in names}
    return cls(**{**known, **converted, "more": more})


def _plain(part: Any) -> dict[str, Any]:
    """The document that :func:`_made` was given; what is not there has the value ``None``."""
    document = {}
    for each in fields(part):
        value = getattr(part, each.name)
        if is_dataclass(value):
            value = _plain(value)
        if each.name != "more" and value is not None:
            document[each.name] = list(value) if isinstance(value, tuple) else value
    return document | dict(part.more)
