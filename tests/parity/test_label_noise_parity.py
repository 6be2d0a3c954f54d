"""Label noise against reference vectors: other code for the same rule, one seed, every mode."""

import numpy as np
import pytest

from benchmark.runs.label_noise import corrupt
from tests.parity.golden import vectors

VECTORS, *_ = vectors("label_noise")


@pytest.mark.parametrize("mode", ["sym", "sym_exclusive", "asym"])
def test_labels_and_selection(mode):
    facts = int(VECTORS["par_num_classes"]), float(VECTORS["par_ratio"]), mode, int(VECTORS["par_seed"])
    for place, labels in enumerate(VECTORS["in_labels"]):
        noisy, selected = corrupt(labels, *facts, place)
        np.testing.assert_array_equal(noisy, VECTORS[f"out_{mode}"][place])
        np.testing.assert_array_equal(selected, VECTORS["out_selected_mask"][place])
