"""Damaged files, texts and settings: each is refused in one line or read rightly."""

import hashlib
import io
import json
import os
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.runs import recipe
from tests.faults.grounds import FORMATS, cached_standins, one
from tests.faults.trials import Job, Verdict, call, judge, place
from tests.mutated import mutated as mutated_v5

NUMBERS = (0, 1, 2, 255, 1 << 16, 1 << 30, (1 << 31) - 1, (1 << 32) - 1, 1 << 40, (1 << 63) - 1)
HUGE = (*b"1e999 -1 nan inf 1e308 9223372036854775808 0x7fffffffffffffff".split(), b"9" * 5000)
KEY = hashlib.sha256(b"a").hexdigest()[:16]


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """One file after one accident."""
    changed, size = bytearray(content), len(content)
    if not size:
        return rng.bytes(20)
    start, stop = sorted(int(each) for each in rng.integers(0, size + 1, 2))
    match rng.integers(8):
        case 0:
            for at in rng.integers(0, size, rng.integers(1, 9)):
                changed[at] ^= 1 << int(rng.integers(8))
        case 1:
            return content[:start]
        case 2:
            return b"" if rng.integers(4) == 0 else content[start:]
        case 3:
            return content[:stop] + content[start:stop] * int(rng.integers(1, 4)) + content[stop:]
        case 4:  # sizes that lie
            for _ in range(rng.integers(1, 4)):
                packed = struct.pack("<Q" if rng.integers(2) else ">Q", NUMBERS[rng.integers(len(NUMBERS))])
                at, width = int(rng.integers(size)), (2, 4, 8)[rng.integers(3)]
                changed[at : at + width] = packed[:width] if rng.integers(2) else packed[-width:]
        case 5:
            changed[start : start + 64] = rng.bytes(min(64, size - start))
        case 6:
            numbers = list(re.finditer(rb"\d+", content[:100_000])) or [re.match(b"", content)]
            found = numbers[rng.integers(len(numbers))]
            return content[: found.start()] + HUGE[rng.integers(len(HUGE))] + content[found.end() :]
        case _:
            ends = [m.end() for m in re.finditer(rb"[=:,\[]\s*", content[:100_000])] or [start]
            at, depth = ends[rng.integers(len(ends))], int(rng.choice((3, 200, 20_000)))
            opened, closed = ((b"[", b"]"), (b'{"a":', b"}"), (b"{a=", b"}"))[rng.integers(3)]
            return content[:at] + opened * depth + b"1" + closed * depth + content[at:]
    return bytes(changed)


def inside(content: bytes, rng: np.random.Generator) -> bytes:
    """A zip file with one member damaged and every checksum right, also of a manifest and a zip in it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile:
        return damaged(content, rng)
    name = list(members)[rng.integers(len(members))]
    nested = members[name][:2] == b"PK" and rng.integers(2)
    members[name] = (inside if nested else damaged)(members[name], rng)
    if "manifest.json" in members and name != "manifest.json":
        manifest, (folder, _, file) = json.loads(members["manifest.json"]), name.partition("/")
        facts = {"bytes": len(members[name]), "sha256": hashlib.sha256(members[name]).hexdigest()}
        manifest["runs"][folder]["files"][file] = facts
        members["manifest.json"] = json.dumps(manifest).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for each, text in members.items():
            archive.writestr(each, text)
    return out.getvalue()


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        folder: Of the grounds; copied for every trial.
        pattern: The file in it; one of those that fit is damaged.
        commands: One of them is tried; ``{file}``, ``{folder}`` and ``{ground}`` are filled in.
        same: Accepted must mean the same numbers as with the sound file: it can be made again.
        then: What must succeed after the command was accepted.
        deep: Damages the inside and leaves the shell right; not where only checksums tell a file is damaged.
    """

    folder: str
    pattern: str
    commands: tuple[str, ...]
    same: bool = False
    then: str = ""
    deep: Callable[[bytes, np.random.Generator], bytes] = inside


def deep(kind: str) -> Callable[[bytes, np.random.Generator], bytes]:
    """How the inside of a feature file is damaged."""
    return mutated_v5 if kind[:2] == "v5" else inside


