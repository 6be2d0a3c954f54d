"""Features of the drawings: flat colour drawing, rendered view, black line drawing. All are non-negative."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def raster(path: Path, size: int) -> tuple[Array, Array]:
    """A drawing of ``size`` x ``size`` pixels.

    Returns:
        Colours over white ``(size, size, 3)`` and opacity ``(size, size)``, both 0..1.
    """
    from PIL import Image

    if path.suffix == ".svg":
        import resvg_py

        stream = BytesIO(bytes(resvg_py.svg_to_bytes(svg_path=str(path), width=size, height=size)))
        picture = Image.open(stream).convert("RGBA")
    else:
        with Image.open(path) as stored:
            picture = stored.convert("RGBA")
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture, np.float64) / 255
    opacity = pixels[..., 3]
    return pixels[..., :3] * opacity[..., None] + 1 - opacity[..., None], opacity


def image(path: Path) -> Array:
    """Flat drawing: HOG 1764, HSV histogram 108, LBP 40, mean colours 48."""
    colours, opacity = raster(path, 64)
    grey = _grey(colours)
    return np.concatenate(
        [_hog(grey, 8, 2), _hsv(colours, opacity), _lbp(grey, 2), _cells(colours, 4).ravel()]
    )


def view(path: Path) -> Array:
    """Rendered view: HOG 1764, HOG of the silhouette 144, silhouette 256, HSV histogram 108."""
    colours, opacity = raster(path, 128)
    silhouette = _cells(opacity[..., None], 16).ravel()
    return np.concatenate(
        [_hog(_grey(colours), 16, 2), _hog(opacity, 32, 1), silhouette, _hsv(colours, opacity)]
    )


def sketch(path: Path) -> Array:
    """Line drawing, no colour: HOG 1764, LBP 160, ink 64."""
    grey = _grey(raster(path, 64)[0])
    return np.concatenate([_hog(grey, 8, 2), _lbp(grey, 4), _cells(1 - grey[..., None], 8).ravel()])


def _grey(colours: Array) -> Array:
    grey: Array = colours @ np.array([0.2125, 0.7154, 0.0721])
    return grey


def _hog(grey: Array, cell: int, block: int) -> Array:
    from skimage.feature import hog

    histograms: Array = hog(
        grey,
        orientations=9,
        pixels_per_cell=(cell, cell),
        cells_per_block=(block, block),
        block_norm="L2-Hys",
    )
    return histograms


def _hsv(colours: Array, opacity: Array) -> Array:
    """Histogram of 12 hues, 3 saturations and 3 values, weighted by opacity; sums to 1."""
    from skimage.color import rgb2hsv

    hsv = rgb2hsv(colours).reshape(-1, 3)
    weights = opacity.ravel()
    counts, _ = np.histogramdd(hsv, bins=(12, 3, 3), range=[(0, 1)] * 3, weights=weights)
    shares: Array = counts.ravel() / max(weights.sum(), 1e-9)
    return shares


def _lbp(grey: Array, grid: int) -> Array:
    """Histograms of uniform local binary patterns (8 neighbours) in ``grid`` x ``grid`` squares."""
    from skimage.feature import local_binary_pattern

    codes = local_binary_pattern((grey * 255).round().astype(np.uint8), 8, 1, "uniform").astype(int)
    side = len(codes) // grid
    squares = codes.reshape(grid, side, grid, side).swapaxes(1, 2).reshape(grid * grid, -1)
    return np.concatenate([np.bincount(square, minlength=10) / side**2 for square in squares])


def _cells(values: Array, grid: int) -> Array:
    """Means over ``grid`` x ``grid`` squares, ``(grid, grid, channels)``."""
    side = len(values) // grid
    means: Array = values.reshape(grid, side, grid, side, -1).mean(axis=(1, 3))
    return means
