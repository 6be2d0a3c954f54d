"""GNN4CMR against outputs of its public code (tests/parity/vectors/gnn4cmr.npz)."""

from dataclasses import replace

import pytest
import torch
from benchmark.methods.blocks.adversarial import adversarial_loss
from benchmark.methods.blocks.graph import cosine_graph, head_graph, normalized, score_distance, static_graph
from benchmark.methods.blocks.losses import common_space_likelihood
from benchmark.methods.gnn4cmr import GNN4CMR, GNN4CMRNet, contrastive_loss, forward_pass, objective_terms

from benchmark.training import Batch, Model
from tests.methods.data import published
from tests.parity.golden import AsStored, numbers, train, vectors

GOLDEN, golden, close = vectors("gnn4cmr")
MODELS = pytest.mark.parametrize("model", ["p", "i"])
FORMS = pytest.mark.parametrize("form", ["single", "multi"])
BLOCKS = {
    "encoders.image": "img_net",
    "encoders.text": "text_net",
    "decoders.image": "text2img_net",
    "decoders.text": "img2text_net",
    "discriminators.image": "img_md_net",
    "discriminators.text": "text_md_net",
}
LOGITS = {"true_a": "real1", "made_a": "fake1", "made_b": "fake2", "true_b": "real2"}
THRESHOLD = 0.4
LOOSE = "out_i_after1step_text2img_net.denseL2.bias"  # Adam's step along a gradient that is exactly zero


def config_of(model):
    return published(
        "gnn4cmr",
        model=f"{model}_gnn",
        node_features="learned_normal",
        dim=16,
        node_dim=12,
        layers=int(GOLDEN["par_n_layers"]),
        heads=int(GOLDEN["par_k"]),
        decoder_image=14,
        decoder_text=12,
        epochs=1,
        threshold=THRESHOLD,
        **numbers(GOLDEN, "lr", "betas", "alpha", "beta", tau="temp", intra="gamma", spread="den_factor"),
    )


def theirs(name):
    """The public code's name of one of our parameters."""
    for ours, block in BLOCKS.items():
        if name.startswith(f"{ours}."):
            rest = name.removeprefix(f"{ours}.")
            if rest.startswith("layers."):
                _, number, part = rest.split(".")
                rest = f"denseL{int(number) + 1}.{part}"
            return f"{block}.{rest}"
    if name.startswith("labels.layers."):
        return f"lrn_{name[-1]}.weight"
    return name.replace("labels.nodes", "inp").replace("labels.last", "hypo")


def network(model):
    config = config_of(model)
    net = GNN4CMRNet({"image": 32, "text": 20}, torch.zeros(4, 12), config).to("meta")
    names = [n for n, _ in (*net.named_parameters(), *net.named_buffers())]
    params = {n: golden(f"in_{model}_w_{theirs(n)}") for n in names if n != "heads"}
    if model == "i":
        params["heads"] = torch.stack([golden(f"in_i_w_W_{k}") for k in range(config.heads)])
    return config, net, params


def inputs():
    return {"image": golden("in_img"), "text": golden("in_txt")}


def fixed_graph(model):
    if model == "i":
        return cosine_graph(golden("in_i_inp0"), THRESHOLD)
    return normalized(static_graph(golden("in_labels_single"), THRESHOLD))


@FORMS
def test_losses_with_their_gradients(form):
    y = golden(f"in_labels_{form}")
    u, v, pu = (golden(f"in_{name}").requires_grad_() for name in ("u", "v", "pu"))
    config = config_of("p")
    inter, intra = contrastive_loss((u, v), (y, y), config)
    close(inter, f"out_{form}_con_inter")
    close(intra, f"out_{form}_con_intra")
    con = inter + config.intra * intra
    close(con, f"out_{form}_con")
    for gradient, name in zip(torch.autograd.grad(con, (u, v)), ("gu", "gv"), strict=True):
        close(gradient, f"out_{form}_con_{name}")
    cls = score_distance(pu, y) + score_distance(golden("in_pv"), y)
    close(cls, f"out_{form}_cls")
    close(torch.autograd.grad(cls, pu)[0], f"out_{form}_cls_gpu")
    likelihood = common_space_likelihood(u, v, y, y)
    close(likelihood, f"out_{form}_mdl")
    close(torch.autograd.grad(likelihood, u)[0], f"out_{form}_mdl_gu")


