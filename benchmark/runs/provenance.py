"""What a run record says: everything needed to judge a number, or to compute it again."""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.core.data import MultimodalData
from benchmark.disk import checkout
from benchmark.records.document import SCHEMA
from benchmark.runs.key import named_files
from benchmark.runs.plan import Plan, metric_version, protocol
from benchmark.runs.spec import comparability, recorded


def describe_run(plan: Plan, data: MultimodalData, modalities: tuple[str, ...]) -> dict[str, Any]:
    """The part of a record that is known before training.

    Args:
        plan: The run.
        data: The dataset as loaded, all modalities.
        modalities: Those of the run.
    """
    request, located = plan.located.request, plan.located
    fingerprint = data.fingerprint()
    code = {"code": plan.method.code} if plan.method.code else {}
    alike, (options, words) = comparability(plan.settled), recorded(plan.settled)
    if plan.method.info.pairwise:
        options.pop("pairwise", None)  # the publication runs it so: to ask for it changes nothing
    return {
        **alike,
        "schema": SCHEMA,
        "comparability": {
            "fingerprint": fingerprint,
            "metric_version": metric_version(),
            "schema": SCHEMA,
            **alike,
        },
        "options": options,
        "words": words,
        "protocol": protocol(plan.method.info, pairwise=plan.pairwise),
        "method": {**asdict(plan.method.info), "origin": plan.method.origin, **code},
        "recipe": {name: asdict(value) for name, value in plan.recipe.items()},
        **({"named_files": files} if (files := named_files(plan.recipe)) else {}),
        "dataset": {
            "id": plan.dataset.id,
            "title": plan.dataset.info.title,
            "version": plan.dataset.info.version,
            "source": data.source,
            "fingerprint": fingerprint,
            "files": [str(file) for file in located.files],
            "split": request.split or next(iter(plan.dataset.info.splits), ""),
            "splits": list(plan.dataset.info.splits),
            "options": dict(request.options),
            "description": str(request.description) if request.description else "",
            "classes": data.classes,
            "label_form": data.label_form,
            "modalities": list(data.modalities),
            "named_items": sorted(data.items),
            "shapes": {
                split.name: {modality.name: [len(modality), modality.dim] for modality in split}
                for split in data.splits
            },
            "notes": list(data.notes),
        },
        "profile": plan.profile,
        "seeds": list(plan.seeds),
        "precision": plan.spec.precision,
        "scaling": plan.spec.scaling,
        "modalities": list(modalities),
        "replicas": plan.spec.replicas,
        "overrides": list(plan.spec.overrides),
    }


def environment(device: torch.device) -> dict[str, Any]:
    """Where the run is computed: device, versions of what computes it, and the commit of the checkout."""
    facts: dict[str, Any] = {"type": device.type, "name": platform.processor() or platform.machine()}
    if device.type == "cuda":
        facts |= {"name": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    facts |= {"threads": torch.get_num_threads(), "cpus": os.cpu_count()}
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "suite": _suite_version(),
        "commit": _commit(),
        "platform": platform.platform(),
    }
    return {"device": facts, "versions": versions}


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: tensors and arrays as lists, NaN and infinities as ``None``."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, torch.Tensor):
        return plain(value.detach().cpu().tolist())
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    return str(value)


def as_array(value: Any) -> NDArray[Any]:
    """A tensor, list or array as a numpy array in host memory."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value  # numpy has no bfloat16
        return np.asarray(value.numpy())
    return np.asarray(value)


def _suite_version() -> str:
    try:
        return version("cmr-benchmark")
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str | None:
    """Commit of the checkout, with ``+changes`` if files differ from it; ``None`` outside a checkout."""
    folder, git = checkout(), shutil.which("git")
    if folder is None or git is None or not (folder / ".git").exists():
        return None
    commit = _output(git, folder, "rev-parse", "HEAD")
    changes = _output(git, folder, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None else commit + ("+changes" if changes else "")


def _output(git: str, folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            [git, "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None  # e.g. a checkout owned by somebody else, which git refuses to read
    return done.stdout.strip()
