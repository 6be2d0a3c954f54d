"""The stored metric vectors, for the tests of the metrics."""

from pathlib import Path

import numpy as np
import torch

GOLDEN = np.load(Path(__file__).parent / "parity" / "vectors" / "metrics.npz")
QUERY, BASE = ("in_query", "in_query_labels"), ("in_db", "in_db_labels")
SINGLE, MULTI = (*QUERY, *BASE), ("in_query", "in_query_multi", "in_db", "in_db_multi")


def golden(names, device="cpu"):
    return [torch.from_numpy(GOLDEN[name]).to(device) for name in names]
