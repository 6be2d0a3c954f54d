"""Finished phases on disk: no run repeats its own after an interruption, nor one that another has shared."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.disk import checked_arrays, read_own, whole

Saved = tuple[dict[str, Tensor], list[int], dict[str, list[list[float]]]]


def _file(folder: Path, name: str) -> Path:
    """Names of phases hold names of modalities, and those may hold anything: files are named by a hash."""
    return folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npz"


def save_phase(
    folder: Path | None,
    name: str,
    params: dict[str, Tensor],
    epochs: list[int],
    history: dict[str, list[list[float]]],
) -> None:
    """Write what a phase produced; exact, without pickle, complete or not at all.

    Args:
        folder: Where to; ``None`` does nothing.
        name: Phase and seeds.
        params: Stacked parameters.
        epochs: Kept epoch per replica.
        history: As in ``training.Trained``.
    """
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"param/{n}": p.cpu().numpy() for n, p in params.items()}
    facts = json.dumps({"name": name, "epochs": epochs, "history": history})
    with whole(_file(folder, name)) as stream:  # runs at the same time may write the same phase
        np.savez(stream, facts=np.frombuffer(facts.encode(), np.uint8), **arrays)  # type: ignore[arg-type]  # numpy types **kwds as bool


def load_phase(folder: Path | None, name: str, device: torch.device) -> Saved | None:
    """What ``save_phase`` wrote under this name; ``None`` if it is not there, or damaged and now removed."""
    if folder is None:
        return None

    def read(file: Path) -> tuple[dict[str, Any], list[int], dict[str, list[list[float]]]]:
        with checked_arrays(file) as stored:
            facts = json.loads(stored["facts"].tobytes())
            if facts["name"] != name:
                raise ValueError(f"it holds the phase {facts['name']}")
            arrays = {key.removeprefix("param/"): stored[key] for key in stored if key != "facts"}
        return arrays, facts["epochs"], facts["history"]

    file = _file(folder, name)
    if (found := read_own(file, read)) is None:
        return None
    with suppress(OSError):
        os.utime(file)  # `results gc` removes what was not used for long
    arrays, epochs, history = found
    return {key: torch.from_numpy(values).to(device) for key, values in arrays.items()}, epochs, history


def shared_name(text: str, seed: int, initial: dict[str, Tensor]) -> str:
    """Name of one replica of a phase that several runs share.

    Args:
        text: Everything that determines the phase but the data, the seed and the initial values.
        seed: Of the replica.
        initial: Its initial parameters; their values are part of the name.
    """
    digest = hashlib.sha256(f"{text}|{seed}".encode())
    for name, values in sorted(initial.items()):
        digest.update(f"|{name}|{values.dtype}|{tuple(values.shape)}|".encode())
        digest.update(values.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:40]
