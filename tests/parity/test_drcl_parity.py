"""DRCL against outputs of its public code (tests/parity/vectors/drcl.npz)."""

from dataclasses import replace

import pytest
import torch
from benchmark.methods.blocks.layers import UnitMLP
from benchmark.methods.blocks.losses import generalized_cross_entropy, log_label_mass
from benchmark.methods.blocks.prior import spl_phase
from benchmark.methods.drcl import DRCL, augment, discrepancy, objective_terms, q_rsc, recast_matrix

from benchmark.core.method import FitLog
from benchmark.training import RowSampler, train_phase
from tests.methods.data import published
from tests.parity.golden import RUN, numbers, vectors

GOLDEN, golden, close = vectors("drcl", whole=True)


@pytest.fixture
def mixed():
    share = float(GOLDEN["par_gamma"])
    features, labels, order = golden("in_features"), golden("in_labels"), golden("in_perm")
    return augment(features, order, share), augment(labels, order, share)


def test_feature_augmentation_is_not_renormalised(mixed):
    close(mixed[0], "out_fa_features")
    close(mixed[1], "out_fa_labels")


def test_recast_features_come_from_the_pseudo_inverse(mixed):
    inverse = recast_matrix(golden("in_W")[None], "pinv")[0]
    close(inverse, "out_pinv")
    close(mixed[1] @ inverse, "out_label_features")


