"""Where a run tells how it is getting on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

STANDIN_WARNING = (
    "STAND-IN DATA: generated features with the shapes of the publication, not the published files. "
    "The numbers say nothing about the dataset of that name."
)


class Reporter(Protocol):
    """Where a run tells how it is getting on."""

    def say(self, text: str) -> None:
        """A line of progress."""

    def warn(self, text: str) -> None:
        """Something the user must not miss."""

    def epoch(self, phase: str, epoch: int, epochs: int, numbers: Mapping[str, float]) -> None:
        """An epoch of a training phase has ended."""


class Silent:
    """A reporter that says nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""

    def epoch(self, phase: str, epoch: int, epochs: int, numbers: Mapping[str, float]) -> None:
        """Nothing."""


class Once:
    """A reporter that passes every warning on once, however many runs give it."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter, self.warned = reporter, set[str]()
        self.say, self.epoch = reporter.say, reporter.epoch

    def warn(self, text: str) -> None:
        """Pass it on if it is new."""
        if text not in self.warned:
            self.warned.add(text)
            self.reporter.warn(text)
