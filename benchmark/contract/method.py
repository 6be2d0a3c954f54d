"""The contract every method keeps, checked on tiny generated data.

``check_method`` fits a method on every shape of data its description admits and looks at what comes back.
Hyper-parameters are those of the recipe with its section ``[tiny]`` on top, or the method's defaults. Nothing
is stored. The contract of datasets, ``check_dataset``, is in :mod:`benchmark.contract.dataset`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from itertools import permutations, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.contract.cases import Case, cases, foreign_names, make_case
from benchmark.contract.dataset import check_dataset
from benchmark.contract.result import BrokenContractError, CheckResult, check, demand
from benchmark.core.data import Split
from benchmark.core.info import MethodInfo
from benchmark.core.method import FitLog, Method, Retriever, RunContext
from benchmark.core.registry import Entry
from benchmark.errors import UnsupportedError
from benchmark.records.record import VARIANT
from benchmark.runs.recipe import RESERVED, layer_dataset, read_layers, recipe_file, resolve, variants
from benchmark.training.modules import DROPOUT

__all__ = ["CheckResult", "check_dataset", "check_method"]

SEEDS = (1, 2)
FEW = 3  # test rows that are judged without the others
TOLERANCE = 1e-4  # relative to the largest value; float32 sums in another order differ by less
INSTEAD = f"in place of nn.Dropout use {DROPOUT}"

Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Subject:
    """A method's class and the hyper-parameters it is checked with."""

    cls: type[Method]
    values: Mapping[str, Any]

    @property
    def info(self) -> MethodInfo:
        """What the decorator says."""
        return self.cls.info

    def build(self, *, beyond_kinds: bool = False) -> Method:
        """The method with these hyper-parameters."""
        method = self.cls.from_values(self.values)
        method.beyond_kinds = beyond_kinds
        return method


def check_method(checked: Entry | type[Method]) -> list[CheckResult]:
    """Check a method's contract.

    Args:
        checked: Registry entry, or the class itself (whose recipe is then not looked at).

    Returns:
        One result per check. Checks that build on a broken class or a failing plainest fit are left out.
    """
    cls: type[Method] = checked.load() if isinstance(checked, Entry) else checked
    results = [check("class", lambda: _class(cls))]
    if results[0].passed and isinstance(checked, Entry):
        results.append(check("recipe", lambda: _recipe(checked)))
    if not all(result.passed for result in results):
        return results
    subject = Subject(cls, tiny_values(checked) if isinstance(checked, Entry) else {})
    results.append(check("hyper-parameters", lambda: _values(subject)))
    fitted: list[tuple[list[Retriever], list[Outputs]]] = []

    def plain() -> Case:  # made anew for every check: a method that changes its input must not spoil the next
        return cases(cls.info)[0]

    def first() -> str:
        case = plain()
        models = fit(subject, case)
        fitted.append((models, [outputs(model, case.test) for model in models]))
        return f"{len(models)} models for {len(SEEDS)} seeds"

    results.append(check(f"fits {plain().name}", first))
    if fitted:
        models, found = fitted[0]
        results += [
            check("finite outputs", lambda: _finite(found)),
            check("shape of outputs", lambda: _shapes(found, plain().test)),
            check("inputs are left alone", lambda: _untouched(subject, plain())),
            check("a model asked twice says the same", lambda: _same_again(models, plain().test, found)),
            check("the same seed gives the same model", lambda: _deterministic(subject, plain(), found)),
            check("seeds matter", lambda: _seeds(cls.info, found)),
            check("seeds together equal each alone", lambda: _together(subject, plain())),
            check("an interrupted fit resumes with the same bits", lambda: _resumed(subject, plain(), found)),
            check(
                "outputs follow their rows" if cls.info.transductive else "a test row is judged by itself",
                lambda: _rows(models[0], found[0], plain().test, cls.info),
            ),
        ]
        results += [
            check(f"fits {case.name}", partial(_serves, subject, case)) for case in cases(cls.info)[1:]
        ]
        if cls.info.kinds:
            results.append(check("other modalities with --pairwise", partial(_extends, subject)))
    misfits = [
        check(f"refuses {what}", partial(_refuses, subject, data)) for what, data in _misfits(cls.info)
    ]
    return results + misfits