def test_discrepancy_and_distance_with_gradients(mixed):
    features = mixed[0].requires_grad_()
    recast = mixed[1] @ golden("out_pinv")
    loss = discrepancy(recast, features)
    close(loss, "out_disc")
    close(torch.autograd.grad(loss, features)[0], "out_grad_disc_augfeatures")
    loss = (recast - features).square().mean()
    close(loss, "out_mse")
    close(torch.autograd.grad(loss, features)[0], "out_grad_mse_augfeatures")
    torch.testing.assert_close(
        golden("out_disc_intra") + golden("out_disc_inter"), golden("out_disc"), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("epoch", [1, 50, 100, 150])
def test_total_and_its_gradient_follow_the_schedule(epoch):
    q = torch.tensor(q_rsc(epoch - 1, 0.01), dtype=torch.float64)
    close(q, f"out_q_e{epoch}")
    features = golden("in_features").requires_grad_()
    order, share = golden("in_perm"), float(GOLDEN["par_gamma"])
    config = published("drcl", **numbers(GOLDEN, "eta", "alpha", "beta"))
    inverse = recast_matrix(golden("in_W")[None], "pinv")[0]
    labels = augment(golden("in_labels"), order, share)
    terms = objective_terms(augment(features, order, share), labels, golden("in_W"), inverse, q, config)
    close(terms["label"], f"out_label_loss_e{epoch}")
    close(terms["total"], f"out_total_e{epoch}")
    close(torch.autograd.grad(terms["total"], features)[0], f"out_grad_features_e{epoch}")


@pytest.mark.parametrize("q", [0.01, 0.5, 0.99, 1, 1.5, 2])
@pytest.mark.parametrize(
    ("kind", "labels"), [("onehot", "in_labels"), ("multihot", "in_multihot"), ("soft", "out_fa_labels")]
)
def test_generalised_cross_entropy(kind, labels, q):
    logits = golden("in_logits").requires_grad_()
    loss = generalized_cross_entropy(logits, golden(labels), torch.tensor(float(q)))
    close(loss, f"out_gce_{kind}_q{q}")
    close(torch.autograd.grad(loss, logits)[0], f"out_gce_grad_{kind}_q{q}")


def test_q_zero_is_cross_entropy_and_the_quality_score_is_the_label_mass():
    logits = golden("in_logits").requires_grad_()
    loss = generalized_cross_entropy(logits, golden("in_labels"), torch.tensor(0.0))
    close(loss, "out_gce_limit_q0")
    close(torch.autograd.grad(loss, logits)[0], "out_gce_limit_grad_q0")
    close(log_label_mass(golden("in_logits"), golden("in_labels")).exp().mean(), "out_quality_score")


def encoder_with(prefix):
    names = {"hidden.0": "fc1", "hidden.1": "fc2"}
    params = {
        f"{ours}.{part}": golden(f"{prefix}_{theirs}_{part}")
        for ours, theirs in names.items()
        for part in ("weight", "bias")
    }
    params["last.weight"] = golden(f"{prefix}_fc3_weight")
    width, d = params["hidden.0.weight"].shape[1], params["last.weight"].shape[0]
    hidden = [params["hidden.0.bias"].shape[0], params["hidden.1.bias"].shape[0]]
    return UnitMLP(width, hidden, d), params


def test_encoder_forward():
    encoder, params = encoder_with("in_net")
    encoder.double().load_state_dict(params)
    close(encoder(golden("in_net_x")), "out_net_features")


class Replay(RowSampler):
    """Serves stored permutations instead of drawing them."""

    def __init__(self, *args, stored, mixes=None, **options):
        super().__init__(*args, **options)
        self.stored, self.mixes, self.epoch = stored, mixes, 0

    def draw(self, generator):
        used = sum(self.sizes)
        drawn = {"rows": self.stored[self.epoch][:used]}
        if self.mixes is not None:
            steps = len(self.sizes)
            drawn["mix"] = self.mixes[self.epoch * steps : (self.epoch + 1) * steps].flatten()
        self.epoch += 1
        return drawn


@pytest.fixture
def trajectory():
    rate = float(GOLDEN["par_tr_lr"])
    config = published("drcl", epochs=int(GOLDEN["par_tr_epochs"]), lr_spl=rate, lr={"default": rate})
    encoder, params = encoder_with("in_tr")
    stacked = {n: p[None] for n, p in params.items()}
    return config, encoder.to("meta"), stacked, int(GOLDEN["par_tr_batch"])


def test_selective_prior_learning_step_by_step(trajectory):
    config, encoder, params, batch = trajectory
    x, y = golden("in_tr_x"), golden("in_tr_y")
    for epochs in range(1, config.epochs + 1):
        sampler = Replay(x, y, batch, stored=golden("in_spl_shuffles"))
        phase = spl_phase(DRCL(replace(config, epochs=epochs)).spl(), encoder, sampler, "spl")
        done = train_phase(phase, {**params, "prior": golden("in_tr_W0")[None]}, RUN, FitLog())
        torch.testing.assert_close(
            done.params["prior"][0], golden("out_spl_W_per_epoch")[epochs - 1], rtol=1e-5, atol=1e-7
        )
    quality = torch.tensor(done.history["val/quality"]).flatten().double()
    torch.testing.assert_close(quality, golden("out_spl_quality_per_epoch"), rtol=1e-5, atol=1e-7)


def test_first_spl_epoch_moves_nothing_but_the_clock(trajectory):
    config, encoder, params, batch = trajectory
    x, y = golden("in_tr_x"), golden("in_tr_y")
    start = {**params, "prior": golden("in_tr_W0")[None]}
    for q0, still in (("skip", True), ("ce", False)):
        spl = DRCL(replace(config, epochs=1, spl_q0=q0)).spl()
        phase = spl_phase(spl, encoder, Replay(x, y, batch, stored=golden("in_spl_shuffles")), "spl")
        prior = train_phase(phase, start, RUN, FitLog()).params["prior"]
        assert torch.equal(prior, start["prior"]) is still


class OneBatch(Replay):
    """Every stored batch is an epoch of its own, so that the history holds single steps."""

    @property
    def sizes(self):
        return super().sizes[:1]


def test_reversible_consistency_step_by_step(trajectory):
    config, encoder, params, batch = trajectory
    x, y = golden("in_tr_x"), golden("in_tr_y")
    held = golden("in_tr_xval"), golden("in_tr_yval")
    prior = golden("out_spl_W_per_epoch")[-1][None]
    per_epoch = len(x) // batch
    steps = config.epochs * per_epoch
    rows = golden("in_rsc_shuffles")[:, : per_epoch * batch].reshape(steps, batch)
    sampler = OneBatch(x, y, batch, stored=rows, mixes=golden("in_rsc_mix_perms"), shuffles=("mix",))
    constants = {"prior": prior, "recast": recast_matrix(prior, "pinv")}
    whole = replace(DRCL(config).phase(encoder, sampler, held, "image"), constants=constants)
    phase = replace(whole, epochs=steps, schedule=lambda step: {"q": q_rsc(step // per_epoch, 0.01)})
    done = train_phase(phase, params, RUN, FitLog())

    losses = torch.tensor(done.history["train/total"], dtype=torch.float64).flatten()
    torch.testing.assert_close(losses, golden("out_rsc_train_losses"), rtol=1e-5, atol=1e-7)
    checked = torch.tensor(done.history["val/total"][per_epoch - 1 :: per_epoch], dtype=torch.float64)
    torch.testing.assert_close(checked.flatten(), golden("out_rsc_val_losses"), rtol=1e-5, atol=1e-7)

    sampler = Replay(
        x, y, batch, stored=golden("in_rsc_shuffles"), mixes=golden("in_rsc_mix_perms"), shuffles=("mix",)
    )
    kept = train_phase(replace(whole, sampler=sampler), params, RUN, FitLog())
    assert kept.epochs == [int(golden("out_rsc_val_losses").argmin())]
    encoder = encoder.to_empty(device="cpu").double()
    encoder.load_state_dict({n: p[0] for n, p in kept.params.items()})
    close(encoder(held[0]), "out_rsc_features_val")
