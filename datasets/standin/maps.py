"""How one row of a stand-in dataset comes about: random streams, class means, instances, modality maps.

Everything here is one formula chain, computed in float64 and stored as float32:

    h = m_c + sigma_v (sqrt(0.35) e + sqrt(0.65) e_v)             latent vector of an item, L = 48 numbers
    z = sqrt(r) W_h h / (sqrt(L) rho) + sqrt(1 - r) W_s t / sqrt(S) + b,   rho = sqrt(sigma_v^2 + 1/L)
    V = W_o tanh(g z) / (k sqrt(H)) + a noise                     H = 384 hidden units
    features = head(V)                                            see ``HEADS``

m_c is the mean of class c; e is shared by an image and its text, e_v and the style t belong to one modality;
the components of e, e_v, t and noise are standard normal. W_h, W_s, W_o, b = 0.3 N(0, 1) and the constants of
the head are the *structure* of a dataset: drawn once, the same for every seed.

Random numbers. Each quantity has its own stream,

    RandomState(MT19937(SeedSequence((20250106, VERSION, dataset, stream, split, seed[, block]))))

dataset: position in ``standin.SETS`` (0..4). split: 0 train, 1 val, 2 test. Structure uses split 0, seed 0.
Streams, with v the position of the modality in ``MODALITIES`` and u = 0 for image and text (a pair shares the
draw), else v:

    0      class means: s (2 x L), then g (groups x L), then u (classes x L), each row scaled to length 1
    1      class weights of unequal sets: one standard normal per class
    10+v   map: W_h (H x L), W_s (H x S), b (H), head constants, [47 x H block of LightField], W_o (d x H)
    20+u   order of the labels: one permutation per split
    30+u   e (rows x L)          40+v   e_v (rows x L)          50+v   t (rows x S)
    60+v   noise (rows x d), not drawn where a = 0
    70+v   text lengths, one normal per row                     80+v   word counts, Poisson (rows x d)

Head constants: n (one normal per column, or per column modulo the period where there is one), for word counts
the permutation of ranks. They are always drawn for the full number of columns; a dataset of reduced width has
the first columns of each matrix and constant.
Streams from 30 on start afresh every 4096 rows, with the block number appended, and are drawn row by row:
row i does not depend on how many rows follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 1  # raise with any change of a formula or constant, here or in standin.py
MODALITIES = ("image", "text", "audio", "3d", "video")
BLOCK = 4096  # rows per random stream
CHUNK = 256  # rows computed at once; bounds the float64 memory, decides nothing else
LATENT, HIDDEN, GROUP = 48, 384, 5
SHARED = 0.35  # share of the instance variance that an image and its text have in common

Array = NDArray[np.float64]
Streams = Mapping[int, np.random.RandomState]  # by number, without the modality's


def stream(
    dataset: int, number: int, split: int = 0, seed: int = 0, block: int | None = None
) -> np.random.RandomState:
    """One random stream. Both the bit generator and RandomState's distributions are frozen by numpy."""
    key = (20250106, VERSION, dataset, number, split, seed) + (() if block is None else (block,))
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(key)))


def pair_group(modality: str) -> int:
    """0 for image and text, which are paired row by row; the modality's own number otherwise."""
    return 0 if modality == "text" else MODALITIES.index(modality)