def tiny_values(entry: Entry) -> dict[str, Any]:
    """Hyper-parameters that make a fit take a second on few rows: the recipe's, ``[tiny]`` on top."""
    recipe = resolve(entry, "", "tiny")
    return {name: value.value for name, value in recipe.items() if name not in RESERVED}


def fit(subject: Subject, case: Case, *, beyond_kinds: bool = False, **context: Any) -> list[Retriever]:
    """Fit on the CPU as the runner does; ``context`` changes fields of the run."""
    method, seeds = subject.build(beyond_kinds=beyond_kinds), context.pop("seeds", SEEDS)
    method.check(case.train)
    run = RunContext(seeds=seeds, **{"replicas": "together", **context})
    models = method.fit(case.train, case.val, run, FitLog())
    demand(isinstance(models, list), f"fit returned {type(models).__name__}, expected a list of retrievers")
    demand(len(models) == len(seeds), f"fit returned {len(models)} retrievers for {len(seeds)} seeds")
    wrong = [type(model).__name__ for model in models if not isinstance(model, Retriever)]
    demand(not wrong, f"fit returned {wrong[:1]}, which is no benchmark.core.method.Retriever")
    return models


def outputs(model: Retriever, split: Split, dtype: torch.dtype = torch.float32) -> Outputs:
    """What the runner would score: similarities per direction, or else embeddings per modality."""
    features = {m.name: torch.as_tensor(m.features).to(dtype) for m in split}
    found: Outputs = {}
    with torch.no_grad():
        for a, b in permutations(split.names, 2):
            similarity = model.similarity(a, features[a], b, features[b])
            if similarity is not None:
                found[f"{a}->{b}"] = similarity.clone()
                continue
            for name in (a, b):
                if name not in found:
                    found[name] = model.embed(name, features[name]).clone()
    return found


def _class(cls: type[Method]) -> str:
    demand(
        isinstance(cls, type) and issubclass(cls, Method), "not a subclass of benchmark.core.method.Method"
    )
    demand(isinstance(getattr(cls, "info", None), MethodInfo), "not decorated with @method(...)")
    config = getattr(cls, "Config", None)
    demand(is_dataclass(config) and isinstance(config, type), "Config is not a dataclass")
    assert isinstance(config, type)
    frozen = config.__dataclass_params__.frozen  # type: ignore[attr-defined]  # set by @dataclass
    demand(frozen, f"{config.__name__} is not frozen; write @dataclass(frozen=True)")
    alone = cls.info.modalities == "two" or not cls.info.pairwise
    demand(alone, 'pairwise=True is for methods with modalities="two"; --pairwise serves the others')
    taken = sorted({field.name for field in fields(config)} & set(RESERVED))
    demand(not taken, f"the hyper-parameter name {', '.join(taken)} is reserved for recipes; choose another")
    return ", ".join(field.name for field in fields(config)) or "no hyper-parameters"


def _values(subject: Subject) -> str:
    subject.build()
    return ", ".join(f"{name}={value}" for name, value in subject.values.items()) or "the defaults of Config"


def _recipe(entry: Entry) -> str:
    """Every layer of the recipe gives a valid Config and leaves no hyper-parameter unstated."""
    cls = entry.load()
    file = recipe_file(entry)
    sections = read_layers(file) if file else {}
    named = sorted({layer_dataset(section) for section in sections} - {""})
    for dataset, profile, variant in product(("", *named), ("paper", "quick", "tiny"), variants(entry)):
        recipe = resolve(entry, dataset, profile, [f"{VARIANT}={variant}"])
        values = {n: v.value for n, v in recipe.items() if n not in RESERVED}
        cls.from_values(values)
        missing = [f.name for f in fields(cls.Config) if f.name not in values]
        demand(not missing, f"{file} does not state {', '.join(missing)}, so no run would record it")
    return f"{file.name}: {', '.join(sections)}" if file else "none; the defaults of Config are used"


