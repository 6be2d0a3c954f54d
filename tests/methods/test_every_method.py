"""What holds for every method of ours alike; what only one has to keep stands in its own file."""

import csv
import re
from functools import cache
from itertools import combinations, permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark.datasets.wikipedia_classic import WikipediaClassic

from benchmark.contract.method import check_method, outputs
from benchmark.core.config import Config, hints, words
from benchmark.core.dataset import DataRequest
from benchmark.core.method import RunContext
from benchmark.core.registry import DATASETS, METHODS
from benchmark.errors import RecipeError, UnsupportedError
from benchmark.evaluation.metrics import evaluate_one
from benchmark.evaluation.validation import mean_average_precision
from benchmark.inspection.card import card
from benchmark.runs.recipe import RESERVED, layer_dataset, read_layers, recipe_file, resolve, variants
from tests.methods.data import (
    PAIR,
    build,
    fit,
    held_out,
    make_split,
    nearest_class_accuracy,
    published,
    rows,
    scores,
    several_labels,
    training,
    values_of,
)

IDS = sorted(METHODS.entries())
with (Path(__file__).parents[2] / "results/published/methods.csv").open(
    newline="", encoding="utf-8"
) as lines:
    PRINTED = {row["id"]: row for row in csv.DictReader(lines)}


def test_the_sixteen_of_the_publication_are_there():
    assert set(PRINTED) <= set(IDS)


@pytest.mark.parametrize("name", IDS)
def test_the_contract_is_kept(name):
    entry = METHODS.get(name)
    assert not entry.problem
    results = check_method(entry)
    assert {result.name: result.detail for result in results if not result.passed} == {}
    held = {result.name for result in results}
    assert {"seeds together equal each alone", "an interrupted fit resumes with the same bits"} <= held


@pytest.mark.parametrize("name", PRINTED)
def test_it_is_registered_as_printed(name):
    row, info = PRINTED[name], METHODS.get(name).info
    assert (info.title, info.venue, str(info.year)) == (row["display_name"], row["venue"], row["year"])
    assert (info.group, info.modalities) == (row["group"], row["modalities"])


@pytest.mark.parametrize("name", IDS)
def test_its_card_says_what_it_minimises_and_where_it_departs(name):
    found = card(METHODS.get(name))
    assert "ublic code" in found["description"]
    assert "Where this differs" in found["description"] or "No public code" in found["description"]
    for profile in ("paper", "quick"):
        assert all(value["source"] for value in found["recipe"][profile].values())


@pytest.mark.parametrize("name", IDS)
def test_its_recipe_fits_in_every_profile_dataset_and_variant(name):
    entry = METHODS.get(name)
    file = recipe_file(entry)
    assert file is not None, f"{name} has no recipe"
    datasets = set(DATASETS.entries())
    sections = {layer_dataset(layer) for layer in read_layers(file)} - {""}
    assert sections <= datasets, f"{file} has values for unknown datasets"
    for dataset, variant, profile in product(datasets, variants(entry), ("paper", "quick", "tiny")):
        recipe = resolve(entry, dataset, profile, (f"variant={variant}",))
        entry.load().from_values({n: v.value for n, v in recipe.items() if n not in RESERVED})


@pytest.mark.parametrize("name", IDS)
def test_its_recipe_alone_gives_the_values(name):
    config = METHODS.get(name).load().Config
    assert issubclass(config, Config)
    with pytest.raises(TypeError, match="missing"):
        config()


@pytest.mark.parametrize("name", IDS)
def test_a_value_its_type_does_not_allow_is_refused_with_what_is_valid(name):
    """A text that no choice holds, for every hyper-parameter that is not a free text."""
    allowed = {field: words(hint) for field, hint in hints(METHODS.get(name).load().Config).items()}
    assert set(allowed) == set(values_of(name))
    tried = {field: valid for field, valid in allowed.items() if valid not in ("a text", "anything")}
    assert len(tried) >= len(allowed) - 3
    for field, valid in tried.items():
        with pytest.raises(RecipeError) as refused:
            build(name, **{field: "no such choice"})
        assert str(refused.value) == f"{name}: {field} must be {valid}; got 'no such choice'"


