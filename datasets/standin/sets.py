"""Stand-ins: generated data with the very shapes of the five benchmarks, for machines without their files.

Class structure with correlated classes, row-paired images and texts, value ranges of each kind of feature
and a difficulty like the published results'. No number obtained with them says anything about real data:
the noise is Gaussian in a shared latent space, nothing is mislabelled or duplicated.

How a row is made, and which random stream gives what, is written in ``maps.py``. This file
holds the sets: the kind of feature and the spread sigma of every modality, the only knob of difficulty (rows,
columns and classes are those of ``benchmark.datasets.reading.table1``), and the labels:

- wikipedia has the class counts of the real splits; websearch has class weights exp(0.35 g_c), g standard
  normal, apportioned by largest remainders with at least one row per class; in the other sets row i has
  class i mod C before the rows are permuted;
- then one permutation per split (``RandomState.permutation`` of the sorted or cycled labels), shared by
  image and text, which therefore have equal labels row by row.

``scale`` < 1 is a reduced profile: round(scale * rows), but at least one row per class, of every split, and
max(64, round(scale * columns)) columns, if there are so many. Counts are then apportioned as for websearch.

The fingerprint covers version, name, seed, scale, the labels exactly, and of every matrix the mean, standard
deviation and share of zeros to 1e-4: float rounding differs between machines, so features are not hashed.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.core.data import SPLITS, Modality, MultimodalData, Split
from benchmark.disk import abandoned, cache_folder, checked_arrays, read_own, whole
from benchmark.errors import DataError, UnknownNameError

from ..reading.table1 import TABLE_I
from .maps import KINDS, VERSION, class_means, modality_map, pair_group, sample, stream

CACHE_FROM = 100_000_000  # values (0.4 GB); smaller sets are made in seconds
LEAST_COLUMNS = 64  # a reduced profile keeps so many columns, and all of a narrower matrix
Shape = tuple[int, int]


@dataclass(frozen=True)
class View:
    """One modality of a set: kind of feature (``KINDS``) and spread around the class mean."""

    kind: str
    sigma: float


@dataclass(frozen=True)
class StandIn:
    """One set.

    Attributes:
        views: Per modality, in canonical order.
        counts: Rows per class of train, val and test, where the real ones are known.
        spread: Standard deviation of the logarithm of the class weights; 0: classes of equal size.
    """

    views: dict[str, View]
    counts: tuple[tuple[int, ...], ...] = ()
    spread: float = 0.0


SETS: dict[str, StandIn] = {
    "xmedia": StandIn(
        {
            "image": View("VGG", 0.20),
            "text": View("BoW", 0.155),
            "audio": View("MFCC", 0.25),
            "3d": View("LightField", 0.28),
            "video": View("C3D", 0.31),
        }
    ),
    "xmedianet": StandIn(
        {
            "image": View("VGG", 0.20),
            "text": View("Doc2Vec", 0.20),
            "audio": View("MFCC672", 0.245),
            "3d": View("LightField", 0.25),
            "video": View("C3D", 0.23),
        }
    ),
    "wikipedia": StandIn(
        {"image": View("VGG", 0.42), "text": View("Doc2Vec", 0.25)},
        counts=(
            (138, 272, 244, 248, 202, 178, 186, 144, 214, 347),
            (17, 30, 34, 37, 26, 20, 19, 15, 7, 26),
            (17, 58, 62, 48, 39, 38, 32, 26, 64, 78),
        ),
    ),
    "nuswide": StandIn({"image": View("VGG", 0.35), "text": View("Doc2Vec", 0.29)}),
    "websearch": StandIn({"image": View("VGG", 0.24), "text": View("LDA", 0.20)}, spread=0.35),
}


def shapes(name: str, scale: float = 1.0) -> dict[tuple[str, str], Shape]:
    """Rows and columns per (split, modality), without generating anything.

    Raises:
        UnknownNameError: No stand-in of that name.
        DataError: ``scale`` outside (0, 1].
    """
    if name not in SETS:
        raise UnknownNameError("stand-in", name, list(SETS))
    if not 0 < scale <= 1:
        raise DataError(f"stand-in {name}: scale is {scale}, give a number above 0 and at most 1")
    found = {}
    for split in SPLITS:
        for modality, full in TABLE_I[name].shapes.items():
            rows = max(TABLE_I[name].classes, round(scale * full.rows(split)))
            found[split, modality] = rows, min(full.dim, max(LEAST_COLUMNS, round(scale * full.dim)))
    return found


def identity(name: str, seed: int = 0, scale: float = 1.0) -> str:
    """What determines the data, in one string; nothing is generated.

    Raises:
        UnknownNameError: No stand-in of that name.
        DataError: ``scale`` outside (0, 1], or ``seed`` negative or above 2^32 - 1.
    """
    shapes(name, scale)
    if not 0 <= seed < 2**32:  # a longer number would reach into the block number of a stream
        raise DataError(f"stand-in {name}: seed is {seed}, give a whole number from 0 to {2**32 - 1}")
    return f"standin-{name}-v{VERSION}-seed{seed}-scale{float(scale)!r}"


def generate(name: str, *, seed: int = 0, scale: float = 1.0) -> MultimodalData:
    """Make a stand-in.

    Args:
        name: One of ``SETS``.
        seed: Seed of the samples; class means and feature maps are the same for every seed.
        scale: 1 for the shapes of Table I, less for a reduced profile.

    Returns:
        The data, source ``standin``, with a fingerprint that does not depend on the machine.

    Raises:
        UnknownNameError, DataError: As ``identity``.
    """
    identity(name, seed, scale)
    number, spec = list(SETS).index(name), SETS[name]
    centers = class_means(number, TABLE_I[name].classes)
    plan = shapes(name, scale)
    features = {}
    for modality, view in spec.views.items():
        columns = plan["train", modality][1]
        fixed = modality_map(number, modality, KINDS[view.kind], view.sigma, columns)
        for split, split_name in enumerate(SPLITS):
            labels = labels_of(name, modality, split, plan[split_name, modality][0], seed)
            features[split_name, modality] = sample(fixed, centers, labels, split, seed)
    return _assemble(name, seed, scale, features)


def load_or_generate(name: str, *, seed: int = 0, scale: float = 1.0) -> MultimodalData:
    """``generate``, kept in the cache folder where that is faster the second time.

    One uncompressed file per (version, name, seed, scale), checked by its checksums when read; a damaged or
    foreign file is made anew. If it cannot be written, a warning says so and the data are returned.

    Raises:
        UnknownNameError, DataError: As ``identity``.
    """
    file = cache_folder() / "standins" / f"{identity(name, seed, scale)}.npz"
    plan = shapes(name, scale)
    if sum(rows * columns for rows, columns in plan.values()) < CACHE_FROM:
        return generate(name, seed=seed, scale=scale)
    stored = _read(file, plan)
    if stored is not None:
        features, fingerprint = stored
        return _assemble(name, seed, scale, features, fingerprint)
    data = generate(name, seed=seed, scale=scale)
    try:
        _write(file, data)
    except OSError as error:
        warnings.warn(f"could not keep {data.name} stand-in in {file}: {error}", stacklevel=2)
    return data


def labels_of(name: str, modality: str, split: int, rows: int, seed: int) -> NDArray[np.int64]:
    """Labels of one modality and split, ``(rows,)``, every class at least once; equal for image and text."""
    number, spec, classes = list(SETS).index(name), SETS[name], TABLE_I[name].classes
    if spec.counts:
        ordered = _apportion(np.array(spec.counts[split], float), rows)
    elif spec.spread:
        weights = np.exp(spec.spread * stream(number, 1).standard_normal(classes))
        ordered = _apportion(weights, rows)
    else:
        ordered = np.arange(rows) % classes
    return stream(number, 20 + pair_group(modality), split, seed).permutation(ordered)


def _apportion(weights: NDArray[np.float64], rows: int) -> NDArray[np.int64]:
    """Sorted labels of ``rows`` rows shared out by largest remainders, each class getting one at least."""
    quota = weights * rows / weights.sum()
    counts = np.maximum(np.floor(quota).astype(np.int64), 1)
    missing = rows - int(counts.sum())
    if missing > 0:
        counts[np.argsort(np.floor(quota) - quota, kind="stable")[:missing]] += 1
    for _ in range(-missing):  # the guaranteed rows of rare classes come from the largest ones
        counts[np.argmax(counts)] -= 1
    return np.repeat(np.arange(len(counts)), counts)


def _assemble(
    name: str,
    seed: int,
    scale: float,
    features: dict[tuple[str, str], NDArray[np.float32]],
    fingerprint: str | None = None,
) -> MultimodalData:
    splits = []
    for split, split_name in enumerate(SPLITS):
        modalities = {}
        for modality in SETS[name].views:
            x = features[split_name, modality]
            labels = labels_of(name, modality, split, len(x), seed)
            pairs = np.arange(len(x)) if modality in ("image", "text") else None
            modalities[modality] = Modality(modality, x, labels, pairs)
        splits.append(Split(split_name, modalities, TABLE_I[name].classes))
    reduced = "" if scale == 1 else f" Reduced profile: scale {scale:g} of the published rows and columns."
    note = (
        f"Generated stand-in data (version {VERSION}, seed {seed}), not {name}: random numbers with its "
        f"shapes and class counts. Results on them say nothing about the real data.{reduced}"
    )
    return MultimodalData(
        name=name,
        source="standin",
        train=splits[0],
        val=splits[1],
        test=splits[2],
        version=str(VERSION),
        notes=(note,),
        fixed_fingerprint=fingerprint or _fingerprint(identity(name, seed, scale), splits),
    )


def _fingerprint(start: str, splits: list[Split]) -> str:
    digest = hashlib.sha256(start.encode())
    for split in splits:
        for m in split:
            numbers = [round(1e4 * value) for value in _statistics(m.features)]
            digest.update(f"|{split.name}|{m.name}|{m.features.shape}|{numbers}|".encode())
            digest.update(m.labels.astype("<i8").tobytes())
    return digest.hexdigest()


def _statistics(x: NDArray[np.float32], rows: int = 256) -> tuple[float, float, float]:
    """Mean, standard deviation and share of zeros, summed in float64 a few rows at a time."""
    total = squares = zeros = 0.0
    for start in range(0, len(x), rows):
        part = x[start : start + rows].astype(np.float64)
        total += float(part.sum())
        squares += float(np.vdot(part, part))
        zeros += part.size - np.count_nonzero(part)
    mean = total / x.size
    return mean, math.sqrt(max(squares / x.size - mean**2, 0.0)), zeros / x.size


def _read(
    file: Path, plan: dict[tuple[str, str], Shape]
) -> tuple[dict[tuple[str, str], NDArray[np.float32]], str] | None:
    """Features and fingerprint of a cache file, or None if it is absent, damaged or not what it should be."""

    def read(file: Path) -> tuple[dict[tuple[str, str], NDArray[np.float32]], str]:
        with checked_arrays(file) as stored:
            fingerprint = str(stored["fingerprint"])
            features = {key: stored["_".join(key)] for key in plan}
        if any(x.shape != plan[key] or x.dtype != np.float32 for key, x in features.items()):
            raise ValueError("it holds another set")
        return features, fingerprint

    return read_own(file, read)


def _write(file: Path, data: MultimodalData) -> None:
    """Keep the data, and remove what processes that were killed while they did have left behind."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for left in file.parent.glob(".*.part"):
        if abandoned(left):
            left.unlink(missing_ok=True)
    arrays = {f"{split.name}_{m.name}": m.features for split in data.splits for m in split}
    with whole(file) as out:
        np.savez(out, fingerprint=np.array(data.fingerprint()), **dict[str, Any](arrays))
