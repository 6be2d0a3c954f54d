"""The training loop: replicas, selection, checkpoints, interruption, NaN."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.func import functional_call

from benchmark.core.method import Run, derive_seed
from benchmark.errors import TrainingError
from benchmark.training.checkpoint import load_phase, save_phase
from benchmark.training.samplers import RowSampler, batch_sizes
from benchmark.training.train import Adam, Objective, Phase, Select, build_replicas, train_phase

SEEDS = (1, 2, 3)


def small_phase(run, epochs=3, **changes):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(23, 5, generator=generator, dtype=torch.float64).to(run.device, run.dtype)
    y = torch.randn(23, 2, generator=generator, dtype=torch.float64).to(run.device, run.dtype)
    template, params = build_replicas(
        lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2)),
        [derive_seed(s, "weights") for s in run.seeds],
        run,
    )

    def loss(p, batch, now):
        error = (functional_call(template, p, (batch["x"],)) - batch["y"]).square().mean()
        return {"total": now["scale"] * error, "error": error}

    def validate(p, now):
        return {"total": (functional_call(template, p, (x,)) - y).square().mean()}

    phase = Phase(
        name="small",
        epochs=epochs,
        sampler=RowSampler(x, y, 6, keep_remainder=True),
        objectives=(Objective(loss, Adam(1e-2)),),
        constants={"scale": torch.linspace(0.5, 1, len(run.seeds), dtype=run.dtype, device=run.device)},
        validate=validate,
    )
    return replace(phase, **changes), params


def test_replicas_together_equal_replicas_alone(device):
    together, alone = (Run(SEEDS, device, "fp64", replicas=mode) for mode in ("together", "alone"))
    a, b = (train_phase(*small_phase(run, epochs=20), run) for run in (together, alone))
    assert together.notes["replicas"] == {"small": "together"}
    for name in a.params:
        torch.testing.assert_close(a.params[name], b.params[name], rtol=1e-9, atol=1e-11)
    assert (
        torch.tensor(a.history["train/total"]).sub(torch.tensor(b.history["train/total"])).abs().max() < 1e-10
    )


def test_a_replica_does_not_depend_on_its_company(device):
    run, single = Run(SEEDS, device, "fp64", replicas="together"), Run((2,), device, "fp64")
    phase, params = small_phase(run)
    lone, lone_params = small_phase(single, constants={"scale": phase.constants["scale"][1:2]})
    a, b = train_phase(phase, params, run), train_phase(lone, lone_params, single)
    for name in a.params:
        torch.testing.assert_close(a.params[name][1], b.params[name][0], rtol=1e-9, atol=1e-11)


def test_same_seed_same_bits():
    first, second = (train_phase(*small_phase(run), run) for run in (Run(SEEDS, replicas="alone"),) * 2)
    assert all(torch.equal(first.params[n], second.params[n]) for n in first.params)
    assert first.history == second.history


def test_initial_parameters_are_not_changed():
    run = Run(SEEDS, replicas="together")
    phase, params = small_phase(run)
    before = {n: p.clone() for n, p in params.items()}
    train_phase(phase, params, run)
    assert all(torch.equal(before[n], params[n]) for n in params)


def test_auto_measures_once_and_remembers(tmp_path):
    run = Run(SEEDS)
    phase, params = small_phase(run)
    train_phase(phase, params, run)
    files = list((tmp_path / "cache" / "replicas").glob("*.json"))
    assert len(files) == 1
    record = json.loads(files[0].read_text())
    for alone, way in ((0.5, "alone"), (1.2, "alone"), (1.3, "together"), (3.0, "together")):
        record["seconds_per_step"] = {"together": 1.0, "alone": alone}  # together only where clearly faster
        files[0].write_text(json.dumps(record))
        again = Run(SEEDS)
        train_phase(phase, params, again)
        assert again.notes["replicas"]["small"] == way


@pytest.mark.parametrize(("rule", "pick"), [("min", min), ("max", max)])
@pytest.mark.parametrize("mode", ["together", "alone"])
def test_selection_keeps_the_first_strict_optimum(rule, pick, mode):
    values = torch.tensor([[3.0, 1.0, 1.0, 2.0], [1.0, 5.0, 2.0, 5.0], [2.0, 2.0, 2.0, 2.0]])
    run = Run(SEEDS, replicas=mode)
    phase, params = small_phase(run, epochs=4)
    constants = {**phase.constants, "table": values}

    def schedule(epoch):
        return {"epoch": float(epoch)}

    def validate(p, now):
        return {"total": now["table"].gather(0, now["epoch"].long()[None])[0]}

    phase = replace(phase, constants=constants, schedule=schedule, validate=validate, select=Select(rule))
    done = train_phase(phase, params, run)
    wanted = [row.tolist().index(pick(row.tolist())) for row in values]
    assert done.epochs == wanted
    for r, epoch in enumerate(wanted):  # the kept weights are those after that epoch
        stop = Run((SEEDS[r],))
        short = replace(
            phase,
            epochs=epoch + 1,
            select=Select(),
            validate=None,
            constants={"scale": constants["scale"][r : r + 1]},
        )
        last = train_phase(short, {n: p[r : r + 1] for n, p in params.items()}, stop)
        for name in last.params:
            torch.testing.assert_close(done.params[name][r], last.params[name][0], rtol=1e-5, atol=1e-6)


def test_a_loss_that_is_not_finite_names_where():
    run = Run(SEEDS, replicas="together")
    phase, params = small_phase(run)
    broken = {"scale": torch.tensor([1.0, float("nan"), 1.0])}
    with pytest.raises(TrainingError, match="small, epoch 1, seed 2: train/total became nan"):
        train_phase(replace(phase, constants=broken), params, run)


def test_two_objectives_update_their_own_parameters_in_order():
    run = Run((1,))
    params = {"a": torch.tensor([[1.0]]), "b": torch.tensor([[1.0]])}
    seen = []

    def first(p, batch, now):
        return {"total": (p["a"] * p["b"]).sum(), "first": p["b"].sum()}

    def second(p, batch, now):
        return {"total": (p["a"] * p["b"]).sum(), "second": p["a"].sum()}

    run.progress = lambda phase, epoch, epochs, numbers: seen.append(numbers)
    sampler = RowSampler(torch.zeros(1, 1), torch.zeros(1, 1), 1)
    phase = Phase(
        "two", 1, sampler, (Objective(first, Adam(0.1), ("a",)), Objective(second, Adam(0.1), ("b",)))
    )
    done = train_phase(phase, params, run)
    assert done.params["a"].item() == pytest.approx(0.9)
    assert done.params["b"].item() == pytest.approx(0.9)
    assert seen[0]["train/first"] == 1.0  # before anything moved
    assert seen[0]["train/second"] == pytest.approx(0.9)  # after the first objective moved


def test_finished_phases_are_read_back_exactly(tmp_path):
    run = Run(SEEDS, replicas="alone", checkpoints=tmp_path / "partial")
    phase, params = small_phase(run)
    first = train_phase(phase, params, run)
    refused = replace(phase, objectives=())  # training it again would give other weights
    second = train_phase(refused, params, Run(SEEDS, replicas="alone", checkpoints=tmp_path / "partial"))
    assert all(torch.equal(first.params[n], second.params[n]) for n in first.params)
    assert first.epochs == second.epochs
    assert first.history == second.history


def test_an_interrupted_phase_leaves_finished_replicas_and_no_half_file(tmp_path):
    calls = []

    def interrupt(phase, epoch, epochs, numbers):
        calls.append(epoch)
        if len(calls) == 5:  # in the second of three replicas
            raise KeyboardInterrupt

    run = Run(SEEDS, replicas="alone", checkpoints=tmp_path, progress=interrupt)
    phase, params = small_phase(run)
    with pytest.raises(KeyboardInterrupt):
        train_phase(phase, params, run)
    assert [f.name for f in tmp_path.glob("*.npz")] == ["small@1.npz"]
    epochs = []
    run = Run(SEEDS, replicas="alone", checkpoints=tmp_path, progress=lambda *a: epochs.append(a[1]))
    resumed = train_phase(phase, params, run)
    assert len(epochs) == 6  # two replicas of three epochs
    whole = train_phase(phase, params, Run(SEEDS, replicas="alone"))
    assert all(torch.equal(resumed.params[n], whole.params[n]) for n in whole.params)


def test_checkpoints_keep_every_bit(tmp_path):
    params = {"w.a": torch.tensor([[1e-45, -0.0, 3.14]]), "b": torch.zeros(1, 2, dtype=torch.float64)}
    save_phase(tmp_path, "a/b@1", params, [3], {"train/total": [[0.1]]})
    loaded, epochs, history = load_phase(tmp_path, "a/b@1", torch.device("cpu"))
    assert all(torch.equal(loaded[n], params[n]) and loaded[n].dtype == params[n].dtype for n in params)
    assert (epochs, history) == ([3], {"train/total": [[0.1]]})
    assert load_phase(tmp_path, "other", torch.device("cpu")) is None


def test_batch_sizes():
    assert batch_sizes(23, 6) == (6, 6, 6)
    assert batch_sizes(23, 6, keep_remainder=True) == (6, 6, 6, 5)
    assert batch_sizes(4, 1024) == (4,)  # smaller than the batch: served whole
    with pytest.raises(ValueError, match="at least one row"):
        batch_sizes(0, 6)


def test_row_sampler_serves_every_row_once_per_epoch():
    x = torch.arange(23.0)[:, None]
    sampler = RowSampler(x, x, 6, keep_remainder=True, shuffles=("mix",))
    generator = torch.Generator().manual_seed(0)
    first, second = sampler.draw(generator), sampler.draw(generator)
    assert sorted(first["rows"].tolist()) == list(range(23))
    assert not torch.equal(first["rows"], second["rows"])
    start = 0
    for size in sampler.sizes:
        assert sorted(first["mix"][start : start + size].tolist()) == list(range(size))
        start += size
    both = sampler.gather({n: torch.stack([first[n][:6], second[n][:6]]) for n in first})
    assert both["x"].shape == (2, 6, 1)
    assert torch.equal(both["x"][1, :, 0].long(), second["rows"][:6])


def test_streams_differ_by_name_and_seed():
    seeds = {derive_seed(s, *names) for s in (1, 2) for names in (("a",), ("b",), ("a", "b"), ("ab",))}
    assert len(seeds) == 8
    assert derive_seed(1, "a", "b") == derive_seed(1, "a", "b")


@pytest.mark.parametrize("replicas", ["together", "alone"])
def test_the_hook_behind_an_epoch_runs_once_and_ahead_of_validation(replicas):
    run = Run(SEEDS, precision="fp64", replicas=replicas)

    def count(p, now):
        return {"epochs": p["epochs"] + now["by"]}

    phase, params = small_phase(
        run,
        state=("epochs",),
        after_epoch=count,
        schedule=lambda epoch: {"by": epoch + 1},
        validate=lambda p, now: {"epochs": p["epochs"].sum()},
    )
    params["epochs"] = torch.zeros(3, 1, dtype=torch.float64)
    trained = train_phase(phase, params, run)
    assert trained.history["val/epochs"] == [[1.0] * 3, [3.0] * 3, [6.0] * 3]
    assert trained.params["epochs"].flatten().tolist() == [6.0] * 3