RATE = {"default": 1e-2}
LEARNS = [  # what it takes to learn the classes of few rows, and the share that has to be right
    ("acmr", {"epochs": 40}, 0.9),
    ("acmr", {"epochs": 40, "embedding_loss": "triplet"}, 0.9),
    ("algcn", {"epochs": 12, "lr": 3e-2}, 0.8),
    ("cmcp", {"k": 5}, 0.8),
    ("coxi", {"epochs": 25, "lr": 1e-2}, 0.9),
    ("drcl", {"epochs": 40, "q_step": 0.03, "lr_spl": 1e-2, "lr": RATE}, 0.9),
    ("drsl", {"epochs": 30}, 0.9),
    ("dscmr", {"epochs": 25, "lr": 1e-2}, 0.9),
    ("elrcmr", {"epochs": 20, "lr": 1e-2}, 0.9),
    ("gnn4cmr", {"epochs": 15, "lr": 1e-2}, 0.8),
    ("man", {"epochs": 30, "lr": 1e-2}, 0.9),
    ("mars", {"epochs": 40, "lr": RATE}, 0.9),
    ("mmsae", {}, 0.8),
    ("mrl", {"epochs": 20, "lr": 1e-2}, 0.9),
    ("rono", {"epochs": 30, "lr": RATE}, 0.9),
    ("sdml", {"epochs": 40, "lr": RATE}, 0.9),
]


@pytest.mark.parametrize(("name", "values", "share"), LEARNS)
def test_training_learns_to_retrieve(name, values, share):
    (model,), log = fit(name, **values)
    for a, b in combinations(training(name).names, 2):
        assert nearest_class_accuracy(model, a, b) > share, (a, b)
    curves = [each["val/map"] for each in log.history.values() if "val/map" in each]
    assert all(max(values) > [0.9] for values in curves)


KEPT = {  # settings by which a later epoch is worse than an earlier one
    "acmr": {"select": "map", "epochs": 3, "lr": 0.1},
    "algcn": {"epochs": 4, "lr": 0.1},
    "coxi": {"epochs": 3, "lr": 3e-2},
    "drsl": {"select": "map", "epochs": 3, "lr": 0.1},
    "dscmr": {"epochs": 3, "lr": 0.3},
    "elrcmr": {"epochs": 4, "lr": 3e-2},
    "gnn4cmr": {"epochs": 3, "lr": 0.3},
    "man": {"epochs": 3, "lr": 3e-2},
    "rono": {"epochs": 3, "lr": {"default": 3e-2}},
}


@pytest.mark.parametrize("name", KEPT)
def test_the_kept_epoch_has_the_best_validation_map(name):
    (best,), log = fit(name, **KEPT[name])
    (last,), _ = fit(name, **{**KEPT[name], "select": "last"})
    (history,) = log.history.values()
    curve = [each[0] for each in history["val/map"]]
    assert max(curve) > curve[-1], "the last epoch was the best, so nothing was tested"
    val = held_out(training(name))
    directions = list(permutations(val.names, 2))
    relevant = {(a, b): torch.from_numpy(val[a].labels[:, None] == val[b].labels) for a, b in directions}
    for model, wanted in ((best, max(curve)), (last, curve[-1])):
        found = [
            mean_average_precision(scores(model, val, *direction), relevant[direction]).item()
            for direction in directions
        ]
        assert np.mean(found) == pytest.approx(wanted)


