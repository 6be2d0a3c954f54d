"""What can go wrong because of an input, as opposed to a bug.

Every class here ends as one line on standard error and exit code 2, and so do a disk that cannot be read or
written (``OSError``) and memory that runs out (:func:`memory_line`); any other exception is a bug and keeps
its traceback.
"""

MEMORY = (
    *("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "bad_alloc"),
    *("unable to allocate", "failed to map segment", "can't start new thread"),
)
"""Words of those who have no memory left; torch has no class for it on a CPU, nor has the dynamic linker."""


class BenchmarkError(Exception):
    """A problem the user can solve. The message says what is wrong, where, and what to do, in one line."""


class UnknownNameError(BenchmarkError):
    """A method, dataset, option or other name that does not exist; the message lists the valid ones."""

    def __init__(self, kind: str, name: str, valid: list[str]) -> None:
        near = _nearest(name.lower(), valid)
        hint = f"; did you mean {near!r}?" if near else "."
        super().__init__(f"unknown {kind} {name!r}{hint} Valid: {', '.join(sorted(valid)) or 'none'}")


class DataError(BenchmarkError):
    """A feature file or description that cannot be used as it is."""


class MissingDataError(DataError):
    """Feature files that are not on this machine; the message gives the steps to get them."""


class RecipeError(BenchmarkError):
    """A hyper-parameter with an unknown name or an impossible value."""


class UnsupportedError(BenchmarkError):
    """A method that cannot serve a dataset or a protocol; the message is the reason."""


class TrainingError(BenchmarkError):
    """Training that cannot go on, for instance because a loss became NaN."""


def memory_line(error: BaseException) -> str:
    """One line, if it is memory that ran out; empty if it is something else."""
    text = str(error)
    told = isinstance(error, RuntimeError | ImportError) and any(word in text.lower() for word in MEMORY)
    if not told and not isinstance(error, MemoryError):
        return ""
    first = text.partition("\n")[0]
    return f"out of memory: {first}" if first else "out of memory"


def _nearest(typed: str, valid: list[str]) -> str:
    """The valid name with the fewest slips, or else the shortest that begins so; empty if none is near."""
    slips = {name: _slips(typed, name.lower()) for name in valid}
    near = [name for name, count in slips.items() if count <= max(1, len(typed) // 3)]
    begun = [name for name in valid if len(typed) > 1 and name.lower().startswith(typed)]
    return min(near, key=lambda name: (slips[name], name), default=min(begun, key=len, default=""))


def _slips(typed: str, meant: str) -> int:
    """Letters left out, added or mistaken, and neighbours swapped (one slip, not two)."""
    above, last = [0] * (len(meant) + 1), list(range(len(meant) + 1))
    for i, a in enumerate(typed):
        row = [i + 1]
        for j, b in enumerate(meant):
            count = min(last[j] + (a != b), last[j + 1] + 1, row[j] + 1)
            if i and j and (a, typed[i - 1]) == (meant[j - 1], b):
                count = min(count, above[j - 1] + 1)
            row.append(count)
        above, last = last, row
    return last[-1]
