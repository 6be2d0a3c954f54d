"""What all tests share: the device, and the folders of real data.

Real data lie under ``$BENCHMARK_DATA``. A test that needs some asks for them by folder name::

    @pytest.mark.real_data
    def test_something(data_folder):
        path = data_folder("wikipedia_classic")

and is skipped where they are missing. With ``BENCHMARK_REQUIRE_DATA=1``, as in continuous integration,
a ``real_data`` test that skips for any reason fails instead: a check that quietly stopped running would
look like one that passes.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("suite", deadline=None, derandomize=True)  # the same cases on every machine
settings.load_profile("suite")


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="device of the tests that compute: cpu (default), cuda")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Tests leave the user's cache folder alone, and find nothing in it."""
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def world_options():
    """What a test file's world has beside the toys; see tests.world.World."""
    return {}


@pytest.fixture
def world(tmp_path, monkeypatch, world_options):
    """A toy method and a toy dataset in place of ours, with results and a cache of their own."""
    from tests.world import World

    made = World(tmp_path, monkeypatch, **world_options)
    yield made
    made.close()


@pytest.fixture(scope="session")
def device(request):
    """The torch device given with --device."""
    import torch

    chosen = torch.device(request.config.getoption("--device"))
    if chosen.type == "cuda" and not torch.cuda.is_available():
        pytest.fail("--device cuda was given, but torch finds no CUDA device")
    return chosen


@pytest.fixture(scope="session")
def data_folder() -> Callable[[str], Path]:
    """Find a folder of real data by name, or skip the test with the reason."""

    def find(name: str) -> Path:
        root = os.environ.get("BENCHMARK_DATA")
        if not root:
            pytest.skip("BENCHMARK_DATA is not set")
        folder = Path(root) / name
        if not folder.is_dir():
            pytest.skip(f"no folder {name} under $BENCHMARK_DATA")
        return folder

    return find


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    required = os.environ.get("BENCHMARK_REQUIRE_DATA", "") not in ("", "0")
    if (
        report.skipped
        and required
        and not hasattr(report, "wasxfail")
        and item.get_closest_marker("real_data")
    ):
        report.outcome = "failed"
        report.longrepr = f"BENCHMARK_REQUIRE_DATA is set, but real data are missing: {call.excinfo.value}"
    return report
