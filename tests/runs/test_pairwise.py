"""One model for every two modalities: the same as so many runs, in one run and one record."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.core.data import Split
from benchmark.core.method import Retriever, RunContext
from benchmark.errors import TrainingError, UnsupportedError
from benchmark.evaluation.scoring import directions, score
from benchmark.records.store import Store
from benchmark.runs.parts import part_context
from benchmark.runs.plan import make_plan
from benchmark.runs.runner import execute
from benchmark.runs.spec import RunSpec
from tests.toy import make_data
from tests.world import Listening

METHODS = """
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.training.checkpoint import load_phase, save_phase
from benchmark.errors import TrainingError, UnsupportedError
from benchmark.core.method import Method, Retriever
from benchmark.core.registry import method

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Config:
    ridge: float = 1.0


class Maps(Retriever):
    def __init__(self, maps):
        self.maps = maps

    def embed(self, modality, features):
        return features @ self.maps[modality]


class _Ridge(Method):
    Config = Config

    def fit(self, train, val, run, log):
        assert train.names == val.names
        name, ridges = "+".join(train.names), [self.config.ridge] * len(run.seeds)
        trained = FOLDER / "trained.log"
        phase = "main " + ",".join(map(str, run.seeds))
        found = load_phase(run.checkpoints, phase, run.device)
        if found is None:
            if (FOLDER / "stop").exists() and name == (FOLDER / "stop").read_text():
                raise TrainingError("stopped")
            trained.write_text((trained.read_text() if trained.exists() else "") + name + " ")
            params = {}
            for m in train:
                x, y = run.tensor(m.features), run.tensor(train.label_matrix(m.name))
                maps = []
                for seed, ridge in zip(run.seeds, ridges, strict=True):
                    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)).to(y)
                    gram = x.T @ x + ridge * torch.eye(m.dim)
                    maps.append(torch.linalg.solve(gram, x.T @ (y + noise)))
                params[m.name] = torch.stack(maps)
            found = params, [0] * len(run.seeds), {"loss": [[1.0] * len(run.seeds)]}
            save_phase(run.checkpoints, phase, *found)
        params, _, log.history["main"] = found
        run.progress("main", 1, 1, {"loss": 1.0})
        log.notes |= {"shared": run.shared is not None, "each": list(range(len(run.seeds)))}
        log.arrays["width"] = torch.arange(len(run.seeds))
        return [Maps({m: p[r] for m, p in params.items()}) for r in range(len(run.seeds))]


FACTS = {}


@method("duo", title="Duo", paper="P", venue="V", year=2000, group="paired-oriented", modalities="two",
        pairwise=True)
class Duo(_Ridge):
    pass


@method("two", title="Two", paper="P", venue="V", year=2000, group="paired-oriented", modalities="two")
class Two(_Ridge):
    pass


@method("sights", title="Sights", paper="P", venue="V", year=2000, group="paired-oriented",
        modalities="two", kinds=("image", "text"))
class Sights(_Ridge):
    pass


@method("deaf", title="Deaf", paper="P", venue="V", year=2000, group="paired-oriented", modalities="two",
        pairwise=True)
class Deaf(_Ridge):
    def check(self, train):
        super().check(train)
        if train.names == ("text", "audio"):
            raise UnsupportedError("deaf: not these two")
