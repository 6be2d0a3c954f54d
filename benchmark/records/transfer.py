"""Runs as one zip file, to carry them to another machine or to merge what several have computed.

The file holds ``<folder>/record.json`` and ``<folder>/arrays.npz`` of every run and a manifest with their
sizes and sha256; nothing is pickled, and the same runs give the same bytes. What comes in is believed in
nothing: names, sizes, hashes and content are checked for the whole file before the first run is stored.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from benchmark.disk import flush, flush_folder, naming, whole
from benchmark.errors import BenchmarkError
from benchmark.records.checks import ARRAYS_BYTES, InvalidRunError, check_run
from benchmark.records.differences import difference
from benchmark.records.record import RunRecord
from benchmark.records.store import RECORD_BYTES, DamagedRecordError, Store, StoredRun

FORMAT = "cmr-benchmark runs 1"
MANIFEST = "manifest.json"
LIMITS = {"record.json": RECORD_BYTES, "arrays.npz": ARRAYS_BYTES}
TOTAL_BYTES = 64 << 30
"""Bound for everything in a file once unpacked."""
CHUNK = 1 << 20

Differing = Literal["refuse", "keep", "replace"]


@dataclass(frozen=True)
class Imported:
    """Names of the runs of a file, by what became of them.

    Attributes:
        added: New here.
        present: Stored here already, with the same content.
        machine: Stored here with other numbers, as another machine computes them, and kept.
        kept: Stored here with another content, which was kept.
        replaced: Stored here with another content, or damaged, and replaced.
    """

    added: tuple[str, ...]
    present: tuple[str, ...]
    machine: tuple[str, ...]
    kept: tuple[str, ...]
    replaced: tuple[str, ...]


def choose(
    store: Store, keys: Sequence[str], method: str, dataset: str, warn: Callable[[str], None]
) -> list[StoredRun]:
    """The runs the user means: those named, or all of a method and a dataset.

    Args:
        store: Where to look.
        keys: Keys or their beginnings.
        method: Id; empty for any. Not together with ``keys``.
        dataset: Likewise.
        warn: Told of every damaged run that is left out.

    Raises:
        BenchmarkError: A run that is not there, or none at all.
    """
    if keys and (method or dataset):
        raise BenchmarkError("name runs, or give --method and --dataset, not both")
    if keys:
        return list({run.folder: run for run in map(store.starting_with, keys)}.values())
    runs, problems = store.all()
    for problem in problems:
        warn(f"left out: {problem}")
    found = [
        run for run in runs if method in ("", run.record.method.id) and dataset in ("", run.record.dataset.id)
    ]
    if not found:
        asked = "".join(f" --{k} {v}" for k, v in (("method", method), ("dataset", dataset)) if v)
        raise BenchmarkError(
            f"no stored run{' of' if asked else ''}{asked} in {store.root}; `results` lists what is stored"
        )
    return found


def export_runs(runs: Iterable[StoredRun], file: Path, *, replace: bool = False) -> list[str]:
    """Write runs to a zip file, complete or not at all.

    Args:
        runs: Which; each is checked first, so that the file can be read again.
        file: Where to.
        replace: Overwrite a file that is there.

    Returns:
        The names of the runs in the order of the file.

    Raises:
        BenchmarkError: A run that is damaged, or a file that cannot be written.
    """
    if file.exists() and not replace:
        raise BenchmarkError(f"{file} exists; choose another name, or --replace")
    folders = sorted({run.folder for run in runs}, key=lambda folder: folder.name)
    try:
        with whole(file) as stream, zipfile.ZipFile(stream, "w") as archive:
            manifest = {folder.name: _write_run(archive, folder) for folder in folders}
            text = json.dumps({"format": FORMAT, "runs": manifest}, indent=1)
            archive.writestr(_entry(MANIFEST), text)
    except OSError as error:
        raise BenchmarkError(f"{file} cannot be written ({error.strerror})") from None
    return [folder.name for folder in folders]


def import_runs(
    store: Store,
    file: Path,
    key_of: Callable[[RunRecord], str],
    differing: Differing = "refuse",
    notify: Callable[[str], None] = print,
) -> Imported:
    """Store the runs of a zip file; none of them if anything about the file is wrong.

    Args:
        store: Where to.
        file: Made by :func:`export_runs`.
        key_of: The key of what a record describes; the one that it claims must be the same.
        differing: What to do about a run that is stored with another content.
        notify: Told when another process has to be waited for, and how much a run differs of which another
            machine has computed other numbers.

    Raises:
        BenchmarkError: Not such a file, damaged, too large, or a run that differs; names run and field.
    """
    if not file.is_file():
        raise BenchmarkError(f"{file}: no such file")
    try:
        with zipfile.ZipFile(file) as archive:
            entries = _entries(archive)
            store.prepare()
            with store.lock("import", lambda: notify("another import is going on; waiting for it")):
                stage = Path(tempfile.mkdtemp(prefix=".import-", dir=store.root))
                try:
                    names = _unpack(archive, entries, stage)
                    records = {name: check_run(stage / name) for name in names}
                    _check_keys(records, key_of)
                    return _store_all(store, stage, records, differing, notify)
                finally:
                    shutil.rmtree(stage, ignore_errors=True)
    except BenchmarkError as error:
        raise type(error)(f"{file}: {error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.filename and error.errno != errno.EINVAL:
            raise  # the disk's; zipfile seeks to places that are none, without a name
        raise BenchmarkError(f"{file}: not a whole zip file of runs ({error})") from None


def _check_keys(records: Mapping[str, RunRecord], key_of: Callable[[RunRecord], str]) -> None:
    """A run is answered by its key: one that is not made of what the record says would pass as another run.

    Raises:
        InvalidRunError: A record whose key is that of another run.
    """
    for name, record in records.items():
        try:
            made = key_of(record)
        except BenchmarkError as error:
            raise InvalidRunError(f"run {name}: {error}") from None
        if made != record.key:
            raise InvalidRunError(
                f"run {name}: record.json: the key is not that of the run it describes ({made[:16]}); "
                "method, data, recipe or options were changed, or another version made it"
            )


def _write_run(archive: zipfile.ZipFile, folder: Path) -> dict[str, Any]:
    """Add a run to a zip; its part of the manifest."""
    for _ in range(3):
        record, before = check_run(folder), folder.stat()
        with (folder / "record.json").open("rb") as text, (folder / "arrays.npz").open("rb") as arrays:
            # opened files stay what they are; the folder may have been replaced before both were open
            after = folder.stat()
            if (before.st_ino, before.st_mtime_ns) != (after.st_ino, after.st_mtime_ns):
                continue
            files = {
                name: _write(archive, folder.name, name, f)
                for name, f in zip(LIMITS, (text, arrays), strict=True)
            }
        about = {"key": record.key, "method": record.method.id, "dataset": record.dataset.id}
        return about | {"files": files}
    raise BenchmarkError(f"run {folder.name} is being replaced by another process; try again")


def _write(archive: zipfile.ZipFile, folder: str, name: str, source: IO[bytes]) -> dict[str, Any]:
    entry = _entry(f"{folder}/{name}", packed=name.endswith(".npz"))
    entry.file_size = os.fstat(source.fileno()).st_size
    digest, size = hashlib.sha256(), 0
    with archive.open(entry, "w") as target:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            size += target.write(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _entry(name: str, *, packed: bool = False) -> zipfile.ZipInfo:
    """An entry that is the same on every machine and at every time."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
    entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
    return entry


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries of a zip by name, each of which may be there and is not too large.

    Raises:
        BenchmarkError: Anything else in the file.
    """
    entries: dict[str, zipfile.ZipInfo] = {}
    if MANIFEST not in archive.namelist():
        raise BenchmarkError(f"no {MANIFEST}: not made by `results export`, or not whole")
    for entry in archive.infolist():
        name = entry.filename
        match = re.fullmatch(r"[0-9a-f]{16}/(record\.json|arrays\.npz)", name, re.ASCII)
        if name != MANIFEST and match is None:
            raise BenchmarkError(f"{name!r} is not a file of a run; nothing is unpacked")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise BenchmarkError(f"{name!r} is a link or another special file; nothing is unpacked")
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BenchmarkError(f"{name!r} is encrypted or packed in another way than zip's usual one")
        if entry.file_size > (limit := LIMITS[match[1]] if match else RECORD_BYTES):
            raise BenchmarkError(f"{name!r} unpacks to {entry.file_size} bytes, more than {limit}")
        if name in entries:
            raise BenchmarkError(f"{name!r} is there twice")
        entries[name] = entry
    if (total := sum(entry.file_size for entry in entries.values())) > TOTAL_BYTES:
        raise BenchmarkError(f"unpacks to {total} bytes, more than {TOTAL_BYTES}")
    return entries


def _unpack(archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], stage: Path) -> list[str]:
    """Unpack into a folder of our own what the manifest says; the names of the runs."""
    total, free = sum(entry.file_size for entry in entries.values()), shutil.disk_usage(stage).free
    if total > free:
        raise BenchmarkError(f"unpacks to {total} bytes, but {stage.parent} has {free} left")
    files = _manifest(_read(archive, entries[MANIFEST]))
    if set(files) | {MANIFEST} != set(entries):
        odd = min((set(files) | {MANIFEST}) ^ set(entries))
        raise BenchmarkError(f"{odd!r} is in the manifest or in the file, but not in both")
    for name, wanted in sorted(files.items()):
        target, digest = stage / name, hashlib.sha256()
        target.parent.mkdir(exist_ok=True)
        with naming(target, target), archive.open(entries[name]) as source, target.open("xb") as stream:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                stream.write(chunk)
            flush(stream)
        if digest.hexdigest() != wanted:
            raise BenchmarkError(f"{name!r} has another sha256 than the manifest says: damaged or changed")
    names = sorted({name.partition("/")[0] for name in files})
    for name in names:
        flush_folder(stage / name)
    return names


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """An entry, of which no more is unpacked than it is said to hold."""
    parts = []
    with archive.open(entry) as stream:  # asked for everything at once it would unpack 2 GiB, then cut them
        while chunk := stream.read(CHUNK):
            parts.append(chunk)
    return b"".join(parts)


def _manifest(text: bytes) -> dict[str, Any]:
    """Sha256 per file, every run with both of its files."""
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise BenchmarkError(f"{MANIFEST}: format {document['format']!r}, expected {FORMAT!r}")
        runs = document["runs"].items()
        return {f"{run}/{name}": about["files"][name]["sha256"] for run, about in runs for name in LIMITS}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BenchmarkError(f"{MANIFEST} cannot be read ({error!r})") from None


def _store_all(
    store: Store,
    stage: Path,
    records: Mapping[str, RunRecord],
    differing: Differing,
    notify: Callable[[str], None],
) -> Imported:
    for name, record in records.items():  # refuse before the first is stored
        _fate(store, StoredRun(stage / name, record), differing, lambda _: None)
    fates: dict[str, list[str]] = {"added": [], "present": [], "machine": [], "kept": [], "replaced": []}
    for name, record in records.items():
        busy = f"run {name} is being computed by another process; waiting for it"
        with store.lock(name, lambda busy=busy: notify(busy)):  # type: ignore[misc]  # mypy: default in lambda
            fate = _fate(store, StoredRun(stage / name, record), differing, notify)
            if fate in ("added", "replaced"):
                store.adopt(stage / name, record.key, replace=fate == "replaced")
        fates[fate].append(name)
    return Imported(**{fate: tuple(names) for fate, names in fates.items()})


def _fate(store: Store, new: StoredRun, differing: Differing, notify: Callable[[str], None]) -> str:
    """What is to become of a run; the name of a field of :class:`Imported`."""
    try:
        if (old := store.find(new.record.key)) is None:
            return "added"
        found = difference(old, new)
    except DamagedRecordError:  # nothing is lost by replacing it; but one that only cannot be read stays
        return "replaced"
    if found is None:
        return "present"
    if found.machine and differing != "replace":
        notify(f"run {old.folder.name} is the same run, of another machine, and was kept: {found.text}")
        return "machine"
    if differing == "refuse":
        raise BenchmarkError(
            f"run {old.folder.name} is stored here with another {found.field}; --keep keeps the stored one, "
            "--replace takes that of the file; nothing was imported"
        )
    return "kept" if differing == "keep" else "replaced"