def class_means(dataset: int, classes: int) -> Array:
    """Means of the classes in latent space, ``(classes, 48)``, rows of length 1.

    Five consecutive classes form a group; the first quarter of the groups and the rest form two
    super-groups. Expected cosine 0.5 inside a group, 0.15 inside a super-group, 0 otherwise.
    """
    groups = -(-classes // GROUP)
    rng = stream(dataset, 0)
    above, group, own = (_unit(rng.standard_normal((n, LATENT))) for n in (2, groups, classes))
    of_group = np.arange(classes) // GROUP
    of_above = (of_group >= max(1, round(groups / 4))).astype(int)
    return _unit(np.sqrt(0.15) * above[of_above] + np.sqrt(0.35) * group[of_group] + np.sqrt(0.5) * own)


def _unit(rows: Array) -> Array:
    unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


@dataclass(frozen=True)
class Kind:
    """One kind of feature.

    Attributes:
        columns: Full width d.
        style: Number of style components S.
        signal: Share r of the hidden variance that comes from the item.
        noise: Amplitude a of the noise per value.
        gain: g, how far into the bend of tanh the hidden units work.
        head: Name in ``HEADS``.
        offset: Constant of the head.
        period: The head's constants repeat after so many columns; 0: they do not.
    """

    columns: int
    style: int
    signal: float
    noise: float
    gain: float
    head: str
    offset: float = 0.0
    period: int = 0


KINDS = {
    "VGG": Kind(4096, 96, 0.65, 0.5, 1.0, "relu", offset=-0.29),
    "C3D": Kind(4096, 96, 0.65, 0.5, 1.0, "relu", offset=-0.80),
    "BoW": Kind(3000, 16, 0.90, 0.0, 0.5, "words"),
    "Doc2Vec": Kind(300, 32, 0.80, 0.3, 1.0, "dense"),
    "LDA": Kind(1000, 32, 0.80, 0.0, 1.0, "topics"),
    "MFCC": Kind(29, 4, 0.97, 0.05, 0.5, "cepstrum", period=29),
    "MFCC672": Kind(672, 32, 0.80, 0.3, 0.5, "cepstrum", period=14),
    "LightField": Kind(4700, 48, 0.70, 0.3, 1.0, "views", offset=-1.2, period=47),
}
SPREAD = {1.0: 0.62, 0.5: 0.42}  # k per gain: root mean square of tanh(g z)


@dataclass(frozen=True)
class ModalityMap:
    """The fixed map of one modality, constants folded in.

    Attributes:
        dataset: Number of the dataset.
        modality: One of ``MODALITIES``.
        kind: The kind of feature.
        sigma: Spread of the items around their class mean.
        latent: ``(48, H)``, style: ``(S, H)``, bias: ``(H,)``; their sum is g z.
        out: ``(d, H)``; ``tanh(g z) @ out.T`` is V without noise.
        constant: ``(d,)`` added to (a multiple of) V by the head.
        amplitude: ``(d,)`` the head multiplies with; ones where it has none.
    """

    dataset: int
    modality: str
    kind: Kind
    sigma: float
    latent: Array
    style: Array
    bias: Array
    out: Array
    constant: Array
    amplitude: Array


def modality_map(dataset: int, modality: str, kind: Kind, sigma: float, columns: int) -> ModalityMap:
    """Draw the structure of one modality; ``columns`` is d, or fewer in a reduced profile."""
    rng = stream(dataset, 10 + MODALITIES.index(modality))
    w_h, w_s = rng.standard_normal((HIDDEN, LATENT)), rng.standard_normal((HIDDEN, kind.style))
    bias = 0.3 * rng.standard_normal(HIDDEN)
    at = np.arange(columns) % (kind.period or kind.columns)
    if kind.head == "words":
        constant = -np.log(rng.permutation(kind.columns)[at] + 10.0)
    else:
        normal = rng.standard_normal(kind.period or kind.columns)[at]
        weight = {"relu": 0.35, "cepstrum": 1.0, "views": 1.0}.get(kind.head, 0.0)
        constant = weight * normal + kind.offset
    repeated = rng.standard_normal((kind.period, HIDDEN)) if kind.head == "views" else None
    out = rng.standard_normal((columns, HIDDEN))
    if repeated is not None:
        out *= 0.6
        out += 0.8 * repeated[at]
    out /= SPREAD[kind.gain] * np.sqrt(HIDDEN)
    rho = np.sqrt(sigma**2 + 1 / LATENT)
    return ModalityMap(
        dataset=dataset,
        modality=modality,
        kind=kind,
        sigma=sigma,
        latent=kind.gain * np.sqrt(kind.signal) / (np.sqrt(LATENT) * rho) * w_h.T,
        style=kind.gain * np.sqrt((1 - kind.signal) / kind.style) * w_s.T,
        bias=kind.gain * bias,
        out=out,
        constant=constant,
        amplitude=np.asarray(6 * 0.88**at if kind.head == "cepstrum" else np.ones(columns), np.float64),
    )


def _relu(v: Array, m: ModalityMap, _: Streams) -> Array:
    """max(0, 0.63 (V_j - shift + 0.35 n_j)): activations of a convolutional network."""
    v += m.constant
    v *= 0.63
    return np.maximum(v, 0, out=v)


def _words(v: Array, m: ModalityMap, streams: Streams) -> NDArray[Any]:
    """Poisson(length * softmax(log pi_j + 2.6 V_j)); pi_j = 1 / (rank_j + 10), length = 150 exp(0.5 N)."""
    v *= 2.6
    v += m.constant
    rate = _softmax(v)
    rate *= 150 * np.exp(0.5 * streams[70].standard_normal((len(v), 1)))
    return streams[80].poisson(rate)


def _dense(v: Array, _m: ModalityMap, _: Streams) -> Array:
    """0.2 V_j: a small, signed document vector."""
    v *= 0.2
    return v


def _topics(v: Array, _m: ModalityMap, _: Streams) -> Array:
    """Softmax of 2.5 V_j with a floor: topic proportions."""
    v *= 2.5
    topics: Array = (_softmax(v) + 1e-5) / (1 + 1e-5 * v.shape[1])
    return topics


def _cepstrum(v: Array, m: ModalityMap, _: Streams) -> Array:
    """6 * 0.88^i (V_j + n_i): coefficients that fall with their number."""
    return m.amplitude * (v + m.constant)


def _views(v: Array, m: ModalityMap, _: Streams) -> Array:
    """Sigmoid(0.9 V_j - 1.2 + n_i) in 256 steps: 100 views of 47 bounded coefficients."""
    return np.round(255 / (1 + np.exp(-0.9 * v - m.constant))) / 255


HEADS: dict[str, Callable[[Array, ModalityMap, Streams], NDArray[Any]]] = {
    "relu": _relu,
    "words": _words,
    "dense": _dense,
    "topics": _topics,
    "cepstrum": _cepstrum,
    "views": _views,
}


def _softmax(v: Array) -> Array:
    v -= v.max(axis=1, keepdims=True)
    np.exp(v, out=v)
    v /= v.sum(axis=1, keepdims=True)
    return v


def sample(
    m: ModalityMap, centers: Array, labels: NDArray[np.int64], split: int, seed: int
) -> NDArray[np.float32]:
    """Features of one modality and split.

    Args:
        m: The modality's map.
        centers: ``(classes, 48)`` class means.
        labels: ``(n,)`` classes of the rows.
        split: 0 train, 1 val, 2 test.
        seed: Seed of the samples.

    Returns:
        ``(n, d)`` float32. The only float64 arrays have ``CHUNK`` rows.
    """
    result = np.empty((len(labels), len(m.out)), np.float32)
    own, shared = MODALITIES.index(m.modality), pair_group(m.modality)
    for first in range(0, len(labels), BLOCK):
        streams = {
            number: stream(m.dataset, number + (shared if number == 30 else own), split, seed, first // BLOCK)
            for number in (30, 40, 50, 60, 70, 80)
        }
        last = min(first + BLOCK, len(labels))
        for start in range(first, last, CHUNK):
            rows = slice(start, min(start + CHUNK, last))
            result[rows] = _rows(m, centers[labels[rows]], streams)
    return result


def _rows(m: ModalityMap, means: Array, streams: Streams) -> NDArray[Any]:
    """The next rows of a block, ``(n, d)``, from their class means ``(n, 48)``."""
    n, kind = len(means), m.kind
    shared, own = streams[30].standard_normal((n, LATENT)), streams[40].standard_normal((n, LATENT))
    h = means + m.sigma * (np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own)
    style = streams[50].standard_normal((n, kind.style))
    v = np.tanh(h @ m.latent + style @ m.style + m.bias) @ m.out.T
    if kind.noise:
        noise = streams[60].standard_normal(v.shape)
        noise *= kind.noise
        v += noise
    return HEADS[kind.head](v, m, streams)