CHANGES = {  # beside the variants of the recipe
    "algcn": [{"alpha": 0.0}, {"super_weight": 0.0}],
    "coxi": [{"dropout": 0.0}, {"margin": 0.0}, {"gamma": 0.0}, {"hidden": (12, 12)}],
    "drcl": [{"mix": 1.0}, {"mixup": "input"}, {"recast": "transpose"}, {"q_fixed": 2.0}, {"eta": 0.0}],
    "drsl": [{"weight_decay": 0.0}, {"relation": (6,)}, {"decay": 0.5}],
    "dscmr": [{"alpha": 1.0}, {"beta": 1.0}],
    "elrcmr": [{"weight_avg": "ema", "setp": 4}, {"lama": 0.1}, {"zeta": 0.1}, {"ramp_steps": 4}],
    "gnn4cmr": [
        {"model": "i_gnn", "node_features": "learned_normal"},
        {"node_features": "learned_normal"},
        {"node_features": "class_mean"},
        {"disc_shares": (2, 4)},
        {"intra": 0.0},
    ],
    "man": [{"fisher_beta": 0.1}, {"dim": 7}, {"select": "last", "epochs": 2}, {"eta": 0.1}],
    "mars": [{"alpha1": 0.0}, {"beta1": 0.0}],
    "mrl": [{"beta": 0.98}, {"tau": 0.1}, {"select": "last", "epochs": 2}],
    "rono": [{"rho": 0.0}, {"decay_every": 1}, {"lr": {"default": 1e-3, "image": 1e-2}}],
    "sdml": [{"alpha": 0.1}],
}
CHANGES |= {
    name: CHANGES[name]
    + [{"prior": "selected"}, {"prior": "learned:text"}, {"lr": {"image": 1e-2, "default": 1e-3}}]
    + [{"prior": prior, "prior_scale": "none"} for prior in ("matched", "selected")]
    for name in ("mars", "sdml")
}
ALIKE = {  # on these data; why is tested in the method's own file
    ("cmcp", "published"): "neither constant columns nor duplicates",
    ("drcl", "best_prior"): "the last prior has the best score",
    ("drcl", "fixed_selection"): "the last epoch is the best by either",
    ("mmsae", "h10"): "no more codes than classes",
}


@cache
def outputs_with(name, **changes):
    """For test rows, of a fit on as many labels per item as the method takes: on pairs, if on several."""
    multi = METHODS.get(name).info.multilabel
    train = several_labels(make_split(PAIR, multi=True, paired=True)) if multi else training(name)
    last = {"select": "last"} if name in ("coxi", "rono") else {}  # their first epoch is the best on these
    (model,), _ = fit(name, train, **{**last, **changes})
    return outputs(model, held_out(train), torch.float64)


VARIANTS = [(name, variant) for name in IDS for variant in variants(METHODS.get(name))[1:]]


@pytest.mark.parametrize(
    ("name", "change"), VARIANTS + [(name, each) for name in CHANGES for each in CHANGES[name]]
)
def test_every_option_trains_and_matters(name, change):
    changes, usual = change, values_of(name)
    if isinstance(change, str):  # a variant of the recipe; that it trains longer is not tried
        recipe = resolve(METHODS.get(name), "", "tiny", (f"variant={change}",))
        changes = {n: recipe[n].value for n in usual if n != "epochs" and recipe[n].value != usual[n]}
    base, found = outputs_with(name), outputs_with.__wrapped__(name, **changes)
    assert all(each.isfinite().all() for each in found.values())
    alike = [
        base[k].shape == v.shape and torch.allclose(base[k], v, rtol=1e-9, atol=0) for k, v in found.items()
    ]
    assert all(alike) == (not changes or (name, str(change)) in ALIKE)
    width = {**usual, **changes}.get("dim", 0)
    assert "image->text" in found or not width or {each.shape[1] for each in found.values()} == {width}


@pytest.mark.parametrize("name", IDS)
def test_unpaired_modalities_smaller_than_a_batch(name):
    names, batch = METHODS.get(name).info.kinds or ("audio", "3d"), {"batch": 1000}
    train = make_split({names[0]: (30, 10), names[1]: (7, 29)})
    (model,), _ = fit(name, train, **{n: v for n, v in batch.items() if n in values_of(name)})
    assert scores(model, held_out(train), *names[:2]).isfinite().all()


@pytest.mark.parametrize(
    ("name", "values"),
    [("cmcp", {}), ("cmcp", {"constant_features": "as_published", "self_match": "first"})]
    + [("mmsae", {"prepare": p, "energy": e}) for p, e in product(("l2_center", "none"), (0.99, 1.0))],
)
def test_constant_columns_empty_rows_and_duplicates_give_numbers(name, values):
    def spoilt(split):
        for m in split:
            m.features[:, 0], m.features[:, 1], m.features[0], m.features[3] = 1, 0, 0, m.features[4]
        return split

    (model,), _ = fit(name, spoilt(make_split(PAIR, paired=True)), **values)
    assert scores(model, spoilt(make_split(PAIR, seed=5))).isfinite().all()


