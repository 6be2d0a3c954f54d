"""Installed as a wheel, or editable beside packages that are called datasets and methods, too."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
TOPS = {
    "benchmark": "benchmark",
    "methods": "benchmark/methods",
    "datasets": "benchmark/datasets",
    "results/published": "benchmark/_published",
}
"""Folders of the checkout, and where they are in the wheel."""
RUN = ["-m", "benchmark", "run", "--method", "drcl", "--set", "epochs=1", "--dataset", "emoji"]
RUN += ["--modalities", "image,text", "--profile", "quick", "--device", "cpu", "--json"]
FOREIGN = "def load_dataset(name):\n    return 'foreign ' + name\n"
ASK = "import datasets, methods; print(datasets.load_dataset('x'), methods.load_dataset('y'))"


def python(*arguments, path="", command=(sys.executable,), code=0, **options):
    """Run a Python that sees the packages of this one, and of the suite only what is in ``path``."""
    hidden = ("BENCHMARK_RESULTS", "BENCHMARK_DATA", "PYTHONHOME")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    call = [*map(str, command), *map(str, arguments)]
    done = subprocess.run(
        call, capture_output=True, text=True, check=False, env={**env, "PYTHONPATH": str(path)}, **options
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def pip(*arguments, target=sys.executable):
    """Run pip for an interpreter, without network."""
    python("-m", "pip", "--quiet", "--disable-pip-version-check", "--python", target, *arguments, cwd="/")


def files(folder):
    """The files under a folder that are no bytecode, as paths relative to it."""
    every = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in every}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The checkout without what a build leaves behind, so that neither disturbs the other."""
    folder = tmp_path_factory.mktemp("source")
    for name in (*TOPS, "examples", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, source)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder with the wheel installed."""
    folder = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


# --- a wheel


def test_every_package_on_disk_is_installed():
    found = set()
    for top, place in TOPS.items():
        for folder in [ROOT / top, *(p for p in (ROOT / top).rglob("*") if p.is_dir())]:
            inner = folder.relative_to(ROOT / top)
            if (folder / "__init__.py").is_file() and (top, *inner.parts[:1]) != ("datasets", "build"):
                found.add(".".join([*place.split("/"), *inner.parts]))
    assert sorted(found | {"benchmark._published"}) == sorted(SETUPTOOLS["packages"])


def test_the_wheel_has_every_file_of_the_packages_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = {name.rpartition("/")[2] for name in archive.namelist() if "/licenses/" in name}
    wanted = {
        f"{place}/{name}"
        for top, place in TOPS.items()
        for name in files(ROOT / top)
        if (top, name.partition("/")[0]) != ("datasets", "build")
    }
    assert inside == wanted
    assert licences >= {"LICENSE", "CC-BY-SA-4.0.txt", "Unicode-3.0.txt"}


def test_a_wheel_alone_runs(site, tmp_path):
    where = python(
        "-c",
        "import benchmark.runs, benchmark.methods.drcl as m, benchmark.datasets.emoji as d\n"
        "print(benchmark.__file__, benchmark.runs.__file__, m.__file__, d.__file__, sep='\\n')",
        path=site,
        cwd=tmp_path,
    )
    assert all(Path(line).is_relative_to(site) for line in where.splitlines())
    before = files(site)
    record = json.loads(python(*RUN, path=site, cwd=tmp_path))
    assert files(site) == before
    assert Path(record["stored"]).parent == tmp_path / "results" / "runs"
    assert record["versions"]["commit"] is None
    assert record["method"]["origin"] == "benchmark.methods.drcl"


@pytest.mark.parametrize(
    ("arguments", "field", "some"),
    [
        (["list", "methods"], None, "drcl"),
        (["list", "datasets"], None, "emoji"),
        (["study", "list"], "studies", "ablation"),
        (["report", "list"], "reports", "table2"),
        (["results"], None, ""),
        (["doctor"], "data", "emoji"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_of_a_wheel_find_what_belongs_to_it(site, tmp_path, arguments, field, some):
    document = json.loads(python("-m", "benchmark", *arguments, "--json", path=site, cwd=tmp_path))
    assert some in json.dumps(document[field] if field else document)
    if arguments == ["doctor"]:
        assert document["problems"] == []
        assert document["data"]["emoji"]["official"] == "found"
        assert document["folders"]["results"]["path"] == str(tmp_path / "results" / "runs")


# --- beside others of the same names


@pytest.fixture(scope="module")
def environment(source, tmp_path_factory):
    """The Python of an environment with the suite editable and other packages datasets and methods."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "venv", symlinks=os.name == "posix")
    binary = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    place = python("-c", "import sysconfig; print(sysconfig.get_path('purelib'))", command=[binary]).strip()
    # what is installed here (torch, say) is seen there after its own; .pth files of here are not read there
    (Path(place) / "zz-others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    other = folder / "other"
    (other / "datasets").mkdir(parents=True)
    (other / "datasets" / "__init__.py").write_text(FOREIGN)
    (other / "methods.py").write_text(FOREIGN)
    (other / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "other-datasets"\nversion = "1"\n'
        '[tool.setuptools]\npackages = ["datasets"]\npy-modules = ["methods"]\n'
    )
    options = ["install", "--no-deps", "--no-build-isolation", "--no-index"]
    pip(*options, other, "--editable", source, target=binary)
    return binary


def test_other_packages_called_datasets_and_methods_stay_what_they_are(environment, source, tmp_path):
    call = {"command": [environment], "cwd": tmp_path}
    assert python("-c", ASK, **call) == "foreign x foreign y\n"
    both = f"import datasets; import benchmark.datasets.emoji as e; {ASK}; print(e.__file__)"
    *said, place = python("-c", both, **call).splitlines()
    assert said == ["foreign x foreign y"]
    assert place == str(source / "datasets" / "emoji.py")
    assert "emoji" in python("-m", "benchmark", "list", "datasets", **call)
    script = environment.with_name("cmr-benchmark")
    assert "drcl" in python("list", "methods", command=[script], cwd=tmp_path)


@pytest.mark.parametrize("layout", ["editable", "wheel"])
def test_files_of_these_names_in_the_current_folder_stay_what_they_are(environment, site, tmp_path, layout):
    call = {"command": [environment]} if layout == "editable" else {"path": site}
    for name in ("datasets", "methods"):
        (tmp_path / f"{name}.py").write_text(FOREIGN.replace("foreign", "own"))
    assert python("-c", ASK, cwd=tmp_path, **call) == "own x own y\n"
    assert "emoji" in python("-m", "benchmark", "list", "datasets", cwd=tmp_path, **call)
    output = tmp_path / "runs"
    record = json.loads(python(*RUN, "--results", output, cwd=tmp_path, **call))
    assert Path(record["stored"]).parent == output


NAMES = [
    "datasets.py",
    "methods/__init__.py",
    "benchmark/notes.txt",
    "torch.py",
    "numpy.py",
    "typer.py",
    "rich.py",
]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_the_current_folder_is_taken_for_a_package(site, tmp_path, name):
    """Whoever keeps such a file there gets every dataset, and a run."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("raise SystemExit('this is not it')\n")
    call = {"path": site, "cwd": tmp_path}
    assert "emoji" in python("-m", "benchmark", "list", "datasets", **call)
    found = json.loads(python("-m", "benchmark", "doctor", "--json", **call))
    assert found["ok"]
    assert found["data"]["emoji"]["official"] == "found"
    if name in ("datasets.py", "torch.py"):
        assert json.loads(python(*RUN, **call))["dataset"]["id"] == "emoji"


def test_a_package_that_is_hidden_by_the_path_is_named(site, tmp_path):
    """On PYTHONPATH it is what the user asked for, and never what they meant."""
    (tmp_path / "torch.py").write_text("x = 1\n")
    path = os.pathsep.join([str(tmp_path), str(site)])
    line = f"{tmp_path / 'torch.py'} hides the installed package torch"
    found = json.loads(python("-m", "benchmark", "doctor", "--json", path=path, cwd=site, code=1))
    assert any(line in problem for problem in found["problems"])
    answer = json.loads(python(*RUN, path=path, cwd=tmp_path, code=2))
    assert answer["error"].startswith(line)


def test_a_suite_without_its_methods_says_so_and_takes_no_others(tmp_path):
    """As after copying a folder, or with a wheel built wrongly; other packages lie beside it."""
    shutil.copytree(ROOT / "benchmark", tmp_path / "benchmark")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text(FOREIGN)
    for kind in ("method", "dataset"):
        call = ["-m", "benchmark", "list", f"{kind}s", "--json"]
        document = json.loads(python(*call, path=tmp_path, cwd=tmp_path, code=2))
        assert f"no package benchmark.{kind}s" in document["error"]
        assert "pip install -e ." in document["error"]
    found = json.loads(python("-m", "benchmark", "doctor", "--json", path=tmp_path, cwd=tmp_path, code=1))
    assert not found["ok"]
    assert sum("no package benchmark." in problem for problem in found["problems"]) == 2