def _finite(found: list[Outputs]) -> str:
    for each in found:
        for name, values in each.items():
            bad = int((~torch.isfinite(values)).sum())
            demand(bad == 0, f"{name}: {bad} of {values.numel()} values are NaN or infinite")
    return f"{', '.join(found[0])}"


def _shapes(found: list[Outputs], test: Split) -> str:
    for each in found:
        widths = {}
        for name, values in each.items():
            a, arrow, b = name.partition("->")
            shape, rows = tuple(values.shape), len(test[a])
            if arrow:
                wanted = (rows, len(test[b]))
                demand(shape == wanted, f"similarity {name} has shape {shape}, expected {wanted}")
                continue
            right = len(shape) == 2 and shape[0] == rows and shape[1] > 0
            demand(right, f"{name}: {rows} rows became embeddings of shape {shape}, expected ({rows}, d)")
            widths[name] = shape[1]
        equal = len(set(widths.values())) <= 1
        demand(equal, f"embeddings differ in width ({_list(widths)}) and cannot be compared")
    return _list({name: "x".join(map(str, values.shape)) for name, values in found[0].items()})


def _untouched(subject: Subject, case: Case) -> str:
    before = {where: array.copy() for where, array in _arrays(case)}
    for model in fit(subject, case):
        outputs(model, case.test)
    for where, array in _arrays(case):
        demand(np.array_equal(before[where], array), f"{where} is changed in place; work on a copy")
    return f"{len(before)} arrays unchanged"


def _same_again(models: list[Retriever], test: Split, found: list[Outputs]) -> str:
    """A layer in training mode would draw other noise."""
    again = [outputs(model, test) for model in models]
    problem = (
        "the same rows give other values when asked again; hand back models in evaluation mode (.eval())"
    )
    return _equal(found, again, f"{problem}; {INSTEAD}")


def _deterministic(subject: Subject, case: Case, found: list[Outputs]) -> str:
    """Fit again while the global random streams are somewhere else."""
    with _shaken(12345):
        again = [outputs(model, case.test) for model in fit(subject, case)]
    streams = "draw all random numbers from generators seeded with derive_seed(seed, ...)"
    return _equal(found, again, f"a second fit gives other values; {streams}; {INSTEAD}")


def _equal(found: list[Outputs], again: list[Outputs], problem: str) -> str:
    for seed, one, two in zip(SEEDS, found, again, strict=True):
        for name, values in one.items():
            same = values.shape == two[name].shape and torch.equal(values, two[name])
            demand(same, f"seed {seed}, {name}: {problem}")
    return "bit for bit"


def _seeds(info: MethodInfo, found: list[Outputs]) -> str:
    same = all(torch.equal(values, found[1][name]) for name, values in found[0].items())
    if not info.trained:
        return "closed form; " + ("no randomness on paired data" if same else "seeds give different models")
    demand(not same, "two seeds give the same model; derive the random streams from run.seeds")
    return "two seeds give different models"


def _together(subject: Subject, case: Case) -> str:
    """In float64, where what is left of a difference is rounding."""
    modes = ("together", "alone")
    pairs = zip(*(fit(subject, case, replicas=mode, precision="fp64") for mode in modes), strict=True)
    for seed, models in zip(SEEDS, pairs, strict=True):
        one, two = (outputs(model, case.test, torch.float64) for model in models)
        for name, values in one.items():
            near = _close(values, two[name], 1e-5)
            demand(near, f"seed {seed}, {name}: trained beside another seed it is another model")
    return f"{len(SEEDS)} seeds"


def _resumed(subject: Subject, case: Case, found: list[Outputs]) -> str:
    """Stop at every quarter of all epochs, fit again on what was left behind."""
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    fit(subject, case, progress=count)
    stops = sorted({round(calls * share) for share in (0.25, 0.5, 0.75)} - {0})
    for stop in stops:
        with TemporaryDirectory() as folder:
            left = iter(range(stop))

            def interrupt(*_: Any, left: Iterator[int] = left) -> None:
                if next(left, None) is None:
                    raise _StoppedError

            with suppress(_StoppedError):
                fit(subject, case, progress=interrupt, checkpoints=Path(folder))
            again = [outputs(m, case.test) for m in fit(subject, case, checkpoints=Path(folder))]
        _equal(found, again, f"stopped after {stop} of {calls} reports of progress, it ends up elsewhere")
    return f"stopped at {len(stops)} places"


