"""What every method of ours computes, kept as a few numbers, so that no change of them goes unnoticed.

A stored run is found by its method's ``version``, not by its code: who changes what a method computes raises
the version, or old numbers go on standing for the new. ``arithmetic.json`` holds, per method and variant,
numbers of the scores of a tiny fit (section [tiny] of the recipe, float64, one seed, one thread). They are
compared up to ``TOLERANCE``: initial weights are drawn in float32, and differ by rounding from one kind of
processor to another. ``python -m tests.methods.arithmetic`` renews the table, but not for a method that
computes something else under the version it had.
"""

import hashlib
import json
import sys
from pathlib import Path

import torch

from benchmark.contract.cases import cases
from benchmark.contract.method import Subject, fit, outputs
from benchmark.core.registry import METHODS
from benchmark.disk import write_text
from benchmark.runs.plan import canonical
from benchmark.runs.recipe import RESERVED, resolve, variants

FILE = Path(__file__).with_suffix(".json")
COMMAND = "python -m tests.methods.arithmetic"
TOLERANCE = 1e-5  # of the length of all scores; two kinds of processor were seen to differ by a tenth of it


def ours():
    return [entry.id for entry in METHODS.ours()]


def read():
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}


def computed(name):
    """The entry of a method: its version, and per variant and shape of data what a fit gives."""
    entry, fits = METHODS.get(name), {}
    shapes = cases(entry.info)[: 2 if entry.info.modalities == "many" else 1]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for variant in variants(entry):
            recipe = resolve(entry, "", "tiny", [f"variant={variant}"])
            values = {each: value.value for each, value in recipe.items() if each not in RESERVED}
            digest = hashlib.sha256(canonical(values).encode()).hexdigest()[:16]
            for case in shapes:
                subject = Subject(entry.load(), values)
                [model] = fit(subject, case, seeds=(1,), precision="fp64", replicas="alone")
                numbers = {direction: summary(s) for direction, s in scores(model, case.test).items()}
                fits[f"{variant}, {case.name}"] = {"values": digest, "scores": numbers}
    finally:
        torch.set_num_threads(threads)
    return {"version": entry.info.version, "fits": fits}


def scores(model, test):
    """What is ranked; of embeddings the cosines, which no rotation of a solver's axes changes."""
    found = outputs(model, test, torch.float64)
    direct = {direction: each for direction, each in found.items() if "->" in direction}
    unit = {name: torch.nn.functional.normalize(z, dim=1) for name, z in found.items() if name not in direct}
    return direct | {f"{a}->{b}": unit[a] @ unit[b].T for a in unit for b in unit if a < b}


def summary(scores):
    """Length of all scores, and two sums of them with fixed weights, which move with every entry."""
    places = torch.arange(1, scores.numel() + 1, dtype=torch.float64).view_as(scores)
    weights = [torch.nn.functional.normalize(each, dim=None) for each in (places.cos(), (places**2).sin())]
    return [float(f"{float(x):.9g}") for x in (scores.norm(), *((w * scores).sum() for w in weights))]


def same(kept, found):
    """Whether two summaries are of the same scores."""
    return all(abs(a - b) <= TOLERANCE * found[0] for a, b in zip(kept, found, strict=True))


def alike(kept, found):
    return set(kept) == set(found) and all(same(kept[direction], found[direction]) for direction in found)


def changed(kept, found):
    """The first fit with the same values that gives other scores; empty if there is none."""
    for name, one in found["fits"].items():
        before = kept["fits"].get(name)
        if before and before["values"] == one["values"] and not alike(before["scores"], one["scores"]):
            return name
    return ""


def problem(name, kept, found):
    """What is wrong with the entry of a method, and what to do; empty if nothing is."""
    if kept is None:
        return f"{name} is not in {FILE.name}: run `{COMMAND}` to enter it"
    if found["version"] == kept["version"] and (fit := changed(kept, found)):
        return (
            f"{name} computes something else ({fit}) under version {kept['version']}: raise version in the "
            f"decorator and run `{COMMAND}` to renew the table"
        )
    if facts(found) != facts(kept):
        return f"{name} has another version or recipe than {FILE.name} says: run `{COMMAND}` to renew it"
    return ""


def facts(entry):
    """The version, and the values of every fit."""
    return entry["version"], {name: one["values"] for name, one in entry["fits"].items()}


def renewed(name, kept, found):
    """The entry that shall stand in the table: the old one while it holds.

    Raises:
        ValueError: The method computes something else, but its version was not raised.
    """
    if kept is not None and found["version"] <= kept["version"]:
        if found["version"] < kept["version"]:
            raise ValueError(f"{name}: version {found['version']} was {kept['version']} before; raise it")
        if changed(kept, found):
            raise ValueError(problem(name, kept, found))
        if not problem(name, kept, found):
            return kept
    return found


def main():
    table, names = read(), ours()
    try:
        new = {name: renewed(name, table.get(name), computed(name)) for name in names}
    except ValueError as error:
        sys.exit(f"{error}; nothing is written")
    write_text(FILE, json.dumps(new, indent=1, sort_keys=True) + "\n")
    count = sum(new[name] != table.get(name) for name in names)
    sys.stdout.write(f"{FILE}: {len(new)} methods, {count} renewed\n")


if __name__ == "__main__":
    main()
