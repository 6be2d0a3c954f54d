"""INRIA-Websearch, the 100 largest classes, 14,698 image-text pairs (Wei et al.).

The published file has a validation part of its own. The files named jpg1, jpg2 and siftgeo that some
descriptions point to are those of INRIA Holidays, another set.
"""

from __future__ import annotations

from benchmark.core.registry import dataset

from .reading.layouts import Foreign, Layout, parts
from .reading.official import BenchmarkDataset
from .reading.table1 import TABLE_I

NAMES = {"image": ("{0}_img", "{0}_img_lab"), "text": ("{0}_txt", "{0}_txt_lab")}


@dataset(
    "websearch",
    title="INRIA-Websearch",
    modalities=("image", "text"),
    classes=100,
    citation="Krapac et al., CVPR 2010; 100-class selection of Wei et al., IEEE T-Cybernetics 2017",
    standin=True,
)
class Websearch(BenchmarkDataset):
    """``INRIA-Websearch.mat``, or the stand-in."""

    table = TABLE_I["websearch"]
    home = "https://weiyc.github.io/assets/projects/tcyb.html"
    layouts = (
        Layout(
            "INRIA-Websearch.mat",
            (("INRIA-Websearch.mat",),),
            parts({"train": "tr", "val": "val", "test": "te"}, NAMES),
        ),
    )
    foreign = (Foreign("INRIA Holidays, another set", ("siftgeo.tar.gz", "jpg1.tar.gz", "jpg2.tar.gz")),)
