"""Data the tests of methods share: well separated classes in every modality."""

from dataclasses import replace

import numpy as np
import torch
from benchmark.methods.blocks.layers import unit_rows

from benchmark.contract.method import tiny_values
from benchmark.core.data import Modality, Split
from benchmark.core.method import FitLog, RunContext
from benchmark.core.registry import METHODS
from benchmark.runs.recipe import RESERVED, resolve

PAIR = {"image": (30, 8), "text": (30, 5)}
SIZES = {**PAIR, "audio": (7, 4)}


def make_split(sizes=SIZES, classes=3, seed=0, *, multi=False, name="train", paired=False):
    """Rows and columns per modality; ``paired``: row i of every modality shows item i."""
    centres = np.random.default_rng(99).normal(size=(classes, 6))
    draw = np.random.default_rng(seed)
    modalities = {}
    for k, (modality, (n, d)) in enumerate(sizes.items()):
        labels = np.arange(n) % classes
        spread = np.random.default_rng(k).normal(size=(6, d))
        x = ((centres[labels] + 0.3 * draw.normal(size=(n, 6))) @ spread).astype(np.float32)
        kept = np.eye(classes, dtype=np.uint8)[labels] if multi else labels.astype(np.int64)
        modalities[modality] = Modality(modality, x, kept, np.arange(n) if paired else None)
    return Split(name, modalities, classes, "multi" if multi else "single")


def rows(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_hot(labels, classes):
    return torch.eye(classes, dtype=torch.float64)[torch.as_tensor(labels)]


def several_labels(split):
    """Every other row of the split's images and texts has the first class too."""
    for name in PAIR:
        split[name].labels[::2, 0] = 1
    return split


def training(method):
    """Training data of all modalities a method takes."""
    return make_split(PAIR if METHODS.get(method).info.modalities == "two" else SIZES)


def held_out(train):
    """Validation data like these: nine rows of every modality."""
    sizes, multi = {m.name: (9, m.dim) for m in train}, train.label_form == "multi"
    paired = all(m.pair_ids is not None for m in train)
    return make_split(sizes, train.classes, seed=1, multi=multi, name="val", paired=paired)


def fit(method, train=None, val=None, *, run=None, seeds=(1,), replicas="auto", beyond=False, **values):
    """The retrievers of a method, and what its fit logged; on all modalities it takes, in float64."""
    host, train, log = build(method, **values), train or training(method), FitLog()
    host.beyond_kinds = beyond
    host.check(train)
    run = run or RunContext(seeds, precision="fp64", replicas=replicas)
    return host.fit(train, val or held_out(train), run, log), log


def started(method, train, run=None):
    """Its phase without validation that hands everything back, and its initial parameters."""
    run = run or RunContext(precision="fp64")
    net, start = method.start(train, run)
    phase = method.phase(net, method.sampler(train, run))
    return replace(phase, constants=method.constants(train, start, run), keep=()), start


def scores(retriever, split, a="image", b="text"):
    """Similarities ``(n_a, n_b)`` by which a split's rows of ``a`` rank those of ``b``."""
    x = {m: torch.from_numpy(split[m].features).double() for m in (a, b)}
    found = retriever.similarity(a, x[a], b, x[b])
    if found is None:
        found = unit_rows(retriever.embed(a, x[a])) @ unit_rows(retriever.embed(b, x[b])).T
    return found


def nearest_class_accuracy(retriever, a="image", b="text"):
    """Share of test rows of ``a`` whose nearest row of ``b`` is of their class."""
    test = make_split(seed=5, name="test")
    return (test[b].labels[scores(retriever, test, a, b).argmax(dim=1)] == test[a].labels).mean()


def values_of(method, **changes):
    """Hyper-parameters for tests: the recipe's with its section [tiny] on top, and changes."""
    return {**tiny_values(METHODS.get(method)), **changes}


def build(method, **changes):
    """A method with these."""
    return METHODS.get(method).load().from_values(values_of(method, **changes))


def published(method, **changes):
    """Hyper-parameters of the recipe's section [paper], as the method's Config, and changes."""
    recipe = resolve(METHODS.get(method), "", "paper")
    values = {name: each.value for name, each in recipe.items() if name not in RESERVED}
    return METHODS.get(method).load().Config(**{**values, **changes})
