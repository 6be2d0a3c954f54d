"""How joint methods are served: tuples of one class, independent batches, noise keys."""

import numpy as np
import pytest
import torch

from benchmark.core.data import Modality, Split
from benchmark.core.method import RunContext
from benchmark.errors import UnsupportedError
from benchmark.training.samplers import IndependentSampler, TupleSampler


def split(*, paired=("image", "text"), form="single", audio=7):
    labels = np.arange(20) % 3
    modalities = {}
    for name, n in (("image", 20), ("text", 20), ("audio", audio)):
        y = labels[:n] if form == "single" else np.eye(3, dtype=np.uint8)[labels[:n]]
        x = np.stack([np.arange(n), labels[:n]], axis=1).astype(np.float32)
        ids = np.arange(n) if name in paired else None
        modalities[name] = Modality(name, x, y, ids)
    return Split("train", modalities, 3, form)


def draw(sampler, seed=0):
    return sampler.draw(torch.Generator().manual_seed(seed))


def test_tuples_hold_one_class_and_keep_native_pairs():
    sampler = TupleSampler(split(), RunContext(), 6)
    assert sampler.sizes == (6, 6, 6, 2)
    drawn = draw(sampler)
    batch = sampler.gather(drawn)
    assert sorted(drawn["row/image"].tolist()) == list(range(20))  # every item of the largest group once
    assert torch.equal(drawn["row/image"], drawn["row/text"])
    assert torch.equal(batch.y["image"], batch.y["audio"])
    assert torch.equal(batch.y["image"], batch.y["text"])
    assert torch.equal(batch.extra["key"], drawn["key"])
    for name in ("image", "text", "audio"):
        assert torch.equal(batch.x[name][:, 0].long(), drawn[f"row/{name}"])
        assert torch.equal(batch.row[name], drawn[f"row/{name}"])
    used = torch.bincount(drawn["row/audio"], minlength=7)
    by_class = [used[c::3] for c in range(3)]  # repeated sampling uses every item equally often, up to one
    assert all(int(counts.max() - counts.min()) <= 1 for counts in by_class)


def test_tuples_are_drawn_anew_and_by_seed():
    sampler = TupleSampler(split(), RunContext(), 6)
    generator = torch.Generator().manual_seed(0)
    first, second = sampler.draw(generator), sampler.draw(generator)
    assert not torch.equal(first["row/image"], second["row/image"])
    match = [
        dict(zip(d["row/image"].tolist(), d["row/audio"].tolist(), strict=True)) for d in (first, second)
    ]
    assert match[0] != match[1]
    assert all(torch.equal(a, b) for a, b in zip(first.values(), draw(sampler).values(), strict=True))
    assert not torch.equal(first["key"], draw(sampler, 1)["key"])


def test_file_order_and_remainders():
    paired = split().restrict(("image", "text"))
    in_order = TupleSampler(paired, RunContext(), 6, shuffle=False)
    assert draw(in_order)["row/image"].tolist() == list(range(20))
    assert TupleSampler(paired, RunContext(), 6, keep_remainder=False).sizes == (6, 6, 6)
    assert TupleSampler(paired, RunContext(), 19).sizes == (19,)  # a single tuple has no batch statistics
    assert TupleSampler(paired, RunContext(), 100).sizes == (20,)


def test_tuples_of_several_labels_need_native_pairs():
    multi = split(form="multi")
    with pytest.raises(UnsupportedError, match="one label"):
        TupleSampler(multi, RunContext(), 6)
    assert TupleSampler(multi.restrict(("image", "text")), RunContext(), 6).tuples == 20


def test_stacked_rows_give_stacked_batches():
    sampler = TupleSampler(split(), RunContext(), 6)
    one, two = draw(sampler, 1), draw(sampler, 2)
    batch = sampler.gather({name: torch.stack([one[name], two[name]]) for name in one})
    assert batch.x["audio"].shape == (2, 20, 2)
    assert torch.equal(batch.x["audio"][1], sampler.gather(two).x["audio"])


def test_independent_batches_end_with_the_smallest_modality():
    sampler = IndependentSampler(split(), RunContext(), 4)
    assert sampler.sizes == (4, 3)
    drawn = draw(sampler)
    assert sorted(drawn["row/audio"].tolist()) == list(range(7))
    assert len(set(drawn["row/image"].tolist())) == 7
    assert not torch.equal(drawn["row/image"], drawn["row/text"])
    batch = sampler.gather(drawn)
    assert batch.x["image"][:, 0].long().tolist() == drawn["row/image"].tolist()
    assert batch.extra == {}
