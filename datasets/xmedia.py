"""XMedia (PKU): 20 classes, five modalities; image and text are paired row by row.

The published file's test part is cut in halves: its first rows are the test set, the rest is validation
(public code of DRCL, MARS and SDML). It also holds older features (``T_tr`` is LDA, not the bag of words);
they are not read.
"""

from __future__ import annotations

from benchmark.core.registry import dataset

from .reading.files import Remote, github
from .reading.layouts import Foreign, Layout, parts
from .reading.official import BenchmarkDataset
from .reading.table1 import TABLE_I

NAMES = {
    "image": ("I_{0}_CNN", "{0}ImgCat"),
    "text": ("T_{0}_BOW", "{0}TxtCat"),
    "audio": ("A_{0}", "{0}AudCat"),
    "3d": ("d3_{0}", "{0}3dCat"),
    "video": ("V_{0}_CNN", "{0}VidCat"),
}


@dataset(
    "xmedia",
    title="XMedia",
    modalities=("image", "text", "audio", "3d", "video"),
    classes=20,
    citation="Peng, Huang, Zhao, An Overview of Cross-Media Retrieval, IEEE TCSVT 2018 (PKU XMedia)",
    standin=True,
)
class XMedia(BenchmarkDataset):
    """``XMediaFeatures.mat``, or the stand-in."""

    table = TABLE_I["xmedia"]
    classes_in_halves = True
    home = "http://59.108.48.34/tiki/XMediaNet/"
    layouts = (
        Layout(
            "XMediaFeatures.mat",
            (("XMediaFeatures.mat",), ("xmedia/Features.mat",)),
            parts({"train": "tr", "rest": "te"}, NAMES),
            {"rest": ("test", "val")},
        ),
    )
    foreign = (
        Foreign("rows repeated into tuples, not the single items", ("XMediaFeatures_Pairwise.mat",)),
        Foreign("XMediaNet", needs=("TD_tr", "TD_te", "I_labs")),
    )
    remotes = (
        Remote(
            "XMediaFeatures.mat",
            (
                github(
                    "PKU-ICST-MIPL/MARS_TCSVT2021",
                    "27c87ba7f8afb1d2ce9237539ab307b82e5962a5",
                    "datasets/XMedia/XMediaFeatures.mat",
                ),
            ),
            blob="5f9a2f26b29da4a82274a8a842968c03e4a66f58",
        ),
    )
