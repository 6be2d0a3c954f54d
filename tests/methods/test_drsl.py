"""Properties of DRSL."""

import numpy as np
import pytest
import torch
from benchmark.methods.blocks.losses import shares_label
from benchmark.methods.drsl import DRSL, DRSLNet, RelationNet, relational_loss

from benchmark.training import STATE, Batch, Model
from tests.methods.data import PAIR, build, fit, held_out, make_split, one_hot, published, rows

CONFIG = published("drsl", hidden=(6,), features=4, relation=(7, 5))


def relation(seed=0, hidden=(7, 5)):
    torch.manual_seed(seed)
    net = RelationNet(4, hidden).double()
    for norm in net.norms:
        torch.nn.init.uniform_(norm.weight)
        torch.nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return net


def plain(net, a, b, train):
    """The relation network on concatenated pairs, with torch's own layers; its normalisations as well."""
    x = torch.cat([a.repeat_interleave(len(b), 0), b.repeat(len(a), 1)], dim=1)
    norms = []
    for layer, ours in zip(net.layers, net.norms, strict=True):
        norm = torch.nn.BatchNorm1d(layer.out_features).double().train(train)
        norm.load_state_dict({**ours.state_dict(), "num_batches_tracked": torch.tensor(0)})
        x = norm(layer(x)).relu()
        norms.append(norm)
    return net.last(x).reshape(len(a), len(b)), norms


@pytest.mark.parametrize("hidden", [(7, 5), (6,), (5, 6, 4)])
@pytest.mark.parametrize("train", [True, False])
def test_halves_equal_concatenation(hidden, train):
    net = relation(hidden=hidden)
    a, b = rows(6, 4).requires_grad_(), rows(3, 4, 1).requires_grad_()
    wanted, norms = plain(net, a, b, train)
    got, state = net.train_pairs(a, b) if train else (net(a, b).detach(), {})
    torch.testing.assert_close(got, wanted.detach() if not train else wanted)
    if not train:
        return
    for k, norm in enumerate(norms):
        torch.testing.assert_close(state[f"norms.{k}.running_mean"], norm.running_mean)
        torch.testing.assert_close(state[f"norms.{k}.running_var"], norm.running_var)
    weight = rows(6, 3, 2)
    ours = torch.autograd.grad((got * weight).sum(), (a, b, *net.parameters()), allow_unused=True)
    theirs = torch.autograd.grad((wanted * weight).sum(), (a, b, *net.parameters()), allow_unused=True)
    # the reference has normalisations of its own, whose parameters are not the network's
    compared = [(x, y) for x, y in zip(ours, theirs, strict=True) if y is not None]
    assert len(compared) == 2 + 2 * len(hidden) + 2
    for x, y in compared:
        torch.testing.assert_close(x, y)


def test_scores_follow_their_rows_and_columns():
    net = relation()
    a, b = rows(6, 4), rows(5, 4, 1)
    p, q = torch.randperm(6), torch.randperm(5)
    for scores, moved in (
        (net(a, b), net(a[p], b[q])),
        (net.train_pairs(a, b)[0], net.train_pairs(a[p], b[q])[0]),
    ):
        torch.testing.assert_close(moved, scores[p][:, q])
        assert scores.std() > 1e-3


@pytest.mark.parametrize("pairs", [1, 5, 12, 13, 1000])
def test_scores_do_not_depend_on_chunks_or_on_company(pairs):
    net = relation()
    a, b = rows(6, 4), rows(5, 4, 1)
    with torch.no_grad():
        whole = net(a, b)
        torch.testing.assert_close(net(a, b, pairs), whole, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(net(a[2:3], b[3:]), whole[2:3, 3:], rtol=1e-12, atol=1e-12)


def test_loss_is_the_batch_times_the_mean_square():
    scores, target = (
        rows(6, 6).requires_grad_(),
        shares_label(one_hot(np.arange(6) % 2, 2), one_hot(np.arange(6) % 2, 2)),
    )
    loss = relational_loss(scores, target.double())
    torch.testing.assert_close(loss, 6 * torch.nn.functional.mse_loss(scores, target.double()))
    gradient = torch.autograd.grad(loss, scores)[0]
    torch.testing.assert_close(gradient, 2 * (scores.detach() - target.double()) / 6)
    torch.testing.assert_close(6 * relational_loss(scores, target.double(), "pairs"), loss)


def test_targets():
    y = one_hot([0, 1, 2, 0], 3)
    target = shares_label(y, y)
    assert torch.equal(target, target.T)
    assert target.diagonal().all()
    assert target.sum() == 6
    several = torch.tensor([[1.0, 1, 0], [0, 1, 1], [1, 0, 0]])
    assert shares_label(several, several).int().tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 1]]


