"""Noise comes from the batch, statistics are handed back, and modules train within losses only."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmark.core.method import FitLog, Retriever, RunContext
from benchmark.errors import TrainingError
from benchmark.training import (
    Adam,
    IndependentSampler,
    Model,
    Objective,
    Phase,
    RowSampler,
    build_replicas,
    train_phase,
)
from benchmark.training.modules import GlobalGenerators, evaluate
from tests.methods.data import make_split
from tests.world import World

X = torch.arange(12.0).view(6, 2)
REFUSED = {
    "dropout": (lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), "layer '1' (Dropout)"),
    "dropout of channels": (lambda: nn.Dropout2d(0.1), "the network (Dropout2d)"),
    "alpha dropout": (lambda: nn.AlphaDropout(0.1), "the network (AlphaDropout)"),
    "random slopes": (lambda: nn.Sequential(nn.RReLU()), "layer '0' (RReLU)"),
    "recurrent": (lambda: nn.LSTM(2, 2, num_layers=2, dropout=0.1), "the network (LSTM)"),
    "attention": (lambda: nn.MultiheadAttention(2, 1, dropout=0.1), "the network (MultiheadAttention)"),
    "transformer": (lambda: nn.TransformerEncoderLayer(2, 1, 4), "layer 'self_attn' (MultiheadAttention)"),
    "batch norm": (lambda: nn.Sequential(nn.BatchNorm1d(2)), "layer '0' (BatchNorm1d)"),
    "lazy batch norm": (lambda: nn.Sequential(nn.LazyBatchNorm1d()), "layer '0' (LazyBatchNorm1d)"),
    "batch norm of the batch": (lambda: nn.BatchNorm1d(2, track_running_stats=False), "(BatchNorm1d)"),
    "instance norm": (lambda: nn.InstanceNorm1d(2, track_running_stats=True), "(InstanceNorm1d)"),
}
ALLOWED = {
    "no dropout": lambda: nn.Dropout(0),
    "recurrent": lambda: nn.LSTM(2, 2),
    "attention": lambda: nn.MultiheadAttention(2, 1),
    "instance norm": lambda: nn.InstanceNorm1d(2),
    "layer norm": lambda: nn.LayerNorm(2),
}


def phase_of(net, loss, **changes):
    return Phase("p", net, 2, RowSampler(X, X, 3), (Objective(loss, Adam(1e-2)),), **changes)


def linear(run):
    return build_replicas(lambda: nn.Linear(2, 2), run.seeds, run)


def error_of(model, batch):
    x, _ = batch.alone
    return {"total": (model(x) - x).square().mean()}


@pytest.mark.parametrize("name", REFUSED)
def test_layers_with_noise_or_statistics_of_their_own_are_refused_with_those_to_use(name):
    build, words = REFUSED[name]
    run = RunContext((1,))
    with pytest.raises(TrainingError) as refused:
        build_replicas(build, run.seeds, run)
    said = str(refused.value)
    assert said.startswith("network: ")
    assert words in said
    use = "BatchNorm of" if "norm" in name else "dropout(x, share, keys, stream) of"
    assert f"use {use} benchmark.methods.blocks.layers" in said
    assert "\n" not in said
    with pytest.raises(TrainingError, match="p: "):  # a module that was made elsewhere
        train_phase(phase_of(build(), error_of), {"a": torch.ones(1, 1)}, run, FitLog())


@pytest.mark.parametrize("name", ALLOWED)
def test_other_layers_are_not_refused(name):
    run = RunContext((1, 2))
    build_replicas(ALLOWED[name], run.seeds, run)


def functional(model, batch):
    x, _ = batch.alone
    return {"total": (model(nn.functional.dropout(x, 0.5)) - x).square().mean()}


def noisy(model, batch):
    x, _ = batch.alone
    return {"total": (model(x + torch.rand(x.shape)) - x).square().mean()}


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
@pytest.mark.parametrize("replicas", ["alone", "together"])
@pytest.mark.parametrize(
    ("loss", "changes"),
    [
        (functional, {}),
        (noisy, {}),
        (error_of, {"validate": lambda model, now: {"noise": torch.rand(())}}),
        (error_of, {"before": lambda model, now: {"weight": model.weight + torch.randn(2, 2)}}),
        (error_of, {"schedule": lambda epoch: {"noise": float(torch.rand(()))}}),
    ],
    ids=["dropout", "rand", "validation", "hook", "schedule"],
)
def test_random_numbers_of_the_global_stream_are_refused(loss, changes, seeds, replicas):
    run = RunContext(seeds, replicas=replicas)
    net, params = linear(run)
    with pytest.raises(TrainingError) as refused:
        train_phase(phase_of(net, loss, **changes), params, run, FitLog())
    said = str(refused.value)
    assert said.startswith("p, epoch 1: random numbers were drawn from torch's global generator")
    assert "dropout(x, share, keys, stream) of benchmark.methods.blocks.layers" in said
    assert "\n" not in said


def test_a_generator_of_its_own_may_be_drawn_from():
    watch = GlobalGenerators(torch.device("cpu"))
    torch.rand(3, generator=torch.Generator().manual_seed(1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        torch.rand(3)
    watch.demand_untouched("here")
    torch.rand(3)
    with pytest.raises(TrainingError, match="here"):
        watch.demand_untouched("here")


class Seen(nn.Linear):
    """Says which mode it was called in."""

    modes: list[bool]

    def forward(self, x):
        self.modes.append(self.training)
        return super().forward(x)


@pytest.mark.parametrize("replicas", ["alone", "together"])
def test_a_module_is_in_training_mode_within_losses_only(replicas):
    run, modes = RunContext((1, 2), replicas=replicas), {"loss": [], "other": []}

    def build():
        net = nn.Sequential(Seen(2, 2))
        net[0].modes = modes["other"]
        return net

    net, params = build_replicas(build, run.seeds, run)
    assert not net.training

    def loss(model, batch):
        net[0].modes = modes["loss"]
        found = error_of(model, batch)
        net[0].modes = modes["other"]
        return found

    def look(model, now):
        model(X)
        return {}

    phase = phase_of(net, loss, before=look, after=look, after_epoch=look)
    phase = replace(phase, validate=lambda model, now: {"size": model(X).square().mean()})
    train_phase(phase, params, run, FitLog())
    assert set(modes["loss"]) == {True}
    assert set(modes["other"]) == {False}
    model = Model(net, {name: p[0] for name, p in params.items()})
    model(X)
    assert modes["other"][-1] is False


def test_a_fitted_model_is_put_into_evaluation_mode_wherever_it_holds_modules():
    class Holder(Retriever):
        def __init__(self, **facts):
            vars(self).update(facts)

    class Both(nn.Module, Retriever):
        pass

    nets = [nn.Sequential(nn.Dropout()) for _ in range(5)]
    inner = Holder(net=nets[0])
    both = Both()
    outer = [Holder(inner=inner, nets={"image": [nets[1]]}, model=Model(nets[2], {}), call=nets[3].forward)]
    outer += [both, Holder(own=outer, pair=(nets[4], 3))]
    evaluate(outer)
    assert not any(net.training or net[0].training for net in nets)
    assert not both.training


@pytest.mark.parametrize("kind", ["rows", "independent"])
def test_keys_are_drawn_where_asked_for_and_change_nothing_else(kind):
    def make(**options):
        if kind == "rows":
            return RowSampler(X, X, 3, shuffles=("mix",), **options)
        return IndependentSampler(make_split(), RunContext(), 3, **options)

    plain, keyed = (sampler.draw(torch.Generator().manual_seed(0)) for sampler in (make(), make(keyed=True)))
    assert set(keyed) - set(plain) == {"key"}
    assert all(torch.equal(plain[name], keyed[name]) for name in plain)
    assert len(set(keyed["key"].tolist())) == len(keyed["key"]) == sum(make().sizes)
    batch = make(keyed=True).gather({name: rows[:3] for name, rows in keyed.items()})
    assert torch.equal(batch.extra["key"], keyed["key"][:3])
    assert "key" not in make().gather({name: rows[:3] for name, rows in plain.items()}).extra


METHOD = """
from dataclasses import dataclass