def test_adversarial_loss():
    logits = {ours: golden(f"in_logits_{name}").requires_grad_() for ours, name in LOGITS.items()}
    total = adversarial_loss(**logits)
    close(total, "out_gan")
    gradients = torch.autograd.grad(total, list(logits.values()))
    for name, gradient in zip(LOGITS.values(), gradients, strict=True):
        close(gradient, f"out_gan_g_{name}")


def test_graphs():
    assert round(float(GOLDEN["par_t"]), 6) == THRESHOLD
    assert float(GOLDEN["par_lambda"]) == 0.5
    close(fixed_graph("p"), "out_p_adj")
    close(fixed_graph("p"), "in_p_w_adj")
    _, _, params = network("i")
    close(fixed_graph("i"), "out_i_A0")
    close(fixed_graph("i"), "in_i_w_A0")
    close(head_graph(params["labels.nodes"], params["heads"], THRESHOLD), "out_i_S")


@MODELS
def test_a_step_with_its_gradients(model):
    config, net, params = network(model)
    learned = {n: p.requires_grad_() for n, p in params.items() if "running" not in n}
    found, state = forward_pass(Model(net, params), inputs(), fixed_graph(model), config)
    names = {"u": "feat_img", "v": "feat_txt", "p": "pred_img", "q": "pred_txt", "graph": "adj"}
    names |= {ours: f"logits_{name}" for ours, name in LOGITS.items()} | {"classifiers": "classifiers"}
    for ours, name in names.items():
        close(found[ours], f"out_{model}_{name}")
    y = golden("in_labels_single")
    terms = objective_terms(found, (y, y), config)
    for ours, name in {"label": "cls", "contrastive": "con", "adversarial": "gan", "total": "total"}.items():
        close(terms[ours], f"out_{model}_{name}")
    gradients = dict(zip(learned, torch.autograd.grad(terms["total"], list(learned.values())), strict=True))
    for k, gradient in enumerate(gradients.pop("heads", ())):
        close(gradient, f"out_i_grad_w_W_{k}")
    for name, gradient in gradients.items():
        close(gradient, f"out_{model}_grad_w_{theirs(name)}")
    assert len(state) == 12
    for name, value in state.items():
        close(value, f"out_{model}_{theirs(name)}")


@MODELS
def test_a_step_of_training_and_retrieval_after_it(model):
    config, net, params = network(model)
    method = GNN4CMR(config)
    y = golden("in_labels_single")
    phase = method.phase(net, AsStored(Batch(inputs(), {"image": y, "text": y}, {}, {})))
    after, _ = train(replace(phase, constants={"graph": fixed_graph(model)[None]}, keep=()), params)
    checked = {n: f"out_{model}_after1step_{theirs(n)}" for n in after}
    checked = {n: name for n, name in checked.items() if name in GOLDEN}
    assert len(checked) == 4
    for ours, name in checked.items():
        close(after[ours], name, 1e-4 if name == LOOSE else 1e-5)
        assert not torch.allclose(after[ours], params[ours], rtol=0, atol=1e-6)
    statistics = [n for n in after if "running" in n]
    assert len(statistics) == 12
    for name in statistics:
        close(after[name], f"out_{model}_{theirs(name)}")
    for modality, x in inputs().items():
        wanted = f"out_{model}_eval_feat_{'img' if modality == 'image' else 'txt'}"
        close(method.embed(Model(net, after), modality, x), wanted)