"""
PAIRS = ["image+text", "image+audio", "text+audio"]
DUO = RunSpec("duo", "blobs", seeds=(1, 2), profile="paper")


@pytest.fixture
def world_options():
    return {"methods": {"pairs.py": METHODS}}


def trained(world):
    log = world.folder / "toy_methods" / "trained.log"
    return log.read_text().split() if log.exists() else []


def test_every_pair_scores_as_in_a_run_of_its_own(world):
    reporter = Listening()
    run = execute(DUO, Store(), reporter).run
    record = run.record
    assert list(record.results["map@all"]) == directions(("image", "text", "audio"))
    for pair in PAIRS:
        names = tuple(pair.split("+"))
        alone = execute(replace(DUO, modalities=names), Store()).run
        for direction in directions(names):
            assert record.results["map@all"][direction] == alone.record.results["map@all"][direction]
            np.testing.assert_array_equal(
                *(each.arrays(f"top/{direction}")[f"top/{direction}"] for each in (run, alone))
            )
        assert alone.record.protocol == "paired"
        assert alone.record.notes["shared"]
    assert len({tuple(values) for values in record.results["map@all"].values()}) == 6
    assert [line for line in reporter.said if ", 2 of 3" in line] == ["image+audio, 2 of 3"]
    assert reporter.epochs == [(f"{pair}/main", 1, 1) for pair in PAIRS]


def test_it_is_one_record_with_the_facts_of_every_pair(world):
    run = execute(DUO, Store()).run
    assert run.record.protocol == "pairwise"
    assert run.record.is_pairwise
    assert run.record.words == ("one model for every two modalities",)
    assert run.record.options == {}  # the method is defined so
    assert "protocol" not in run.record.comparability
    assert list(run.record.history) == [f"{pair}/main" for pair in PAIRS]
    for pair in PAIRS:
        assert run.record.notes[f"{pair}/shared"] is False
        assert run.arrays(f"method/{pair}/width")[f"method/{pair}/width"].tolist() == [0, 1]
    assert len(world.stored) == 1
    assert list((world.results / ".partial").iterdir()) == []


def test_pairwise_is_in_the_key_where_it_changes_the_run(world):
    def key(spec, **changes):
        return execute(replace(spec, profile="quick", **changes), Store()).run.record.key

    toy = RunSpec("toy", "blobs", seeds=(1,))
    assert key(DUO) == key(DUO, pairwise=True)
    assert key(DUO, modalities=("image", "text")) == key(DUO, modalities=("image", "text"), pairwise=True)
    assert key(toy) != key(toy, pairwise=True)
    asked = execute(replace(toy, pairwise=True), Store()).run.record
    assert (asked.protocol, asked.options) == ("pairwise", {"pairwise": True})


def test_an_interrupted_run_goes_on_with_the_first_unfinished_pair(world):
    stop = world.folder / "toy_methods" / "stop"
    stop.write_text("text+audio")
    with pytest.raises(TrainingError, match="stopped"):
        execute(DUO, Store())
    assert (trained(world), world.stored) == (PAIRS[:2], [])
    stop.unlink()
    resumed = execute(DUO, Store()).run.record
    assert trained(world) == PAIRS
    whole = execute(DUO, Store(world.folder / "elsewhere")).run.record
    assert resumed.results == whole.results
    assert resumed.history == whole.history


def test_own_items_are_left_out_of_every_pair(world):
    record = execute(replace(DUO, leave_own_out=True), Store()).run.record
    alone = execute(replace(DUO, leave_own_out=True, modalities=("text", "audio")), Store()).run.record
    for direction in ("text->audio", "audio->text"):
        assert record.results["map@all"][direction] == alone.results["map@all"][direction]


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        (replace(DUO, method="two"), ("--pairwise", "--modalities image,text", "not 3 (image, text, audio)")),
        (replace(DUO, method="sights"), ("--pairwise", "--modalities image,text")),
        (
            replace(DUO, method="sights", modalities=("text", "audio")),
            ("serves image and text only, got text, audio", "--pairwise extends it"),
        ),
        (replace(DUO, method="deaf"), ("not these two",)),
    ],
)
def test_refused_before_training_with_the_way_out(world, spec, parts):
    with pytest.raises(UnsupportedError) as caught:
        execute(spec, Store())
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (trained(world), world.stored) == ([], [])


def test_a_method_for_two_is_extended_on_request(world):
    record = execute(replace(DUO, method="two", pairwise=True), Store()).run.record
    assert record.results == execute(DUO, Store()).run.record.results
    assert not [line for line in record.warnings if "beyond" in line]


@pytest.mark.parametrize("modalities", [(), ("text", "audio")])
def test_other_modalities_than_the_publications_are_said_to_be_an_extension(world, modalities):
    reporter = Listening()
    spec = replace(DUO, method="sights", pairwise=True, modalities=modalities)
    record = execute(spec, Store(), reporter).run.record
    said = "beyond the publication: sights is defined for image and text; --pairwise extends it to audio"
    assert record.warnings[0] == said
    assert said in reporter.warned
    plain = execute(replace(spec, modalities=("image", "text")), Store()).run.record
    assert not [line for line in plain.warnings if "beyond" in line]


def test_the_command_line(world, capsys):
    run = ("run", "--method", "two", "--dataset", "blobs")
    code, _, err = world.call(capsys, *run)
    assert (code, len([line for line in err.splitlines() if "error" in line])) == (2, 1)
    assert world.json(capsys, *run, "--pairwise", "--dry-run")["protocol"] == "pairwise"
    assert world.json(capsys, *run, "--pairwise")["protocol"] == "pairwise"
    code, out, _ = world.call(capsys, *run, "--pairwise")
    assert code == 0
    assert "one model for every two modalities" in out
    assert "not comparable: stand-in data, quick profile, run with --pairwise" in " ".join(out.split())
    assert "pairwise" in world.call(capsys, "results")[1]
    assert world.json(capsys, "show-config", "two", "blobs")["protocol"] == "paired"
    assert world.json(capsys, "show-config", "two", "blobs", "--pairwise")["protocol"] == "pairwise"
    assert world.json(capsys, "show-config", "duo", "blobs")["protocol"] == "pairwise"
    out = world.call(capsys, "list", "methods")[1]
    assert "two, pairwise on more" in out
    assert "image+text" in out


def test_a_plan_knows_before_the_data_are_read(world):
    assert make_plan(DUO).known is None
    assert make_plan(DUO).pairwise
    assert not make_plan(replace(DUO, modalities=("text", "image"))).pairwise


def test_pair_scores_are_asked_for_whole_and_dropped_before_the_next():
    asked = []

    class Scorer(Retriever):
        def similarity(self, query, queries, database, items):
            gc.collect()
            assert all(reference() is None for *_, reference in asked), "earlier scores are still held"
            scores = queries[:, :2] @ items[:, :2].T
            asked.append((query, database, len(queries), len(items), weakref.ref(scores)))
            return scores

    test: Split = make_data().test
    timings = {"embed": 0.0, "score": 0.0}
    with torch.no_grad():
        scores = score([Scorer(), Scorer()], test, RunContext(seeds=(1, 2)), timings, {})
    directions = [("image", "text", 6, 6), ("text", "image", 6, 6)]
    assert [each[:4] for each in asked] == directions * 2
    assert {direction: len(each) for direction, each in scores.items()} == {
        "image->text": 2,
        "text->image": 2,
    }


def test_checkpoints_stay_in_their_folder_whatever_modalities_are_called(tmp_path):
    run = RunContext(checkpoints=tmp_path / "a" / "b" / "c")
    parts = [("/x/abs", "image"), ("../../../../esc", "image"), ("a+b", "c"), ("a", "b+c"), ("图像", "文本")]
    folders = [part_context(run, part).checkpoints for part in parts]
    assert {folder.resolve().parent for folder in folders} == {run.checkpoints}
    assert len(set(folders)) == len(parts)
    assert all(folder.is_dir() for folder in folders)
