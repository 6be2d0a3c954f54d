"""The contract: our methods and datasets keep it, and each way of breaking it is found by the right check."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from benchmark.contract.cases import cases, make_case
from benchmark.contract.method import check_dataset, check_method
from benchmark.core.data import Modality, MultimodalData, Split
from benchmark.core.dataset import Dataset, Location
from benchmark.core.method import Method, Retriever, derive_seed
from benchmark.core.registry import DATASETS, Entry, dataset, method
from benchmark.core.validate import validate
from benchmark.errors import DataError, MissingDataError
from tests.toy import make_data

FACTS = {
    "title": "M", "paper": "P", "venue": "V", "year": 2020, "group": "paired-free", "multilabel": False,
}  # fmt: skip
D_FACTS = {"title": "D", "modalities": ("image", "text"), "classes": 3, "citation": "C"}


@dataclass(frozen=True)
class Config:
    width: int = 4


class Random(Retriever):
    """Seeded random projections: a model that keeps the contract."""

    def __init__(self, train, seed, width=4):
        self.maps = {}
        for m in train:
            generator = torch.Generator().manual_seed(derive_seed(seed, m.name))
            self.maps[m.name] = torch.randn(m.dim, width, generator=generator)

    def embed(self, modality, features):
        return features @ self.maps[modality].to(features)


@method("good", **FACTS)
class Good(Method):
    Config = Config

    def fit(self, train, val, run, log):
        return [self.model(train, seed) for seed in run.seeds]

    def model(self, train, seed):
        return Random(train, seed, self.config.width)


def failures(cls):
    return {result.name: result.detail for result in check_method(cls) if not result.passed}


def broken(*, base=Good, facts=None, **members):
    """The good method with some members replaced."""
    return method("broken", **{**FACTS, **(facts or {})})(type("Broken", (base,), members))


class Embedding(Random):
    """The good model with its embedding changed."""

    def __init__(self, train, seed, change):
        super().__init__(train, seed)
        self.change = change

    def embed(self, modality, features):
        return self.change(modality, features, super().embed(modality, features))


def with_embedding(change):
    return broken(model=lambda self, train, seed: Embedding(train, seed, change))


# --- ours keep it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(DATASETS.entries()))
def test_our_datasets(name, monkeypatch, tmp_path):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    entry = DATASETS.get(name)
    results = check_dataset(entry)
    assert not [result for result in results if not result.passed]
    there = entry.info.standin or name.startswith("emoji")  # generated, or shipped with the suite
    assert len(results) == (7 if there else 3)


@pytest.mark.real_data
def test_our_datasets_on_real_data(data_folder):
    data_folder("wikipedia_classic")
    results = check_dataset(DATASETS.get("wikipedia-classic"))
    assert len(results) == 7
    assert all(result.passed for result in results)


# --- the data of the checks -------------------------------------------------------------------------------


def test_cases_are_valid_and_of_every_shape():
    many = cases(replace(Good.info, multilabel=True))
    assert [len(case.train.names) for case in many] == [2, 3, 5, 2, 3, 3, 3]
    two = cases(replace(Good.info, modalities="two"))
    assert {case.train.names for case in two} == {("image", "text")}
    confined = cases(replace(Good.info, kinds=("scan", "note")))
    assert {case.train.names for case in confined} == {("scan", "note")}
    for case in [*many, *two, *confined]:
        validate(MultimodalData("case", "user", *case.splits))


def test_cases_hold_what_their_names_say():
    by_name = {case.name: case for case in cases(Good.info)}
    lonely = by_name["a class of one row"].train
    assert all((m.labels == lonely.classes - 1).sum() == 1 for m in lonely)
    assert len(by_name["fewer rows than a batch"].train["audio"]) == 3
    blank = by_name["constant columns and an empty row"]
    for split in blank.splits:
        for m in split:
            assert not m.features[0].any()
            assert (m.features[1:, 0] == 1).all()
            assert not m.features[:, 1].any()
    plain = by_name["two paired modalities"].train
    assert not np.array_equal(plain["image"].pair_ids, plain["text"].pair_ids)  # stored in different orders


# --- broken methods are caught ----------------------------------------------------------------------------


def test_a_good_method_passes():
    results = check_method(Good)
    assert all(result.passed for result in results)
    names = [result.name for result in results]
    assert "refuses several labels per item" in names
    assert len(names) == len(set(names))


def test_a_good_similarity_passes():
    class Pairs(Random):
        def embed(self, modality, features):
            raise NotImplementedError

        def similarity(self, query, queries, database, items):
            return Random.embed(self, query, queries) @ Random.embed(self, database, items).T

    assert not failures(broken(model=lambda self, train, seed: Pairs(train, seed)))


class Spread(Random):
    """Scores minus their mean over the database at hand."""

    def similarity(self, query, queries, database, items):
        scores = Random.embed(self, query, queries) @ Random.embed(self, database, items).T
        return scores - scores.mean(dim=1, keepdim=True)


def test_scores_may_depend_on_the_other_rows_in_transductive_methods_only():
    model = {"model": lambda self, train, seed: Spread(train, seed)}
    found = failures(broken(**model))
    assert list(found) == ["a test row is judged by itself"]
    assert "a score depends on other rows; see transductive" in found["a test row is judged by itself"]
    transductive = broken(facts={"transductive": True}, **model)
    assert not failures(transductive)
    assert "outputs follow their rows" in [result.name for result in check_method(transductive)]


def test_a_transductive_method_keeps_the_order_and_scores_pairs():
    class Placed(Spread):
        def similarity(self, query, queries, database, items):
            return super().similarity(query, queries, database, items) + torch.arange(len(items))

    facts = {"transductive": True}
    found = failures(broken(facts=facts, model=lambda self, train, seed: Placed(train, seed)))
    assert "the order of the test rows" in found["outputs follow their rows"]
    found = failures(broken(facts=facts))
    assert "overrides similarity()" in found["outputs follow their rows"]


def test_other_modalities_are_fitted_or_refused_where_a_method_is_confined():
    facts = {"modalities": "two", "kinds": ("image", "text")}
    name = "other modalities with --pairwise"
    results = {result.name: result.detail for result in check_method(broken(facts=facts))}
    assert "training rows" in results[name]

    def fit(self, train, val, run, log):
        assert "image" in train.names, "no image"
        return Good.fit(self, train, val, run, log)

    assert "no image" in failures(broken(facts=facts, fit=fit))[name]


def test_pairwise_is_said_of_methods_for_two_modalities_only():
    assert "--pairwise serves the others" in failures(broken(facts={"pairwise": True}))["class"]


def test_names_that_recipes_reserve():
    @dataclass(frozen=True)
    class Taken:
        variant: str = "a"

    assert "variant is reserved" in failures(broken(Config=Taken))["class"]


def test_changed_inputs():
    def fit(self, train, val, run, log):
        train["image"].features[0] *= 2
        return Good.fit(self, train, val, run, log)

    assert list(failures(broken(fit=fit))) == ["inputs are left alone"]


def test_changed_test_rows():
    def change(modality, features, embedded):
        features += 1
        return embedded

    assert "test/image features" in failures(with_embedding(change))["inputs are left alone"]


def test_nan():
    found = failures(with_embedding(lambda m, x, z: z * torch.nan if m == "text" else z))
    assert found["finite outputs"] == "text: 36 of 36 values are NaN or infinite"


def test_an_empty_row_that_becomes_nan():
    found = failures(with_embedding(lambda m, x, z: z / z.norm(dim=1, keepdim=True)))
    assert list(found) == ["fits constant columns and an empty row"]


def test_global_random_numbers():
    class Careless(Random):
        def __init__(self, train, seed):
            self.maps = {m.name: torch.randn(m.dim, 4) for m in train}

    found = failures(broken(model=lambda self, train, seed: Careless(train, seed)))
    assert list(found) == [
        "the same seed gives the same model",
        "seeds together equal each alone",
    ]
    assert "derive_seed" in found["the same seed gives the same model"]


class Layers(Random):
    """Linear maps with a further layer, handed back as it was trained."""

    def __init__(self, train, seed, layer):
        super().__init__(train, seed)
        self.layer = layer

    def embed(self, modality, features):
        return self.layer(super().embed(modality, features))


def test_dropout_that_is_still_active():
    found = failures(broken(model=lambda self, train, seed: Layers(train, seed, torch.nn.Dropout(0.5))))
    said = found["a model asked twice says the same"]
    assert "evaluation mode (.eval())" in said
    assert "dropout(x, share, keys, stream) of benchmark.methods.blocks.layers" in said
    assert "in place of nn.Dropout use dropout(" in found["the same seed gives the same model"]
    assert not failures(
        broken(model=lambda self, train, seed: Layers(train, seed, torch.nn.Dropout(0.5).eval()))
    )


def test_batch_norm_that_is_still_training():
    found = failures(broken(model=lambda self, train, seed: Layers(train, seed, torch.nn.BatchNorm1d(4))))
    assert "batch norm in training mode" in found["a test row is judged by itself"]


def test_company_that_matters():
    def fit(self, train, val, run, log):
        shift = len(run.seeds) if run.replicas == "together" else 1
        return [self.model(train, seed + shift) for seed in run.seeds]

    found = failures(broken(fit=fit))
    assert list(found) == ["seeds together equal each alone"]
    assert "trained beside another seed" in found["seeds together equal each alone"]


def test_an_interruption_that_matters():
    def fit(self, train, val, run, log):
        mark = None if run.checkpoints is None else run.checkpoints / "begun"
        again = mark is not None and mark.exists()
        if mark is not None:
            mark.write_text("")
        for epoch in range(4):
            if run.progress is not None:
                run.progress("main", epoch + 1, 4, {})
        return [self.model(train, seed + again) for seed in run.seeds]

    found = failures(broken(fit=fit))
    assert list(found) == ["an interrupted fit resumes with the same bits"]
    assert "stopped after 1 of 4" in found["an interrupted fit resumes with the same bits"]


def test_global_states_come_back():
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 - the legacy stream is what must come back
    wanted = torch.rand(1), np.random.rand()  # noqa: NPY002 - as above
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 - as above
    check_method(Good)
    assert (torch.rand(1), np.random.rand()) == wanted  # noqa: NPY002 - as above


def test_widths_that_differ():
    found = failures(with_embedding(lambda m, x, z: z[:, :2] if m == "image" else z))
    assert "image 2, text 4" in found["shape of outputs"]
    assert "finite outputs" not in found


def test_missing_rows():
    found = failures(with_embedding(lambda m, x, z: z[1:]))
    assert "9 rows became embeddings of shape (8, 4)" in found["shape of outputs"]


def test_similarity_the_wrong_way_round():
    class Turned(Random):
        def similarity(self, query, queries, database, items):
            return self.embed(database, items) @ self.embed(query, queries)[1:].T

    found = failures(broken(model=lambda self, train, seed: Turned(train, seed)))
    assert "similarity image->text has shape (9, 8), expected (9, 9)" in found["shape of outputs"]


def test_seeds_that_do_not_matter():
    same = broken(model=lambda self, train, seed: Random(train, 0))
    assert list(failures(same)) == ["seeds matter"]
    closed = broken(model=lambda self, train, seed: Random(train, 0), facts={"trained": False})
    assert not failures(closed)


def test_embeddings_that_depend_on_their_neighbours():
    found = failures(with_embedding(lambda m, x, z: z - z.mean(0)))
    assert list(found) == ["a test row is judged by itself"]
    assert "rows beside it" in found["a test row is judged by itself"]
    found = failures(with_embedding(lambda m, x, z: z + torch.arange(len(z))[:, None]))
    assert "order of the test rows" in found["a test row is judged by itself"]


def test_a_crash_on_fewer_rows_than_a_batch():
    def fit(self, train, val, run, log):
        for m in train:
            m.features[: len(m) // 16 * 16].reshape(-1, 16, m.dim)[0]
        return Good.fit(self, train, val, run, log)

    found = failures(broken(fit=fit))
    # 3D has 9 rows and video 11, so five modalities fail as well.
    assert list(found) == ["fits 5 modalities", "fits fewer rows than a batch"]
    assert found["fits fewer rows than a batch"].startswith("IndexError in test_contract.py:")


def test_a_crash_on_a_class_of_one_row():
    def fit(self, train, val, run, log):
        if any((np.bincount(m.labels) == 1).any() for m in train):
            raise ZeroDivisionError("a class has no variance")
        return Good.fit(self, train, val, run, log)

    found = failures(broken(fit=fit))
    # The three rows of a small modality are of three classes.
    assert list(found) == ["fits a class of one row", "fits fewer rows than a batch"]
    assert "a class has no variance" in found["fits a class of one row"]


def test_missing_refusals():
    found = failures(
        broken(check=lambda self, train: None, facts={"modalities": "two", "kinds": ("image", "text")})
    )
    assert list(found) == [
        "refuses a single modality",
        "refuses three modalities",
        "refuses other modalities than image, text",
        "refuses several labels per item",
    ]


def test_two_modalities_only_is_kept_by_the_base_class():
    assert not failures(broken(facts={"modalities": "two", "kinds": ("image", "text")}))


def test_the_wrong_number_of_models():
    found = failures(broken(fit=lambda self, train, val, run, log: Good.fit(self, train, val, run, log)[:1]))
    assert found == {"fits two paired modalities": "fit returned 1 retrievers for 2 seeds"}


def test_unusable_classes():
    @dataclass
    class Thawed:
        width: int = 4

    assert "not a subclass" in failures(dict)["class"]
    undecorated = type("Undecorated", (Method,), {"fit": None, "Config": Config})
    assert "not decorated" in failures(undecorated)["class"]
    assert "frozen" in failures(broken(Config=Thawed))["class"]
    assert "Config is not a dataclass" in failures(broken(Config=int))["class"]


def test_recipes_are_checked(tmp_path, monkeypatch):
    def verdict(text):
        (tmp_path / "good.toml").write_text(text)
        entry = Entry("good", "here", Good.info, tmp_path / "good.py", target=f"{__name__}:Good")
        return next(result for result in check_method(entry) if result.name == "recipe")

    assert verdict('[paper]\nwidth = { value = 3, source = "s" }').passed
    assert "does not state width" in verdict("[paper]").detail
    wrong = verdict(
        '[paper]\nwidth = { value = 3, source = "s" }\n[quick]\nwith = { value = 3, source = "s" }'
    )
    assert "unknown hyper-parameter of good 'with'" in wrong.detail
    text = '[paper]\nwidth = { value = 3, source = "s" }\n'
    assert "unknown hyper-parameter of good 'wide'" in verdict(text + "[tiny]\nwide = 1").detail
    assert verdict(text + '[variant.published]\nwidth = { value = 5, source = "s" }').passed
    wrong = verdict(text + '[variant.published.emoji]\nwith = { value = 5, source = "s" }')
    assert "unknown hyper-parameter of good 'with'" in wrong.detail


# --- datasets ---------------------------------------------------------------------------------------------


@dataset("toy", **D_FACTS)
class Toy(Dataset):
    data = make_data()

    def locate(self, request):
        if request.split or request.options or request.source == "standin":
            raise DataError("toy: has one split, no options and no stand-in")
        return Location("user", (), "toy-1", request)

    def load(self, located):
        return self.data


def dataset_failures(facts=None, **members):
    cls = dataset("toy", **{**D_FACTS, **(facts or {})})(type("Broken", (Toy,), members))
    return {result.name: result.detail for result in check_dataset(cls) if not result.passed}


def test_a_good_dataset_passes():
    results = check_dataset(Toy)
    assert all(result.passed for result in results)
    assert len(results) == 7


def test_requests_that_are_not_refused():
    found = dataset_failures(locate=lambda self, request: Location("user", (), "toy", request))
    assert list(found) == ["refuses what it does not have"]


def test_errors_that_are_crashes():
    def locate(self, request):
        return {"": Location("user", (), "toy", request)}[request.split]

    assert "KeyError" in dataset_failures(locate=locate)["refuses what it does not have"]


def test_missing_data_are_no_failure_but_said():
    def locate(self, request):
        raise MissingDataError("toy: get it from somewhere")

    cls = dataset("toy", **D_FACTS)(type("Missing", (Toy,), {"locate": locate}))
    assert (
        check_dataset(cls)[-1].detail == "no data here, nothing else is checked: toy: get it from somewhere"
    )


def test_locations_that_are_not_stable():
    numbers = iter(range(100))

    def locate(self, request):
        return replace(Toy.locate(self, request), identity=f"toy-{next(numbers)}")

    assert "differ" in dataset_failures(locate=locate)["finds data, fast and the same twice"]


def test_locations_that_are_wrong(tmp_path):
    def failure(**changes):
        found = dataset_failures(locate=lambda self, request: replace(Toy.locate(self, request), **changes))
        return found["finds data, fast and the same twice"]

    assert "source is 'auto'" in failure(source="auto")
    assert "identity is empty" in failure(identity="")
    assert "do not exist" in failure(files=(tmp_path / "nothing.npz",))


def test_a_slow_location(monkeypatch):
    monkeypatch.setattr("benchmark.contract.dataset.LOCATE_SECONDS", 0.0)
    assert "must not read feature files" in dataset_failures()["finds data, fast and the same twice"]


def test_splits_that_share_an_identity():
    def locate(self, request):
        if request.options or request.source == "standin" or request.split == "no-such-split":
            raise DataError("no")
        return Location("user", (), "toy", request)

    found = dataset_failures({"splits": ("one", "two")}, locate=locate)
    assert "split 'two' has the identity of the default split" in found["finds data, fast and the same twice"]


@pytest.mark.parametrize(
    ("facts", "part"),
    [({"folds": True}, "not two splits"), ({"splits": ("0", "all"), "folds": True}, "called 'all'")],
)
def test_folds_that_are_none(facts, part):
    assert part in dataset_failures(facts)["class"]


def test_data_other_than_described():
    def failure(**facts):
        return dataset_failures(facts)["is what its description says"]

    assert failure(classes=7) == "number of classes: the data have 3, expected 7"
    assert failure(modalities=("text", "image")).startswith("modalities: the data have ('image', 'text')")


def test_invalid_data():
    bad = make_data()
    bad.train["image"].features[0, 0] = np.nan
    assert "DataError" in dataset_failures(data=bad)["loads valid data"]


def test_loads_that_differ():
    changed = iter([make_data(), make_data(version="2")])
    found = dataset_failures(load=lambda self, located: next(changed))
    assert found == {"loads the same data twice": "two loads have different fingerprints"}
    fixed = [make_data(fixed_fingerprint="f") for _ in range(2)]
    fixed[1].val["text"].features[0] += 1
    loads = iter(fixed)
    found = dataset_failures(load=lambda self, located: next(loads))
    assert found == {"loads the same data twice": "val/text features differs between two loads"}


def test_training_rows_as_test_rows():
    data = make_data()
    reused = Split("test", {m.name: m.take(np.arange(6)) for m in data.train}, data.classes)
    found = dataset_failures(data=replace(data, test=reused))
    assert "100% of the test rows are training rows" in found["test rows are not training rows"]


def test_unusable_dataset_classes():
    assert "not a subclass" in check_dataset(dict)[0].detail
    assert "not decorated" in check_dataset(type("Undecorated", (Dataset,), {}))[0].detail


def test_the_plain_case_is_made_anew():
    one, two = make_case("", ("image", "text")), make_case("", ("image", "text"))
    assert isinstance(one.train["image"], Modality)
    assert np.array_equal(one.train["image"].features, two.train["image"].features)
    assert not np.shares_memory(one.train["image"].features, two.train["image"].features)
