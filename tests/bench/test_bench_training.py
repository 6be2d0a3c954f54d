"""Seeds, and values of a hyper-parameter, trained together and one after the other, side by side."""

import sys
import time

import numpy as np
import pytest
import torch

from benchmark.data import Modality, Split
from benchmark.method import Run
from methods.drcl import DRCL

SIZES = {"narrow": ((256, 256), 64), "wide": ((1024, 1024), 256)}  # hidden layers, batch


def split(rows: int, seed: int) -> Split:
    draw = np.random.default_rng(seed)
    labels = np.arange(rows) % 10
    modalities = {
        name: Modality(name, draw.normal(size=(rows, width)).astype(np.float32), labels)
        for name, width in (("image", 512), ("text", 300))
    }
    return Split("train", modalities, 10)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["together", "alone"])
def test_three_seeds(benchmark, mode, size):
    benchmark.group = f"DRCL, 3 seeds, {size}"
    hidden, batch = SIZES[size]
    train, val = split(512, 0), split(128, 1)
    values = {"hidden": hidden, "dim": 128, "batch": batch, "epochs": 2, "lr": {"default": 1e-3}}

    def fit():
        run = Run(seeds=(1, 2, 3), replicas=mode)
        DRCL.from_values(values).fit(train, val, run)
        return run

    run = benchmark.pedantic(fit, rounds=3, warmup_rounds=1)
    benchmark.extra_info["threads"] = torch.get_num_threads()
    assert set(run.notes["replicas"].values()) == {mode}


@pytest.mark.parametrize("size", SIZES)
def test_variants(benchmark, capsys, size):
    """Four values of alpha as replicas of one fit; prints how many times faster that is than four fits."""
    benchmark.group = f"DRCL, 4 values of alpha together, {size}"
    hidden, batch = SIZES[size]
    train, val = split(512, 0), split(128, 1)
    # A prior that is drawn, not learned: what is compared is what the variants do not have in common.
    values = {"hidden": hidden, "dim": 128, "batch": batch, "epochs": 2, "lr": {"default": 1e-3}}
    method = DRCL.from_values({**values, "prior": "orthogonal"})
    variants = tuple({"alpha": alpha, "beta": 0.1, "eta": 1.0} for alpha in (0.0, 0.01, 0.1, 1.0))

    def fit(mode):
        run = Run(seeds=(1,) * len(variants), replicas=mode, variants=variants)
        method.fit(train, val, run)
        return run

    def seconds(mode):
        start = time.perf_counter()
        fit(mode)
        return time.perf_counter() - start

    run = benchmark.pedantic(fit, args=("together",), rounds=3, warmup_rounds=1)
    assert set(run.notes["replicas"].values()) == {"together"}
    fit("alone")
    alone, together = min(seconds("alone") for _ in range(3)), min(seconds("together") for _ in range(3))
    benchmark.extra_info |= {"threads": torch.get_num_threads(), "times_faster": alone / together}
    with capsys.disabled():
        sys.stdout.write(
            f"\n{size}: together {together:.3f} s, one after the other {alone:.3f} s, "
            f"{alone / together:.2f} times, {torch.get_num_threads()} threads\n"
        )
