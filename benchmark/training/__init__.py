"""The training loop, by the names a method needs to be trained with it."""

from typing import TYPE_CHECKING

from benchmark.lazy import on_use

if TYPE_CHECKING:  # as in the package above
    from benchmark.training.optim import SGD as SGD
    from benchmark.training.optim import Adam as Adam
    from benchmark.training.phase import Objective as Objective
    from benchmark.training.phase import Phase as Phase
    from benchmark.training.phase import Select as Select
    from benchmark.training.samplers import RowSampler as RowSampler
    from benchmark.training.samplers import TupleSampler as TupleSampler
    from benchmark.training.train import build_replicas as build_replicas
    from benchmark.training.train import train_phase as train_phase

__getattr__, __all__ = on_use(
    __name__,
    {
        "optim": ("SGD", "Adam"),
        "phase": ("Objective", "Phase", "Select"),
        "samplers": ("RowSampler", "TupleSampler"),
        "train": ("build_replicas", "train_phase"),
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
