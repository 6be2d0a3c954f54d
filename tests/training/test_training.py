"""The training loop: replicas, selection, checkpoints, interruption, NaN."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmark.core.method import FitLog, RunContext, derive_seed
from benchmark.errors import TrainingError
from benchmark.training import Adam, Objective, Phase, RowSampler, Select, build_replicas, train_phase
from benchmark.training.checkpoint import _file, load_phase, save_phase
from benchmark.training.samplers import batch_sizes

SEEDS = (1, 2, 3)


def trained(phase, params, run):
    return train_phase(phase, params, run, FitLog())


def small_phase(run, epochs=3, **changes):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(23, 5, generator=generator, dtype=torch.float64).to(run.device, run.dtype)
    y = torch.randn(23, 2, generator=generator, dtype=torch.float64).to(run.device, run.dtype)
    template, params = build_replicas(
        lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2)),
        [derive_seed(s, "weights") for s in run.seeds],
        run,
    )

    def loss(model, batch):
        rows, wanted = batch.alone
        error = (model(rows) - wanted).square().mean()
        return {"total": batch.now["scale"] * error, "error": error}

    def validate(model, now):
        return {"total": (model(x) - y).square().mean()}

    phase = Phase(
        name="small",
        net=template,
        epochs=epochs,
        sampler=RowSampler(x, y, 6, keep_remainder=True),
        objectives=(Objective(loss, Adam(1e-2)),),
        constants={"scale": torch.linspace(0.5, 1, len(run.seeds), dtype=run.dtype, device=run.device)},
        validate=validate,
    )
    return replace(phase, **changes), params


def test_replicas_together_equal_replicas_alone(device):
    runs = [RunContext(SEEDS, device, "fp64", replicas=mode) for mode in ("together", "alone")]
    logs = [FitLog(), FitLog()]
    a, b = (train_phase(*small_phase(run, epochs=20), run, log) for run, log in zip(runs, logs, strict=True))
    assert [log.notes["replicas"] for log in logs] == [{"small": "together"}, {"small": "alone"}]
    assert logs[0].history == {"small": a.history}
    for name in a.params:
        torch.testing.assert_close(a.params[name], b.params[name], rtol=1e-9, atol=1e-11)
    assert (
        torch.tensor(a.history["train/total"]).sub(torch.tensor(b.history["train/total"])).abs().max() < 1e-10
    )


def test_a_replica_does_not_depend_on_its_company(device):
    run, single = RunContext(SEEDS, device, "fp64", replicas="together"), RunContext((2,), device, "fp64")
    phase, params = small_phase(run)
    lone, lone_params = small_phase(single, constants={"scale": phase.constants["scale"][1:2]})
    a, b = trained(phase, params, run), trained(lone, lone_params, single)
    for name in a.params:
        torch.testing.assert_close(a.params[name][1], b.params[name][0], rtol=1e-9, atol=1e-11)


def test_same_seed_same_bits():
    first, second = (trained(*small_phase(run), run) for run in (RunContext(SEEDS, replicas="alone"),) * 2)
    assert all(torch.equal(first.params[n], second.params[n]) for n in first.params)
    assert first.history == second.history


def test_initial_parameters_are_not_changed():
    run = RunContext(SEEDS, replicas="together")
    phase, params = small_phase(run)
    before = {n: p.clone() for n, p in params.items()}
    trained(phase, params, run)
    assert all(torch.equal(before[n], params[n]) for n in params)


def test_replicas_stack_on_a_cpu_only_where_that_is_asked_for():
    for device, mode, seeds, wanted in (
        ("cpu", "auto", SEEDS, "alone"),
        ("cpu", "together", SEEDS, "together"),
        ("cpu", "together", (1,), "alone"),
    ):
        run, log = RunContext(seeds, torch.device(device), replicas=mode), FitLog()
        train_phase(*small_phase(run), run, log)
        assert log.notes["replicas"] == {"small": wanted}


@pytest.mark.parametrize(("rule", "pick"), [("min", min), ("max", max)])
@pytest.mark.parametrize("mode", ["together", "alone"])
def test_selection_keeps_the_first_strict_optimum(rule, pick, mode):
    values = torch.tensor([[3.0, 1.0, 1.0, 2.0], [1.0, 5.0, 2.0, 5.0], [2.0, 2.0, 2.0, 2.0]])
    run = RunContext(SEEDS, replicas=mode)
    phase, params = small_phase(run, epochs=4)
    constants = {**phase.constants, "table": values}

    def schedule(epoch):
        return {"epoch": float(epoch)}

    def validate(model, now):
        return {"total": now["table"].gather(0, now["epoch"].long()[None])[0]}

    phase = replace(phase, constants=constants, schedule=schedule, validate=validate, select=Select(rule))
    done = trained(phase, params, run)
    wanted = [row.tolist().index(pick(row.tolist())) for row in values]
    assert done.epochs == wanted
    for r, epoch in enumerate(wanted):  # the kept weights are those after that epoch
        stop = RunContext((SEEDS[r],))
        short = replace(
            phase,
            epochs=epoch + 1,
            select=Select(),
            validate=None,
            constants={"scale": constants["scale"][r : r + 1]},
        )
        last = trained(short, {n: p[r : r + 1] for n, p in params.items()}, stop)
        for name in last.params:
            torch.testing.assert_close(done.params[name][r], last.params[name][0], rtol=1e-5, atol=1e-6)


def test_a_loss_that_is_not_finite_names_where():
    run = RunContext(SEEDS, replicas="together")
    phase, params = small_phase(run)
    broken = {"scale": torch.tensor([1.0, float("nan"), 1.0])}
    with pytest.raises(TrainingError, match="small, epoch 1, seed 2: train/total became nan"):
        trained(replace(phase, constants=broken), params, run)


def test_two_objectives_update_their_own_parameters_in_order():
    seen = []
    run = RunContext((1,), progress=lambda phase, epoch, epochs, numbers: seen.append(numbers))
    params = {"a": torch.tensor([[1.0]]), "b": torch.tensor([[1.0]])}

    def first(model, batch):
        return {"total": (model.a * model.b).sum(), "first": model.b.sum()}

    def second(model, batch):
        return {"total": (model.a * model.b).sum(), "second": model.a.sum()}

    sampler = RowSampler(torch.zeros(1, 1), torch.zeros(1, 1), 1)
    objectives = (Objective(first, Adam(0.1), ("a",)), Objective(second, Adam(0.1), ("b",)))
    done = trained(Phase("two", None, 1, sampler, objectives), params, run)
    assert done.params["a"].item() == pytest.approx(0.9)
    assert done.params["b"].item() == pytest.approx(0.9)
    assert seen[0]["train/first"] == 1.0  # before anything moved
    assert seen[0]["train/second"] == pytest.approx(0.9)  # after the first objective moved


def test_finished_phases_are_read_back_exactly(tmp_path):
    run = RunContext(SEEDS, replicas="alone", checkpoints=tmp_path / "partial")
    phase, params = small_phase(run)
    first = trained(phase, params, run)
    refused = replace(phase, objectives=())  # training it again would give other weights
    second = trained(refused, params, run)
    assert all(torch.equal(first.params[n], second.params[n]) for n in first.params)
    assert first.epochs == second.epochs
    assert first.history == second.history


def test_an_interrupted_phase_leaves_finished_replicas_and_no_half_file(tmp_path):
    calls = []

    def interrupt(phase, epoch, epochs, numbers):
        calls.append(epoch)
        if len(calls) == 5:  # in the second of three replicas
            raise KeyboardInterrupt

    run = RunContext(SEEDS, replicas="alone", checkpoints=tmp_path, progress=interrupt)
    phase, params = small_phase(run)
    with pytest.raises(KeyboardInterrupt):
        trained(phase, params, run)
    assert [f.name for f in tmp_path.glob("*.npz")] == [_file(tmp_path, "small@1").name]
    epochs = []
    run = RunContext(SEEDS, replicas="alone", checkpoints=tmp_path, progress=lambda *a: epochs.append(a[1]))
    resumed = trained(phase, params, run)
    assert len(epochs) == 6  # two replicas of three epochs
    whole = trained(phase, params, RunContext(SEEDS, replicas="alone"))
    assert all(torch.equal(resumed.params[n], whole.params[n]) for n in whole.params)


def test_checkpoints_keep_every_bit(tmp_path):
    params = {"w.a": torch.tensor([[1e-45, -0.0, 3.14]]), "b": torch.zeros(1, 2, dtype=torch.float64)}
    save_phase(tmp_path, "a/b@1", params, [3], {"train/total": [[0.1]]})
    loaded, epochs, history = load_phase(tmp_path, "a/b@1", torch.device("cpu"))
    assert all(torch.equal(loaded[n], params[n]) and loaded[n].dtype == params[n].dtype for n in params)
    assert (epochs, history) == ([3], {"train/total": [[0.1]]})
    assert load_phase(tmp_path, "other", torch.device("cpu")) is None


def test_names_in_any_script_are_told_apart(tmp_path):
    names = ["rsc/图像@1", "rsc/文本@1", "rsc/a b@1", "rsc/a_b@1"]
    for number, name in enumerate(names):
        save_phase(tmp_path, name, {"w": torch.full((1, 2), float(number))}, [number], {})
    for number, name in enumerate(names):
        params, epochs, _ = load_phase(tmp_path, name, torch.device("cpu"))
        assert (params["w"].tolist(), epochs) == ([[number, number]], [number])
    _file(tmp_path, names[0]).rename(_file(tmp_path, names[1]))  # the name inside is another one
    assert load_phase(tmp_path, names[1], torch.device("cpu")) is None


def _shorter(content):
    return content.replace(b"(1, 40)", b"(1, 20)")


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda content: content[:100],
        lambda content: content[:-30],
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: content.replace(b"epochs", b"epoch\xff"),
        _shorter,  # numpy reads it without complaint
        lambda _: b"{}",
        None,
    ],
)
def test_a_damaged_file_is_removed_and_made_again(tmp_path, damage):
    params = {"w": torch.arange(40.0)[None]}
    save_phase(tmp_path, "one", params, [3], {"loss": [[0.5]]})
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    file.unlink()
    if damage is None:
        file.mkdir()
        (file / "x").touch()
    else:
        file.write_bytes(damage(content))
    assert load_phase(tmp_path, "one", torch.device("cpu")) is None
    assert not file.exists()
    save_phase(tmp_path, "one", params, [3], {"loss": [[0.5]]})
    assert torch.equal(load_phase(tmp_path, "one", torch.device("cpu"))[0]["w"], params["w"])


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
    assert both.alone[0].shape == (2, 6, 1)
    assert torch.equal(both.alone[0][1, :, 0].long(), second["rows"][:6])
    assert torch.equal(both.row["x"][1], second["rows"][:6])
    assert torch.equal(both.extra["mix"][0], first["mix"][:6])


def test_further_label_rows_are_served_in_an_order_of_their_own():
    sampler = RowSampler(torch.zeros(8, 2), torch.arange(8.0)[:, None], 3, name="text", labels=("more",))
    drawn = sampler.draw(torch.Generator().manual_seed(0))
    assert drawn["rows"].shape == drawn["more"].shape == (6,)
    assert not torch.equal(drawn["rows"], drawn["more"])
    assert len(set(drawn["more"].tolist())) == 6
    batch = sampler.gather({n: v[None, :3] for n, v in drawn.items()})
    assert torch.equal(batch.extra["more"][0, :, 0], drawn["more"][:3].float())
    assert torch.equal(batch.y["text"][0, :, 0], drawn["rows"][:3].float())


def test_streams_differ_by_name_and_seed():
    seeds = {derive_seed(s, *names) for s in (1, 2) for names in (("a",), ("b",), ("a", "b"), ("ab",))}
    assert len(seeds) == 8
    assert derive_seed(1, "a", "b") == derive_seed(1, "a", "b")


@pytest.mark.parametrize("replicas", ["together", "alone"])
def test_the_hook_behind_an_epoch_runs_once_and_ahead_of_validation(replicas):
    run = RunContext(SEEDS, precision="fp64", replicas=replicas)

    def count(model, now):
        return {"epochs": model.epochs + now["by"]}

    phase, params = small_phase(
        run,
        state=("epochs",),
        after_epoch=count,
        schedule=lambda epoch: {"by": epoch + 1},
        validate=lambda model, now: {"epochs": model.epochs.sum()},
    )
    params["epochs"] = torch.zeros(3, 1, dtype=torch.float64)
    done = trained(phase, params, run)
    assert done.history["val/epochs"] == [[1.0] * 3, [3.0] * 3, [6.0] * 3]
    assert done.params["epochs"].flatten().tolist() == [6.0] * 3
