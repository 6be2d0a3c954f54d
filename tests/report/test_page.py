"""The page: complete without network, and its tables sort and filter in a browser."""

import re
import shutil

import pytest

from benchmark.records.store import Store
from benchmark.report.catalog import Item
from benchmark.report.formats.page import content, write_page
from benchmark.report.made import Made, Options
from benchmark.report.tables import Line, build
from benchmark.runs.spec import RunSpec
from tests.report.records import make_record, store_run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def page_file(tmp_path):
    """A page of three runs and a method that is missing."""
    maps = {"drcl": 0.5, "sdml": 0.4, "mars": 0.45}
    runs = [store_run(tmp_path / "r", make_record(n, ((m, m - 0.1),) * 2), seed=1) for n, m in maps.items()]
    item = Item("table3", "methods", "Table III", ("wikipedia",))
    made = Made(item, runs={run.record.key: run for run in runs})
    lines = [Line(r.record.method.title, r.record, {"avg": 0.45}, "a <note>") for r in runs]
    lines.append(Line("MAN", None, {"avg": 0.1}, reason="not <computed>", command="python -m benchmark run"))
    made.tables = [build("table3-wikipedia", "Wikipedia", lines)]
    options = Options(RunSpec("", ""), Store(tmp_path / "r"), tmp_path)
    return write_page([made], tmp_path / "index.html", options), made, options


def test_the_page_needs_nothing_else_and_hides_nothing(page_file):
    file, made, options = page_file
    text = file.read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", text)
    assert "@import" not in text
    assert "not &lt;computed&gt;" in text  # what comes from records is text, never markup
    assert "python -m benchmark run" in text
    assert "official data" in text
    found = content([made], options)
    assert [line["row"] for line in found["missing"]] == ["MAN"]
    assert len(found["runs"]) == 3
    assert {card["title"] for card in found["cards"]} == {"DRCL", "SDML", "MARS"}


def test_a_page_of_nothing_says_so(tmp_path):
    made = Made(
        Item("figure2", "curves", "Fig. 2", ("wikipedia",)), problems=["figure2: no method has a run"]
    )
    options = Options(RunSpec("", ""), Store(tmp_path / "r"), tmp_path)
    text = write_page([made], tmp_path / "index.html", options).read_text(encoding="utf-8")
    assert "No runs are stored." in text
    assert "Not drawn: figure2: no method has a run." in text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium installed (Debian: chromium)")
def test_sorting_and_filtering_in_a_browser(page_file):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 360, "height": 740})
        problems, asked = [], []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_file[0].as_uri())

        def labels():
            rows = page.locator("table.sortable").first.locator("tbody tr:visible td:first-child")
            return rows.all_inner_texts()

        assert labels() == ["DRCL", "SDML", "MARS", "random ranking"]
        head = page.locator("table.sortable").first.locator("th button")
        head.nth(1).click()  # best first
        assert labels() == ["DRCL", "MARS", "SDML", "random ranking"]
        head.nth(1).click()
        assert labels() == ["SDML", "MARS", "DRCL", "random ranking"]  # the random ranking stays below
        head.nth(0).click()
        assert labels() == ["DRCL", "MARS", "SDML", "random ranking"]
        page.locator("input[type=search]").first.fill("ml")
        assert labels() == ["SDML"]
        page.locator("input[type=search]").first.fill("")
        assert len(labels()) == 4
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360  # a phone scrolls tables, not the page
        assert problems == []
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        browser.close()
