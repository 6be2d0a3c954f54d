"""ELRCMR against outputs of its public code (tests/parity/vectors/elrcmr.npz)."""

import pytest
import torch
from benchmark.methods.blocks.losses import robust_clustering, tuple_contrast
from benchmark.methods.elrcmr import (
    CLIP,
    MOMENTUM,
    averaging_weight,
    class_contrast,
    clipped,
    early_learning,
    objective_terms,
    ramp_down,
    updated_targets,
)

from benchmark.training import Model
from tests.methods.data import build, published
from tests.parity.golden import numbers, vectors

GOLDEN, golden, close = vectors("elrcmr", 1e-6, whole=True, of_largest=True)


def test_two_steps_with_targets():
    config = published("elrcmr", **numbers(GOLDEN, "tau", "lama", "zeta", prefix="parA_"))
    assert float(golden("parA_ema_momentum")) == MOMENTUM
    assert float(golden("parA_clamp")) == CLIP
    beta, count = float(golden("parA_beta_t")), int(golden("parA_num_classes"))
    labels = torch.eye(count, dtype=torch.float64)[golden("inA_y_all")]
    targets = [torch.zeros(int(golden("parA_total")), count, dtype=torch.float64) for _ in range(2)]
    for step in ("step0", "step1"):
        z, classes = golden(f"inA_z_{step}").requires_grad_(), golden("inA_C").requires_grad_()
        rows = golden(f"inA_idx_{step}").expand(2, -1)
        y = labels[:, rows[0]]
        terms, moved = objective_terms(z, classes, y, targets, rows, beta, config)

        cosines = z @ classes
        q = clipped(cosines / config.tau)
        own = torch.stack([updated_targets(*each)[1] for each in zip(targets, rows, q, strict=True)])
        clustering, early = robust_clustering(cosines / config.tau, y), early_learning(q, own)
        predicted = cosines.argmax(dim=-1)
        within = class_contrast(z, predicted)
        assert torch.equal(predicted, golden(f"outA_pseudo_{step}"))
        close(clustering, f"outA_rc_{step}")
        close(early, f"outA_elr_{step}")
        close(clustering + config.lama * early, f"outA_clust_{step}")
        close(within, f"outA_intra_{step}")
        close(tuple_contrast(z, 1.0), f"outA_inter_{step}")
        close(config.zeta * terms["within"] + terms["contrast"], f"outA_con_{step}")
        close(terms["total"], f"outA_total_{step}")
        torch.testing.assert_close(terms["clustering"], clustering.sum())
        torch.testing.assert_close(terms["early_learning"], early.sum())
        by_z, by_classes = torch.autograd.grad(terms["total"], (z, classes), retain_graph=True)
        close(by_z, f"outA_grad_z_{step}")
        close(by_classes, f"outA_grad_C_{step}")
        early_by_z = torch.autograd.grad(config.lama * early.sum(), z, retain_graph=True)[0]
        close(early_by_z, f"outA_grad_elr_z_{step}")
        close(torch.autograd.grad(within.sum(), z)[0], f"outA_grad_intra_z_{step}")
        for each, name in zip(moved, ("img", "txt"), strict=True):
            close(each, f"outA_ema_{name}_{step}")
        targets = moved


@pytest.mark.parametrize("steps", [3000, 10000, 50000, 1])
def test_weight_of_the_labels(steps):
    found = [ramp_down(count, steps) for count in golden("inB_iter").tolist()]
    close(torch.tensor(found, dtype=torch.float64), f"outB_ramp_{steps}", 1e-12)


def test_averaging_of_live_parameters():
    config = published("elrcmr")
    counts = golden("inC_epoch_plus_iter").tolist()
    alpha = torch.tensor([averaging_weight(count, config) for count in counts], dtype=torch.float64)
    close(alpha, "outC_alpha", 1e-12)
    one = Model(None, {"encoders.0.weight": torch.ones(1, dtype=torch.float64), "classes": torch.ones(1)})
    shrunk = [build("elrcmr").after_step(one, {"alpha": a}) for a in alpha]
    assert all(set(each) == {"encoders.0.weight"} for each in shrunk)
    close(torch.cat([each["encoders.0.weight"] for each in shrunk]), "outC_shrink", 1e-12)
