"""The data card: every number in it is computed here from the committed table and feature file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from benchmark.core.data import MultimodalData
from benchmark.core.dataset import DataRequest

from ...emoji import FOLDS, Emoji, EmojiCoarse, Table, read_features, read_table
from .baseline import Difficulty, measure
from .sources import CARD, FEATURES, HERE

Say = Callable[[str], None]
Values = list[float]


def write_card(say: Say, target: Path = CARD) -> None:
    """Compute everything and write the card."""
    table = read_table()
    measured = {cls.info.id: measure_all(cls, say) for cls in (Emoji, EmojiCoarse)}
    template = Template((HERE / "card.md.in").read_text(encoding="utf-8"))
    target.write_text(template.substitute(facts(table) | difficulties(measured)), encoding="utf-8")


def measure_all(cls: type[Emoji] | type[EmojiCoarse], say: Say) -> list[Difficulty]:
    """Difficulty of every split."""
    found = []
    for split in cls.info.splits:
        say(f"{cls.info.id}: split {split}")
        found.append(measure(load(cls, split)))
    return found


def load(cls: type[Emoji] | type[EmojiCoarse], split: str) -> MultimodalData:
    """One split."""
    dataset = cls()
    return dataset.load(dataset.locate(DataRequest(split=split)))


def facts(table: Table) -> dict[str, str]:
    """What the files hold; takes a second."""
    features = read_features(FEATURES, table)
    sizes = np.bincount(table.families)
    with np.load(FEATURES, allow_pickle=False) as stored:
        made_with = json.loads(stored["made_with"].tobytes())
        naming = stored["text_class_words"].tobytes().decode().split("\n")
    english = [word for word in naming if ":" not in word]
    folds = np.bincount(table.folds)
    return {
        "items": f"{len(table.codes):,}",
        "families": f"{len(sizes):,}",
        "alone": f"{(sizes == 1).sum():,}",
        "fold_sizes": f"{folds.min()} or {folds.max()}" if np.ptp(folds) else str(folds[0]),
        "megabytes": f"{FEATURES.stat().st_size / 2**20:.2f}",
        "versions": "\n".join(f"- {name} {number}" for name, number in made_with.items()),
        "shapes": shapes(features),
        "counts_fine": counts(table.fine, table.folds),
        "counts_coarse": counts(table.coarse, table.folds),
        "class_words": f"{len(naming)}",
        "english_class_words": ", ".join(english),
        "empty_text": str(int((features["text"].sum(axis=1) == 0).sum())),
        "words_per_item": f"{features['text'].sum(axis=1).mean():.1f}",
    }


def shapes(features: dict[str, NDArray[np.float32]]) -> str:
    """Table of columns, zeros, mean, deviation and largest value."""
    rows = [
        [
            m,
            f"{x.shape[1]:,}",
            f"{(x == 0).mean():.3f}",
            f"{x.mean():.4f}",
            f"{x.std():.4f}",
            f"{x.max():.2f}",
        ]
        for m, x in features.items()
    ]
    return markdown(["modality", "columns", "zeros", "mean", "deviation", "largest"], rows)


def counts(column: tuple[str, ...], folds: NDArray[np.int64]) -> str:
    """Table of items per class and fold."""
    labels = np.array(column)
    rows = []
    for name in dict.fromkeys(column):
        of_class = np.bincount(folds[labels == name], minlength=FOLDS)
        rows.append([name, str(of_class.sum()), *map(str, of_class)])
    total = np.bincount(folds, minlength=FOLDS)
    rows.append(["all", str(total.sum()), *map(str, total)])
    return markdown(["class", "items", *(f"fold {fold}" for fold in range(FOLDS))], rows)


def difficulties(measured: dict[str, list[Difficulty]]) -> dict[str, str]:
    """Everything that needs models."""
    fine, coarse = measured["emoji"], measured["emoji-coarse"]
    names = list(fine[0].accuracy)
    rows = []
    for name, results, classes in (("emoji", fine, 39), ("emoji-coarse", coarse, 8)):
        cells = [cell([r.accuracy[m] for r in results]) for m in names]
        rows.append([name, *cells, f"{1 / classes:.3f}", f"{np.mean([r.majority for r in results]):.3f}"])
    summary = []
    for name, results in (("emoji", fine), ("emoji-coarse", coarse)):
        for what, kind, expected in (
            ("all test items", "scores", "chance"),
            ("without the query's own item", "others", "chance_others"),
        ):
            means = [mean_map(r, kind) for r in results]
            random = np.mean([mean_map(r, expected) for r in results])
            summary.append(
                [name, what, cell(means), f"{min(means):.3f} to {max(means):.3f}", f"{random:.3f}"]
            )
    return {
        "accuracy": markdown(["", *names, "equal guess", "majority"], rows),
        "class_recall": recall(fine, load(Emoji, "0").class_names),
        "map_fine": directions(fine, names),
        "map_coarse": directions(coarse, names),
        "map_summary": markdown(
            ["dataset", "database", "mean of 20 directions", "range over splits", "random ranking"], summary
        ),
    }


def recall(results: list[Difficulty], names: tuple[str, ...]) -> str:
    """Share of items put into their class, per class, the hardest first; all modalities and splits."""
    hits, items = np.sum([(r.hits, r.items) for r in results], axis=0)
    share = dict(zip(names, hits / items, strict=True))
    return ", ".join(f"{name} {share[name]:.2f}" for name in sorted(share, key=share.__getitem__))


def mean_map(result: Difficulty, kind: str = "scores") -> float:
    """Mean over all directions of one split."""
    return float(np.mean(list(getattr(result, kind).values())))


def cell(values: Values) -> str:
    """Mean and deviation over the splits, in brackets split 0."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} ({values[0]:.3f})"


def directions(results: list[Difficulty], names: list[str]) -> str:
    """Table of the mean over splits of every direction."""
    rows = [
        [a, *("" if a == b else f"{np.mean([r.scores[f'{a}->{b}'] for r in results]):.3f}" for b in names)]
        for a in names
    ]
    return markdown(["query > database", *names], rows)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
