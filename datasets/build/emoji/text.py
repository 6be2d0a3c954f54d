"""Text: which words of names and tags are used, as a binary bag of words in four languages."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import numpy as np
from numpy.typing import NDArray

from .items import Row
from .sources import LANGUAGES, Emoji

SHARE = 0.30  # a word in this share of a class or more would name the class
LEAST_ITEMS = 2
ENGLISH_FUNCTION_WORDS = "a an and at for from in is it of off on or out over the to up with without"
FUNCTION_WORDS = frozenset(ENGLISH_FUNCTION_WORDS.split())


def tokens(e: Emoji, language: str) -> list[str]:
    """Words of label and tags in their order, each once; foreign ones as ``de:wort``."""
    words = re.findall(r"[^\W_]+", " ".join(e.words.get(language, ())).lower())
    if language == "en":
        words = [word for word in words if word not in FUNCTION_WORDS]
    else:
        words = [f"{language}:{word}" for word in words]
    return list(dict.fromkeys(words))


def class_words(rows: list[Row], emoji: dict[str, Emoji]) -> set[str]:
    """Tokens that occur in 30 % or more of the items of a fine or coarse class.

    The only use of labels in the features, test items included; it takes information away.
    """
    found: dict[str, list[set[str]]] = defaultdict(list)
    for row in rows:
        words = {token for language in LANGUAGES for token in tokens(emoji[row.code], language)}
        found[f"fine {row.fine}"].append(words)
        found[f"coarse {row.coarse}"].append(words)
    return {
        token
        for members in found.values()
        for token, count in Counter(token for words in members for token in words).items()
        if count >= SHARE * len(members)
    }


def bag_of_words(rows: list[Row], emoji: dict[str, Emoji]) -> tuple[NDArray[np.uint8], list[str]]:
    """Which item has which word.

    Returns:
        ``(n, words)`` of 0 and 1, and the words: those of at least two items that name no class, sorted.
    """
    naming = class_words(rows, emoji)
    bags = [
        {token for language in LANGUAGES for token in tokens(emoji[row.code], language)} - naming
        for row in rows
    ]
    counts = Counter(token for bag in bags for token in bag)
    vocabulary = sorted(token for token, count in counts.items() if count >= LEAST_ITEMS)
    column = {token: number for number, token in enumerate(vocabulary)}
    matrix = np.zeros((len(rows), len(vocabulary)), np.uint8)
    for i, bag in enumerate(bags):
        matrix[i, [column[token] for token in bag if token in column]] = 1
    return matrix, vocabulary


def utterance(e: Emoji, naming: set[str]) -> str:
    """What is spoken: the English words that name no class, or the label if none is left."""
    return ", ".join(word for word in tokens(e, "en") if word not in naming) or e.name
