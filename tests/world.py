"""A tiny method and a tiny dataset in packages of their own, to test the harness without ours.

The harness finds them as it finds ours: by reading the sources, without importing them.
"""

import json
import os
import subprocess
import sys

from benchmark.cli.main import main as cli
from benchmark.core.registry import DATASETS, METHODS, Registry
from benchmark.runs import plan, profile
from benchmark.runs.reporter import Silent

METHOD = '''
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmark.core.method import Method, Retriever
from benchmark.core.registry import method


@dataclass(frozen=True)
class Config:
    ridge: float = 1.0
    steps: int = 1
    mode: str = "ok"
    lr: dict = field(default_factory=dict)
    unlisted: int = 7

    def __post_init__(self):
        if self.ridge < 0:
            raise ValueError("ridge must not be negative")


class Fitted(Retriever):
    def __init__(self, maps, mode):
        self.maps, self.mode = maps, mode

    def embed(self, modality, features):
        if self.mode == "broken":
            return features[:, :2] * float("nan")
        return features @ self.maps[modality]


class Direct(Retriever):
    """Scores pairs, and not symmetrically: the database item's first column is added."""

    def similarity(self, query, queries, database, items):
        return queries[:, :5] @ items[:, :5].T + items[:, 0]


@method("toy", title="Toy", paper="Ridge regression", venue="Nowhere", year=2000, group="paired-free")
class Toy(Method):
    Config = Config

    def fit(self, train, val, run, log):
        seen = Path(run.checkpoints) / "seen"
        log.notes["resumed"] = seen.exists()
        seen.write_text("begun")
        above = run.checkpoints.parents[1]  # of one pair of modalities there is one more folder
        with ((above.parent if above.name == ".partial" else above) / "fits.log").open("a") as file:
            file.write("fit\\n")
        log.notes["rows"] = {s.name: {m.name: len(m) for m in s} for s in (train, val)}
        log.notes["largest"] = max(float(abs(m.features).max()) for s in (train, val) for m in s)
        log.history["main"] = {"loss": [[1.0 / (e + 1)] * len(run.seeds) for e in range(self.config.steps)]}
        for epoch in range(self.config.steps):
            run.progress("main", epoch + 1, self.config.steps, {"loss": 1.0 / (epoch + 1)})
            if self.config.mode == "slow" and not log.notes["resumed"]:
                time.sleep(0.05)
        if self.config.mode == "fail":
            from benchmark.errors import TrainingError
            raise TrainingError("main: loss became nan")
        if self.config.mode == "short":
            return []
        models = []
        for seed in run.seeds:
            maps = {}
            for m in train:
                x, y = run.tensor(m.features), run.tensor(train.label_matrix(m.name))
                noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)).to(y)
                gram = x.T @ x + self.config.ridge * torch.eye(m.dim).to(x)
                maps[m.name] = torch.linalg.solve(gram, x.T @ (y + 0.3 * noise))
            models.append(Direct() if self.config.mode == "direct" else Fitted(maps, self.config.mode))
        if self.config.mode == "ok":
            log.arrays["maps"] = torch.stack([model.maps[train.names[0]] for model in models])
        return models
'''

RECIPE = """
[paper]
ridge = { value = 2.0, source = "section 1" }
steps = { value = 40, source = "section 2" }
mode = { value = "ok", source = "ours" }
lr = { value = { image = 1e-3, text = 2e-3 }, source = "public code" }
[paper.blobs]
ridge = { value = 3.0, source = "section 1, blobs" }
[quick]
steps = { value = 2, source = "quick" }
[quick.blobs]
lr = { value = { image = 5e-3, text = 5e-3 }, source = "quick, blobs" }
"""

DATASET = """
import numpy as np

from benchmark.core.data import Modality, MultimodalData, Split
from benchmark.core.validate import validate
from benchmark.core.dataset import Dataset, Location
from benchmark.errors import DataError, MissingDataError
from benchmark.core.registry import dataset

NAMES = ("image", "text", "audio")


@dataset("blobs", title="Blobs", modalities=("image", "text", "audio"), classes=4, citation="none",
         standin=True, splits=("even", "odd"))
class Blobs(Dataset):
    def locate(self, request):
        if request.split not in ("", "even", "odd"):
            raise DataError(f"blobs has no split {request.split!r}")
        files = [root / "blobs.txt" for root in request.roots() if (root / "blobs.txt").is_file()]
        if request.source == "official" and not files:
            raise MissingDataError("blobs: no blobs.txt; put it into --data-root")
        if files and request.source != "standin":
            return Location("official", (files[0],), f"{files[0]}|{files[0].stat().st_mtime_ns}", request)
        return Location("standin", (), "blobs-1", request)

    def load(self, located):
        seed = int(located.files[0].read_text()) if located.files else 0
        rng = np.random.default_rng(seed + (located.request.split == "odd"))
        centers = {m: rng.normal(size=(4, 5 + i)) for i, m in enumerate(NAMES)}
        splits = []
        for name, rows in (("train", 1200), ("val", 600), ("test", 60)):
            labels = rng.integers(0, 4, rows)
            modalities = {}
            for m in NAMES:
                x = centers[m][labels] + rng.normal(size=(rows, centers[m].shape[1]))
                x = x + (1e4 if name == "test" and m == "audio" else 0)
                modalities[m] = Modality(m, x.astype(np.float32), labels, np.arange(rows))
            splits.append(Split(name, modalities, 4))
        return validate(MultimodalData("blobs", located.source, *splits))
"""

