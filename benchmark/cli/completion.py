"""What the shell offers where a method, a dataset, a study or a report is to be named.

Somebody waits for it after pressing a key, so nothing here imports torch or numpy, or a plugin that might.
Names that cannot be listed are not offered; the command itself says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from benchmark.errors import BenchmarkError


def method_ids(incomplete: str) -> list[str]:
    """Ids of methods, after a comma as well."""
    from benchmark.core.registry import METHODS

    return _offer(METHODS.names, incomplete)


def dataset_ids(incomplete: str) -> list[str]:
    """Ids of datasets, after a comma as well."""
    from benchmark.core.registry import DATASETS

    return _offer(DATASETS.names, incomplete)


def ids(incomplete: str) -> list[str]:
    """Ids of methods and datasets."""
    return method_ids(incomplete) + dataset_ids(incomplete)


def study_names(incomplete: str) -> list[str]:
    """Names of studies, and the word that lists them."""
    from benchmark.studies.file import study_files

    return _offer(lambda: ["list", *study_files()], incomplete)


def report_names(incomplete: str) -> list[str]:
    """Names of reports, and the words that make or list all."""
    from benchmark.report.catalog import items

    return _offer(lambda: ["list", "all", *items()], incomplete)


def _offer(names: Callable[[], Iterable[str]], incomplete: str) -> list[str]:
    before, comma, typed = incomplete.rpartition(",")
    with suppress(BenchmarkError):
        return [f"{before}{comma}{name}" for name in names() if name.startswith(typed)]
    return []
