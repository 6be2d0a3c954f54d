"""The record as a type: everything comes in and goes out, older layouts too, and nothing else does."""

import copy
import json
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.cli.main import main
from benchmark.cli.view import run as view
from benchmark.errors import BenchmarkError
from benchmark.records.comparable import changes
from benchmark.records.differences import circumstances
from benchmark.records.document import SCHEMA, InvalidRecordError
from benchmark.records.record import RunRecord
from benchmark.records.store import Store, StoredRun, read_record
from benchmark.records.transfer import import_runs
from benchmark.report.formats import csv as csvs
from benchmark.report.formats import latex, markdown, page
from benchmark.report.published import compare
from benchmark.report.tables import Line, build
from benchmark.runs.key import KEY_VERSION, record_key
from benchmark.runs.runner import Outcome, execute
from benchmark.runs.spec import RunSpec
from tests.stored import changed, make_document, rewrite, save

RUNS = Path(__file__).parent / "vectors" / "schema2.zip"
NEW = ("options", "words", "checksum", "arrays_sha256")
NOISE = {"ratio": 0.4, "mode": "asym", "seed": 3}


def documents():
    """Documents of real runs, as they were written under schema 2."""
    with zipfile.ZipFile(RUNS) as archive:
        names = [name for name in archive.namelist() if name.endswith("record.json")]
        return {name: json.loads(archive.read(name)) for name in names}


def as_schema_2(document):
    """A document as schema 2 had it."""
    old = {name: value for name, value in copy.deepcopy(document).items() if name not in NEW}
    old["schema"] = old["comparability"]["schema"] = 2
    return old


def test_nothing_is_lost_on_the_way_in_and_out():
    document = make_document(unknown=[1], method__year=2000, dataset__notes=["x"], peak_memory_bytes=7)
    record = RunRecord.from_json(document)
    out = json.loads(json.dumps(record.to_json()))
    assert {name: out[name] for name in document} == changed(document, **{
        "method__pairwise": False, "method__transductive": False, "dataset__named_items": []})  # fmt: skip
    assert RunRecord.from_json(out) == record


@pytest.mark.parametrize("name", documents())
def test_a_real_record_of_schema_2_is_the_same_in_schema_3(name):
    old = documents()[name]
    assert old["schema"] == 2
    record = RunRecord.from_json(old)
    new = record.to_json()
    assert as_schema_2(new) == old
    assert (record.schema, record.comparability["schema"]) == (SCHEMA, SCHEMA)
    assert (record.options, record.words, record.is_partial) == ({}, (), True)
    assert RunRecord.from_json(new) == record


def test_committed_runs_come_in_as_they_are_and_their_files_stay(tmp_path):
    store = Store(tmp_path)
    import_runs(store, RUNS, record_key)
    assert import_runs(store, RUNS, record_key).present
    for name, document in documents().items():
        assert json.loads((tmp_path / name).read_text()) == document
        assert store.find(document["key"]).record.to_json()["options"] == {}


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"leave_own_out": True},
        {"label_noise": 0.4, "label_noise_mode": "asym", "label_noise_seed": 3},
        {"pairwise": True, "leave_own_out": True},
        {"pairwise": True, "modalities": ("image", "text")},
        {"scaling": "standardize", "precision": "fp64"},
    ],
)
def test_a_migrated_record_is_what_a_run_of_today_writes(world, asked):
    run = execute(RunSpec("toy", "blobs", seeds=(1,), **asked), Store()).run
    document = json.loads((run.folder / "record.json").read_text())
    assert document["schema"] == SCHEMA
    unsealed = replace(run.record, arrays_sha256=None)
    assert RunRecord.from_json(document) == run.record
    assert RunRecord.from_json(as_schema_2(document)) == unsealed
    assert record_key(unsealed) == run.record.key
    (run.folder / "record.json").write_text(json.dumps(as_schema_2(document)))
    again = execute(RunSpec("toy", "blobs", seeds=(1,), **asked), Store())
    assert (again.cached, again.run.record) == (True, unsealed)


def test_keys_do_not_depend_on_the_layout():
    assert KEY_VERSION == 2