FOLDS = """
import numpy as np

from benchmark.core.data import Item, Modality, MultimodalData, Split
from benchmark.core.validate import validate
from benchmark.core.dataset import Dataset, Location
from benchmark.errors import DataError
from benchmark.core.registry import dataset

NAMES = ("image", "text")
WORDS = "apple pear plum cherry lemon melon grape fig date lime kiwi mango".split()
SIZES = (13, 12, 9)  # folds of different sizes: a mean of means is not the mean


@dataset("fruits", title="Fruits", modalities=("image", "text"), classes=3, citation="none",
         splits=("0", "1", "2"), folds=True)
class Fruits(Dataset):
    def locate(self, request):
        if request.split not in ("", *self.info.splits):
            raise DataError(f"fruits has no split {request.split!r}")
        return Location("official", (), f"fruits {request.split or 0}", request)

    def load(self, located):
        rng = np.random.default_rng(0)
        labels = np.arange(sum(SIZES)) % 3
        fold = np.repeat(np.arange(3), SIZES)
        x = {m: rng.normal(size=(3, 5))[labels] + 0.8 * rng.normal(size=(len(labels), 5)) for m in NAMES}
        number = int(located.request.split or 0)
        rows = {"test": fold == number, "val": fold == (number + 1) % 3, "train": fold == (number + 2) % 3}
        splits, items = [], {}
        for part in ("train", "val", "test"):
            modalities = {}
            for m in NAMES:
                ids = np.flatnonzero(rows[part])[:: -1 if m == "text" else 1]  # rows in different order
                modalities[m] = Modality(m, x[m][ids].astype(np.float32), labels[ids], ids)
                names = [f"{('red', 'green')[i % 2]} {WORDS[i % 12]}" for i in ids]
                items[m] = tuple(Item(name, chr(0x1F300 + i)) for name, i in zip(names, ids, strict=True))
            splits.append(Split(part, modalities, 3))
        tastes = ("sweet", "sour", "bitter")
        return validate(MultimodalData("fruits", "official", *splits, class_names=tastes, items=items))
"""

DRIVER = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit it ignored
from benchmark.core.registry import DATASETS, METHODS
METHODS.package, DATASETS.package = "toy_methods", "toy_datasets"
from benchmark.cli.main import main
code = main(sys.argv[1:])
if __name__ == "__main__":
    sys.exit(code)
"""


class Listening(Silent):
    """A reporter that remembers what it was told."""

    def __init__(self):
        self.said, self.warned, self.epochs = [], [], []
        self.say, self.warn = self.said.append, self.warned.append

    def epoch(self, phase, epoch, epochs, numbers):
        self.epochs.append((phase, epoch, epochs))


class World:
    """A folder with the toy packages, its own results and cache, and both ways to run commands in it."""

    def __init__(self, folder, monkeypatch, recipe=RECIPE, datasets=None, methods=None):
        self.folder = folder
        self.results = folder / "results"
        for package, files in {
            "toy_methods": {"toy.py": METHOD, "toy.toml": recipe, **(methods or {})},
            "toy_datasets": {"blobs.py": DATASET, **(datasets or {})},
        }.items():
            for name, text in {"__init__.py": "", **files}.items():
                if text is not None:
                    (folder / package / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / package / name).write_text(text, encoding="utf-8")
        (folder / "drive.py").write_text(DRIVER, encoding="utf-8")
        self.variables = {
            "BENCHMARK_RESULTS": str(self.results),
            "BENCHMARK_CACHE": str(folder / "cache"),
            "CUDA_VISIBLE_DEVICES": "-1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "80",
        }
        for name, value in self.variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("BENCHMARK_DATA", raising=False)
        monkeypatch.syspath_prepend(str(folder))
        for name in [m for m in sys.modules if m.partition(".")[0] in {"toy_methods", "toy_datasets"}]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(METHODS, "package", "toy_methods")
        monkeypatch.setattr(DATASETS, "package", "toy_datasets")
        for cached in (Registry.entries, profile.cuda_likely, plan.metric_version):
            cached.cache_clear()

    def close(self):
        """Let the registries forget the toys."""
        Registry.entries.cache_clear()
        profile.cuda_likely.cache_clear()

    def call(self, capsys, *arguments):
        """Run a command in this process: exit code, standard output, standard error."""
        capsys.readouterr()
        code = cli([str(each) for each in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    def json(self, capsys, *arguments):
        """Run a command with --json and return its one document."""
        code, out, err = self.call(capsys, *arguments, "--json")
        assert code == 0, out + err
        return json.loads(out)

    def start(self, *arguments, **options):
        """Start a command in a process of its own."""
        command = [sys.executable, str(self.folder / "drive.py"), *map(str, arguments)]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **self.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def data(self, text="5"):
        """A folder with official data of blobs, which differ with the number in their file."""
        (self.folder / "data").mkdir(exist_ok=True)
        (self.folder / "data" / "blobs.txt").write_text(text)
        return self.folder / "data"

    def refused(self, capsys, *arguments, alone=True):
        """Run a command that says in one line what is wrong (``alone``: and nothing else); the line."""
        code, out, err = self.call(capsys, *arguments)
        (line,) = (said for said in err.splitlines() if said.startswith("error: "))
        assert (code, out, "Traceback" in err) == (2, "", False)
        assert not alone or err.splitlines() == [line]
        return line

    @property
    def fits(self):
        """How often a model was fitted."""
        log = self.results / "fits.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    @property
    def stored(self):
        """Names of all complete run folders."""
        return sorted(f.name for f in self.results.glob("*") if f.is_dir() and not f.name.startswith("."))
