"""What a run is, and the key it is stored under; worked out without importing torch or reading data.

What is in the key: method id and version, resolved hyper-parameters (``--set`` and the subsample sizes
included; of a file that one names, the content), the code of a plugin, dataset id and data fingerprint,
protocol, metric version, key version, and the options of the run whose declaration says so
(:mod:`benchmark.runs.spec`). What is not: device, number of threads, versions of what computes, and how the
seeds are trained (together or alone). They change the order of additions, which training magnifies: MAP@all
of `emoji` moved by up to 0.005, where seeds have a standard deviation of 0.003. All of them are recorded with
the run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from benchmark.core.data import pick_modalities
from benchmark.core.dataset import Location, find_dataset, make_dataset
from benchmark.core.info import MethodInfo
from benchmark.core.registry import METHODS, Entry, available
from benchmark.records.document import canonical
from benchmark.runs.fingerprints import DataIdentity, recall
from benchmark.runs.key import by_content, make_key
from benchmark.runs.profile import DEFAULT_SEEDS, choose_device, choose_profile
from benchmark.runs.recipe import ROWS, Recipe, resolve
from benchmark.runs.spec import RunSpec, in_key


@dataclass(frozen=True)
class Plan:
    """A run worked out in full, before any data are read.

    Attributes:
        spec: What was asked for.
        method, dataset: Registry entries.
        located: Where the data will come from.
        recipe: Resolved hyper-parameters.
        profile: ``paper`` or ``quick``.
        profile_reason: Why ``auto`` meant that profile; empty if it was named.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        seeds: In ascending order.
        known: What is remembered of the data; ``None`` if they have to be read first.
    """

    spec: RunSpec
    method: Entry
    dataset: Entry
    located: Location
    recipe: Recipe
    profile: str
    profile_reason: str
    device: str
    seeds: tuple[int, ...]
    known: DataIdentity | None

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of the run in canonical order, as far as they are known before reading."""
        names = self.known.modalities if self.known else tuple(self.dataset.info.modalities)
        return pick_modalities(self.spec.modalities, names) if names else self.spec.modalities

    @property
    def pairwise(self) -> bool:
        """Whether every two modalities get a model of their own, as far as is known before reading."""
        return is_pairwise(self.method.info, self.modalities, asked=self.spec.pairwise)

    @property
    def settled(self) -> RunSpec:
        """The spec with what was worked out in place of what it leaves open."""
        return replace(
            self.spec,
            profile=self.profile,
            seeds=self.seeds,
            device=self.device,
            modalities=self.modalities,
            pairwise=self.pairwise,
        )

    def key(self) -> str | None:
        """Hex sha256 the run is stored under; ``None`` while the fingerprint of the data is unknown."""
        if self.known is None:
            return None
        info = self.method.info
        return make_key(
            metric_version=metric_version(),
            method=(self.method.id, info.version, info.group),
            code=self.method.code,
            recipe={name: by_content(value.value) for name, value in self.recipe.items()},
            dataset=(self.dataset.id, self.known.fingerprint),
            options=in_key(self.settled),
        )

    def training_data(self) -> str:
        """What the data look like in training, as text; runs that agree in it may share finished phases."""
        facts = [self.known.fingerprint if self.known else "unknown", self.recipe[ROWS].value]
        code = filter(None, [self.method.code])  # a phase of other code is another phase
        return canonical([*facts, in_key(self.settled, training=True), *code])


def is_pairwise(info: MethodInfo, modalities: tuple[str, ...], *, asked: bool) -> bool:
    """Whether a method trains one model for every two of these modalities.

    Args:
        info: Of the method; its publication may run it that way.
        modalities: Those of the run. Two of them are one pair: the only model there is.
        asked: Whether the user wants it.
    """
    return (asked or info.pairwise) and len(modalities) > 2


def protocol(info: MethodInfo, *, pairwise: bool) -> str:
    """How training rows are served: ``paired-free``, ``paired``, or ``pairwise`` (two modalities each)."""
    if pairwise:
        return "pairwise"
    return "paired" if info.group == "paired-oriented" else "paired-free"


def make_plan(spec: RunSpec, *, cuda: bool | None = None) -> Plan:
    """Work out a run without reading data or importing torch.

    Args:
        spec: What is asked for.
        cuda: Whether CUDA can be used; guessed from driver and torch build if not given.

    Raises:
        BenchmarkError: A name, device, data root, modality or hyper-parameter that does not exist.
    """
    method = available(METHODS.get(spec.method))
    dataset, request = find_dataset(spec.dataset, spec.request)
    device = choose_device(spec.device, cuda=cuda)
    profile, reason = choose_profile(spec.profile, device)
    if spec.modalities and dataset.info.modalities:
        pick_modalities(spec.modalities, dataset.info.modalities)
    recipe = resolve(method, dataset.id, profile, spec.overrides)
    located = make_dataset(dataset).locate(request)
    return Plan(
        spec=spec,
        method=method,
        dataset=dataset,
        located=located,
        recipe=recipe,
        profile=profile,
        profile_reason=reason,
        device=device,
        seeds=tuple(sorted(spec.seeds)) or DEFAULT_SEEDS[profile],
        known=recall(dataset, located),
    )


@cache
def metric_version() -> int:
    """``METRIC_VERSION`` of ``evaluation/metrics.py``, read from the source: importing it needs torch."""
    source = (Path(__file__).parents[1] / "evaluation" / "metrics.py").read_text(encoding="utf-8")
    found = re.search(r"^METRIC_VERSION\b[^=\n]*=\s*(\d+)", source, re.MULTILINE)
    if found is None:
        raise LookupError("benchmark/metrics.py does not set METRIC_VERSION to a number")
    return int(found[1])