def test_options_of_schema_2_are_found_where_they_were():
    old = as_schema_2(make_document(leave_own_out=True, label_noise=NOISE, scaling="standardize"))
    old |= {"precision": "tf32", "protocol": "pairwise"}
    old["comparability"] |= {"leave_own_out": True, "label_noise": NOISE, "protocol": "paired-oriented"}
    record = RunRecord.from_json(old)
    assert record.options == {
        "leave_own_out": True,
        "pairwise": True,
        "label_noise": NOISE,
        "scaling": "standardize",
        "precision": "tf32",
    }
    assert record.words == (
        "every query without its own item in the database",
        "one model for every two modalities",
        "40% of the training labels drawn anew (asym, seed 3)",
    )
    assert "protocol" not in record.comparability
    own = RunRecord.from_json(changed(old, method__pairwise=True))
    assert (own.words, "pairwise" in own.options) == (record.words, False)  # the method is defined so


def test_what_is_recomputed_everywhere_is_a_property():
    record = RunRecord.from_json(make_document(recipe__ridge__origin="--set", dataset__source="standin"))
    assert record.directions == ("image->text", "text->image")
    assert record.name == record.key[:16]
    assert (record.split, record.default_split) == ("even", "even")
    assert record.changed == {"ridge": 2.0}
    assert (record.is_standin, record.is_pairwise, record.is_partial) == (True, False, False)
    assert record.values("map@50", "image->text") == [0.5, 0.4]
    assert record.mean() == pytest.approx(0.45)
    assert record.mean_chance == pytest.approx(0.1)


DELETED = object()
WRONG = {
    "not a JSON object": [],
    "no 'schema'": {"schema": DELETED},
    "schema 99, but this version reads 2 to 3": {"schema": 99},
    "schema 1, but": {"schema": 1},
    "schema None": {"schema": None},
    "'key' is not a hash": {"key": "zz"},
    "no 'results.map@all'": {"results": DELETED},
    "no 'dataset.split'": {"dataset__split": DELETED},
    "no 'timings.total'": {"timings": {}},
    "'started' is not a text": {"started": 3},
    "'method.title' is not a text": {"method__title": 3},
    "'method.version' is no whole number": {"method__version": "1"},
    "'versions.suite' is not a text": {"versions__suite": None},
    "'modalities' is no list": {"modalities": "image"},
    "'warnings' is no list": {"warnings": [1]},
    "'seeds' is no list": {"seeds": []},
    "'dataset.source' is not one of official, standin, user": {"dataset__source": "<script>"},
    "'profile' is not one of paper, quick": {"profile": None},
    "'dataset.options' is not one text per name": {"dataset__options": []},
    "'history' is not an object": {"history": []},
    "'top' is no whole number": {"top": -1},
    "'comparability.fingerprint' is another than 'dataset.fingerprint'": {"comparability__fingerprint": "0"},
    "'comparability.schema' is another than 'schema'": {"comparability__schema": 99},
    "'comparability.metric_version' is no whole": {"comparability__metric_version": None},
    "'recipe' has an entry that is not value, origin and source: 'ridge'": {"recipe": {"ridge": 3}},
    "'results.map@all' has other directions": {"modalities": ["image", "text", "audio"]},
    "'chance' has other directions": {"chance": {}},
    "'results.map@50' has other directions": {"results__map@50": None},
    "'averages.map@all' is not one number per seed": {"averages__map@all": [0.1]},
    "'results.map@all.image->text' is not one number": {"results__map@all__image->text": [True, 1]},
    "'averages.map@50' is not the mean": {"averages__map@50": [0.9, 0.9]},
    "'chance' is no number": {"chance__image->text": float("inf")},
    "'sizes' has no queries": {"sizes__image->text": {"database": 3}},
    "'timings' is no number": {"timings__fit": "long"},
    "'options' is not an object": {"options": ["pairwise"]},
    "'words' is no list": {"words": "pairwise"},
    "no 'words'": {"words": DELETED},
    "'label_noise' has no ratio, mode or seed": {
        **{"schema": 2, "comparability__schema": 2, "label_noise": {"ratio": "a"}}
    },
}


