"""Build the dataset ``emoji``: ``python -m benchmark.datasets.build.emoji items|features|card``."""

from __future__ import annotations

import argparse
import sys


def main() -> None:
    """Do the steps that are asked for, in their order."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.datasets.build.emoji", description=__doc__)
    parser.add_argument("step", choices=["items", "features", "card"], nargs="+")
    steps = parser.parse_args().step
    if "items" in steps:
        from .items import choose, write_table
        from .sources import read_emoji

        rows = choose(read_emoji())
        write_table(rows)
        say(f"items: {len(rows)} in {len({row.family for row in rows})} families")
    if "features" in steps:
        from .build import build

        for name, digest in build(say=say).items():
            say(f"{digest[:16]}  {name}")
    if "card" in steps:
        from .card import write_card

        write_card(say)


def say(line: str) -> None:
    """Report progress."""
    sys.stderr.write(line + "\n")


main()