def test_learning_rate_decays_from_the_first_epoch_on():
    (objective,) = DRSL(CONFIG).objectives(DRSLNet(CONFIG, 8, 5))
    rates = [objective.optimizer.lr * objective.factor(e, 100 * e) for e in range(3)]
    assert rates == pytest.approx([0.98e-4, 0.9604e-4, 0.941192e-4])


def batch(n=7):
    y = one_hot(np.arange(n) % 3, 3)
    return Batch({"image": rows(n, 8), "text": rows(n, 5, 1)}, {"image": y, "text": y}, {}, {})


def network():
    torch.manual_seed(0)
    net = DRSLNet(CONFIG, 8, 5).double()
    params = {n: p.detach() for n, p in [*net.named_parameters(), *net.named_buffers()]}
    return net, params


def test_gradients_through_the_normalisations():
    net, params = network()
    names = [n for n, _ in net.named_parameters()]

    def total(*values):
        return DRSL(CONFIG).loss(Model(net, {**params, **dict(zip(names, values, strict=True))}), batch(5))[
            "total"
        ]

    leaves = tuple(params[n].clone().requires_grad_() for n in names)
    assert torch.autograd.gradcheck(total, leaves, atol=1e-4, fast_mode=True)


def test_logged_means_and_state():
    net, params = network()
    given = batch()
    terms = DRSL(CONFIG).loss(Model(net, params), given)
    scores, _ = Model(net, params)(*given.x.values())
    target = shares_label(*given.y.values())
    torch.testing.assert_close(terms["same"], scores[target].mean())
    torch.testing.assert_close(terms["different"], scores[~target].mean())
    state = {n.removeprefix(STATE) for n in terms if n.startswith(STATE)}
    assert state == {n for n, _ in net.named_buffers()}
    assert len(state) == 2 * (2 + 2 + 2)


def test_training_keeps_running_statistics():
    trained = fit("drsl")[0][0].inner.model.tensors
    fresh = dict(DRSLNet(build("drsl").config, 8, 5).named_buffers())
    assert all(not torch.allclose(trained[n].float(), start) for n, start in fresh.items())


@pytest.mark.parametrize("names", [("image", "text"), ("audio", "image")])
def test_a_pair_of_tensors_is_scored_once_for_both_directions(names, monkeypatch):
    sizes = dict(zip(names, PAIR.values(), strict=True))
    train = make_split(sizes)
    (model,), _ = fit("drsl", train, beyond=True)
    x, y = (torch.as_tensor(each.features).double() for each in held_out(train))
    calls = []
    whole = RelationNet.forward
    monkeypatch.setattr(RelationNet, "forward", lambda *given: calls.append(1) or whole(*given))
    a, b = names
    forth = model.similarity(a, x, b, y).clone()
    assert torch.equal(model.similarity(b, y, a, x), forth.T)
    assert len(calls) == 1
    assert torch.equal(model.similarity(b, y, a, x), forth.T)
    assert len(calls) == 2, "what both directions have had is not held"
    x += 1  # the same tensor with other values
    assert not torch.equal(model.similarity(a, x, b, y), forth)
    assert len(calls) == 3


def test_both_directions_rank_by_one_matrix():
    (model,), _ = fit("drsl")
    x, y = rows(6, 8), rows(4, 5)
    forth, back = model.similarity("image", x, "text", y), model.similarity("text", y, "image", x)
    assert forth.shape == (6, 4)
    assert torch.equal(forth, back.T)
    with pytest.raises(NotImplementedError, match="scores pairs directly"):
        model.embed("image", x)


def test_a_last_batch_of_one_is_dropped_and_scores_part():
    _, log = fit("drsl", make_split({"image": (25, 8), "text": (25, 5)}), epochs=15, batch=12)
    history = log.history["drsl"]
    assert np.isfinite(history["train/total"]).all()
    assert history["train/same"][-1][0] > history["train/different"][-1][0] + 0.5
