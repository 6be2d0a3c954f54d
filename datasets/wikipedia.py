"""Wikipedia (UCSD) with deep features: 10 classes, 2,866 image-text pairs.

The first 231 of the 693 rows that are not training rows are validation, the other 462 test (public code
of DRCL, MARS, SDML and MRL). Known of the features: 21 of the 462 test rows are exact copies of others, two
pairs of them with different labels, so rankings contain ties.
"""

from __future__ import annotations

from typing import ClassVar

from benchmark.core.registry import dataset

from .reading.files import Remote, github
from .reading.layouts import Foreign, Layout, parts
from .reading.official import BenchmarkDataset
from .reading.table1 import TABLE_I

H5 = {
    "image": ("{0}_imgs_deep", "{0}_imgs_labels"),
    "text": ("{0}_text|{0}_texts", "{0}_texts_labels"),
}
MAT = {"image": H5["image"], "text": ("{0}_texts_doc", "{0}_texts_labels")}
# Public code of COXI: one matrix per modality, rows in the order train, test, validation.
STACKED = {"all": {"image": ("{0}:images", "{2}:labels"), "text": ("{1}:texts", "{2}:labels")}}
COXI_FILES = (
    ("images.mat", "texts.mat", "labels.mat"),
    ("images.vgg19.mat", "texts.wiki.doc2vec.300.mat", "labels.wiki.mat"),
)


def _stacked(files: tuple[str, str, str]) -> Layout:
    stems = [name.removesuffix(".mat") for name in files]
    references = {
        "all": {m: (x.format(*stems), y.format(*stems)) for m, (x, y) in STACKED["all"].items()},
    }
    return Layout(
        ", ".join(files),
        ((f"wiki*/{files[0]}", *files[1:]),),
        references,
        {"all": ("train", "test", "val")},
        "cut as in the public code of COXI; the order of rows may differ from that of wiki.mat",
    )


@dataset(
    "wikipedia",
    title="Wikipedia",
    modalities=("image", "text"),
    classes=10,
    citation="Rasiwasia et al., A New Approach to Cross-Modal Multimedia Retrieval, ACM MM 2010",
    standin=True,
)
class Wikipedia(BenchmarkDataset):
    """``wiki.mat`` or ``wiki_deep_doc2vec_data_corr_ae.h5py``, or the stand-in."""

    table = TABLE_I["wikipedia"]
    home = "http://www.svcl.ucsd.edu/projects/crossmodal/"
    layouts = (
        Layout(
            "wiki.mat",
            (("wiki.mat",),),
            parts({"train": "train", "rest": "test"}, MAT),
            {"rest": ("val", "test")},
        ),
        Layout(
            "wiki_deep_doc2vec_data_corr_ae.h5py with a validation part",
            (("wiki_deep_doc2vec_data_corr_ae.h5py",),),
            parts({"train": "train", "val": "valid", "test": "test"}, H5),
        ),
        Layout(
            "wiki_deep_doc2vec_data_corr_ae.h5py",
            (("wiki_deep_doc2vec_data_corr_ae.h5py",),),
            parts({"train": "train", "rest": "test"}, H5),
            {"rest": ("val", "test")},
        ),
        *map(_stacked, COXI_FILES),
    )
    foreign = (
        Foreign(
            "word indices instead of text features",
            ("wiki_deep_idx_data-corr-ae.h5py",),
            ("train_texts_idx",),
        ),
        Foreign("the features of MMSAE", ("data_norzm.mat", "icptv4_log_norzm.mat"), ("img_tr", "txt_tr")),
        Foreign("the 128-d and 10-d features of dataset wikipedia-classic", needs=("I_tr", "T_tr", "I_te")),
        Foreign("INRIA-Websearch", needs=("tr_img", "tr_txt", "val_img")),
    )
    remotes = (
        Remote(
            "wiki.mat",
            (
                github(
                    "perquisite/DRCL",
                    "91910a045cd77390f34541b921344febb19a2b71",
                    "datasets/Wiki/wiki.mat",
                ),
                github(
                    "PKU-ICST-MIPL/MARS_TCSVT2021",
                    "27c87ba7f8afb1d2ce9237539ab307b82e5962a5",
                    "datasets/Wiki/wiki.mat",
                ),
            ),
            blob="8729732fcfda7e252838384c8be37bf71cec717f",
        ),
    )
    known: ClassVar = {"wiki_deep_doc2vec_data_corr_ae.h5py": "e3ffcb7a6e42a853e24154a7834cbbeb21a913a7"}
