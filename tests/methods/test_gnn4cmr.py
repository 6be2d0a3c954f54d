"""Properties of GNN4CMR."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmark.methods.blocks.adversarial import Block, Pass, adversarial_loss, reverse_gradient
from benchmark.methods.blocks.graph import cosine_graph, head_graph, normalized, static_graph
from benchmark.methods.blocks.layers import part_of
from benchmark.methods.gnn4cmr import (
    GNN4CMR,
    GNN4CMRConfig,
    GNN4CMRNet,
    contrast,
    contrastive_loss,
    embed_with,
    forward_pass,
    gnn4cmr_phase,
    objective_terms,
    shared_labels,
)
from torch.autograd import gradcheck
from torch.func import functional_call

from benchmark.core.method import Run
from benchmark.errors import RecipeError, UnsupportedError
from benchmark.training.samplers import TupleSampler
from benchmark.training.train import build_replicas, train_phase
from tests.methods.data import SIZES, make_split, nearest_class_accuracy, one_hot, rows

PAIR = {m: SIZES[m] for m in ("image", "text")}
CONFIG = GNN4CMRConfig(dim=6, node_dim=4, layers=2, heads=2, decoder_image=5, decoder_text=5)


def paired_split(sizes=PAIR, **settings):
    """Row i of every modality shows item i."""
    split = make_split(sizes, **settings)
    pairs = {m.name: replace(m, pair_ids=np.arange(len(m))) for m in split}
    return replace(split, modalities=pairs)


def fit(seeds=(1,), split=None, replicas="auto", device=None, **values):
    method = GNN4CMR.from_values({**GNN4CMR.tiny(), **values})
    train = split or paired_split()
    run = Run(seeds, device or torch.device("cpu"), "fp64", replicas)
    method.check(train)
    sizes = {m.name: (9, m.dim) for m in train}
    val = paired_split(sizes, seed=1, multi=train.label_form == "multi")
    return method.fit(train, val, run), run


def network(config=CONFIG, widths=None, seeds=(1,)):
    run = Run(seeds, precision="fp64")
    widths = widths or {m: d for m, (_, d) in PAIR.items()}
    return build_replicas(lambda: GNN4CMRNet(widths, torch.randn(3, 4), config), list(seeds), run)


def one_step(config):
    """Change of every parameter and statistic in one step on all pairs."""
    net, start = network(config)
    run = Run(precision="fp64")
    graph = torch.eye(3, dtype=torch.float64)[None]
    phase = gnn4cmr_phase(config, net, TupleSampler(paired_split(), run, 100), graph)
    after = train_phase(phase, start, run).params
    return {name: (after[name] - p)[0] for name, p in start.items()}


def test_the_gradient_is_exactly_reversed():
    x, weight = rows(3, 4).requires_grad_(), rows(3, 4, 1)
    y = reverse_gradient(x)
    assert torch.equal(y, x)
    assert torch.equal(torch.autograd.grad((y * weight).sum(), x)[0], -weight)


def test_the_two_sides_pull_the_adversarial_loss_apart():
    net, start = network()
    params = {n: p[0].requires_grad_("running" not in n) for n, p in start.items()}
    x = rows(9, 8), rows(9, 5, 1)

    def adversarial(params):
        found, _ = forward_pass(net, params, x, torch.eye(3, dtype=torch.float64), CONFIG)
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


def test_contrast_of_two_items_by_hand():
    u = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    v = torch.tensor([[0.8, 0.6], [0.0, 1.0]], dtype=torch.float64)
    inter, intra = contrastive_loss((u, v), (one_hot([0, 1], 2),) * 2, GNN4CMRConfig(tau=0.5))
    z = [[1.6, 0.0], [1.92, 1.6]]  # cosines / tau

    def mass(*logits):
        return math.log(sum(math.exp(1.06 * each) for each in logits))

    across = -(z[0][0] - mass(*z[0]) + z[1][1] - mass(*z[1])) / 2
    back = -(z[0][0] - mass(z[0][0], z[1][0]) + z[1][1] - mass(z[0][1], z[1][1])) / 2
    assert inter.item() == pytest.approx(across + back)
    assert intra.item() == 0  # no row has another positive


def test_contrast_against_loops():
    z, similar, spread = rows(4, 4), shared_labels(*(one_hot([0, 1, 0, 0], 3),) * 2, "binary"), 1.06
    total = 0.0
    for i in range(4):
        mass = math.log(sum(math.exp(spread * z[i, k]) for k in range(4)))
        for j in range(4):
            total -= similar[i, j] / similar[i].sum() * (z[i, j] - mass) / 4
    torch.testing.assert_close(contrast(z, similar, spread), total)


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
    assert shared_labels(y, y, "binary").tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0] * 4]
    wanted = [[1, 1 / 3, 0, 0], [1 / 3, 1, 1 / 2, 0], [0, 1 / 2, 1, 0], [0] * 4]
    torch.testing.assert_close(shared_labels(y, y, "jaccard"), torch.tensor(wanted, dtype=torch.float64))
    single = one_hot([0, 1, 1, 2], 3)
    assert torch.equal(shared_labels(single, single, "jaccard"), shared_labels(single, single, "binary"))


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
    run = Pass(torch.nn.ModuleDict({"judge": block}), params)
    for seed in range(2):
        x = rows(6, 4, seed) + seed
        wanted = block.layers[1](block.layers[0](peer(x)).relu())
        torch.testing.assert_close(run("judge", x), wanted)
    assert set(run.state) == {"judge.bn.running_mean", "judge.bn.running_var"}
    torch.testing.assert_close(run.state["judge.bn.running_mean"], peer.running_mean)
    torch.testing.assert_close(run.state["judge.bn.running_var"], peer.running_var)
    assert not params["judge.bn.running_mean"].any(), "changed in place"


def test_decoders_go_by_kind_and_discriminators_by_width():
    config = GNN4CMRConfig(dim=6, node_dim=4)
    net = GNN4CMRNet({"audio": 29, "3d": 10}, torch.zeros(3, 4), config)
    assert net.decoders["audio"].layers[0].out_features == 512
    assert net.decoders["3d"].layers[0].out_features == 2048
    assert (net.decoders["audio"].slope, net.decoders["3d"].slope) == (0.2, 0.0)
    widths = {m: [layer.out_features for layer in d.layers] for m, d in net.discriminators.items()}
    assert widths == {"audio": [7, 1, 2], "3d": [2, 1, 2]}
    net = GNN4CMRNet({"audio": 29}, torch.zeros(3, 4), replace(config, disc_min_width=8))
    assert [layer.out_features for layer in net.discriminators["audio"].layers] == [8, 8, 2]


def test_an_embedding_does_not_depend_on_its_batch():
    net, start = network()
    params = {n: p[0] for n, p in start.items()}
    x = rows(5, 8)
    embed = embed_with(net)
    torch.testing.assert_close(embed(params, "image", x)[:2], embed(params, "image", x[:2]))
    block = net.encoders["image"]
    trained, _ = functional_call(block, part_of(params, "encoders.image."), (x, True))
    assert not torch.allclose(trained, embed(params, "image", x))


def test_gradients():
    u, v, y = rows(5, 3).requires_grad_(), rows(5, 3, 1).requires_grad_(), one_hot([0, 1, 0, 0, 2], 3)
    assert gradcheck(lambda u, v: contrastive_loss((u, v), (y, y), CONFIG), (u, v))
    logits = [rows(5, 2, k).requires_grad_() for k in range(4)]
    assert gradcheck(adversarial_loss, logits)
    nodes, heads = rows(4, 3).requires_grad_(), rows(2, 3, 1).requires_grad_()
    assert gradcheck(lambda n, h: normalized(0.5 * torch.eye(4) + head_graph(n, h, 0.4)), (nodes, heads))


def test_terms_add_up():
    net, start = network()
    params = {n: p[0] for n, p in start.items()}
    found, _ = forward_pass(net, params, (rows(6, 8), rows(6, 5, 1)), torch.eye(3).double(), CONFIG)
    y = one_hot([0, 1, 2, 0, 1, 2], 3)
    terms = objective_terms(found, (y, y), CONFIG)
    wanted = 0.5 * terms["label"] + terms["contrastive"] + 2 * terms["adversarial"]
    torch.testing.assert_close(terms["total"], wanted)


@pytest.mark.parametrize("values", [{}, {"model": "i_gnn", "node_features": "learned_normal"}])
def test_three_seeds_together_equal_each_alone(values, device):
    together, _ = fit((1, 2, 3), None, "together", device, **values)
    alone, _ = fit((1, 2, 3), None, "alone", device, **values)
    single, _ = fit((2,), None, device=device, **values)
    for name, (_, d) in PAIR.items():
        x = rows(11, d).to(device)
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a.embed(name, x), b.embed(name, x), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(together[1].embed(name, x), single[0].embed(name, x), rtol=1e-6, atol=1e-8)
        assert not torch.allclose(together[0].embed(name, x), together[1].embed(name, x))


@pytest.mark.parametrize(
    "values",
    [
        {"model": "i_gnn", "node_features": "class_mean"},
        {"model": "i_gnn", "node_features": "onehot"},
        {"node_features": "learned_normal"},
        {"node_features": "class_mean"},
        {"label_sim": "jaccard"},
        {"condition": "row"},
        {"disc_shares": (2, 4)},
        {"disc_min_width": 3},
        {"intra": 0.0},
    ],
)
def test_every_variant_trains_and_differs(values):
    split = paired_split(multi=True)
    for name in PAIR:
        split[name].labels[::2, 0] = 1
    base, changed = (fit(split=split, **each)[0][0] for each in ({}, values))
    x = rows(5, 8)
    assert changed.embed("image", x).isfinite().all()
    assert not torch.equal(base.embed("image", x), changed.embed("image", x))


def test_vectors_of_a_file(tmp_path):
    np.save(tmp_path / "words.npy", rows(3, 5).numpy())
    source = f"file:{tmp_path / 'words.npy'}"
    for model, learned in (("p_gnn", False), ("i_gnn", True)):
        assert fit(node_features=source, model=model)[0][0].embed("text", rows(2, 5)).isfinite().all()
        net = GNN4CMRNet({"image": 8}, torch.zeros(3, 5), replace(CONFIG, node_features=source, model=model))
        assert ("labels.nodes" in dict(net.named_parameters())) is learned


def test_unpaired_modalities_and_narrow_features():
    split = make_split({"audio": (30, 10), "3d": (7, 29)})
    retrievers, run = fit(split=split)
    assert list(run.history) == ["gnn4cmr/audio-3d"]
    assert retrievers[0].embed("3d", rows(2, 29)).isfinite().all()


def test_a_last_batch_of_one_pair_is_left_out():
    _, run = fit(split=paired_split({"image": (17, 8), "text": (17, 5)}))
    assert np.isfinite(run.history["gnn4cmr/image-text"]["train/total"]).all()


def test_small_data_get_enough_updates():
    _, run = fit(min_updates=11)  # 30 pairs in batches of 16: two updates per epoch
    assert len(run.history["gnn4cmr/image-text"]["train/total"]) == 6
    _, run = fit(min_updates=2)
    assert len(run.history["gnn4cmr/image-text"]["train/total"]) == 3


def test_the_kept_epoch_is_the_best_on_validation_data():
    settings = {"epochs": 3, "lr": 0.3}
    best, run = fit(**settings)
    last, _ = fit(**settings, select="last")
    curve = [each[0] for each in run.history["gnn4cmr/image-text"]["val/map"]]
    assert max(curve) > curve[-1], "the last epoch was the best, so nothing is tested"
    x = rows(5, 8)
    assert not torch.allclose(best[0].embed("image", x), last[0].embed("image", x))
    stopped, _ = fit(epochs=int(np.argmax(curve)) + 1, lr=0.3, select="last")
    assert torch.equal(best[0].embed("image", x), stopped[0].embed("image", x))


def test_training_learns_to_retrieve():
    retrievers, run = fit(epochs=15, lr=1e-2)
    assert max(each[0] for each in run.history["gnn4cmr/image-text"]["val/map"]) > 0.9
    assert nearest_class_accuracy(retrievers[0]) > 0.8


def test_wrong_values_are_refused():
    for values, message in [
        ({"model": "gat"}, "model must be one of p_gnn, i_gnn"),
        ({"model": "i_gnn"}, "i_gnn needs other node_features"),
        ({"label_sim": "cosine"}, "label_sim must be one of"),
        ({"node_features": "glove"}, "node_features must be one of"),
        ({"threshold": 0.0}, "threshold must lie"),
        ({"tau": 0.0}, "tau and spread positive"),
        ({"disc_shares": (4, 0)}, "must be positive"),
    ]:
        with pytest.raises(RecipeError, match=message):
            GNN4CMR.from_values(values)
    with pytest.raises(UnsupportedError, match="two modalities"):
        fit(split=make_split())
