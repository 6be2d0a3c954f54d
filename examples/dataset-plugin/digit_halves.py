"""Digit halves: upper and lower half of handwritten digits, which come with scikit-learn."""

from importlib.metadata import version

import numpy as np

from benchmark import DataError, Dataset, Location, Modality, MultimodalData, Split, dataset, validate

ROWS = {"train": slice(0, 1200), "val": slice(1200, 1400), "test": slice(1400, 1797)}


@dataset(
    "digit-halves", title="Digit halves", modalities=("upper", "lower"), classes=10, citation="UCI digits"
)
class DigitHalves(Dataset):
    def locate(self, request):  # fast: decides where the data are, reads nothing
        if request.split or request.options or request.source == "standin":
            raise DataError("digit-halves: it has one split, no options and no stand-in")
        identity = f"digit-halves {self.info.version}, scikit-learn {version('scikit-learn')}"
        return Location("official", (), identity, request)  # the second entry: the files load() will read

    def load(self, located):
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        splits = []
        for name, rows in ROWS.items():
            y = labels[rows].astype(np.int64)
            halves = {"upper": pixels[rows, :32], "lower": pixels[rows, 32:]}
            items = np.arange(len(y))  # row i of both halves shows the same digit
            modalities = {m: Modality(m, x.astype(np.float32), y, items) for m, x in halves.items()}
            splits.append(Split(name, modalities, classes=10))
        return validate(MultimodalData("digit-halves", "official", *splits))
