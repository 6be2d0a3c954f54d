"""Finished phases on disk, so that an interrupted run repeats none of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

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
    target = _file(folder, name)
    part = target.with_suffix(".tmp")
    with part.open("wb") as stream:
        np.savez(stream, facts=np.frombuffer(facts.encode(), np.uint8), **arrays)  # type: ignore[arg-type]  # numpy types **kwds as bool
    part.replace(target)


def load_phase(folder: Path | None, name: str, device: torch.device) -> Saved | None:
    """What ``save_phase`` wrote under this name, or ``None``."""
    if folder is None or not _file(folder, name).exists():
        return None
    with np.load(_file(folder, name), allow_pickle=False) as stored:
        facts = json.loads(stored["facts"].tobytes())
        params = {
            key.removeprefix("param/"): torch.from_numpy(stored[key]).to(device)
            for key in stored.files
            if key.startswith("param/")
        }
    return params, facts["epochs"], facts["history"]
