"""What is known of a method or dataset without running or loading it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MethodInfo:
    """What is known of a method without running it.

    Attributes:
        id: Name on the command line.
        title: Short display name, as tables print it.
        paper: Full title of the publication.
        venue, year: As published.
        group: ``paired-free`` or ``paired-oriented`` (how training data must be served).
        modalities: ``many``, or ``two`` for methods defined for exactly two modalities.
        kinds: Modality names a method is confined to (image-text methods); empty means any. With
            ``--pairwise`` it may serve others too, which the record calls an extension.
        pairwise: On more than two modalities, one model for every two is how the publication runs it, so it
            is done without asking. For methods with ``modalities="two"``.
        transductive: Scores of a query depend on all queries and database items at hand (scores diffused
            over a graph of the test items). ``Retriever.similarity`` gets all of them in one call.
        supervised: Whether training labels are used.
        trained: False for closed-form methods.
        multilabel: Whether multi-hot labels are served.
        version: Raised whenever results change; part of every run's key.
        doi: Identifier of the publication, if any.
    """

    id: str
    title: str
    paper: str
    venue: str
    year: int
    group: Literal["paired-free", "paired-oriented"]
    modalities: Literal["two", "many"] = "many"
    kinds: tuple[str, ...] = ()
    pairwise: bool = False
    transductive: bool = False
    supervised: bool = True
    trained: bool = True
    multilabel: bool = True
    version: int = 1
    doi: str = ""


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset without loading it.

    Attributes:
        id: Name on the command line.
        title: Display name.
        modalities: Canonical order.
        classes: Number of classes, 0 if only the files tell.
        citation: Where the data come from.
        standin: Whether generated data of the same shape exist.
        label_form: ``single`` or ``multi``.
        splits: Names accepted by ``--split``, the default first; empty if there is one only.
        folds: The splits are folds of one whole: every item is a test item of exactly one of them, so that
            ``--split all`` may pool them. False where they are alternatives.
        version: Raised whenever the loader's output changes.
    """

    id: str
    title: str
    modalities: tuple[str, ...]
    classes: int
    citation: str
    standin: bool = False
    label_form: Literal["single", "multi"] = "single"
    splits: tuple[str, ...] = ()
    folds: bool = False
    version: int = 1
