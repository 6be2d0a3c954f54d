"""MRL against outputs of its public code (tests/parity/vectors/mrl.npz)."""

import pytest
import torch
from benchmark.methods.blocks.clustering import late_cosine, unit_classes
from benchmark.methods.blocks.losses import robust_clustering, tuple_contrast
from benchmark.methods.mrl import objective_terms

from benchmark.training import Model
from tests.methods.data import published
from tests.parity.golden import vectors

_, golden, close = vectors("mrl", whole=True, of_largest=True)


@pytest.mark.parametrize("case", ["A", "B", "C"])
def test_objective_with_gradients(case):
    z, classes = golden(f"in{case}_z").requires_grad_(), golden(f"in{case}_C").requires_grad_()
    tau, beta = float(golden(f"par{case}_tau")), float(golden(f"par{case}_beta"))
    y = torch.eye(classes.shape[1], dtype=torch.float64)[golden(f"in{case}_y")]
    logits = z @ classes
    clustering = robust_clustering(logits / tau, y)
    contrast = tuple_contrast(z, tau)
    terms = objective_terms(z, classes, y, published("mrl", tau=tau, beta=beta))
    close(logits, f"out{case}_logits")
    for got, name in [(clustering, "rc"), (contrast, "mc"), (terms["total"], "total")]:
        close(got, f"out{case}_{name}")
        close(got, f"out{case}_{name}_f64", 1e-10)
    by_z, by_classes = torch.autograd.grad(terms["total"], (z, classes))
    for got, name in [(by_z, "grad_z"), (by_classes, "grad_C")]:
        close(got, f"out{case}_{name}")
        close(got, f"out{case}_{name}_f64", 1e-10)
    close(torch.autograd.grad(clustering.sum(), z, retain_graph=True)[0], f"out{case}_grad_rc_z")
    close(torch.autograd.grad(contrast, z)[0], f"out{case}_grad_mc_z")
    close(tuple_contrast(z, tau, form="paper"), f"out{case}_mc_paper_f64", 1e-10)


@pytest.mark.parametrize("case", ["A", "B", "C"])
def test_unit_columns(case):
    raw = Model(None, {"classes": golden(f"in{case}_C_raw")})
    close(unit_classes(raw, {})["classes"], f"in{case}_C")


def test_learning_rates():
    epochs, lr = int(golden("parLR_T")), float(golden("parLR_lr0"))
    rate = late_cosine(epochs)
    found = torch.tensor([lr * rate(epoch, 0) for epoch in range(epochs)], dtype=torch.float64)
    close(found, "outLR_effective", 1e-9)
