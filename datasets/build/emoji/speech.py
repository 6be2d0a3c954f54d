"""Audio: the English words spoken by two synthetic voices, as counts of acoustic code words."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import wave
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

VOICES = ("en-gb", "en-us+f3")
WORDS_PER_MINUTE, QUIET, MARGIN = 175, 50, 200  # QUIET: amplitude of 16 bits; MARGIN: samples
CODE_WORDS, EVERY = 256, 5
PROCESSES = 2


@dataclass(frozen=True)
class Codebook:
    """Code words of one voice.

    Attributes:
        mean, deviation: ``(14,)`` of the frames it was learned on.
        words: ``(256, 14)`` in standardised frames.
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    words: NDArray[np.float32]

    def count(self, frames: NDArray[np.float64]) -> NDArray[np.float64]:
        """``(256,)`` square roots of how many frames are nearest to each code word."""
        standard = (frames - self.mean) / self.deviation
        words = self.words.astype(np.float64)
        distance = (words**2).sum(axis=1) - 2 * standard @ words.T
        return np.sqrt(np.bincount(distance.argmin(axis=1), minlength=len(words)))


def learn(frames: list[NDArray[np.float64]]) -> Codebook:
    """k-means on every fifth frame of utterances of items outside the classes."""
    from sklearn.cluster import KMeans

    sample = np.concatenate(frames)[::EVERY]
    mean = sample.mean(axis=0).astype(np.float32)
    deviation = sample.std(axis=0).astype(np.float32)
    standard = (sample - mean) / deviation
    found = KMeans(CODE_WORDS, random_state=0, n_init=1, max_iter=30).fit(standard)
    return Codebook(mean, deviation, found.cluster_centers_.astype(np.float32))


def speak(texts: list[str], voice: str) -> list[NDArray[np.float64]]:
    """Frames of every text, each ``(frames, 14)``."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(PROCESSES) as pool:
        jobs = [(text, voice, Path(folder) / f"{i}.wav") for i, text in enumerate(texts)]
        return list(pool.map(lambda job: _frames(*job), jobs))


def _frames(text: str, voice: str, file: Path) -> NDArray[np.float64]:
    """MFCC 1-13 with the energy in front; 25 ms windows every 10 ms."""
    from python_speech_features import mfcc

    # Not --stdout: it writes a wrong length into the header.
    command = [_program(), "-v", voice, "-s", str(WORDS_PER_MINUTE), "-w", str(file), "--", text]
    subprocess.run(command, check=True, capture_output=True)
    with wave.open(str(file)) as sound:
        rate = sound.getframerate()
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
    file.unlink()
    loud = np.flatnonzero(np.abs(samples.astype(int)) >= QUIET)
    samples = samples[max(0, loud[0] - MARGIN) : loud[-1] + MARGIN]
    frames: NDArray[np.float64] = mfcc(
        samples, rate, winlen=0.025, winstep=0.01, numcep=14, nfilt=26, nfft=1024, appendEnergy=True
    )
    return frames


def version() -> str:
    """Version of espeak-ng, as it names itself."""
    answer = subprocess.run([_program(), "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"\d+(?:\.\d+)+\S*", answer)
    if found is None:
        raise RuntimeError(f"espeak-ng does not name its version: {answer!r}")
    return found[0]


def _program() -> str:
    found = shutil.which("espeak-ng")
    if found is None:
        raise RuntimeError("espeak-ng is not installed: apt-get install espeak-ng")
    return found
