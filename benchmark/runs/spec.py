"""What can be asked of a run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any

from benchmark.core.dataset import DataRequest
from benchmark.errors import BenchmarkError, UnknownNameError

CHOICES = {
    "source": ("auto", "official", "standin"),
    "precision": ("fp32", "tf32", "bf16", "fp64"),
    "scaling": ("raw", "standardize"),
    "replicas": ("auto", "together", "alone"),
    "label noise mode": ("sym", "sym_exclusive", "asym"),
}


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
        replicas: Train seeds ``together``, ``alone``, or whichever is faster (``auto``).
        leave_own_out: Rank a query against every item but the one it shows itself.
        pairwise: Train one model for every two modalities, whatever the method's publication does. On two
            modalities that is what every run is.
        label_noise: Share of the training labels that are corrupted, see :mod:`benchmark.runs.label_noise`.
        label_noise_mode: ``sym``, ``sym_exclusive`` or ``asym``; without effect where the share is 0.
        label_noise_seed: Of the corruption, the same for all methods and training seeds; likewise.
    """

    method: str
    dataset: str
    request: DataRequest = field(default_factory=DataRequest)
    profile: str = "auto"
    seeds: tuple[int, ...] = ()
    device: str = "auto"
    precision: str = "fp32"
    scaling: str = "raw"
    modalities: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    replicas: str = "auto"
    leave_own_out: bool = False
    pairwise: bool = False
    label_noise: float = 0.0
    label_noise_mode: str = "sym"
    label_noise_seed: int = 0

    def __post_init__(self) -> None:
        given = {"source": self.request.source, "precision": self.precision}
        given |= {"scaling": self.scaling, "replicas": self.replicas}
        given |= {"label noise mode": self.label_noise_mode}
        for name, value in given.items():
            if value not in CHOICES[name]:
                raise UnknownNameError(name, value, list(CHOICES[name]))
        if any(seed < 0 for seed in self.seeds):
            raise BenchmarkError(f"seeds must be 0 or greater, got {min(self.seeds)}")
        if len(set(self.seeds)) != len(self.seeds):
            raise BenchmarkError(f"a seed is given twice: {','.join(map(str, self.seeds))}")
        if not 0 <= self.label_noise <= 1:
            raise BenchmarkError(f"label noise must be a share from 0 to 1, got {self.label_noise}")
        if self.label_noise_seed < 0:
            raise BenchmarkError(f"the seed of label noise must be 0 or greater, got {self.label_noise_seed}")

    @property
    def noise(self) -> dict[str, Any]:
        """The corruption of training labels as records and keys name it; empty if there is none."""
        if not self.label_noise:
            return {}
        mode, seed = self.label_noise_mode, self.label_noise_seed
        return {"ratio": float(self.label_noise), "mode": mode, "seed": seed}


def command(spec: RunSpec) -> str:
    """The command line that computes a run."""
    options: dict[str, str] = {"--method": spec.method, "--dataset": spec.dataset}
    request = spec.request
    named = {
        "--source": request.source if request.source != "auto" else "",
        "--split": request.split,
        "--profile": spec.profile if spec.profile != "auto" else "",
        "--seeds": ",".join(map(str, spec.seeds)),
        "--precision": spec.precision if spec.precision != "fp32" else "",
        "--scaling": spec.scaling if spec.scaling != "raw" else "",
        "--modalities": ",".join(spec.modalities),
    }
    options |= {name: value for name, value in named.items() if value}
    words = [word for pair in options.items() for word in pair]
    words += ["--leave-own-out"] if spec.leave_own_out else []
    words += ["--pairwise"] if spec.pairwise else []
    if spec.label_noise:
        words += ["--label-noise", str(spec.label_noise), "--label-noise-mode", spec.label_noise_mode]
        words += ["--label-noise-seed", str(spec.label_noise_seed)]
    words += [word for text in spec.overrides for word in ("--set", text)]
    return " ".join(["python -m benchmark run", *map(shlex.quote, words)])
