"""Small sound files of every kind that the suite reads: what the trials damage, each in its own folder."""

import os
import shutil
from pathlib import Path

import numpy as np

from benchmark.records.store import Store
from tests.datasets.writing import write
from tests.faults.trials import Verdict, call, judge
from tests.stored import save

FORMATS = {"npz": ".npz", "v5": ".mat", "v5-compressed": ".mat", "v7.3": ".mat", "hdf5": ".h5"}
ROOT = Path(__file__).parents[2]
GRID = """
title = "A small grid"
[[run]]
label = "{each}"
description = "alpha of {each}"
certainty = "certain"
method = "drcl"
set = ["epochs=1", "hidden=[8]", "alpha={each}"]
each = [0.1, 0.2]
[[run]]
label = "other"
description = "another method"
certainty = "certain"
method = "cmcp"
"""


def grid(ground: Path) -> tuple[str, ...]:
    """The command of three runs, two of which share a phase."""
    data = ("--dataset", f"{ground}/npz/flowers.toml", "--profile", "quick")
    return ("study", f"{ground}/study/grid.toml", *data, "--quiet")


def one(ground: Path) -> tuple[str, ...]:
    """The command of one run with phases."""
    settings = ("--profile", "quick", "--set", "epochs=1", "--set", "hidden=[8]", "--quiet")
    return ("run", "--method", "drcl", "--dataset", f"{ground}/npz/flowers.toml", *settings)


def arrays(prefixes=("train_", "val_", "test_"), widths=(6, 5)) -> dict[str, np.ndarray]:
    """Features of two modalities and three classes, with labels."""
    rng, found = np.random.default_rng(0), {}
    for prefix, rows in zip(prefixes, (30, 12, 12), strict=False):
        labels = np.arange(rows) % 3
        for m, columns in zip(("image", "text"), widths, strict=True):
            centers = np.random.default_rng(columns).normal(size=(3, columns))
            found[f"{prefix}{m}"] = (centers[labels] + rng.normal(size=(rows, columns))).astype(np.float32)
            found[f"{prefix}{m}_labels"] = labels.astype(np.int64)
    return found


def prepare(ground: Path) -> list[Verdict]:
    """Fill a folder; the verdicts of the commands it takes."""
    verdicts = []

    def made(*arguments: object) -> None:
        verdicts.append(judge(call(*arguments)))

    os.environ["BENCHMARK_CACHE"] = f"{ground}/scratch"
    for kind, ending in FORMATS.items():
        file = write(ground / kind / f"flowers{ending}", arrays(), kind)
        text = f'file = "{file.name}"\nmodalities = ["image", "text"]\npairs = "rows"\nseed = 3\n'
        (ground / kind / "flowers.toml").write_text(text)
        write(ground / f"score-{kind}" / f"scored{ending}", arrays(("",), (5, 5)), kind)
    (ground / "study").mkdir()
    (ground / "study" / "grid.toml").write_text(GRID)
    (ground / "recipe").mkdir()
    shutil.copy(ROOT / "methods" / "recipes" / "drcl.toml", ground / "recipe" / "drcl.toml")
    shutil.copytree(ROOT / "datasets" / "emoji_data", ground / "emoji")

    store = Store(ground / "store" / "results")
    for name in ("a", "b"):
        save(store, name)

    os.environ["BENCHMARK_CACHE"] = f"{ground}/memory/cache"
    made(*one(ground), "--results", ground / "memory" / "results")
    (ground / "zip").mkdir()  # of a real run: the key of the others is made up, which an import refuses
    made("results", "export", ground / "zip" / "runs.zip", "--results", ground / "memory" / "results")
    shutil.copytree(ground / "memory" / "results" / ".shared", ground / "shared" / "results" / ".shared")
    keep, Store.save = Store.save, interrupted
    call(*one(ground), "--results", ground / "partial" / "results")
    Store.save = keep
    shutil.rmtree(ground / "partial" / "results" / ".shared", ignore_errors=True)
    os.environ["BENCHMARK_CACHE"] = f"{ground}/standin/cache"
    cached_standins()
    made("data", "describe", "wikipedia", "--source", "standin", "--data-option", "scale=0.02")
    return verdicts


def cached_standins() -> None:
    """Keep stand-ins in the cache, however small they are."""
    from benchmark.datasets.standin import sets

    sets.CACHE_FROM = 0


def interrupted(*_: object, **__: object) -> None:
    """In place of a save: the run is left unfinished."""
    raise KeyboardInterrupt


def contents(root: Path) -> dict[str, tuple]:
    """Every stored run, without what differs from time to time.

    Raises:
        AssertionError: One is damaged.
    """
    runs, problems = Store(root).all()
    assert not problems, problems
    found = {}
    for run in runs:
        document = run.record.to_json()
        facts = {k: document[k] for k in ("key", "results", "averages", "history", "recipe", "seeds", "rows")}
        stored = {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in run.arrays().items()}
        assert run.record.key not in found
        found[run.record.key] = (facts, stored)
    return found
