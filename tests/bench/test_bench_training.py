"""Seeds, and values of a hyper-parameter, trained together and one after the other, side by side."""

import numpy as np
import pytest
import torch

from benchmark.core.data import Modality, Split
from benchmark.core.method import FitLog, RunContext
from tests.methods.data import build

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
        log = FitLog()
        build("drcl", **values).fit(train, val, RunContext(seeds=(1, 2, 3), replicas=mode), log)
        return log

    log = benchmark.pedantic(fit, rounds=3, warmup_rounds=1)
    benchmark.extra_info["threads"] = torch.get_num_threads()
    assert set(log.notes["replicas"].values()) == {mode}
