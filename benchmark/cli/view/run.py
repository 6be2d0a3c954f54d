"""Records and lists as text for a terminal of 80 columns. Nothing here computes a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any

from rich.console import Console

from benchmark.cli.view.console import SOURCES, console, matrix, rows, spread, standin_warning
from benchmark.records.comparable import changes
from benchmark.records.record import RunRecord
from benchmark.report.published import Comparison
from benchmark.runs.runner import Outcome


def outcome(found: Outcome, comparison: Comparison, stale: str = "") -> None:
    """The end of a run, or a stored one; ``stale`` says if its command would not give it any more."""
    record, out = found.run.record, console()
    data, seeds = record.dataset, record.seeds
    of_seeds = f"mean ± sd over {len(seeds)} seeds" if len(seeds) > 1 else f"one seed ({seeds[0]})"
    out.print(f"\n{record.method.title} on {data.title}: {SOURCES[data.source]}, {record.profile} profile")
    out.print("".join(f"{line}\n" for line in record.words), end="")
    scores, chance, names = record.results, record.chance, record.modalities
    out.print(f"\nMAP@all, {of_seeds}; in brackets: a random ranking\nrow = query, column = database")
    out.print(
        matrix(names, lambda direction: f"{spread(scores['map@all'][direction])}\n({chance[direction]:.3f})")
    )
    out.print("MAP@50")
    out.print(matrix(names, lambda direction: spread(scores["map@50"][direction])))
    out.print(f"Mean over {len(chance)} directions:")
    out.print(f"  MAP@all {spread(record.values())} (random ranking {record.mean_chance:.3f})")
    out.print(f"  MAP@50  {spread(record.values('map@50'))}")
    out.print("MAP@k: mean precision at the ranks of the relevant items found within k.")
    beside_published(out, names, comparison)
    for warning in filter(None, (stale, *record.warnings)):
        out.print(f"warning: {warning}")
    times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in record.timings.items())
    out.print(f"seeds {','.join(map(str, seeds))}; {record.precision} on {record.device['type']}")
    out.print(f"time: {times}")
    where = "answered from the store" if found.cached else "stored"
    out.print(f"{where}: {found.run.folder}", soft_wrap=True)
    if record.is_standin:
        standin_warning(out)


def pooled(document: Mapping[str, Any]) -> None:
    """All folds of a dataset together, then one line for each."""
    out, chance = console(), document["chance"]
    data, seeds, splits = document["dataset"], document["seeds"], document["splits"]
    out.print(
        f"\n{document['method']['title']} on {data['title']}: {SOURCES[data['source']]}, "
        f"{document['profile']} profile"
    )
    out.print("".join(f"{line}\n" for line in document["words"]), end="")
    out.print(f"every item tested once: mean over the queries of {len(splits)} splits, ± sd of the splits")
    out.print(f"mean over {len(seeds)} seeds" if len(seeds) > 1 else f"one seed ({seeds[0]})")
    for metric, scores in document["results"].items():
        whole = metric == "map@all"
        brackets = "; in brackets: a random ranking\nrow = query, column = database" if whole else ""
        out.print(f"\n{metric.replace('map', 'MAP')}{brackets}")

        def cell(direction: str, scores: Mapping[str, Any] = scores, whole: bool = whole) -> str:
            return _over_splits(scores[direction]) + (f"\n({chance[direction]:.3f})" if whole else "")

        out.print(matrix(document["modalities"], cell))
    out.print(f"Mean over {len(chance)} directions (random ranking {fmean(chance.values()):.3f}):")
    for metric, average in document["averages"].items():
        of_seeds = f"; over seeds {spread(average['per_seed'])}" if len(seeds) > 1 else ""
        out.print(f"  {metric.replace('map', 'MAP'):<7} {_over_splits(average)}{of_seeds}")
    lines = [
        (
            run["split"],
            spread(run["averages"]["map@all"]),
            f"{fmean(run['chance'].values()):.3f}",
            "read" if run["cached"] else "computed",
            run["key"][:16],
        )
        for run in document["runs"]
    ]
    rows(("split", "MAP@all", "random", "", "run"), lines, whole="run")
    warned = [run for run in document["runs"] if run["warnings"]]
    if warned:
        first = f"split {warned[0]['split']}: {warned[0]['warnings'][0]}"
        out.print(f"warning: {len(warned)} of {len(document['runs'])} runs have warnings; {first}")
    if data["source"] == "standin":
        standin_warning(out)


def _over_splits(summary: Mapping[str, Any]) -> str:
    return f"{summary['mean']:.3f} ±{summary['split_sd']:.3f}"


def beside_published(out: Console, names: Sequence[str], comparison: Comparison) -> None:
    """Published numbers with the difference of ours, or one line that says why they are not shown."""
    if comparison.reason:
        out.print(f"published numbers not shown, not comparable: {comparison.reason}")
        return
    printed, off = comparison.published, comparison.difference
    out.print("\nPublished MAP@all and the difference of this run (ours - published)")
    out.print(
        matrix(
            names,
            lambda direction: (
                f"{printed[direction]:.3f}\n{off[direction]:+.3f}" if direction in printed else "not given"
            ),
        )
    )
    if "avg" in printed:
        out.print(f"published mean {printed['avg']:.3f}, this run {off['avg']:+.3f}")


def stored(records: Sequence[RunRecord], stale: Mapping[str, str]) -> None:
    """What is stored, one table per source and profile: their numbers must not be mixed.

    Args:
        records: The runs.
        stale: By key, what to say of those that their commands would not give any more.
    """

    def terms(record: RunRecord) -> tuple[str, str]:
        return record.dataset.source, record.profile

    for (source, profile), group in groupby(sorted(records, key=terms), key=terms):
        lines = [
            (
                record.method.id,
                record.dataset.id,
                ",".join(map(str, record.seeds)),
                spread(record.values()),
                f"{record.mean_chance:.3f}",
                ", ".join(filter(None, (stale.get(record.key, ""), changes(record)))),
                record.name,
            )
            for record in group
        ]
        title = f"{SOURCES[source]}, {profile} profile: MAP@all, mean over directions"
        headers = ("method", "dataset", "seeds", "MAP@all", "random", "changed", "run")
        rows(headers, lines, title, whole="run")
