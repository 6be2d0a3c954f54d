"""What can go wrong because of an input, as opposed to a bug.

Every class here ends as one line on standard error and exit code 2; any other exception is a bug and
keeps its traceback.
"""


class BenchmarkError(Exception):
    """A problem the user can solve. The message says what is wrong, where, and what to do, in one line."""


class UnknownNameError(BenchmarkError):
    """A method, dataset, option or other name that does not exist; the message lists the valid ones."""

    def __init__(self, kind: str, name: str, valid: list[str]) -> None:
        from difflib import get_close_matches

        near = get_close_matches(name.lower(), valid, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else "."
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
