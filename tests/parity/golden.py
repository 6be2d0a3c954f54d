"""Outputs of other code for the same mathematics, ``vectors/<name>.npz``, and how they are compared with."""

from pathlib import Path

import numpy as np
import torch

from benchmark.core.data import Modality, Split
from benchmark.core.method import FitLog, RunContext
from benchmark.training import TupleSampler, train_phase

FOLDER = Path(__file__).parent / "vectors"
RUN = RunContext(precision="fp64")


def vectors(name, rtol=1e-5, atol=1e-5, *, whole=False, of_largest=False):
    """The arrays by name; ``golden(name)``, one as a tensor; ``close(got, name)``, which compares with it.

    Args:
        rtol, atol: How close; ``close(..., tolerance)`` replaces both.
        whole: Whole numbers stay whole instead of becoming float64.
        of_largest: The tolerance is a share of the array's largest absolute value.
    """
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = dict(file)

    def golden(name):
        found = torch.from_numpy(np.asarray(arrays[name]))
        return found.double() if found.is_floating_point() or not whole else found

    def close(got, name, tolerance=None):
        wanted = golden(name)
        near = (rtol, atol) if tolerance is None else (tolerance, tolerance)
        if of_largest:
            near = 0, near[0] * wanted.abs().max().item()
        torch.testing.assert_close(got, wanted, rtol=near[0], atol=near[1])

    return arrays, golden, close


def paired(labels, classes, **features):
    """A split whose modalities show the same items, row by row."""
    ids = np.arange(len(labels))
    return Split("train", {m: Modality(m, x, labels, ids) for m, x in features.items()}, classes)


def in_order(split):
    """All tuples of a split in one batch, as they are."""
    return TupleSampler(split, RUN, len(next(iter(split))), shuffle=False)


class AsStored:
    """Serves one batch, as it is."""

    def __init__(self, batch):
        self.batch, self.sizes = batch, (len(next(iter(batch.x.values()))),)

    def draw(self, generator):
        return {"rows": torch.arange(*self.sizes), "key": torch.arange(*self.sizes)}

    def gather(self, drawn):
        return self.batch


def train(phase, params):
    """What a phase makes of the parameters of one replica: parameters likewise, and the history."""
    done = train_phase(phase, {n: p.detach()[None] for n, p in params.items()}, RUN, FitLog())
    return {n: p[0] for n, p in done.params.items()}, done.history


def curve(history, term="total"):
    """A term of the training loss, one number per epoch."""
    return torch.tensor(history[f"train/{term}"], dtype=torch.float64)[:, 0]


def numbers(arrays, *names, prefix="par_", **renamed):
    """Settings of the other code by our name, ``ours="theirs"`` where it differs; ``betas`` are two there."""
    theirs = {**dict(zip(names, names, strict=True)), **renamed}
    found = {ours: float(arrays[prefix + name]) for ours, name in theirs.items() if ours != "betas"}
    if "betas" in theirs:
        found["betas"] = tuple(float(arrays[f"{prefix}beta{k}"]) for k in (1, 2))
    return found
