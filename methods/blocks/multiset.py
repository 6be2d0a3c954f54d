"""The eigenproblem of multiset canonical correlation analysis, in principal axes.

With the aligned centred features of modality v X_v = U_v S_v V_v' and lambda_v = S_v^2 / n, the constraint
matrix of the generalised problem A w = lambda B w (see ``methods/mcca.py``) is diagonal in the axes V_v, and
the problem becomes symmetric with blocks g_u U_u' U_v g_v for u != v and zero blocks on the diagonal, where
g_v = sqrt(lambda_v / (lambda_v + rho_v)). The axes do not depend on the ridge, so a grid of ridges costs one
decomposition per modality. A large matrix is never formed: Lanczos needs its product with a vector only.

Everything is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from benchmark.errors import TrainingError

DENSE_LIMIT = 3000
"""Up to this many stacked axes a dense eigendecomposition is used. Measured on one CPU core: 2,000 axes take
1.3 s dense and 1.5 to 33 s by Lanczos (50 to 200 directions, small ridges slowest), 3,400 axes 7.6 s dense
and 1.6 to 14 s by Lanczos; 8,400 axes take minutes dense and about one by Lanczos."""

VARIANCE_FLOOR = 1e-10  # of the largest variance; axes below it are rounding
ROUNDING = 1e-22  # of the raw second moment; a constant column keeps about 1e-31 of it after centring
POSITIVE = 1e-10  # eigenvalues above this count as positive

Couple = Callable[[list[Tensor]], list[Tensor]]


@dataclass(frozen=True)
class Axes:
    """Principal axes of one modality over its aligned rows; r of them, possibly 0.

    Attributes:
        mean: ``(D,)`` mean of the aligned rows.
        rows: ``(m, D)`` distinct rows, centred, times the square root of how often each is used.
        left: ``(m, r)`` orthonormal U.
        variances: ``(r,)`` S^2 / n, the nonzero eigenvalues of C_vv.
        total: tr(C_vv), dropped axes included.
        count: n, the number of aligned rows.
    """

    mean: Tensor
    rows: Tensor
    left: Tensor
    variances: Tensor
    total: float
    count: int

    def ridge(self, kappa: float) -> float:
        """Absolute ridge rho = kappa tr(C_vv) / D."""
        return kappa * self.total / self.rows.shape[1]

    def gain(self, kappa: float) -> Tensor:
        """``(r, 1)``: standard deviation of an axis over its regularised one."""
        return (self.variances / (self.variances + self.ridge(kappa))).sqrt()[:, None]

    def directions(self, y: Tensor, kappa: float) -> Tensor:
        """``(D, k)`` directions V (lambda + rho)^-1/2 y of eigenvector parts y ``(r, k)``; V = X' U / S."""
        scale = (self.count * self.variances * (self.variances + self.ridge(kappa))).sqrt()
        return self.rows.T @ (self.left @ (y / scale[:, None]))


def principal_axes(features: Tensor, counts: Tensor) -> Axes:
    """Thin SVD of the centred aligned rows, each distinct row once with weight sqrt(count).

    Uses the eigenvectors of the smaller of the two Gram matrices, a third of the time of an SVD.

    Args:
        features: ``(m, D)`` float64 distinct rows.
        counts: ``(m,)`` how often each occurs, at least once.
    """
    weights = counts.to(features)
    count = int(counts.sum())
    mean = weights @ features / count
    raw = float(weights @ features.square().sum(1)) / count
    rows = (features - mean) * weights.sqrt()[:, None]
    total = float(rows.square().sum()) / count
    squares, vectors, wide = _leading(rows, count * raw)
    left = vectors if wide else rows @ vectors / squares.sqrt()
    return Axes(mean, rows, left.contiguous(), squares / count, total, count)


def principal_basis(features: Tensor, energy: float = 1.0) -> Tensor:
    """Orthonormal directions V of the principal axes, ``(D, r)``.

    Args:
        features: ``(n, D)`` float64; centred here.
        energy: Share of the variance to keep.
    """
    rows = features - features.mean(0)
    squares, vectors, wide = _leading(rows, float(features.square().sum()), energy)
    return rows.T @ vectors / squares.sqrt() if wide else vectors.contiguous()


