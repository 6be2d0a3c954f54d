"""NUS-WIDE (NUS), the 10-class, 10,000-pair selection with one label per item.

The published file has a validation part of its own. Two other selections go by the same name (ten classes
with 42,941 training rows; 21 concepts with several labels per item): they are recognised and refused.
"""

from __future__ import annotations

from benchmark.core.registry import dataset

from .reading.layouts import Foreign, Layout, parts
from .reading.official import BenchmarkDataset
from .reading.table1 import TABLE_I

NAMES = {
    "image": ("{0}_imgs_deep", "{0}_imgs_labels"),
    "text": ("{0}_texts", "{0}_texts_labels|{0}_imgs_labels"),
}


@dataset(
    "nuswide",
    title="NUS-WIDE",
    modalities=("image", "text"),
    classes=10,
    citation="Chua et al., NUS-WIDE: A Real-World Web Image Database, CIVR 2009",
    standin=True,
)
class NusWide(BenchmarkDataset):
    """``nus_wide_deep_doc2vec-corr-ae.h5py``, or the stand-in."""

    table = TABLE_I["nuswide"]
    home = "https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html"
    layouts = (
        Layout(
            "nus_wide_deep_doc2vec-corr-ae.h5py",
            (("nus_wide_deep_doc2vec-corr-ae.h5py",),),
            parts({"train": "train", "val": "valid", "test": "test"}, NAMES),
        ),
    )
    foreign = (
        Foreign(
            "the selection with 42,941 training rows (SDML, MRL, ISVN)",
            ("nus_wide_deep_doc2vec_data_42941.h5py",),
            ("train_imgs_deep", "train_text", "test_text"),
        ),
        Foreign(
            "the 21-concept selection with several labels per item (MARS)",
            ("nus-wide-tc21.mat",),
            ("img_train", "txt_train", "train_labs"),
        ),
        Foreign(
            "the multi-label selection of ALGCN and GNN4CMR",
            ("nus*/train_lab.mat",),
            ("train_lab",),
        ),
        Foreign("the selection of DSCMR and DRSL", ("nus*/train_img_lab.mat",), ("train_img_lab",)),
        Foreign(
            "a selection in the layout of XMedia (COXI)", ("nus*/Features.mat",), ("I_tr_CNN", "T_tr_BOW")
        ),
    )