@pytest.mark.parametrize(("name", "values"), [("drcl", {"prior": "orthogonal"}), ("sdml", {})])
def test_a_modality_does_not_depend_on_the_others(name, values):
    """Given prior and seed."""
    for m, (_, d) in PAIR.items():
        three, two = (fit(name, train, **values)[0][0] for train in (None, make_split(PAIR)))
        assert torch.equal(three.embed(m, rows(6, d)), two.embed(m, rows(6, d)))


@pytest.mark.parametrize("name", ["mars", "sdml"])
def test_unlabelled_rows_and_a_modality_without_labels(name):
    split = make_split(multi=True)
    split["image"].labels[::2] = 0
    split["audio"].labels[:] = 0
    (model,), log = fit(name, split, batch=1000)
    assert model.embed("audio", rows(2, 4)).isfinite().all()
    phase, term = {"mars": ("later/audio", "ce"), "sdml": ("sdml/audio", "label")}[name]
    assert log.history[phase][f"train/{term}"] == [[0.0]] * 4


@pytest.mark.parametrize("name", ["elrcmr", "mars", "mrl", "sdml"])
def test_an_embedding_narrower_than_the_number_of_classes_is_refused(name):
    with pytest.raises(
        UnsupportedError, match=f"{name} needs an embedding at least as wide as the 3 classes"
    ):
        build(name, dim=2).check(make_split())


@pytest.mark.parametrize("name", ["drcl", "elrcmr", "mrl", "sdml"])
def test_embeddings_have_unit_length(name):
    length = fit(name)[0][0].embed("image", rows(5, 8)).norm(dim=1)
    torch.testing.assert_close(length, torch.ones(5, dtype=torch.float64))


REFUSED = [
    ("cmcp", {"alpha": 1.0}, "from 0 to 1, not 1"),  # all of the neighbours
    ("coxi", {"hidden": (16,)}, "of length 2 or more"),
    ("coxi", {"dropout": 1.0}, "from 0 to 1, not 1"),
    ("drcl", {"lr_grid": []}, "of length 1 or more"),
    ("drsl", {"batch": 1}, "batch must be"),
    ("drsl", {"relation": ()}, "of length 1 or more"),
    ("gnn4cmr", {"model": "i_gnn"}, "i_gnn needs other node_features"),  # uniform nodes make no graph
    ("mcca", {"kappa": []}, "of length 1 or more"),
    ("mcca", {"k": []}, "of length 1 or more"),
    ("rono", {"lr": {"image": 1.0}}, "default among them"),
    *(
        (name, values, message)
        for name in ("mars", "sdml")
        for values, message in [
            ({"lr": {"image": 1.0}}, "default among them"),
            ({"prior": "best"}, "prior must be one of"),
            ({"spl": {"rate": 1}}, "spl does not state"),
        ]
    ),
]


@pytest.mark.parametrize(("name", "values", "message"), REFUSED)
def test_values_that_cannot_be_trained_are_refused(name, values, message):
    with pytest.raises(RecipeError, match=f"{name}: .*{re.escape(message)}"):
        build(name, **values)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("cmcp", {}, {"map@all": (0.325, 0.250), "map@50": (0.308, 0.422)}),
        ("mmsae", {"prepare": "l2_center"}, {"map@all": (0.291, 0.220)}),
        ("mmsae", {"prepare": "none"}, {"map@all": (0.282, 0.213)}),
    ],
)
def test_classic_wikipedia(name, values, expected, data_folder, device):
    """Literature split, numbers of an independent computation."""
    dataset = WikipediaClassic()
    data = dataset.load(
        dataset.locate(DataRequest("official", data_folder("wikipedia_classic"), "literature"))
    )
    run = RunContext(device=device)
    (model,), _ = fit(name, data.train, data.val, run=run, **vars(published(name, **values)))
    x = {m.name: run.tensor(m.features) for m in data.test}
    y = {m.name: torch.from_numpy(m.labels).to(device) for m in data.test}
    for direction, (a, b) in enumerate((("image", "text"), ("text", "image"))):
        similarity = model.similarity(a, x[a], b, x[b])
        found = evaluate_one(None, y[a], None, y[b], similarity=similarity, metrics=tuple(expected))
        for metric, numbers in expected.items():
            assert found.mean(metric) == pytest.approx(numbers[direction], abs=0.002)
