"""MAN against outputs of its public code (tests/parity/vectors/man.npz)."""

from dataclasses import replace

import pytest
import torch
from benchmark.methods.blocks.eigen import generalized_eigenvalues
from benchmark.methods.blocks.layers import MLP
from benchmark.methods.man import MAN, AdversarialNet, discriminant, modality_errors, scatters

from benchmark.training import Batch, Model
from tests.methods.data import published
from tests.parity.golden import AsStored, curve, numbers, train, vectors

GOLDEN, golden, close = vectors("man", whole=True, of_largest=True)
PARTS = ("weight", "bias")


def perceptron(case, net, layers):
    """Parameters of a network, ours by name, from layers ``fc1`` and so on."""
    return {
        f"{ours}.{part}": golden(f"in{case}_{net}_{theirs}_{part}")
        for theirs, ours in layers.items()
        for part in PARTS
    }


def discriminator(case):
    return perceptron(case, "D", {"fc1": "hidden.0", "fc2": "last"})


def data(case):
    """Rows per modality, and the labels of all rows, one-hot."""
    x = golden(f"in{case}_x")
    y = golden(f"in{case}_y")
    if x.ndim == 3:
        parts, y = list(x), y.repeat(len(x))
    else:
        parts = list(x.split(golden(f"in{case}_sizes").tolist()))
    classes = int(golden(f"par{case}_num_classes"))
    return parts, torch.eye(classes, dtype=torch.float64)[y]


@pytest.mark.parametrize("case", ["A", "B"])
def test_discriminator_and_its_errors(case):
    parts, _ = data(case)
    x = torch.cat(parts).requires_grad_()
    net = Model(MLP(x.shape[1], (128,), len(parts)), discriminator(case))
    z = x.split([len(part) for part in parts])
    close(net(x).softmax(dim=-1), f"out{case}_probs")
    close(modality_errors(net, z, fooled=False), f"out{case}_d_terms")
    errors = modality_errors(net, z, fooled=True)
    close(errors, f"out{case}_g_terms")
    close(torch.autograd.grad(errors.sum(), x)[0], f"out{case}_grad_adv")


@pytest.mark.parametrize("rank", ["guard", "official"])
@pytest.mark.parametrize("case", ["A", "B"])
def test_discriminant_with_all_classes(case, rank):
    parts, y = data(case)
    x = torch.cat(parts).requires_grad_()
    eta = float(golden(f"par{case}_eta"))
    term = discriminant(x, y, eta, rank)
    close(term, f"out{case}_fisher")
    close(term, f"out{case}_fisher_f64", 1e-10)
    close(torch.autograd.grad(term, x)[0], f"out{case}_grad_fisher")
    single = x.detach().float().requires_grad_()
    term = discriminant(single, y.float(), eta, rank)
    close(term.double(), f"out{case}_fisher")
    close(torch.autograd.grad(term, single)[0].double(), f"out{case}_grad_fisher", 2e-5)


@pytest.mark.parametrize("case", ["A", "B"])
def test_scatters_and_eigenvalues(case):
    parts, y = data(case)
    eta = float(golden(f"par{case}_eta"))
    within, between = scatters(torch.cat(parts), y, eta)
    found = generalized_eigenvalues(within, between, eta)
    wanted = golden(f"out{case}_eigvals_f64")
    torch.testing.assert_close(found, wanted[: len(found)], rtol=1e-9, atol=1e-12)
    assert (wanted[len(found) :].abs() < 1e-12).all()
    if case == "A":
        close(within, "outA_Sw_f64", 1e-10)
        close(between.mT @ between, "outA_Sb_f64", 1e-10)


def test_discriminant_with_missing_classes():
    x, classes = golden("inC_x").requires_grad_(), int(golden("parC_num_classes"))
    y = torch.eye(classes, dtype=torch.float64)[golden("inC_y")]
    eta = float(golden("parC_eta"))
    assert int((y.sum(dim=0) > 0).sum()) - 1 == int(golden("parC_q"))
    term = discriminant(x, y, eta)
    close(term, "outC_fisher_guard_f64", 1e-9)
    close(torch.autograd.grad(term, x)[0], "outC_grad_guard_f64", 1e-9)
    found = generalized_eigenvalues(*scatters(x, y, eta), eta).detach()
    close(found, "outC_eigvals_f64", 1e-9)


def test_five_alternating_steps():
    names = ("0", "1", "2")
    y = torch.eye(4, dtype=torch.float64)[golden("inD_y")]
    x = {k: golden(f"inD_x{k}") for k in names}
    config = published(
        "man",
        hidden=(16, 16),
        epochs=int(golden("parD_steps")),
        **numbers(GOLDEN, "lr", "betas", "eta", "fisher_beta", prefix="parD_"),
    )
    net = AdversarialNet({k: rows.shape[1] for k, rows in x.items()}, config, 4).to("meta")
    layers = {"fc1": "hidden.0", "fc2": "hidden.1", "fc3": "last"}
    start = {f"discriminator.{n}": p for n, p in discriminator("D").items()}
    for k in names:
        start |= {f"encoders.{k}.{n}": p for n, p in perceptron("D", f"G{k}", layers).items()}
    method = MAN(config)
    phase = method.phase(net, AsStored(Batch(x, dict.fromkeys(names, y), {}, {})))
    params, history = train(replace(phase, keep=()), start)
    model = Model(net, params)
    terms = ("discriminator", "adversarial", "discriminant")
    losses = torch.stack([curve(history, term) for term in terms], dim=1)
    z = torch.stack([method.embed(model, k, rows) for k, rows in x.items()])
    guesses = model.discriminator(z).softmax(dim=-1)
    for suffix, tolerance in (("_f64", 1e-7), ("", 1e-4)):
        close(losses, f"outD_losses{suffix}", tolerance)
        close(z, f"outD_z{suffix}", tolerance)
        close(guesses, f"outD_probs{suffix}", tolerance)
