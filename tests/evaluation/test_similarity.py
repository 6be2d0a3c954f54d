"""Scores of pairs in blocks: every pair once, in its place, and never more than a block at a time."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark.errors import DataError
from benchmark.evaluation.similarity import score_in_chunks


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 300))
def test_every_pair_has_its_score_whatever_the_blocks(n, m, pairs):
    queries, items = torch.arange(n).double()[:, None], torch.arange(m).double()[:, None]
    calls = []

    def score(a, b):
        calls.append(len(a) * len(b))
        return 100 * a + b.T

    found = score_in_chunks(score, queries, items, pairs)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, (100 * queries + items.T).float())
    assert sum(calls) == n * m
    assert max(calls, default=0) <= pairs
    if n * m:
        assert len(calls) <= 4 * (n * m / pairs + (n + m) / pairs**0.5 + 1)


def test_rows_are_repeated_rarely():
    passes = []
    score_in_chunks(
        lambda a, b: passes.append(len(a)) or a @ b.T, torch.ones(512, 1), torch.ones(512, 1), 65536
    )
    assert passes == [256] * 4


def test_a_block_of_another_shape_is_refused():
    with pytest.raises(DataError, match=r"4 queries and 3 items have shape \(3, 4\)"):
        score_in_chunks(lambda a, b: b @ a.T, torch.ones(4, 2), torch.ones(3, 2))


def test_no_gradient_is_kept():
    weight = torch.ones(2, requires_grad=True)
    found = score_in_chunks(lambda a, b: (a * weight) @ b.T, torch.ones(4, 2), torch.ones(3, 2))
    assert not found.requires_grad


MEMORY = """
import resource, torch
from benchmark.evaluation.similarity import score_in_chunks
n, width = 4366, 64
a, b = torch.randn(n, width), torch.randn(n, width)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scores = score_in_chunks(lambda x, y: (x[:, None] - y[None]).abs_().sum(-1), a, b)
assert scores.shape == (n, n)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)  # GiB on Linux
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is another one elsewhere")
def test_memory_of_a_scorer_that_looks_at_every_pair():
    """4,366 x 4,366 pairs of 64 columns are 4.5 GiB at once; in blocks 73 MiB of results and one block."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.5