class _StoppedError(Exception):
    """Raised where a fit is to stop."""


def _rows(model: Retriever, found: Outputs, test: Split, info: MethodInfo) -> str:
    """Reordered test rows give reordered outputs; nor do these depend on other rows, unless transductive."""
    order = {m.name: np.random.default_rng(len(m)).permutation(len(m)) for m in test}
    moved = {m.name: m.take(order[m.name]) for m in test}
    shuffled = outputs(model, Split(test.name, moved, test.classes, test.label_form))
    few = outputs(model, replace(test, modalities={m.name: m.take(np.arange(FEW)) for m in test}))
    for name, values in found.items():
        a, arrow, b = name.partition("->")
        wanted = values[order[a]][:, order[b]] if arrow else values[order[a]]
        demand(_close(shuffled[name], wanted), f"{name}: the order of the test rows changes the values")
        if info.transductive:
            demand(
                bool(arrow),
                f"{name}: a transductive method overrides similarity(); rows are embedded in parts",
            )
        elif arrow:
            demand(
                _close(few[name], values[:FEW, :FEW]),
                f"{name}: a score depends on other rows; see transductive",
            )
        else:
            demand(
                _close(few[name], values[:FEW]),
                f"{name}: a row's embedding depends on the rows beside it (batch norm in training mode?)",
            )
    return f"{len(found)} outputs follow their rows"


def _extends(subject: Subject) -> str:
    """A method for certain modalities serves others too, or refuses them with a reason."""
    try:
        return _serves(subject, make_case("", foreign_names(subject.info)[:2]), beyond_kinds=True)
    except UnsupportedError as refusal:
        return f"refused: {refusal}"


def _serves(subject: Subject, case: Case, *, beyond_kinds: bool = False) -> str:
    models = fit(subject, case, beyond_kinds=beyond_kinds)
    found = [outputs(model, case.test) for model in models]
    _finite(found)
    _shapes(found, case.test)
    return ", ".join(f"{m.name} {len(m)}" for m in case.train) + " training rows"


def _misfits(info: MethodInfo) -> Iterator[tuple[str, Split]]:
    """Data the description excludes."""
    names = info.kinds[:2] or ("image", "text")
    train = make_case("", names).train
    yield "a single modality", train.restrict(names[:1])
    if info.modalities == "two":
        yield "three modalities", make_case("", (*names, "audio")).train
    if info.kinds:
        yield f"other modalities than {', '.join(info.kinds)}", make_case("", foreign_names(info)).train
    if not info.multilabel:
        yield "several labels per item", make_case("", names, form="multi").train


def _refuses(subject: Subject, train: Split) -> str:
    try:
        subject.build().check(train)
    except UnsupportedError as refusal:
        reason = str(refusal)
        demand(bool(reason.strip()) and "\n" not in reason, "refused without a reason in one line")
        return reason
    raise BrokenContractError("check() accepted it; raise UnsupportedError with the reason")


def _arrays(case: Case) -> Iterator[tuple[str, NDArray[Any]]]:
    for split in case.splits:
        for m in split:
            for name, array in (("features", m.features), ("labels", m.labels), ("pair ids", m.pair_ids)):
                if array is not None:
                    yield f"{split.name}/{m.name} {name}", array


def _close(a: Tensor, b: Tensor, tolerance: float = TOLERANCE) -> bool:
    scale = float(b.abs().max()) if b.numel() else 0.0
    return a.shape == b.shape and bool(((a - b).abs() <= tolerance * scale).all())


def _list(items: dict[str, str] | dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in items.items())


@contextmanager
def _shaken(seed: int) -> Iterator[None]:
    """Other states of the global random streams; the old ones come back afterwards."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - the legacy stream is what must not matter
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - as above
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002 - as above
