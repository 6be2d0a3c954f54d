"""The public names: typed, complete, and free of charge until they are used."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import benchmark
import benchmark.training


def test_importing_the_package_imports_neither_torch_nor_numpy():
    code = "import json, sys, benchmark as b; print(json.dumps([sorted(sys.modules), dir(b), b.__all__]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules, listed, public = json.loads(done.stdout)
    assert not {"torch", "numpy", "importlib.metadata"} & set(modules)
    assert set(public) <= set(listed)


LIGHT = {
    "names": "from benchmark.core import registry as r; assert r.METHODS.entries() and r.DATASETS.entries()",
    "a record": "import benchmark.records.record, benchmark.records.comparable, benchmark.records.store",
    "a recipe": "from benchmark.core.registry import METHODS; from benchmark.runs.recipe import resolve; "
    "assert resolve(METHODS.get('drcl'), 'xmedia', 'quick', ['lr_spl=5'])['lr_spl'].value == 5.0",
}


@pytest.mark.parametrize("what", LIGHT)
def test_reading_imports_neither_torch_nor_a_method(what):
    code = f"{LIGHT[what]}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert not {"torch", "numpy", "scipy", "sklearn", "pandas"} & set(loaded)
    assert not [name for name in loaded if name.startswith(("benchmark.methods.", "benchmark.datasets."))]


def test_every_public_name_is_the_object_of_its_module():
    for each in benchmark.__all__:
        value = getattr(benchmark, each)
        assert value.__name__ in (each, "register"), each
        assert vars(benchmark)[each] is value
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        benchmark.Nothing  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        exec("from benchmark import Nothing")


def test_type_checkers_read_the_same_names_from_the_same_modules():
    """A second list is the price of types; it must not differ from the one that is used."""
    tree = ast.parse(Path(benchmark.__file__).read_text())
    (block,) = (
        node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    )
    typed = {each.asname: f"{node.module}.{each.name}" for node in block.body for each in node.names}
    assert sorted(typed) == benchmark.__all__
    for each, origin in typed.items():
        module, _, attribute = origin.rpartition(".")
        assert getattr(importlib.import_module(module), attribute) is getattr(benchmark, each)
    assert {n: f"benchmark.{m}.{n}" for m, names in benchmark._HOMES.items() for n in names} == typed


def test_the_names_the_guides_promise_are_there():
    method = {"Config", "FitLog", "Method", "Retriever", "RunContext", "derive_seed", "method"}
    dataset = {"Dataset", "Location", "Modality", "MultimodalData", "Split", "dataset", "validate"}
    training = {"Adam", "SGD", "Objective", "Phase", "Select", "RowSampler", "TupleSampler"}
    assert method | dataset <= set(benchmark.__all__)
    assert training | {"Batch", "Model", "train_phase", "build_replicas"} <= set(benchmark.training.__all__)
