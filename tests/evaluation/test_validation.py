"""Validation MAP, against the evaluation of test data."""

import torch

from benchmark.evaluation.metrics import evaluate
from benchmark.evaluation.validation import mean_average_precision, validation_map


def embeddings(seed, n=17, d=6):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_equals_the_evaluation_where_nothing_ties():
    labels = {"a": torch.arange(17) % 3, "b": torch.arange(11) % 3, "c": torch.arange(9) % 3}
    found = {name: embeddings(k, len(y)) for k, (name, y) in enumerate(labels.items())}
    hot = {name: torch.eye(3)[y] for name, y in labels.items()}
    wanted = [
        one.mean("map@all")
        for x, y in (("a", "b"), ("a", "c"), ("b", "c"))
        for one in evaluate(found[x], labels[x], found[y], labels[y], metrics=("map@all",))
    ]
    torch.testing.assert_close(validation_map(found, hot), torch.tensor(wanted).mean(), rtol=1e-5, atol=0)


def test_several_labels_and_queries_without_a_relevant_row():
    scores = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    relevant = torch.tensor([[True, False, True], [False, False, False]])
    torch.testing.assert_close(mean_average_precision(scores, relevant), torch.tensor((1 + 2 / 3) / 2 / 2))


def test_can_be_lifted_over_replicas():
    hot = torch.eye(3)[torch.arange(17) % 3]
    stacked = {m: torch.stack([embeddings(k + s) for s in (0, 10)]) for k, m in enumerate("ab")}
    lifted = torch.vmap(lambda e: validation_map(e, {"a": hot, "b": hot}))(stacked)
    single = [validation_map({m: x[r] for m, x in stacked.items()}, {"a": hot, "b": hot}) for r in (0, 1)]
    torch.testing.assert_close(lifted, torch.stack(single))
