"""Label noise against reference vectors: other code for the same rule, one seed, every mode."""

from pathlib import Path

import numpy as np
import pytest

from benchmark.runs.label_noise import corrupt

FILE = Path(__file__).parent / "vectors" / "label_noise.npz"


@pytest.mark.parametrize("mode", ["sym", "sym_exclusive", "asym"])
def test_labels_and_selection(mode):
    with np.load(FILE) as file:
        vectors = dict(file)
    facts = int(vectors["par_num_classes"]), float(vectors["par_ratio"]), mode, int(vectors["par_seed"])
    for place, labels in enumerate(vectors["in_labels"]):
        noisy, selected = corrupt(labels, *facts, place)
        np.testing.assert_array_equal(noisy, vectors[f"out_{mode}"][place])
        np.testing.assert_array_equal(selected, vectors["out_selected_mask"][place])
