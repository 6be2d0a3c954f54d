"""ACMR against a transcription of its public code (tests/parity/vectors/acmr.npz)."""

from dataclasses import replace

import pytest
import torch
from benchmark.methods.acmr import (
    ACMR,
    ACMRNet,
    dissimilarity,
    domain_loss,
    embedding_terms,
    half_squares,
    hardest,
    norm,
    reversal,
    triplet,
)
from benchmark.methods.blocks.layers import reverse_gradient
from benchmark.methods.blocks.losses import shares_label

from benchmark.training import Model
from tests.methods.data import one_hot, published
from tests.parity.golden import curve, in_order, numbers, paired, train, vectors

GOLDEN, golden, close = vectors("acmr", atol=1e-6)
PARTS = {"image": "img", "text": "txt", "label": "cls", "domain": "dom"}


def weights(dataset):
    return numbers(GOLDEN, label_weight=f"w_label_{dataset}", dissimilar_weight=f"w_dissimilar_{dataset}")


CONFIG = published(
    "acmr",
    hidden_image=(12, 10),
    hidden_text=(8, 10),
    dim=8,
    hidden_domain=(4, 2),
    batch=12,
    epochs=4,
    shuffle=False,
    **numbers(GOLDEN, "margin", "lr", "betas", positive_weight="alpha"),
    **weights("wiki"),
)
NUS = replace(CONFIG, **weights("nus"))


def network():
    net = ACMRNet(CONFIG, 20, 16, 4).to("meta")
    params = {}
    for name, _ in net.named_parameters():
        part, place, kind = name.split(".")
        theirs = golden(f"in_w_{PARTS[part]}_fc{int(place) + 1}_{kind[0]}")
        params[name] = theirs.T.contiguous() if kind == "weight" else theirs
    return net, params


NET, PARAMS = network()
MODEL = Model(NET, PARAMS)
Y = one_hot(GOLDEN["in_labels"], 4)
X = golden("in_img"), golden("in_txt")


def test_constants_are_those_of_the_recipe():
    recipe = published("acmr")
    for name in ("label_weight", "dissimilar_weight", "positive_weight", "margin", "lr", "betas"):
        assert getattr(recipe, name) == pytest.approx(getattr(CONFIG, name))
    assert GOLDEN["par_dissimilar_margin"] == GOLDEN["par_margin"]
    assert GOLDEN["par_eps"] == 1e-8


def test_mined_negatives():
    different = ~shares_label(Y, Y)
    for rows, wanted in ((X[0], "out_neg_txt_of_img"), (X[1], "out_neg_img_of_txt")):
        found, has = hardest(rows, different)
        assert torch.equal(found, torch.from_numpy(GOLDEN[wanted]))
        assert has.all()


def losses(v, w):
    logits = MODEL.label(v), MODEL.label(w)
    different = ~shares_label(Y, Y)
    a, b = hardest(X[0], different), hardest(X[1], different)
    contrastive = embedding_terms(CONFIG, (v, w), logits, X, (Y, Y), [])
    of_triplets = embedding_terms(replace(CONFIG, embedding_loss="triplet"), (v, w), logits, X, (Y, Y), [])
    nus = embedding_terms(NUS, (v, w), logits, X, (Y, Y), [])
    m, s = CONFIG.margin, CONFIG.positive_weight
    coefficient = golden("par_lambda")
    found = {
        "pos": half_squares(v, w, a[1]),
        "neg_v": half_squares(v, w[a[0]], a[1]),
        "neg_w": half_squares(w, v[b[0]], b[1]),
        "triplet": triplet(v, w, *a, m, s) + triplet(w, v, *b, m, s),
        "similar": norm(v - w),
        "dissimilar": dissimilarity(v, w, different, m, true_distance=False),
        "label": contrastive["label"],
        "domain": domain_loss(*(MODEL.domain(reverse_gradient(z, coefficient)) for z in (v, w))),
        "emb_triplet_wiki": of_triplets["embedding"],
        "emb_contrastive_wiki": contrastive["embedding"],
        "emb_contrastive_nus": nus["embedding"],
    }
    for name in ("similar", "dissimilar"):
        assert torch.equal(contrastive[name], found[name])
    assert torch.equal(of_triplets["triplet"], found["triplet"])
    return found


@pytest.mark.parametrize(("prefix", "text"), [("", "in_w"), ("close_", "in_w_close")])
def test_losses_with_gradients(prefix, text):
    v, w = golden("in_v").requires_grad_(), golden(text).requires_grad_()
    checked = 0
    for name, value in losses(v, w).items():
        close(value, f"out_{prefix}{name}")
        if f"out_{prefix}grad_v_{name}" in GOLDEN:
            by_v, by_w = torch.autograd.grad(value, (v, w), retain_graph=True)
            close(by_v, f"out_{prefix}grad_v_{name}")
            close(by_w, f"out_{prefix}grad_w_{name}")
            checked += 2
    assert checked == 16


def test_forward_pass():
    v, w = MODEL.image(X[0]), MODEL.text(X[1])
    close(v, "out_fwd_v")
    close(w, "out_fwd_w")
    close(MODEL.label(v), "out_fwd_logits_v")
    close(MODEL.domain(v), "out_fwd_dom_v")


@pytest.mark.parametrize("epochs", [50, 200])
def test_schedule_of_the_reversal(epochs):
    got = torch.tensor([reversal(e, epochs) for e in range(epochs)], dtype=torch.float64)
    close(got, f"out_lambda_{epochs}")


@pytest.mark.parametrize("update", ["split", "joint"])
@pytest.mark.parametrize("loss", ["triplet", "contrastive"])
def test_four_steps_of_training(update, loss):
    config = replace(CONFIG, update=update, embedding_loss=loss)
    split = paired(GOLDEN["in_labels"], 4, image=GOLDEN["in_img"], text=GOLDEN["in_txt"])
    phase = ACMR(config).phase(NET, in_order(split))
    phase = replace(phase, schedule=lambda epoch: {"reversal": float(GOLDEN["par_lambda"])})
    params, history = train(phase, PARAMS)
    trace = f"out_trace_{update}_{loss}"
    close(curve(history, "embedding"), f"{trace}_emb")
    close(curve(history, "domain"), f"{trace}_domain")
    for part, place in (("image", 2), ("text", 0), ("label", 0), ("domain", 0)):
        close(params[f"{part}.{place}.weight"].T, f"{trace}_w4_{PARTS[part]}_fc{place + 1}_w")
