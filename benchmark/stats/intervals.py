"""One number per seed: its interval, and whether it agrees with a published value.

A published value is a constant here: nothing is known of the seeds and the spread behind it, and it is known
to three decimals only. Intervals and verdicts are about our mean over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from benchmark.errors import BenchmarkError

ROUNDING = 0.0005
"""Largest distance of a value from what is printed of it with three decimals."""

MARGIN = 0.01
"""Difference of two values of MAP that counts as none, unless another is stated."""

ALPHA = 0.05
"""Level of every test of equivalence or difference."""

Verdict = Literal[
    "equivalent", "different (higher)", "different (lower)", "undecided", "one seed: no verdict"
]


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and where it may lie for other seeds.

    Attributes:
        mean: Of the seeds.
        deviation: Sample standard deviation; ``None`` with one seed.
        low, high: Ends of the interval; ``None`` with one seed.
        seeds: How many.
        level: Coverage, e.g. 0.95.
    """

    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    seeds: int
    level: float


@dataclass(frozen=True)
class Equivalence:
    """A mean over seeds beside a published value.

    Attributes:
        verdict: See :func:`equivalence`.
        difference: Ours minus published.
        margin: Difference that counts as none.
        p_equivalent: Larger p value of the two one-sided tests: small speaks for a difference inside the
            margin. ``None`` with one seed.
        p_different: Two-sided p value: small speaks for a difference that rounding does not explain, however
            small it is. ``None`` with one seed.
        seeds: How many.
    """

    verdict: Verdict
    difference: float
    margin: float
    p_equivalent: float | None
    p_different: float | None
    seeds: int


def interval(per_seed: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of a run's seeds with Student's t interval.

    Args:
        per_seed: ``(seeds,)`` values, e.g. MAP; one or more.
        level: Coverage between 0 and 1.

    Raises:
        ValueError: No value, values that are not finite, or an impossible level.
    """
    values = _seeds(per_seed)
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    mean, count = float(values.mean()), len(values)
    if count == 1:
        return Interval(mean, None, None, None, 1, level)
    deviation = float(values.std(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, count - 1)) * deviation / math.sqrt(count)
    return Interval(mean, deviation, mean - half, mean + half, count, level)


def equivalence(
    per_seed: ArrayLike,
    reference: float,
    margin: float = MARGIN,
) -> Equivalence:
    """Judge our mean over seeds against a published value.

    ``equivalent``: two one-sided t tests (Schuirmann, 1987) each reject, at ``ALPHA``, that the difference is
    ``margin`` or more. ``different``: that is not so, and a two-sided t test rejects that there is no
    difference. ``undecided``: neither; more seeds would tell. A difference that is certain, but certainly
    inside the margin, is ``equivalent``.

    The printed value stands for every value that is rounded to it. Both claims must hold for all of them:
    equivalence is tested with a margin smaller by ``ROUNDING``, a difference counts only as far as it exceeds
    ``ROUNDING``. If all seeds agree exactly (methods without randomness) there is no spread to test against;
    the difference itself is compared with the same limits, and p values are 0 or 1.

    Args:
        per_seed: ``(seeds,)`` our values.
        reference: The published value.
        margin: Difference that counts as none.

    Raises:
        BenchmarkError: A margin that is not greater than the rounding: nothing could be equivalent.
        ValueError: No value, or values that are not finite.
    """
    values = _seeds(per_seed)
    if not math.isfinite(reference):
        raise ValueError(f"the reference must be finite, got {reference}")
    if not margin > ROUNDING:
        raise BenchmarkError(
            f"margin {margin:g}: must be greater than {ROUNDING:g}, what rounding hides of a published value"
        )
    count, difference = len(values), float(values.mean()) - reference
    if count == 1:
        return Equivalence("one seed: no verdict", difference, margin, None, None, 1)
    error = 0.0 if np.ptp(values) == 0 else float(values.std(ddof=1)) / math.sqrt(count)
    # how far the mean is inside the margin, and how far it is from every value the printed one may stand for
    inside, outside = margin - ROUNDING - abs(difference), max(abs(difference) - ROUNDING, 0.0)
    p_equivalent = _tail(inside, error, count - 1)
    p_different = min(1.0, 2 * _tail(outside, error, count - 1))
    verdict: Verdict = "undecided"
    if p_equivalent < ALPHA:
        verdict = "equivalent"
    elif p_different < ALPHA:
        verdict = "different (higher)" if difference > 0 else "different (lower)"
    return Equivalence(verdict, difference, margin, p_equivalent, p_different, count)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number (Holm, 1979); they stay in the order given.

    The probability of one false rejection or more in the whole family stays below the level, whatever the
    dependence between the tests.

    Raises:
        ValueError: A value outside [0, 1].
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():  # NaN fails both
        raise ValueError("p values must be between 0 and 1")
    order = np.argsort(values, kind="stable")
    raised = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return [float(value) for value in corrected]


def _tail(distance: float, error: float, freedom: int) -> float:
    """Probability of a t statistic above ``distance / error``; with no error 0 above zero, else 1."""
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stats.t.sf(distance / error, freedom))


def _seeds(per_seed: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(per_seed, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError("expected one finite value per seed, and at least one seed")
    return values