import torch
from torch import nn

from benchmark import Method, Retriever, derive_seed, method
from benchmark.training import Adam, Model, Objective, Phase, RowSampler
from benchmark.training import build_replicas, each_replica, train_phase


@dataclass(frozen=True)
class Config:
    how: str = "layer"


class Own(Retriever):
    def __init__(self, nets):
        self.nets = nets

    def embed(self, modality, features):
        return self.nets[modality](features)


class Hidden(Retriever):
    def __init__(self, nets):
        self.ask = lambda modality, features: nets[modality](features)

    def embed(self, modality, features):
        return self.ask(modality, features)


@method("noisy", title="N", paper="P", venue="V", year=2020, group="paired-free")
class Noisy(Method):
    Config = Config

    def fit(self, train, val, run, log):
        made = {"own": Own, "hidden": Hidden}.get(self.config.how)
        return [made(self.nets(train, s)) for s in run.seeds] if made else self.phases(train, run, log)

    def nets(self, train, seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "weights"))
            return {m.name: nn.Sequential(nn.Linear(m.dim, 8), nn.Dropout(0.5)) for m in train}

    def phases(self, train, run, log):
        layers = [nn.Dropout(0.5)] if self.config.how == "layer" else []
        found = {}
        for m in train:
            net, params = build_replicas(lambda: nn.Sequential(nn.Linear(m.dim, 4), *layers), run.seeds, run)

            def loss(model, batch):
                x, y = batch.alone
                return {"total": (nn.functional.dropout(model(x), 0.5) - y).square().mean()}

            sampler = RowSampler(run.tensor(m.features), run.tensor(train.label_matrix(m.name)), 64)
            phase = Phase(m.name, net, 2, sampler, (Objective(loss, Adam(1e-2)),))
            params = each_replica(train_phase(phase, params, run, log).params)
            found[m.name] = [Model(net, each) for each in params]
        return [Own({name: each[r] for name, each in found.items()}) for r in range(len(run.seeds))]
"""


@pytest.fixture
def world(tmp_path, monkeypatch):
    made = World(tmp_path, monkeypatch)
    (tmp_path / "toy_methods" / "noisy.py").write_text(METHOD)
    yield made
    made.close()


def noisy_run(how, seeds="1"):
    return ("run", "--method", "noisy", "--dataset", "blobs", "--set", f"how={how}", "--seeds", seeds)


@pytest.mark.parametrize("seeds", ["1", "1,2"])
@pytest.mark.parametrize("how", ["layer", "functional", "hidden"])
def test_a_noisy_method_is_one_line_and_nothing_stored(world, capsys, how, seeds):
    code, _, err = world.call(capsys, *noisy_run(how, seeds), "--quiet")
    lines = [line for line in err.splitlines() if "STAND-IN" not in line]
    assert (code, len(lines)) == (2, 1), err
    assert "dropout(x, share, keys, stream) of benchmark.methods.blocks.layers" in lines[0]
    assert world.stored == []


def test_dropout_is_off_on_test_rows(world, capsys):
    first = world.json(capsys, *noisy_run("own"))
    second = world.json(capsys, *noisy_run("own"), "--force")
    assert first["results"] == second["results"]
