"""Outcome of one contract check, and how a check is run."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CheckResult:
    """Outcome of one check.

    Attributes:
        name: What was checked.
        passed: Whether the contract is kept.
        detail: What was found; in case of failure, what is wrong.
    """

    name: str
    passed: bool
    detail: str


class BrokenContractError(Exception):
    """The contract is not kept; the message says how."""


def check(name: str, test: Callable[[], str]) -> CheckResult:
    """Run one check; whatever it raises becomes the detail of a failure."""
    try:
        return CheckResult(name, True, test())
    except BrokenContractError as broken:
        return CheckResult(name, False, str(broken))
    except Exception as error:  # noqa: BLE001 - whatever foreign code raises is what is to be reported
        last = traceback.extract_tb(error.__traceback__)[-1]
        line = (str(error).strip() or "no message").splitlines()[0]
        place = f"{Path(last.filename).name}:{last.lineno}"
        return CheckResult(name, False, f"{type(error).__name__} in {place}: {line}")


def demand(condition: bool, message: str) -> None:
    """Raise ``BrokenContractError`` with the message unless the condition holds."""
    if not condition:
        raise BrokenContractError(message)
