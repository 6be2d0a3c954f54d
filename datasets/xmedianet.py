"""XMediaNet (PKU): 200 classes, five modalities; image and text are paired row by row.

Read: the five-view file of cell arrays (the paper's), the file with separate matrices, and the image-text
files in HDF5 and in a folder of small .mat files.
"""

from __future__ import annotations

import numpy as np

from benchmark.arrays import Arrays
from benchmark.core.registry import dataset
from benchmark.errors import DataError

from .reading.layouts import Foreign, Layout, Parts, parts
from .reading.official import BenchmarkDataset
from .reading.table1 import TABLE_I, Table

CELLS = ("train", "train_labels", "valid", "valid_labels", "test", "test_labels")
MATRICES = {
    "image": ("I_{0}", "I_labs"),
    "text": ("T_{0}", "T_labs"),
    "audio": ("A_{0}", "A_labs"),
    "3d": ("TD_{0}", "TD_labs"),
    "video": ("V_{0}", "V_labs"),
}
HDF5 = {
    "image": ("{0}_imgs_deep", "{0}_imgs_labels"),
    "text": ("{0}_text|{0}_texts", "{0}_texts_labels"),
}
SINGLE = {"image": ("{0}_img:name", "{0}_label:name"), "text": ("{0}_text:name", "{0}_label:name")}
SINGLE_FILES = tuple(f"{s}_{x}.mat" for s in ("train", "valid", "test") for x in ("img", "text", "label"))


def cells(arrays: Arrays, table: Table) -> Parts:
    """Which element of the cell arrays is which modality, by rows and columns of the training part.

    Raises:
        DataError: An element that fits no modality of the table (for instance rows repeated into tuples).
    """
    value = arrays.read("train")
    if not isinstance(value, list):
        raise DataError(f"{arrays.path}: train is no cell array, shape {value.shape}")
    sizes = [np.shape(element) for element in value]
    order: dict[str, int] = {}
    for at, size in enumerate(sizes):
        fits = [m for m, s in table.shapes.items() if size in ((s.train, s.dim), (s.dim, s.train))]
        if not fits or fits[0] in order:
            raise DataError(
                f"{arrays.path}: train[{at}] of shape {size} fits no modality of Table I; all: {sizes}"
            )
        order[fits[0]] = at
    words = {"train": "train", "val": "valid", "test": "test"}
    return {
        part: {m: (f"{word}[{order[m]}]", f"{word}_labels[{order[m]}]") for m in order}
        for part, word in words.items()
    }


@dataset(
    "xmedianet",
    title="XMediaNet",
    modalities=("image", "text", "audio", "3d", "video"),
    classes=200,
    citation="Peng, Huang, Zhao, An Overview of Cross-Media Retrieval, IEEE TCSVT 2018 (PKU XMediaNet)",
    standin=True,
)
class XMediaNet(BenchmarkDataset):
    """``XMediaNet5View_Doc2Vec.mat`` or one of the other layouts, or the stand-in."""

    table = TABLE_I["xmedianet"]
    home = "http://59.108.48.34/tiki/XMediaNet/"
    layouts = (
        Layout(
            "XMediaNet5View_Doc2Vec.mat",
            (("XMediaNet5View_Doc2Vec.mat",), ("XMediaNet4View_pairs.mat",)),
            locate=cells,
            needs=CELLS,
        ),
        Layout(
            "XMediaNetFeatures.mat",
            (("XMediaNetFeatures.mat",),),
            parts({"train": "tr", "rest": "te"}, MATRICES),
            {"rest": ("val", "test")},
            "the first half of its test rows is taken for validation; the paper's own cut is not known",
        ),
        Layout(
            "xmedianet_deep_doc2vec_data.h5py",
            (("xmedianet_deep_doc2vec_data.h5py",),),
            parts({"train": "train", "rest": "test"}, HDF5),
            {"rest": ("val", "test")},
            "cut as in the public code of MRL",
        ),
        Layout(
            "train_img.mat and eight more",
            (tuple(f"xmedianet*/{n}" if n == SINGLE_FILES[0] else n for n in SINGLE_FILES),),
            parts({"train": "train", "val": "valid", "test": "test"}, SINGLE),
        ),
    )
    foreign = (
        Foreign(
            "word indices instead of text features",
            ("xmedianet_deep_idx_data_has_valid.h5py",),
            ("wv_matrix",),
        ),
        Foreign("XMedia", needs=("I_tr_CNN", "T_tr_BOW")),
    )