@pytest.mark.parametrize("line", WRONG)
def test_a_document_that_is_not_sound_is_refused_in_one_line(line):
    wrong = WRONG[line]
    document = changed(make_document(), **wrong) if isinstance(wrong, dict) else wrong
    with pytest.raises(InvalidRecordError) as caught:
        RunRecord.from_json(without(document))
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def without(document):
    """A document without the entries that are marked as deleted."""
    if not isinstance(document, dict):
        return document
    return {name: without(value) for name, value in document.items() if value is not DELETED}


# --- one bad record among others

ODD = [5, -1, 2.5, "x", None, [], {}, True, 10**400, 1e308, [5], {"x": 5}, [[]], "\ud800"]


def places(part, path=()):
    """The path of every value of a document."""
    for name, value in part.items() if isinstance(part, dict) else enumerate(part):
        yield (*path, name)
        if isinstance(value, dict | list):
            yield from places(value, (*path, name))


def bad_documents():
    """The document of every option and note with one value replaced, or left out."""
    noise = {"ratio": 0.4, "mode": "sym", "seed": 1}
    whole = make_document(
        **{"notes": {"replicas": {"main": "alone"}}, "options": {"label_noise": noise}, "top": 3},
        **{"dataset__options": {"seed": "1"}, "method__group": "paired-free", "ties": {"image->text": [0.0]}},
        **{"named_files": {"ridge": "0" * 64}, "config": {"ridge": 2.0}, "peak_memory_bytes": 7},
    )
    for path in places(whole):
        for value in (*ODD, ...):
            document = copy.deepcopy(whole)
            part = document
            for name in path[:-1]:
                part = part[name]
            if value is ...:
                del part[path[-1]]
            else:
                part[path[-1]] = value
            yield path, value, document


def test_a_record_with_any_bad_value_is_refused_in_one_line_or_can_be_shown(tmp_path, capsys):
    """Whatever shows records asks nothing of them that was not checked when they were read."""
    file, refused, lines = tmp_path / "record.json", 0, set()
    for path, value, document in bad_documents():
        file.write_text(json.dumps(document))
        try:
            record = read_record(file)
        except InvalidRecordError as error:
            refused += 1
            lines.add(str(error).count("\n"))
            continue
        run = StoredRun(tmp_path, record)
        try:
            view.stored([record], {})
            view.outcome(Outcome(run, cached=True), compare(record))
            table = build("t", "T", [Line("a", record)])
            markdown.render(table), latex.render([table]), csvs.render(table), page._table(table)
            page._run(run)
            changes(record), circumstances(record), record.timings["total"] / len(record.seeds)
            json.dumps(record.to_json(), allow_nan=False)
            capsys.readouterr().out.encode()
            with suppress(BenchmarkError):
                record_key(record)
        except Exception as error:
            raise AssertionError(f"{path} = {value!r}") from error
    assert refused > 1000
    assert lines == {0}


BAD = {
    "a number for the method": '{"method": 5}',
    "no averages": "averages",
    "nested lists": "[" * 100_000,
    "a list": "[]",
    "half a character": '{"schema": 3, "key": "\\ud800"}',
    "binary": "\x00\x01",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_one_bad_record_is_one_line_and_the_others_are_listed(tmp_path, capsys, text):
    store = Store(tmp_path / "runs")
    bad, good = save(store, "a"), save(store, "b")
    if text == "averages":
        rewrite(bad.folder, lambda document: document.pop("averages"))
    else:
        (bad.folder / "record.json").write_text(text)
    export = ["results", "export", str(tmp_path / "x.zip")]
    for words in (["results"], ["results", "timings"], ["results", "gc"], export):
        assert main([*words, "--results", str(store.root)]) == 0
        out, err = capsys.readouterr()
        assert "timings" in words or err.count(f"{bad.folder}: damaged run record") == 1
        assert "results" not in words[-1] or good.folder.name in out
    assert main(["results", "show", bad.folder.name[:8], "--results", str(store.root)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
