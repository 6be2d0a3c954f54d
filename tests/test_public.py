"""The public names: typed, complete, and free of charge until they are used."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ["benchmark", "benchmark.training"]


@pytest.mark.parametrize("name", PACKAGES)
def test_importing_a_package_imports_neither_torch_nor_numpy(name):
    code = f"import json, sys, {name}; print(json.dumps([sorted(sys.modules), dir({name}), {name}.__all__]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules, listed, public = json.loads(done.stdout)
    assert not {"torch", "numpy", "importlib.metadata"} & set(modules)
    assert set(public) <= set(listed)


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_is_the_object_of_its_module(name):
    package = importlib.import_module(name)
    for each in package.__all__:
        value = getattr(package, each)
        assert value.__name__ in (each, "register"), each
        assert vars(package)[each] is value
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        package.Nothing  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        exec(f"from {name} import Nothing")


@pytest.mark.parametrize("name", PACKAGES)
def test_type_checkers_read_the_same_names_from_the_same_modules(name):
    """A second list is the price of types; it must not differ from the one that is used."""
    package = importlib.import_module(name)
    tree = ast.parse(Path(package.__file__).read_text())
    (block,) = (
        node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    )
    typed = {each.asname: f"{node.module}.{each.name}" for node in block.body for each in node.names}
    assert sorted(typed) == package.__all__
    for each, origin in typed.items():
        module, _, attribute = origin.rpartition(".")
        assert getattr(importlib.import_module(module), attribute) is getattr(package, each)
    table = next(ast.literal_eval(node.value.args[1]) for node in tree.body if isinstance(node, ast.Assign))
    assert {n: f"{name}.{m}.{n}" for m, names in table.items() for n in names} == typed


def test_the_names_the_guides_promise_are_there():
    import benchmark
    import benchmark.training

    method = {"Method", "Retriever", "method", "derive_seed"}
    dataset = {"Dataset", "Located", "Modality", "MultimodalData", "Split", "dataset", "validate"}
    training = {"Adam", "SGD", "Objective", "Phase", "Select", "RowSampler", "TupleSampler"}
    assert method | dataset <= set(benchmark.__all__)
    assert set(benchmark.training.__all__) == training | {"train_phase", "build_replicas"}