RUN = (" ".join(one(Path("{ground}"))),)
STORED = (
    f"results show {KEY}",
    "results",
    "results export {folder}/out.zip",
    "results gc --damaged",
    f"results array {KEY}",
    "results import {ground}/zip/runs.zip",
    "results timings",
)
DESCRIBE = "data describe {folder}/flowers.toml"
FIT = "run --method cmcp --dataset {folder}/flowers.toml --quiet --profile quick"
STUDY = "study {file} --dataset {ground}/npz/flowers.toml --profile quick --quiet"
STANDIN = "data describe wikipedia --source standin --data-option scale=0.02"
SCORE = ("score {file}", "score {file} --metric map@5")
CONFIG = "show-config drcl emoji"
KINDS = {
    "record.json": Kind("store", f"results/{KEY}/record.json", STORED),
    "arrays.npz": Kind("store", f"results/{KEY}/arrays.npz", STORED),
    "export zip": Kind("zip", "runs.zip", ("results import {file}",), then="results export {folder}/new.zip"),
    "checkpoint .partial": Kind("partial", "results/.partial/**/*.npz", RUN, same=True, deep=damaged),
    "checkpoint .shared": Kind("shared", "results/.shared*/**/*.npz", RUN, same=True, deep=damaged),
    "fingerprints.json": Kind("memory", "cache/fingerprints.json", RUN, same=True),
    "stand-in cache": Kind("standin", "cache/standins/*.npz", (STANDIN,), same=True, deep=damaged),
    "recipe TOML": Kind("recipe", "drcl.toml", (CONFIG, *(f"{run} --dry-run" for run in RUN))),
    "study TOML": Kind("study", "grid.toml", (f"{STUDY} --dry-run", STUDY)),
    "description TOML": Kind("npz", "flowers.toml", (DESCRIBE, FIT)),
    **{f"features {k}": Kind(k, f"flowers{e}", (DESCRIBE, FIT), deep=deep(k)) for k, e in FORMATS.items()},
    "items.csv": Kind("emoji", "items.csv", ("data describe emoji",)),
    "emoji features": Kind("emoji", "features.npz", ("data describe emoji",)),
    **{f"score {k}": Kind(f"score-{k}", f"scored{e}", SCORE, deep=deep(k)) for k, e in FORMATS.items()},
    "--set": Kind("recipe", "", (CONFIG, *(f"{run} --dry-run" for run in RUN))),
}
RECIPE_FILE = recipe.recipe_file
SETTINGS = ("alpha=0.2", "hidden=[8, 16]", "lr=1e-3", "prior=learned:image", "variant=public", "q_fixed=0.5")


def trial(kind: str, number: int, seed: int, ground: str) -> list[Verdict]:
    """Damage one file, or one setting, and give it to a command; below 0 each command gets the sound one."""
    from benchmark.datasets.emoji import _Emoji

    what = KINDS[kind]
    rng = np.random.default_rng([seed, abs(number), *kind.encode()])
    cached_standins()
    with place() as folder:
        shutil.copytree(Path(ground) / what.folder, folder, dirs_exist_ok=True)
        _Emoji.__init__.__defaults__ = (folder if what.folder == "emoji" else Path(ground) / "emoji",)
        ours = kind == "recipe TOML"
        recipe.recipe_file = (lambda method: folder / "drcl.toml") if ours else RECIPE_FILE
        chosen = -number - 1 if number < 0 else rng.integers(len(what.commands))
        command = what.commands[chosen].split(" ")
        file, words = folder, []
        if what.pattern:
            files = sorted(folder.glob(what.pattern))
            file = files[rng.integers(len(files))]
            change = what.deep if rng.integers(2) else damaged
            if number >= 0:
                file.write_bytes(change(file.read_bytes(), rng))
        elif number >= 0:
            text = damaged(SETTINGS[rng.integers(len(SETTINGS))].encode(), rng)
            words = ["--set", os.fsdecode(text.replace(b"\0", b""))]
        as_json = what.same or (command[-1] != "timings" and bool(rng.integers(2)))
        filled = [word.format(file=file, folder=folder, ground=ground) for word in command]
        answer = call(*filled, *words, *["--json"] * as_json)
        verdict, detail = judge(answer, as_json=as_json)
        if what.same and verdict in ("accepted", "refused"):
            numbers = result(answer.out)
            sound = Path(ground) / f"{what.folder}.sound"
            if verdict == "refused":
                return [("wrong", f"what can be made again was refused: {detail}")]
            if number < 0:
                sound.write_text(numbers)
            if sound.read_text() != numbers:
                return [("wrong", "other numbers than with the sound file")]
        if what.then and verdict == "accepted":
            after = call(*what.then.format(folder=folder).split())
            if judge(after)[0] != "accepted":
                return [("wrong", f"accepted, but then: {judge(after)}")]
        return [(verdict, detail)]


def result(text: str) -> str:
    """The numbers in the answer of a command, without times."""
    document = json.loads(text)
    kept = {k: v for k, v in document.items() if k in ("results", "averages", "splits", "fingerprint")}
    return json.dumps(kept or document, sort_keys=True)


def jobs(seed: int, ground: Path, rounds: int):
    """So many trials of every kind, one kind after the other."""
    for number in range(rounds):
        for kind in KINDS:
            yield Job(kind, number, trial, (kind, number, seed, str(ground)))
