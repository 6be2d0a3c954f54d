"""The JSON document of a run record: its layout, checked and brought up to the present one.

Schema 2 had a field of its own for every run option. In schema 3 the options that are not at their default
stand in one block, ``options``, beside ``words``, which says the run as captions do. Older documents are
upgraded in memory; files are not rewritten. A document has a checksum of itself, so that a number edited by
hand is noticed; documents older than that have none. This module imports neither numpy nor torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from benchmark.errors import BenchmarkError

SCHEMA = 3
"""Version of the layout. It is no part of a key: a run is the same in an older layout."""
OLDEST = 2
"""The oldest layout that is read."""
METRICS = ("map@all", "map@50")
PAIRWISE = "one model for every two modalities"
CHECKSUM = "checksum"
"""Sha256 of the rest of the document, see :func:`sealed`."""
LARGEST = 1 << 63
"""Bound for whole numbers: what does not fit a 64-bit integer cannot be reckoned with everywhere."""


class InvalidRecordError(BenchmarkError):
    """A document that is not a run record; the message names the field."""


def canonical(content: Any) -> str:
    """JSON with sorted keys and no spaces: equal content gives equal text on every machine."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_mapping)


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its checksum, which :func:`checked` holds it against and takes off."""
    return {**document, CHECKSUM: hashlib.sha256(canonical(document).encode()).hexdigest()}


def checked(document: Any) -> dict[str, Any]:
    """The document of a run in the present layout.

    Args:
        document: As read, of the present layout or an older one.

    Raises:
        InvalidRecordError: It is not sound; one line that names the first field that is wrong.
    """
    _need(isinstance(document, dict), "not a JSON object")
    document = _unsealed(document)
    _check(document)
    if document["schema"] < SCHEMA:
        try:
            document = upgraded(document)
        except (KeyError, TypeError, ValueError):
            raise InvalidRecordError("'label_noise' has no ratio, mode or seed") from None
    _need(_object(_at(document, "options")), "'options' is not an object")
    _need(_texts(_at(document, "words")), "'words' is no list")
    return dict(document)


def upgraded(document: Mapping[str, Any]) -> dict[str, Any]:
    """A record of schema 2 as schema 3 has it.

    Args:
        document: Sound, except for the noise in labels.

    Raises:
        KeyError, TypeError, ValueError: Noise in labels without its ratio, mode or seed.
    """
    pairwise = document.get("protocol") == "pairwise"
    own_way = bool(document["method"].get("pairwise"))
    given = {
        "leave_own_out": document.get("leave_own_out") or None,
        "pairwise": (pairwise and not own_way) or None,
        "label_noise": document.get("label_noise") or None,
        "scaling": document["scaling"] if document["scaling"] != "raw" else None,
        "precision": document["precision"] if document["precision"] != "fp32" else None,
    }
    # the earliest records of schema 2 have the method's group among what may not differ, as "protocol"
    terms = {name: value for name, value in document["comparability"].items() if name != "protocol"}
    options = {name: value for name, value in given.items() if value is not None}
    return {
        **document,
        "schema": SCHEMA,
        "comparability": terms | {"schema": SCHEMA},
        "options": options,
        "words": caption_words(options, pairwise=pairwise),
    }


def caption_words(options: Mapping[str, Any], *, pairwise: bool) -> list[str]:
    """How captions say the options of a run.

    Scaling and precision are left out: a caption names those of every run.

    Args:
        options: As a record has them.
        pairwise: Whether every two modalities had a model, be it that the method is defined so.
    """
    words = ["every query without its own item in the database"] if options.get("leave_own_out") else []
    words += [PAIRWISE] if pairwise else []
    if noise := options.get("label_noise"):
        how = f"{noise['mode']}, seed {noise['seed']}"
        words.append(f"{noise['ratio']:.0%} of the training labels drawn anew ({how})")
    return words


def _mapping(value: Any) -> Any:
    return dict(value) if hasattr(value, "keys") else str(value)


def _unsealed(document: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in document.items() if name != CHECKSUM}
    if CHECKSUM in document:
        _need(sealed(rest) == document, "the content does not fit its checksum: damaged, or changed by hand")
    else:  # both came with the same version
        _need("arrays_sha256" not in document, f"no {CHECKSUM!r}")
    return rest


def _number(value: Any) -> bool:
    # whole numbers may be too large to become floating ones; NaN compares as false
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _hash(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value, re.ASCII))


def _hashes(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_hash, value.values()))


def _named_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_text, value.values()))


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _object(value: Any) -> bool:
    return isinstance(value, dict)


KINDS: dict[str, tuple[Callable[[Any], bool], tuple[str, ...]]] = {
    "is not a text": (
        _text,
        (
            *("started", "precision", "scaling", "method.id", "method.title", "method.origin", "dataset.id"),
            *("dataset.title", "dataset.fingerprint", "dataset.split", "dataset.description"),
            *("device.type", "device.name", "versions.python", "versions.torch", "versions.suite"),
        ),
    ),
    "is no list": (
        _texts,
        ("dataset.splits", "dataset.files", "dataset.modalities", "modalities", "warnings"),
    ),
    "is not an object": (_object, ("recipe",)),
    "is not one text per name": (_named_texts, ("dataset.options",)),
    "is no whole number": (_whole, ("method.version", "comparability.metric_version", "device.threads")),
    "is no number": (_number, ("timings.total",)),
    "is not one of official, standin, user": (
        ("official", "standin", "user").__contains__,
        ("dataset.source",),
    ),
    "is not one of paper, quick": (("paper", "quick").__contains__, ("profile",)),
}
"""What is wrong with a value, by the test it fails, and the fields it is asked of."""
OPTIONAL: dict[str, tuple[Callable[[Any], bool], tuple[str, ...]]] = {
    "is not a text": (_text, ("protocol", "replicas", "method.code")),
    "is no list": (_texts, ("overrides",)),
    "is not an object": (_object, ("rows", "config", "ties", "history", "notes")),
    "is no whole number": (_whole, ("top", "peak_memory_bytes")),
    "is not a hash": (_hash, ("arrays_sha256",)),
    "is not one hash per name": (_hashes, ("named_files",)),
}
"""Likewise, of fields that may be absent."""


def _check(document: Any) -> None:
    """Check what every layout has in common."""
    schema, key = _at(document, "schema"), _at(document, "key")
    known = f"but this version reads {OLDEST} to {SCHEMA}"
    _need(_whole(schema) and OLDEST <= schema <= SCHEMA, f"schema {schema}, {known}")
    _need(_hash(key), "'key' is not a hash")
    for problem, (fits, paths) in KINDS.items():
        for path in paths:
            _need(fits(_at(document, path)), f"{path!r} {problem}")
    for problem, (fits, paths) in OPTIONAL.items():
        for path in paths:
            *above, name = path.split(".")
            place = _at(document, above[0]) if above else document
            _need(name not in place or fits(place[name]), f"{path!r} {problem}")
    for name, other in (("schema", "schema"), ("fingerprint", "dataset.fingerprint")):
        same = _at(document, f"comparability.{name}") == _at(document, other)
        _need(same, f"'comparability.{name}' is another than {other!r}")
    for name, value in document["recipe"].items():
        whole = isinstance(value, dict) and set(value) == {"value", "origin", "source"}
        _need(whole, f"'recipe' has an entry that is not value, origin and source: {name!r}")
    _check_scores(document)


def _check_scores(document: Mapping[str, Any]) -> None:
    """Metrics, directions and seeds must be the same everywhere, and every number finite."""
    seeds, names = _at(document, "seeds"), document["modalities"]
    _need(isinstance(seeds, list) and bool(seeds) and all(map(_whole, seeds)), "'seeds' is no list")
    directions = {f"{a}->{b}" for a in names for b in names if a != b}
    for path in (*(f"results.{metric}" for metric in METRICS), "chance", "sizes"):
        table = _at(document, path)
        fits = isinstance(table, dict) and set(table) == directions
        _need(fits and bool(directions), f"{path!r} has other directions than its data")
    for metric in METRICS:
        lists = {
            f"results.{metric}.{direction}": document["results"][metric][direction]
            for direction in sorted(directions)
        }
        average = _at(document, f"averages.{metric}")
        for path, values in (*lists.items(), (f"averages.{metric}", average)):
            fits = isinstance(values, list) and len(values) == len(seeds) and all(map(_number, values))
            _need(fits, f"{path!r} is not one number per seed")
        for column, mean in zip(zip(*lists.values(), strict=True), average, strict=True):
            near = math.isclose(sum(column) / len(column), mean, abs_tol=1e-9)
            _need(near, f"'averages.{metric}' is not the mean of the results")
    _need(all(map(_number, document["chance"].values())), "'chance' is no number")
    sizes = document["sizes"].values()
    for part in ("queries", "database"):
        _need(all(_object(each) and _whole(each.get(part)) for each in sizes), f"'sizes' has no {part}")
    _need(all(map(_number, document["timings"].values())), "'timings' is no number")


def _at(document: Mapping[str, Any], path: str) -> Any:
    """A value by its dotted path."""
    value: Any = document
    for name in path.split("."):
        _need(isinstance(value, dict) and name in value, f"no {path!r}")
        value = value[name]
    return value


def _need(condition: bool, problem: str) -> None:
    if not condition:
        raise InvalidRecordError(problem)
