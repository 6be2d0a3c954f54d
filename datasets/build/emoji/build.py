"""The feature file: all matrices of all items in bytes, and what it takes to make those of new items."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import pictures, speech
from .items import read_table
from .sources import FEATURES, drawings, package_versions, read_emoji
from .text import bag_of_words, class_words, utterance

Say = Callable[[str], None]
PICTURES = {"image": pictures.image, "3d": pictures.view, "sketch": pictures.sketch}
LIBRARIES = ("numpy", "scikit-image", "scikit-learn", "pillow", "python_speech_features", "resvg-py")
PROCESSES = 2


def build(target: Path = FEATURES, say: Say = print) -> dict[str, str]:
    """Compute every feature of every item of the table and write the file.

    Returns:
        Hex sha256 of every array in the file, by name.
    """
    rows, emoji = read_table(), read_emoji()
    arrays: dict[str, NDArray[Any]] = {"codes": to_bytes([row.code for row in rows])}
    for modality, compute in PICTURES.items():
        say(f"{modality}: {len(rows)} drawings")
        files = drawings(modality)
        with ProcessPoolExecutor(PROCESSES) as pool:
            found = list(pool.map(compute, [files[row.code] for row in rows], chunksize=16))
        arrays |= quantise(modality, np.stack(found))
    say("text")
    words, vocabulary = bag_of_words(rows, emoji)
    arrays |= {"text": np.packbits(words, axis=1), "text_words": to_bytes(vocabulary)}
    naming = class_words(rows, emoji)
    arrays["text_class_words"] = to_bytes(sorted(naming))
    codes = {row.code for row in rows}
    outside = [utterance(e, naming) for e in emoji.values() if e.code not in codes]
    inside = [utterance(emoji[row.code], naming) for row in rows]
    counts = []
    for voice in speech.VOICES:
        say(f"audio: voice {voice}, {len(outside)} utterances for the code words, {len(inside)} of the items")
        book = speech.learn(speech.speak(outside, voice))
        counts.append(np.stack([book.count(frames) for frames in speech.speak(inside, voice)]))
        for name in ("mean", "deviation", "words"):
            arrays[f"audio_{voice}_{name}"] = getattr(book, name)
    arrays |= quantise("audio", np.concatenate(counts, axis=1))
    made_with = package_versions() | {name: version(name) for name in LIBRARIES}
    arrays["made_with"] = to_bytes([json.dumps(made_with | {"espeak-ng": speech.version()}, sort_keys=True)])
    target.parent.mkdir(exist_ok=True)
    np.savez_compressed(target, **dict[str, Any](arrays))
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}


def quantise(modality: str, features: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Non-negative features in bytes: ``bytes * scale`` gives them back.

    Returns:
        Under the modality's name ``(n, d)`` uint8 without the columns that are constant, ``_scale`` ``(d,)``
        float32, and ``_columns`` ``(d,)``: which of the computed columns these are.
    """
    if features.min() < 0 or not np.isfinite(features).all():
        raise ValueError(f"{modality}: features must be finite and not negative")
    columns = np.flatnonzero(np.ptp(features, axis=0) > 0)
    scale = (features[:, columns].max(axis=0) / 255).astype(np.float32)
    return {
        modality: in_bytes(features[:, columns], scale),
        f"{modality}_scale": scale,
        f"{modality}_columns": columns.astype(np.uint16),
    }


def in_bytes(features: NDArray[np.float64], scale: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Features divided by their scale and rounded."""
    return np.clip(np.rint(features / scale), 0, 255).astype(np.uint8)


def to_bytes(lines: list[str]) -> NDArray[np.uint8]:
    """Lines of text as bytes: an array of strings would take four bytes for every character."""
    return np.frombuffer("\n".join(lines).encode(), np.uint8)
