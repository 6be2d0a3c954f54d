"""Data the tests of methods share: well separated classes in every modality."""

import numpy as np
import torch

from benchmark.contract.method import tiny_values
from benchmark.core.data import Modality, Split
from benchmark.core.registry import METHODS
from benchmark.runs.recipe import RESERVED, resolve

SIZES = {"image": (30, 8), "text": (30, 5), "audio": (7, 4)}


def make_split(sizes=SIZES, classes=3, seed=0, *, multi=False, name="train"):
    centres = np.random.default_rng(99).normal(size=(classes, 6))
    draw = np.random.default_rng(seed)
    modalities = {}
    for k, (modality, (n, d)) in enumerate(sizes.items()):
        labels = np.arange(n) % classes
        spread = np.random.default_rng(k).normal(size=(6, d))
        x = ((centres[labels] + 0.3 * draw.normal(size=(n, 6))) @ spread).astype(np.float32)
        kept = np.eye(classes, dtype=np.uint8)[labels] if multi else labels.astype(np.int64)
        modalities[modality] = Modality(modality, x, kept)
    return Split(name, modalities, classes, "multi" if multi else "single")


def rows(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_hot(labels, classes):
    return torch.eye(classes, dtype=torch.float64)[torch.as_tensor(labels)]


def nearest_class_accuracy(retriever, a="image", b="text"):
    """Share of test rows of ``a`` whose nearest row of ``b`` is of their class."""
    test = make_split(seed=5, name="test")
    found = {m: retriever.embed(m, torch.from_numpy(test[m].features).double()) for m in (a, b)}
    nearest = torch.from_numpy(test[b].labels)[(found[a] @ found[b].T).argmax(dim=1)]
    return (nearest == torch.from_numpy(test[a].labels)).double().mean().item()


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