def _leading(rows: Tensor, raw: float, energy: float = 1.0) -> tuple[Tensor, Tensor, bool]:
    """Leading eigenvalues and eigenvectors of the smaller Gram matrix of centred rows.

    Args:
        rows: ``(m, D)``.
        raw: Sum of squares before centring, against which variance may be rounding only.
        energy: Share of the variance to keep.

    Returns:
        S^2 ``(r,)``, decreasing; U ``(m, r)`` or V ``(D, r)``; and whether it is U.
    """
    wide = rows.shape[0] <= rows.shape[1]
    squares, vectors = torch.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    squares, vectors = squares.flip(0).clamp_min(0), vectors.flip(1)
    kept = int((squares > max(VARIANCE_FLOOR * float(squares[0]), ROUNDING * raw)).sum())
    if energy < 1 and kept:
        share = squares.cumsum(0) / squares.sum()
        kept = min(kept, int((share < energy).sum()) + 1)
    return squares[:kept], vectors[:, :kept], wide


def couple_joint(table: Sequence[Tensor], counts: Sequence[Tensor]) -> Couple:
    """All modalities on one set of joint rows.

    Args:
        table: Per modality ``(n,)``, the distinct row that stands in every joint row.
        counts: Per modality ``(m,)``, how often each distinct row is used.
    """
    weights = [each.to(torch.float64).sqrt()[:, None] for each in counts]

    def couple(parts: list[Tensor]) -> list[Tensor]:
        scaled = [part / weight for part, weight in zip(parts, weights, strict=True)]
        joint = torch.stack([part[rows] for part, rows in zip(scaled, table, strict=True)]).sum(0)
        return [
            torch.zeros_like(part).index_add_(0, rows, joint) / weight - part
            for part, rows, weight in zip(parts, table, weights, strict=True)
        ]

    return couple


class Problem:
    """The symmetric eigenproblem in principal axes, for any ridge."""

    def __init__(self, axes: Sequence[Axes], couple: Couple) -> None:
        self.axes, self.couple = axes, couple
        self.sizes = [one.left.shape[1] for one in axes]

    def product(self, x: Tensor) -> Tensor:
        """Blocks U_u' U_v (u != v) of the aligned rows times ``(sum r, b)``."""
        parts = [one.left @ part for one, part in zip(self.axes, torch.split(x, self.sizes), strict=True)]
        return torch.cat([one.left.T @ part for one, part in zip(self.axes, self.couple(parts), strict=True)])

    @cached_property
    def matrix(self) -> Tensor:
        """The same as a dense ``(sum r, sum r)`` matrix."""
        return self.product(torch.eye(sum(self.sizes)).to(self.axes[0].left))

    def solve(self, kappa: float, k: int) -> tuple[Tensor, list[Tensor]]:
        """The top directions with positive eigenvalue, at most k.

        Returns:
            Eigenvalues ``(j,)``, decreasing, and per modality the directions ``(D_v, j)``, so signed that
            the entry of largest magnitude over all modalities is positive.
        """
        gain = torch.cat([one.gain(kappa) for one in self.axes])
        k = min(k, len(gain))
        if len(gain) <= DENSE_LIMIT or 3 * k >= len(gain):
            values, vectors = torch.linalg.eigh(gain * self.matrix * gain.T)
        else:
            values, vectors = self._lanczos(gain, k)
        positive = values > POSITIVE
        values, vectors = values[positive].flip(0)[:k], vectors[:, positive].flip(1)[:, :k]
        parts = [
            a.directions(y, kappa) for a, y in zip(self.axes, torch.split(vectors, self.sizes), strict=True)
        ]
        stacked = torch.cat(parts)
        signs = stacked.gather(0, stacked.abs().argmax(0, keepdim=True)).sign()
        return values, [part * signs for part in parts]

    def _lanczos(self, gain: Tensor, k: int) -> tuple[Tensor, Tensor]:
        def product(x: NDArray[np.float64]) -> NDArray[np.float64]:
            column = torch.tensor(x, device=gain.device).reshape(-1, 1)
            return (gain * self.product(gain * column)).flatten().cpu().numpy()

        size = len(gain)
        start = np.random.default_rng(0).standard_normal(size)
        operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
        try:
            # 3k basis vectors: half the products of ARPACK's default 2k where eigenvalues crowd (small kappa)
            found = eigsh(operator, k, which="LA", v0=start, ncv=min(size, max(3 * k, 100)), tol=1e-10)
        except ArpackNoConvergence as error:
            reason = f"found {len(error.eigenvalues)} of {k} directions"
            raise TrainingError(f"mcca: Lanczos {reason}; take a smaller k or a larger kappa") from None
        order = np.argsort(found[0])
        return torch.tensor(found[0][order]).to(gain), torch.tensor(found[1][:, order]).to(gain)
