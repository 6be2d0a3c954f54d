"""Everything that can go wrong with files, disks, processes and servers, tried; a table of what came of it.

    nox -s faults -- --seed 1 --minutes 10 --table FILE
    nox -s faults -- --seed 1 --only "features npz/17"

A trial is refused cleanly (one line on standard error, exit code 2) or accepted rightly (exit code 0, sound
output, nothing lost); anything else is a finding and makes the exit code 1. The same seed gives the same
damage and the same commands; when a process is killed also depends on the machine.
"""

import argparse
import os
import queue
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from tests.faults import kills, mutated, places
from tests.faults.grounds import prepare
from tests.faults.trials import BAD, VERDICTS, Job, Worker

WORKERS = 2
COLUMNS = {
    "refused": "refused cleanly",
    "accepted": "accepted rightly",
    "wrong": "wrong",
    "traceback": "tracebacks",
    "hang": "hangs",
    "crash": "crashes",
    "skipped": "skipped",
}


def say(text: str) -> None:
    """Tell how it goes."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Campaign:
    """Does jobs in two workers and counts."""

    def __init__(self, seed: int, say=say) -> None:
        self.seed, self.say = seed, say
        self.counts: dict[str, Counter] = {}
        self.findings: list[str] = []
        self.folder = Path(tempfile.mkdtemp(prefix="faults-"))
        self.ground = self.folder / "ground"
        self.ground.mkdir()
        self.guard = threading.Lock()

    def __enter__(self) -> "Campaign":
        self.environment = dict(os.environ)
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.folder)
        for name in ("BENCHMARK_RESULTS", "BENCHMARK_CACHE", "BENCHMARK_DATA"):
            os.environ.pop(name, None)
        os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1", "COLUMNS": "120"}
        worker = Worker()
        steps = [Job("sound files", 0, prepare, (self.ground,), 120)]
        for kind, what in mutated.KINDS.items():  # unless the sound files pass, trials mean nothing
            sound = [(kind, -n, 0, str(self.ground)) for n in range(1, 1 + len(what.commands))]
            steps += [
                Job(f"sound {kind}", n, mutated.trial, arguments, 60) for n, arguments in enumerate(sound)
            ]
        for job in steps:
            verdicts = worker.do(job)
            if any(verdict != "accepted" for verdict, _ in verdicts):
                worker.close()
                self.__exit__()
                raise RuntimeError(f"{job.name}: {verdicts}")
        worker.close()
        return self

    def __exit__(self, *_: object) -> None:
        tempfile.tempdir = None
        os.environ.clear()
        os.environ.update(self.environment)
        shutil.rmtree(self.folder, ignore_errors=True)

    def do(self, jobs: Iterable[Job], until: float = float("inf")) -> None:
        """Do jobs in two workers until there are no more, or until a moment of ``time.monotonic``."""
        waiting: queue.SimpleQueue = queue.SimpleQueue()
        source = iter(jobs)

        def work() -> None:
            worker = Worker()
            try:
                while time.monotonic() < until:
                    with self.guard:
                        job = next(source, None)
                    if job is None:
                        break
                    self._note(job, worker.do(job))
            except BaseException as error:  # noqa: BLE001 - raised again by who waits
                waiting.put(error)
            finally:
                worker.close()

        threads = [threading.Thread(target=work) for _ in range(WORKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not waiting.empty():
            raise waiting.get()

    def _note(self, job: Job, verdicts) -> None:
        with self.guard:
            for verdict, detail in verdicts:
                self.counts.setdefault(job.kind, Counter())[verdict] += 1
                if verdict in BAD:
                    line = f'nox -s faults -- --seed {self.seed} --only "{job.name}"'
                    self.findings.append(f"{verdict}: {job.kind}: {detail}\n    {line}")
                    self.say(self.findings[-1])

    def table(self) -> str:
        """What came of it, as Markdown."""
        rows = [["kind of trial", "tried", *COLUMNS.values()]]
        for kind, found in [*self.counts.items(), ("all", sum(self.counts.values(), Counter()))]:
            tried = sum(found.values()) - found["skipped"]
            rows.append([kind, str(tried), *(str(found[verdict]) for verdict in VERDICTS)])
        rows.insert(1, ["---", *["---:"] * (len(rows[0]) - 1)])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> int:
    """Run the campaign from the command line."""
    parser = argparse.ArgumentParser(prog="nox -s faults --", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--table", type=Path, help="write the table to this file as well")
    parser.add_argument("--only", default="", help="one trial, as findings name it, or all of one kind")
    asked = parser.parse_args()
    begun = time.monotonic()
    with Campaign(asked.seed) as campaign:
        arguments = (asked.seed, campaign.ground, 1000 if "/" in asked.only else asked.minutes)
        of_kills, of_places = kills.jobs(*arguments), places.jobs(*arguments)
        if asked.only:
            every = chain(of_kills, of_places, mutated.jobs(asked.seed, campaign.ground, 20_000))
            campaign.do(job for job in every if asked.only in (job.name, job.kind))
        else:
            parts = (mutated.jobs(asked.seed, campaign.ground, 1_000_000), of_places, of_kills)
            for share, part in zip((0.4, 0.7, 1), parts, strict=True):
                campaign.do(part, begun + 60 * asked.minutes * share)
        table = campaign.table()
    say(f"\nseed {asked.seed}, {time.monotonic() - begun:.0f} s\n\n{table}")
    if asked.table:
        asked.table.write_text(table + "\n", encoding="utf-8")
    return 1 if campaign.findings else 0


if __name__ == "__main__":
    sys.exit(main())
