"""Is this machine ready? Python and packages, devices, data, and folders that must be writable."""

from __future__ import annotations

import os
import platform
import re
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from benchmark.core.dataset import DataRequest, make_dataset
from benchmark.core.registry import DATASETS, METHODS, Registry
from benchmark.disk import cache_folder
from benchmark.errors import BenchmarkError
from benchmark.inspection.shadow import DISTRIBUTION, hidden
from benchmark.records.store import Store


def examine(request: DataRequest, store: Store) -> dict[str, Any]:
    """Everything `doctor` shows, as one JSON document.

    Args:
        request: Names the data root to look into.
        store: Names the results folder.

    Returns:
        ``ok`` (whether runs are possible), ``problems`` (one line each), ``python``, ``packages``,
        ``devices``, ``data`` and ``folders``.
    """
    packages = _packages()
    devices, device_problem = _devices()
    folders = {"results": _folder(store.root), "cache": _folder(cache_folder())}
    problems = [f"{name}: {fact['problem']}" for name, fact in packages.items() if fact["problem"]]
    problems += [
        f"{name} folder {fact['path']}: {fact['problem']}"
        for name, fact in folders.items()
        if fact["problem"]
    ]
    unlisted = {registry: _unlisted(registry) for registry in (METHODS, DATASETS)}
    problems += filter(None, [device_problem, *unlisted.values()])
    return {
        "ok": not problems,
        "problems": problems,
        "python": platform.python_version(),
        "packages": packages,
        "devices": devices,
        "folders": folders,
        "data_roots": [{"path": str(root), "exists": root.is_dir()} for root in request.roots()],
        "data": {}
        if unlisted[DATASETS]
        else {name: _availability(name, request) for name in DATASETS.entries()},
    }


def _unlisted(registry: Registry) -> str:
    """Why there is no list of methods, or of datasets; empty if there is one."""
    try:
        registry.entries()
    except BenchmarkError as error:
        return str(error)
    return ""


def _packages() -> dict[str, dict[str, str]]:
    """Installed version and problem of every package the suite requires."""
    try:
        wanted = [line for line in requires(DISTRIBUTION) or [] if "extra ==" not in line]
    except PackageNotFoundError:
        return {
            DISTRIBUTION: {
                "version": "",
                "wanted": "",
                "problem": "not installed; pip install -e . in a checkout, or install a wheel",
            }
        }
    found = {}
    for line in wanted:
        match = re.match(r"([A-Za-z0-9_.-]+)\s*(?:>=\s*([0-9.]+))?", line)
        assert match is not None, line
        name, least = match[1], match[2] or ""
        try:
            have, problem = version(name), ""
        except PackageNotFoundError:
            have, problem = "", "not installed"
        if line := hidden(name):
            problem = line
        elif have and least and _numbers(have) < _numbers(least):
            problem = f"version {have} is too old, {least} or newer is needed"
        found[name] = {"version": have, "wanted": least, "problem": problem}
    return found


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])


def _devices() -> tuple[list[dict[str, Any]], str]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library of torch cannot be loaded
        return [], f"torch cannot be imported: {error}"
    if hidden("torch"):  # told of the package
        return [], ""
    cpu = {"device": "cpu", "name": platform.processor() or platform.machine()}
    devices: list[dict[str, Any]] = [cpu | {"threads": torch.get_num_threads(), "cpus": os.cpu_count()}]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(index)
        memory = round(facts.total_memory / 2**30, 1)
        devices.append({"device": f"cuda:{index}", "name": facts.name, "memory_gib": memory})
    return devices, ""


def _folder(path: Path) -> dict[str, str]:
    """Whether a folder can be written, without making it: its nearest existing parent is tried."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            problem = ""
    except OSError as error:
        problem = f"cannot be written ({error.strerror or error})"
    return {"path": str(path), "problem": problem}


def _availability(name: str, request: DataRequest) -> dict[str, str]:
    """Whether the official files and a stand-in of a dataset can be had here."""
    entry = DATASETS.get(name)
    if entry.problem:
        return {"official": "unavailable", "standin": "unavailable", "why": entry.problem}
    found = {"official": "missing", "standin": "yes" if entry.info.standin else "no", "why": ""}
    try:
        wanted = DataRequest("official", request.data_root, "", {}, None)
        found["official"] = "found" if make_dataset(entry).locate(wanted).files else "available"
    except BenchmarkError as error:
        found["why"] = str(error)
    return found
