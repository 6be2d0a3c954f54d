"""Finished phases on disk: no run repeats its own after an interruption, nor one that another has shared."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.disk import whole

Saved = tuple[dict[str, Tensor], list[int], dict[str, list[list[float]]]]


def _file(folder: Path, name: str) -> Path:
    return folder / (re.sub(r"[^A-Za-z0-9@.-]+", "_", name) + ".npz")


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
    facts = json.dumps({"epochs": epochs, "history": history})
    with whole(_file(folder, name)) as stream:  # runs at the same time may write the same phase
        np.savez(stream, facts=np.frombuffer(facts.encode(), np.uint8), **arrays)  # type: ignore[arg-type]  # numpy types **kwds as bool


def load_phase(folder: Path | None, name: str, device: torch.device) -> Saved | None:
    """What ``save_phase`` wrote under this name, or ``None``."""
    if folder is None:
        return None
    try:
        stream = _file(folder, name).open("rb")
    except FileNotFoundError:
        return None
    if os.utime in os.supports_fd and os.access(stream.name, os.W_OK):
        os.utime(stream.fileno())  # `results gc` removes what was not used for long
    with stream, np.load(stream, allow_pickle=False) as stored:
        facts = json.loads(stored["facts"].tobytes())
        params = {
            key.removeprefix("param/"): torch.from_numpy(stored[key]).to(device)
            for key in stored.files
            if key.startswith("param/")
        }
    return params, facts["epochs"], facts["history"]


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
