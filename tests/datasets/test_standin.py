"""Stand-ins: shapes and labels of Table I, class structure, value ranges, pairing, difficulty, caching."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmark.datasets.standin import maps as standin_maps
from benchmark.datasets.standin import sets as standin
from benchmark.datasets.standin.sets import SETS, generate, identity, labels_of, load_or_generate, shapes
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from benchmark.core.data import SPLITS
from benchmark.core.validate import validate
from benchmark.errors import DataError, UnknownNameError

TABLE = Path(__file__).parents[2] / "results" / "published" / "table1_datasets.csv"
SMALL = 0.02


@pytest.fixture(scope="module")
def xmedia():
    return generate("xmedia")


@pytest.fixture(scope="module")
def wikipedia():
    return generate("wikipedia")


@pytest.fixture(scope="module")
def small():
    """Every set at two per cent."""
    return {name: generate(name, scale=SMALL) for name in SETS}


def table_rows():
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


# ---- shapes and labels -----------------------------------------------------------------------------------


def test_planned_shapes_are_those_of_table_1():
    published = {
        (row["dataset"], split, row["modality"]): (int(row[split]), int(row["feature_dim"]))
        for row in table_rows()
        for split in SPLITS
    }
    planned = {(name, *key): shape for name in SETS for key, shape in shapes(name).items()}
    assert planned == published


def test_kinds_are_those_of_table_1():
    for row in table_rows():
        kind = SETS[row["dataset"]].views[row["modality"]].kind
        assert row["feature_name"].lower() in kind.lower()
        assert standin_maps.KINDS[kind].columns == int(row["feature_dim"])


@pytest.mark.parametrize("name", ["xmedia", "wikipedia"])
def test_generated_arrays_have_the_planned_shapes(name, request):
    data = validate(request.getfixturevalue(name))
    found = {(s.name, m.name): m.features.shape for s in data.splits for m in s}
    assert found == shapes(name)
    assert data.source == "standin"
    assert "Generated stand-in" in data.notes[0]


def test_wikipedia_has_the_class_counts_of_the_real_splits():
    counts = [np.bincount(labels_of("wikipedia", "text", s, n, 0)) for s, n in enumerate((2173, 231, 462))]
    # the classic list of the 693 documents outside training, class by class
    assert (counts[1] + counts[2]).tolist() == [34, 88, 96, 85, 65, 58, 51, 41, 71, 104]
    assert counts[2].tolist() == [17, 58, 62, 48, 39, 38, 32, 26, 64, 78]


@pytest.mark.parametrize("name", ["xmedia", "xmedianet", "nuswide"])
def test_classes_of_the_even_sets_differ_by_one_row_at_most(name):
    for (split, modality), (rows, _) in shapes(name).items():
        counts = np.bincount(labels_of(name, modality, SPLITS.index(split), rows, 0))
        assert counts.sum() == rows
        assert counts.max() - counts.min() <= 1


def test_websearch_classes_are_uneven_and_alike_in_every_split():
    shares = [
        np.bincount(labels_of("websearch", "image", s, rows, 0), minlength=100) / rows
        for s, rows in enumerate((9000, 1332, 4366))
    ]
    assert all(share.sum() == pytest.approx(1) for share in shares)
    assert np.log(shares[0]).std() == pytest.approx(0.35, abs=0.08)
    for (s, share), rows in zip(enumerate(shares), (9000, 1332, 4366), strict=True):
        assert np.abs(share - shares[0]).max() < 1 / rows + 1 / 9000, SPLITS[s]


@pytest.mark.parametrize("name", SETS)
def test_a_reduced_profile_keeps_every_class_in_every_split(name, small):
    data = validate(small[name])
    for split in data.splits:
        for m in split:
            assert set(m.labels.tolist()) == set(range(data.classes))
            assert m.features.shape == shapes(name, SMALL)[split.name, m.name]
    assert sum(m.features.size for m in data.train) < 0.1 * sum(
        n * d for (split, _), (n, d) in shapes(name).items() if split == "train"
    )
    assert "scale 0.02" in data.notes[0]


def test_images_and_texts_are_paired_row_by_row_and_nothing_else(small):
    for data in small.values():
        for split in data.splits:
            np.testing.assert_array_equal(split["image"].labels, split["text"].labels)
            for m in split:
                paired = m.name in ("image", "text")
                assert (m.pair_ids is not None) == paired
                if paired:
                    assert m.pair_ids.tolist() == list(range(len(m)))


def test_unpaired_modalities_have_their_own_order(xmedia):
    labels = [xmedia.test[m].labels[:50].tolist() for m in ("image", "audio", "3d", "video")]
    assert len({tuple(order) for order in labels}) == 4


# ---- randomness ------------------------------------------------------------------------------------------


def test_same_call_same_values(small):
    for name, data in small.items():
        again = generate(name, scale=SMALL)
        assert again.fingerprint() == data.fingerprint()
        for split, split_again in zip(data.splits, again.splits, strict=True):
            for m in split:
                np.testing.assert_array_equal(m.features, split_again[m.name].features)


def test_fingerprints_tell_sets_seeds_and_scales_apart(small):
    prints = [data.fingerprint() for data in small.values()]
    prints += [generate("wikipedia", seed=1, scale=SMALL).fingerprint()]
    prints += [generate("wikipedia", scale=2 * SMALL).fingerprint()]
    assert len(set(prints)) == len(prints)


def test_the_fingerprint_sees_labels_and_values():
    splits = generate("wikipedia", scale=SMALL).splits
    text, found = splits[2]["text"], [standin._fingerprint("x", splits)]
    text.features[0, 0] += 100
    found.append(standin._fingerprint("x", splits))
    text.labels[0] = (text.labels[0] + 1) % 10
    found.append(standin._fingerprint("x", splits))
    assert len(set(found)) == 3
    assert standin._fingerprint("x", splits) == found[-1]


def test_statistics_of_the_fingerprint_equal_numpys():
    x = np.maximum(np.random.default_rng(0).normal(3, 5, (700, 11)), 0).astype(np.float32)
    expected = x.mean(dtype=float), x.std(dtype=float), (x == 0).mean()
    assert standin._statistics(x) == pytest.approx(expected, rel=1e-12)


def test_another_seed_gives_other_samples_of_the_same_classes(wikipedia):
    other = generate("wikipedia", seed=1)
    for modality in ("image", "text"):
        a, b = wikipedia.train[modality], other.train[modality]
        assert not np.array_equal(a.features[:10], b.features[:10])
        means = [np.stack([m.features[m.labels == c].mean(axis=0) for c in range(10)]) for m in (a, b)]
        first, second = (mean - mean.mean(axis=0) for mean in means)
        alike = np.corrcoef(first, second)[:10, 10:]  # class means of one seed against those of the other
        assert np.diag(alike).min() > 0.75
        assert (alike.argmax(axis=1) == np.arange(10)).all()


def test_rows_do_not_depend_on_how_many_follow():
    kind = standin_maps.KINDS["Doc2Vec"]
    fixed = standin_maps.modality_map(2, "text", kind, 0.25, 300)
    means = standin_maps.class_means(2, 10)
    labels = np.arange(standin_maps.BLOCK + 40) % 10
    long = standin_maps.sample(fixed, means, labels, 0, 0)
    short = standin_maps.sample(fixed, means, labels[:700], 0, 0)
    np.testing.assert_allclose(short, long[:700], rtol=1e-5, atol=1e-6)
    # the second block has a stream of its own
    assert not np.allclose(long[standin_maps.BLOCK :], long[:40], atol=0.1)


# Kind -> S, r, a, g, k, full width, period (0: the head's constants do not repeat)
CONSTANTS = {
    "VGG": (96, 0.65, 0.5, 1, 0.62, 4096, 0),
    "C3D": (96, 0.65, 0.5, 1, 0.62, 4096, 0),
    "BoW": (16, 0.9, 0, 0.5, 0.42, 3000, 0),
    "Doc2Vec": (32, 0.8, 0.3, 1, 0.62, 300, 0),
    "LDA": (32, 0.8, 0, 1, 0.62, 1000, 0),
    "MFCC": (4, 0.97, 0.05, 0.5, 0.42, 29, 0),
    "MFCC672": (32, 0.8, 0.3, 0.5, 0.42, 672, 14),
    "LightField": (48, 0.7, 0.3, 1, 0.62, 4700, 47),
}


def slow_rows(data, modality, rows):
    """The first validation rows again, value by value, from the description in ``standin_maps``."""
    number, view = list(SETS).index(data.name), SETS[data.name].views[modality]
    own = standin_maps.MODALITIES.index(modality)
    shared = 0 if modality == "text" else own
    S, r, a, g, k, full, period = CONSTANTS[view.kind]

    def draws(*key):
        return np.random.RandomState(np.random.MT19937(np.random.SeedSequence((20250106, 1, number, *key))))

    rng = draws(0, 0, 0)
    C = data.classes
    above, group, unit = (rng.standard_normal((n, 48)) for n in (2, (C + 4) // 5, C))
    rng = draws(10 + own, 0, 0)
    W_h, W_s, b = (
        rng.standard_normal((384, 48)),
        rng.standard_normal((384, S)),
        0.3 * rng.standard_normal(384),
    )
    constants = rng.permutation(full) if view.kind == "BoW" else rng.standard_normal(period or full)
    block = rng.standard_normal((47, 384)) if view.kind == "LightField" else None
    d = data.val[modality].dim
    W_o = rng.standard_normal((d, 384))
    e, e_v, t, noise, length, count = (
        draws(q + (shared if q == 30 else own), 1, 0, 0) for q in (30, 40, 50, 60, 70, 80)
    )

    def row(label):
        first = label // 5 >= max(1, round(((C + 4) // 5) / 4))
        parts = [(0.15, above[int(first)]), (0.35, group[label // 5]), (0.5, unit[label])]
        m = sum(np.sqrt(w) * x / np.linalg.norm(x) for w, x in parts)
        m = m / np.linalg.norm(m)
        h = m + view.sigma * (np.sqrt(0.35) * e.standard_normal(48) + np.sqrt(0.65) * e_v.standard_normal(48))
        z = np.sqrt(r) * W_h.dot(h) / (np.sqrt(48) * np.sqrt(view.sigma**2 + 1 / 48)) + b
        z = z + np.sqrt(1 - r) * W_s.dot(t.standard_normal(S)) / np.sqrt(S)
        hidden = np.tanh(g * z) / (k * np.sqrt(384))
        V = []
        for j in range(d):
            weights = W_o[j] if block is None else 0.8 * block[j % 47] + 0.6 * W_o[j]
            V.append(weights.dot(hidden) + (a * noise.standard_normal() if a else 0))
        return head(np.array(V))

    def head(V):
        n = constants[np.arange(d) % (period or full)]
        match view.kind:
            case "VGG":
                return [max(0, 0.63 * (v - 0.29 + 0.35 * c)) for v, c in zip(V, n, strict=True)]
            case "C3D":
                return [max(0, 0.63 * (v - 0.80 + 0.35 * c)) for v, c in zip(V, n, strict=True)]
            case "BoW":
                words = 150 * np.exp(0.5 * length.standard_normal())
                weight = np.exp(2.6 * V) / (n + 10)
                return [count.poisson(words * w / weight.sum()) for w in weight]
            case "Doc2Vec":
                return 0.2 * V
            case "LDA":
                return (np.exp(2.5 * V) / np.exp(2.5 * V).sum() + 1e-5) / (1 + 1e-5 * d)
            case "LightField":
                return [
                    round(255 / (1 + np.exp(-(0.9 * v - 1.2 + c)))) / 255 for v, c in zip(V, n, strict=True)
                ]
            case _:
                return [6 * 0.88 ** (j % (period or full)) * (V[j] + n[j]) for j in range(d)]

    return np.array([row(label) for label in data.val[modality].labels[:rows]], np.float32)


@pytest.mark.parametrize(("name", "modality"), [(name, m) for name in SETS for m in SETS[name].views])
def test_rows_follow_the_description(name, modality, small):
    data = small[name]
    np.testing.assert_allclose(
        data.val[modality].features[:3], slow_rows(data, modality, 3), rtol=2e-5, atol=1e-6
    )


# ---- class structure -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "classes", "reach"), [(0, 20, 0.25), (1, 200, 0.5), (4, 100, 0.4)])
def test_classes_of_a_group_are_alike_and_others_are_not_independent(number, classes, reach):
    means = standin_maps.class_means(number, classes)
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), 1)
    cosine = means @ means.T
    group = np.arange(classes) // 5
    inside = (group[:, None] == group) & ~np.eye(classes, dtype=bool)
    outside = group[:, None] != group
    assert cosine[inside].mean() == pytest.approx(0.5, abs=0.05)
    assert cosine[outside].mean() == pytest.approx(0.06, abs=0.06)
    assert reach < cosine[outside].max() < 0.8


def beyond_class(train, test, repaired):
    """Correlation of text components with their prediction from images, both without class means."""
    rng = np.random.default_rng(0)
    parts = []
    for split in (train, test):
        order = np.arange(len(split["text"]))
        if repaired:  # another text of the same class for every image
            labels = split["text"].labels
            by_class = np.argsort(labels, kind="stable")
            order[by_class] = by_class[np.lexsort((rng.random(len(order)), labels[by_class]))]
        parts.append([split["image"].features, split["text"].features[order], split["image"].labels])
    (x, y, labels), (x_test, y_test, labels_test) = parts
    for c in np.unique(labels):
        for a, a_test in ((x, x_test), (y, y_test)):
            mean = a[labels == c].mean(axis=0)
            a[labels == c] -= mean
            a_test[labels_test == c] -= mean
    axes = np.linalg.svd(y, full_matrices=False)[2][:20].T
    gram = x @ x.T
    gram[np.diag_indices_from(gram)] += np.trace(gram) / len(gram)
    predicted = x_test @ (x.T @ np.linalg.solve(gram, y @ axes))
    actual = y_test @ axes
    return np.mean([np.corrcoef(predicted[:, j], actual[:, j])[0, 1] for j in range(20)])


def test_pairs_correlate_beyond_their_class(wikipedia):
    def copies():
        rows = (np.arange(len(s["image"])) for s in (wikipedia.train, wikipedia.test))
        splits = zip((wikipedia.train, wikipedia.test), rows, strict=True)
        return [{m.name: m.take(r) for m in s} for s, r in splits]

    assert 0.15 < beyond_class(*copies(), repaired=False) < 0.35
    assert abs(beyond_class(*copies(), repaired=True)) < 0.06


# ---- value ranges ----------------------------------------------------------------------------------------


def test_image_features_look_like_activations_of_a_convolutional_network(wikipedia):
    x = wikipedia.test["image"].features
    assert x.min() == 0
    assert (x == 0).mean() == pytest.approx(0.60, abs=0.03)
    assert x[x > 0].mean() == pytest.approx(0.545, abs=0.05)
    assert np.median(x[x > 0]) == pytest.approx(0.42, abs=0.08)
    assert np.linalg.norm(x, axis=1).mean() == pytest.approx(29.1, abs=3)
    low, middle, high = np.quantile(x.mean(axis=0), (0.05, 0.5, 0.95))
    assert 0.02 < low < 0.12 < middle < 0.30 < high < 0.60


def test_video_features_are_sparser_than_images(xmedia):
    video, image = xmedia.test["video"].features, xmedia.test["image"].features
    assert video.min() == 0
    assert (image == 0).mean() + 0.1 < (video == 0).mean() < 0.95


def test_word_counts_are_whole_and_mostly_zero(xmedia):
    x = xmedia.train["text"].features
    assert x.min() == 0
    np.testing.assert_array_equal(x, np.round(x))
    assert (x == 0).mean() > 0.9
    assert x.sum(axis=1).mean() == pytest.approx(150 * np.exp(0.125), rel=0.05)


def test_document_vectors_are_dense_signed_and_small(wikipedia):
    x = wikipedia.train["text"].features
    assert (x == 0).mean() < 1e-4
    assert abs(x.mean()) < 0.05
    assert x.std() == pytest.approx(0.2, abs=0.05)


def test_topic_proportions_sum_to_one_with_few_large():
    x = generate("websearch", scale=0.25).val["text"].features
    assert x.min() > 0
    np.testing.assert_allclose(x.sum(axis=1), 1, rtol=1e-4)
    largest = np.sort(x, axis=1)[:, ::-1]
    assert largest[:, :25].sum(axis=1).mean() > 0.4  # a tenth of the topics


def test_cepstra_are_signed_and_fall_with_their_number(xmedia, small):
    for x, period in ((xmedia.train["audio"].features, 29), (small["xmedianet"].train["audio"].features, 14)):
        assert x.min() < 0 < x.max()
        spread = np.array([x[:, i::period].std(axis=0).mean() for i in range(period)])
        slope = np.polyfit(np.arange(period), np.log(spread), 1)[0]
        assert slope == pytest.approx(np.log(0.88), abs=0.03)


def test_light_fields_are_bounded_stepped_and_repeat_between_views(xmedia):
    x = xmedia.train["3d"].features
    assert 0 <= x.min() < x.max() <= 1
    np.testing.assert_allclose(255 * x, np.round(255 * x), atol=1e-4)
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    same = np.mean(standard[:, :47] * standard[:, 470:517])  # one coefficient seen from two sides
    other = np.mean(standard[:, :46] * standard[:, 471:517])
    assert same > 0.4 > 0.2 > abs(other)


# ---- difficulty ------------------------------------------------------------------------------------------


def test_images_and_texts_of_xmedia_are_the_easy_modalities(xmedia):
    accuracy = {}
    for name, view in SETS["xmedia"].views.items():
        train, test = (
            xmedia.train[name].take(np.arange(min(1000, len(xmedia.train[name])))),
            xmedia.test[name],
        )
        logarithm = [FunctionTransformer(np.log1p)] if view.kind == "BoW" else []
        probe = make_pipeline(*logarithm, StandardScaler(), RidgeClassifier(alpha=train.dim))
        accuracy[name] = probe.fit(train.features, train.labels).score(test.features, test.labels)
    hard = [accuracy.pop(name) for name in ("audio", "3d", "video")]
    assert 0.35 < min(hard) < max(hard) < 0.75 < min(accuracy.values()) < 0.99


# ---- memory and cache ------------------------------------------------------------------------------------


def test_memory_stays_within_twice_the_arrays():
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc (Linux)")
    code = """if True:
        import re
        from pathlib import Path
        from benchmark.datasets.standin.sets import generate

        def peak():  # bytes; unlike ru_maxrss it does not begin with the parent's memory
            return 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])

        before = peak()
        data = generate("wikipedia")
        print((peak() - before) / sum(m.features.nbytes for s in data.splits for m in s))"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 0.9 < float(run.stdout) < 2


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder that takes sets of every size; gives the file of a small wikipedia."""
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    monkeypatch.setattr(standin, "CACHE_FROM", 0)
    return tmp_path / "standins" / f"{identity('wikipedia', 3, SMALL)}.npz"


def values(data):
    return {(s.name, m.name): (m.features.tolist(), m.labels.tolist()) for s in data.splits for m in s}


def test_what_is_cached_is_read_and_the_same(cache, monkeypatch):
    made = load_or_generate("wikipedia", seed=3, scale=SMALL)
    assert [file.name for file in cache.parent.iterdir()] == [cache.name]

    def refuse(*_, **__):
        raise AssertionError("generated although it is cached")

    monkeypatch.setattr(standin, "generate", refuse)
    read = load_or_generate("wikipedia", seed=3, scale=SMALL)
    assert values(read) == values(made)
    assert (read.fingerprint(), read.notes) == (made.fingerprint(), made.notes)


def test_a_damaged_cache_file_is_made_anew(cache):
    made = load_or_generate("wikipedia", seed=3, scale=SMALL)
    good = cache.read_bytes()
    middle = len(good) // 2
    flipped = good[:middle] + bytes([good[middle] ^ 0x40]) + good[middle + 1 :]
    load_or_generate("wikipedia", seed=3, scale=2 * SMALL)
    foreign = cache.with_name(f"{identity('wikipedia', 3, 2 * SMALL)}.npz").read_bytes()
    packed = good.replace(b"PK\x01\x02\x2d\x03\x2d\0\0\0\0\0", b"PK\x01\x02\x2d\x03\x2d\0\0\0\x63\0")
    assert packed != good
    for damaged in (good[:middle], flipped, b"", b"no archive", foreign, packed):
        cache.write_bytes(damaged)
        assert values(load_or_generate("wikipedia", seed=3, scale=SMALL)) == values(made)
        assert standin._read(cache, shapes("wikipedia", SMALL)) is not None


def test_a_cache_that_cannot_be_written_is_only_a_warning(cache):
    cache.parent.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not keep"):
        data = load_or_generate("wikipedia", seed=3, scale=SMALL)
    assert data.fingerprint() == generate("wikipedia", seed=3, scale=SMALL).fingerprint()


def test_small_sets_are_not_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    load_or_generate("wikipedia", scale=SMALL)
    assert not any(tmp_path.iterdir())


# ---- names and options -----------------------------------------------------------------------------------


def test_identity_changes_with_every_option():
    found = [identity("xmedia"), identity("nuswide"), identity("xmedia", 1), identity("xmedia", 0, 0.5)]
    assert len(set(found)) == 4
    assert identity("xmedia", 0, 1) == identity("xmedia", 0, 1.0)


def test_wrong_options_are_refused_in_one_line():
    with pytest.raises(UnknownNameError, match="xmedia"):
        generate("xmedai")
    for scale in (0, -1, 1.5, float("nan")):
        with pytest.raises(DataError, match="above 0 and at most 1"):
            generate("xmedia", scale=scale)
    for seed in (-1, 2**32):
        with pytest.raises(DataError, match="whole number"):
            generate("xmedia", seed=seed)
