"""Generalised eigenvalues that a loss can be made of."""

from __future__ import annotations

import torch
from torch import Tensor

JITTER = (0.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6)
"""Multiples of the unit added to S, the first that makes it positive definite."""


def generalized_eigenvalues(s: Tensor, b: Tensor, unit: float) -> Tensor:
    """Eigenvalues of ``B'B w = lambda S w``, largest first; ``min(d, C)`` of them, the others are 0.

    Args:
        s: S, ``(d, d)`` symmetric.
        b: B, ``(C, d)``.
        unit: Of what is added to S where it is not positive definite.
    """
    d = s.shape[0]
    identity = torch.eye(d, dtype=s.dtype, device=s.device)
    shifts = unit * torch.tensor(JITTER, dtype=s.dtype, device=s.device)
    failed = torch.linalg.cholesky_ex(s.detach() + shifts[:, None, None] * identity).info != 0
    first = (failed.cumsum(dim=0) == torch.arange(1, len(JITTER) + 1, device=s.device)).sum()
    shift = torch.where(torch.arange(len(JITTER), device=s.device) == first, shifts, 0.0).sum()
    factor = torch.linalg.cholesky_ex(s + shift * identity).L
    whitened = torch.linalg.solve_triangular(factor, b.mT, upper=False)  # (d, C)
    gram = whitened @ whitened.mT if d <= b.shape[0] else whitened.mT @ whitened
    # The solver refuses what is not finite; other terms of a loss report it.
    values: Tensor = torch.linalg.eigvalsh(torch.where(gram.isfinite(), gram, 0.0))
    return values.flip(-1)
