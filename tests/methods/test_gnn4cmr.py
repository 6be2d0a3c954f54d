"""Properties of GNN4CMR."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmark.methods.blocks.adversarial import Block, Pass, adversarial_loss
from benchmark.methods.blocks.graph import class_means, cosine_graph, head_graph, normalized, static_graph
from benchmark.methods.blocks.losses import label_overlap, shares_label
from benchmark.methods.gnn4cmr import (
    GNN4CMR,
    GNN4CMRNet,
    contrastive_loss,
    forward_pass,
    objective_terms,
)
from torch.autograd import gradcheck

from benchmark.core.method import FitLog, RunContext
from benchmark.training import Model, train_phase
from tests.methods.data import PAIR, build, fit, make_split, one_hot, published, rows, started

NARROW = {"dim": 6, "node_dim": 4, "layers": 2, "heads": 2, "decoder_image": 5, "decoder_text": 5}
CONFIG = published("gnn4cmr", **NARROW, disc_shares=(1, 1), alpha=0.5, beta=2.0)
TRAIN = make_split(PAIR, paired=True)


def network():
    """The networks without weights, and parameters of one replica."""
    net, start = GNN4CMR(CONFIG).start(TRAIN, RunContext(precision="fp64"))
    return net, {name: p[0] for name, p in start.items()}


def one_step(config):
    """Change of every parameter and statistic in one step on all pairs."""
    phase, start = started(GNN4CMR(config), TRAIN)
    after = train_phase(phase, start, RunContext(precision="fp64"), FitLog()).params
    return {name: (after[name] - p)[0] for name, p in start.items()}


def test_the_two_sides_pull_the_adversarial_loss_apart():
    net, start = network()
    params = {n: p.requires_grad_("running" not in n) for n, p in start.items()}
    x = {"image": rows(9, 8), "text": rows(9, 5, 1)}

    def adversarial(params):
        found, _ = forward_pass(Model(net, params), x, torch.eye(3, dtype=torch.float64), CONFIG)
        return adversarial_loss(*(found[name] for name in ("true_a", "made_a", "made_b", "true_b")))

    before = adversarial(params)
    for part, sign in (("discriminators.", -1), ("decoders.", 1), ("encoders.", 1)):
        mine = [n for n, p in params.items() if n.startswith(part) and p.requires_grad]
        gradients = torch.autograd.grad(before, [params[n] for n in mine], retain_graph=True)
        moved = {n: params[n] - 1e-4 * g for n, g in zip(mine, gradients, strict=True)}
        assert sign * (adversarial({**params, **moved}) - before).item() > 0, part


def test_equal_logits_leave_a_discriminator_at_chance():
    logits = [torch.full((5, 2), float(k)) for k in range(4)]
    assert adversarial_loss(*logits).item() == pytest.approx(4 * math.log(2))
    right = [torch.tensor([[0.0, 50.0]]) * sign for sign in (1, -1, 1, -1)]
    assert adversarial_loss(*right).item() == pytest.approx(0, abs=1e-6)


def test_lengths_and_order_of_embeddings_do_not_matter():
    u, v, y = rows(6, 4), rows(6, 4, 1), one_hot([0, 1, 2, 0, 1, 0], 3)
    wanted = contrastive_loss((u, v), (y, y), CONFIG)
    scale, order = rows(6, 1, 2).exp(), torch.randperm(6)
    for got in (
        contrastive_loss((scale * u, v), (y, y), CONFIG),
        contrastive_loss((u[order], v[order]), (y[order], y[order]), CONFIG),
    ):
        for a, b in zip(got, wanted, strict=True):
            torch.testing.assert_close(a, b)


def test_a_row_without_other_positives_has_no_part_within():
    u, v = rows(4, 3).requires_grad_(), rows(4, 3, 1)
    lonely, other = one_hot([0, 1, 2, 3], 4), one_hot([0, 1, 2, 2], 4)
    assert contrastive_loss((u, v), (lonely, lonely), CONFIG)[1].item() == 0
    assert contrastive_loss((u, v), (other, other), CONFIG)[1].item() > 0
    none = torch.zeros(4, 4, dtype=torch.float64)
    inter, intra = contrastive_loss((u, v), (none, none), CONFIG)
    assert inter.item() == intra.item() == 0
    assert torch.autograd.grad(inter + intra, u)[0].isfinite().all()


def test_similarity_of_labels():
    y = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=torch.float64)
    assert shares_label(y, y).int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0] * 4]
    wanted = [[1, 1 / 3, 0, 0], [1 / 3, 1, 1 / 2, 0], [0, 1 / 2, 1, 0], [0] * 4]
    torch.testing.assert_close(label_overlap(y, y), torch.tensor(wanted, dtype=torch.float64))
    single = one_hot([0, 1, 1, 2], 3)
    assert torch.equal(label_overlap(single, single), shares_label(single, single).double())
    u, v = rows(4, 3), rows(4, 3, 1)
    for labels, equal in ((single, True), (y, False)):
        found = [
            contrastive_loss((u, v), (labels, labels), replace(CONFIG, label_sim=kind))[0]
            for kind in ("binary", "jaccard")
        ]
        assert torch.equal(*found) is equal


def test_the_graph_of_labels_of_one_class_is_the_identity():
    graph = normalized(static_graph(one_hot([0, 1, 1, 2], 4), 0.4))
    torch.testing.assert_close(graph, torch.eye(4, dtype=torch.float64))


def test_graphs_of_node_features_against_loops():
    nodes, heads = rows(5, 3), rows(2, 3, 1)

    def cosine(a, b):
        return (a @ b / (a.norm() * b.norm())).item()

    static, learned = cosine_graph(nodes, 0.4), head_graph(nodes, heads, 0.4)
    for i in range(5):
        for j in range(5):
            value = cosine(nodes[i], nodes[j])
            assert static[i, j].item() == pytest.approx(value if value >= 0.4 else 0)
            value = sum(cosine(nodes[i] * w, nodes[j] * w) for w in heads) / 2
            assert learned[i, j].item() == pytest.approx(value if value >= 0.4 else 0)
    assert (static == 0).any()


def test_a_node_without_features_stays_finite():
    nodes = rows(3, 4)
    nodes[1] = 0
    nodes.requires_grad_()
    heads = rows(2, 4, 1).requires_grad_()
    graph = normalized(0.5 * cosine_graph(nodes, 0.4).detach() + 0.5 * head_graph(nodes, heads, 0.4))
    for each in (graph, *torch.autograd.grad(graph.sum(), (nodes, heads))):
        assert each.isfinite().all()


def test_weights_change_only_what_reaches_the_encoders():
    base = one_step(replace(CONFIG, epochs=1))
    assert all(step.any() for step in base.values())
    alone = {"alpha": ("labels.",), "beta": ("decoders.", "discriminators.")}
    for name, parts in alone.items():
        changed = one_step(replace(CONFIG, epochs=1, **{name: 3 * getattr(CONFIG, name)}))
        for n, step in changed.items():
            if n.startswith(parts):
                torch.testing.assert_close(step, base[n], rtol=0, atol=1e-3 * CONFIG.lr)
        gained = {n for n in base if not torch.allclose(changed[n], base[n], rtol=0, atol=1e-2 * CONFIG.lr)}
        assert gained
        assert all(n.startswith("encoders.") for n in gained)


def test_a_block_used_twice_averages_its_statistics_twice():
    torch.manual_seed(0)
    block = Block((4, 3, 2), bare=True).double()
    peer = torch.nn.BatchNorm1d(4).double()
    params = {f"judge.{n}": p for n, p in (*block.named_parameters(), *block.named_buffers())}
    run = Pass(Model(torch.nn.ModuleDict({"judge": block}), params))
    for seed in range(2):
        x = rows(6, 4, seed) + seed
        wanted = block.layers[1](block.layers[0](peer(x)).relu())
        torch.testing.assert_close(run("judge", x), wanted)
    assert set(run.state) == {"judge.bn.running_mean", "judge.bn.running_var"}
    torch.testing.assert_close(run.state["judge.bn.running_mean"], peer.running_mean)
    torch.testing.assert_close(run.state["judge.bn.running_var"], peer.running_var)
    assert not params["judge.bn.running_mean"].any(), "changed in place"


def test_decoders_go_by_kind_and_discriminators_by_width():
    config = published("gnn4cmr", dim=6, node_dim=4)
    net = GNN4CMRNet({"audio": 29, "3d": 10}, torch.zeros(3, 4), config)
    assert net.decoders["audio"].layers[0].out_features == 512
    assert net.decoders["3d"].layers[0].out_features == 2048
    negative = -torch.ones(1)
    assert [net.decoders[m].layers.act(negative).item() for m in ("audio", "3d")] == pytest.approx(
        [-0.2, 0.0]
    )
    widths = {m: [layer.out_features for layer in d.layers] for m, d in net.discriminators.items()}
    assert widths == {"audio": [7, 1, 2], "3d": [2, 1, 2]}


def test_gradients():
    u, v, y = rows(5, 3).requires_grad_(), rows(5, 3, 1).requires_grad_(), one_hot([0, 1, 0, 0, 2], 3)
    assert gradcheck(lambda u, v: contrastive_loss((u, v), (y, y), CONFIG), (u, v))
    logits = [rows(5, 2, k).requires_grad_() for k in range(4)]
    assert gradcheck(adversarial_loss, logits)
    nodes, heads = rows(4, 3).requires_grad_(), rows(2, 3, 1).requires_grad_()
    assert gradcheck(lambda n, h: normalized(0.5 * torch.eye(4) + head_graph(n, h, 0.4)), (nodes, heads))


def test_terms_add_up():
    x = {"image": rows(6, 8), "text": rows(6, 5, 1)}
    found, _ = forward_pass(Model(*network()), x, torch.eye(3).double(), CONFIG)
    y = one_hot([0, 1, 2, 0, 1, 2], 3)
    terms = objective_terms(found, (y, y), CONFIG)
    wanted = 0.5 * terms["label"] + terms["contrastive"] + 2 * terms["adversarial"]
    torch.testing.assert_close(terms["total"], wanted)


def test_a_last_batch_of_one_pair_is_left_out():
    _, log = fit("gnn4cmr", make_split({"image": (17, 8), "text": (17, 5)}, paired=True))
    assert np.isfinite(log.history["gnn4cmr/image-text"]["train/total"]).all()


def test_small_data_get_enough_updates():
    _, log = fit("gnn4cmr", TRAIN, min_updates=11)  # 30 pairs in batches of 16: two updates per epoch
    assert len(log.history["gnn4cmr/image-text"]["train/total"]) == 6
    _, log = fit("gnn4cmr", TRAIN, min_updates=2)
    assert len(log.history["gnn4cmr/image-text"]["train/total"]) == 3


def test_class_means_as_node_features():
    train = make_split(PAIR)
    found = class_means(train, "text", 7)
    x, labels = train["text"].features.astype(np.float64), train["text"].labels
    wanted = x[labels == 2].mean(axis=0) - x.mean(axis=0)
    np.testing.assert_allclose(found[2, :5], wanted / np.linalg.norm(wanted), rtol=1e-5)
    assert not found[:, 5:].any()
    assert torch.equal(class_means(train, "text", 3), found[:, :3])
    none = replace(train, classes=4)
    assert not class_means(none, "text", 7)[3].any()


@pytest.mark.parametrize(
    ("names", "used"), [(("image", "text"), "text"), (("audio", "3d"), "audio"), (("image", "3d"), "3d")]
)
def test_class_means_are_those_of_a_text_or_else_of_the_second_modality(names, used):
    split = make_split(dict(zip(names, PAIR.values(), strict=True)))
    net = build("gnn4cmr", node_features="class_mean").network(split)
    assert torch.equal(net.labels.nodes, class_means(split, used, 8))


def test_every_replica_starts_from_a_graph_of_its_own_nodes():
    values = {"model": "i_gnn", "node_features": "learned_normal"}
    together, _ = fit("gnn4cmr", TRAIN, seeds=(1, 2), replicas="together", **values)
    x = rows(5, 8)
    for seed, retriever in zip((1, 2), together, strict=True):
        [alone], _ = fit("gnn4cmr", TRAIN, seeds=(seed,), replicas="alone", **values)
        torch.testing.assert_close(retriever.embed("image", x), alone.embed("image", x), rtol=1e-6, atol=1e-8)
