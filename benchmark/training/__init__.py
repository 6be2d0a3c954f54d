"""The training loop: a method describes phases, the loop trains them for all seeds of a run."""

from benchmark.training.model import Model, Params
from benchmark.training.optim import SGD, Adam, Factor, Group
from benchmark.training.phase import STATE, Hook, Objective, Phase, Select, Terms, Trained
from benchmark.training.replicas import build_replicas, each_replica
from benchmark.training.samplers import Batch, IndependentSampler, RowSampler, Sampler, TupleSampler
from benchmark.training.train import train_phase

__all__ = [
    "SGD",
    "STATE",
    "Adam",
    "Batch",
    "Factor",
    "Group",
    "Hook",
    "IndependentSampler",
    "Model",
    "Objective",
    "Params",
    "Phase",
    "RowSampler",
    "Sampler",
    "Select",
    "Terms",
    "Trained",
    "TupleSampler",
    "build_replicas",
    "each_replica",
    "train_phase",
]
