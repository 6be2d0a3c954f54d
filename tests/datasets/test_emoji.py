"""Emoji: the shipped files, the rules they were made by, the data card, and a rebuilt handful of items."""

import csv
import json
import re
import shutil
from collections import Counter, defaultdict

import numpy as np
import pytest
from benchmark.datasets.build.emoji import baseline, card, pictures, speech
from benchmark.datasets.build.emoji.build import PICTURES, in_bytes
from benchmark.datasets.build.emoji.classes import COARSE, FINE
from benchmark.datasets.build.emoji.items import LARGEST_FAMILY, assign_folds
from benchmark.datasets.build.emoji.sources import CARD, PACKAGES, drawings, read_emoji
from benchmark.datasets.build.emoji.text import LEAST_ITEMS, SHARE, class_words, utterance
from benchmark.datasets.emoji import FILES, FOLDER, FOLDS, Emoji, EmojiCoarse, read_features, read_table

from benchmark.contract.dataset import check_dataset
from benchmark.core.dataset import DataRequest
from benchmark.errors import DataError, MissingDataError, UnknownNameError

BOTH = pytest.mark.parametrize("cls", [Emoji, EmojiCoarse])
DIMS = {"image": 1960, "text": 4352, "audio": 512, "3d": 2272, "sketch": 1988}


def load(cls, split=""):
    dataset = cls()
    return dataset.load(dataset.locate(DataRequest(split=split)))


@pytest.fixture(scope="module")
def rows():
    with (FOLDER / "items.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def stored():
    with np.load(FOLDER / "features.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture
def copy(tmp_path):
    for name in FILES:
        shutil.copyfile(FOLDER / name, tmp_path / name)
    return tmp_path


def lines(array):
    return array.tobytes().decode().split("\n")


# --- the table


def test_no_family_is_in_two_folds_or_classes(rows):
    places = defaultdict(set)
    for row in rows:
        places[row["family"]].add((row["fold"], row["fine"], row["coarse"]))
    assert all(len(place) == 1 for place in places.values())
    assert max(Counter(row["family"] for row in rows).values()) == LARGEST_FAMILY


@pytest.mark.parametrize(("column", "classes"), [("fine", 39), ("coarse", 8)])
def test_every_class_is_in_every_fold(rows, column, classes):
    found = Counter((row[column], row["fold"]) for row in rows)
    assert len({row[column] for row in rows}) == classes
    assert len(found) == classes * FOLDS
    assert min(Counter(row[column] for row in rows).values()) >= 15


def test_every_item_is_there_once_with_character_and_name(rows):
    for row in rows:
        points = [f"{ord(c):04x}" for c in row["character"] if c != "\ufe0f"]
        assert [point.zfill(4) for point in row["code"].split("-")] == points
        assert row["name"]
    assert len({row["code"] for row in rows}) == len(rows) == 1310
    assert {row["fine"] for row in rows} == set(FINE)
    assert {row["coarse"] for row in rows} == set(COARSE.values())


def test_folds_are_shared_out_evenly_per_class():
    members = [[i] for i in range(20)] + [[20, 21, 22]]
    folds = assign_folds(["a"] * 20 + ["b"], members)
    assert sorted(Counter(folds[:20]).values()) == [2] * FOLDS


# --- loading


@BOTH
def test_contract(cls):
    assert [result for result in check_dataset(cls) if not result.passed] == []


@BOTH
def test_splits_are_cut_by_fold(cls, rows):
    data = load(cls, "9")
    folds = {"test": {"9"}, "val": {"0"}, "train": set("12345678")}
    column = "fine" if cls is Emoji else "coarse"
    for split in data.splits:
        wanted = [i for i, row in enumerate(rows) if row["fold"] in folds[split.name]]
        for m in split:
            assert m.features.shape == (len(wanted), DIMS[m.name])
            assert m.pair_ids.tolist() == wanted
            assert [data.class_names[y] for y in m.labels] == [rows[i][column] for i in wanted]
            assert m.features.min() >= 0
    tested = [(row["name"], row["character"]) for row in rows if row["fold"] == "9"]
    assert all([(item.name, item.symbol) for item in items] == tested for items in data.items.values())
    assert data.modalities == tuple(data.items) == tuple(DIMS)


def test_an_item_has_the_same_features_in_every_split_and_dataset():
    first, other = load(Emoji, "0"), load(EmojiCoarse, "4")
    for name in DIMS:
        common, i, j = np.intersect1d(
            first.train[name].pair_ids, other.train[name].pair_ids, return_indices=True
        )
        assert len(common) > 700
        assert (first.train[name].features[i] == other.train[name].features[j]).all()


def test_every_item_is_tested_once_and_fingerprints_differ():
    loaded = [load(Emoji, split) for split in Emoji.info.splits]
    tested = np.concatenate([data.test["text"].pair_ids for data in loaded])
    assert sorted(tested) == list(range(1310))
    prints = {data.fingerprint() for data in loaded} | {load(EmojiCoarse).fingerprint()}
    assert len(prints) == FOLDS + 1


def test_the_default_split_is_0():
    assert load(Emoji).fingerprint() == load(Emoji, "0").fingerprint()


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    dataset = Emoji(copy)
    with pytest.raises(DataError, match=rf"{name} is damaged or changed.*restore it") as error:
        dataset.load(dataset.locate(DataRequest()))
    assert "\n" not in str(error.value)


def test_line_ends_of_another_system_do_no_harm(copy):
    content = (copy / "items.csv").read_bytes()
    (copy / "items.csv").write_bytes(content.replace(b"\n", b"\r\n"))
    dataset = Emoji(copy)
    assert dataset.load(dataset.locate(DataRequest())).fingerprint() == load(Emoji).fingerprint()


def test_what_it_cannot_be_asked(copy):
    with pytest.raises(DataError, match="no stand-in"):
        Emoji().locate(DataRequest(source="standin"))
    with pytest.raises(UnknownNameError, match="split of emoji"):
        Emoji().locate(DataRequest(split="10"))
    (copy / "features.npz").unlink()
    with pytest.raises(MissingDataError, match=r"features\.npz is missing"):
        Emoji(copy).locate(DataRequest())


# --- features


def test_no_word_names_a_class(rows, stored):
    text = read_features(FOLDER / "features.npz", read_table())["text"]
    for column in ("fine", "coarse"):
        labels = np.array([row[column] for row in rows])
        for name in set(labels):
            assert text[labels == name].mean(axis=0).max() < SHARE, name
    assert text.sum(axis=0).min() >= LEAST_ITEMS
    assert not set(lines(stored["text_words"])) & set(lines(stored["text_class_words"]))
    assert {"face", "heart", "hand", "arrow", "de:gesicht"} <= set(lines(stored["text_class_words"]))


def test_bytes_use_their_range_and_no_column_is_constant(stored):
    for name in ("image", "audio", "3d", "sketch"):
        assert stored[name].dtype == np.uint8
        assert (stored[name].max(axis=0) == 255).all(), name
        assert (stored[name].min(axis=0) < 255).all(), name
    text = np.unpackbits(stored["text"], axis=1)
    assert set(np.unique(text)) == {0, 1}
    assert not any(array.dtype.hasobject for array in stored.values())


# --- the data card


def test_tables_of_the_card_are_what_its_script_gives():
    text = CARD.read_text(encoding="utf-8")
    for name, value in card.facts(read_table()).items():
        assert value in text, name


def test_retrieval_by_class_probabilities_is_as_the_card_says():
    """Split 0, in brackets in the card; all ten take a minute."""
    text = CARD.read_text(encoding="utf-8")
    said = re.search(r"^\| emoji \| all test items \| \S+ ± \S+ \((\S+)\)", text, flags=re.MULTILINE)
    found = baseline.measure(load(Emoji))
    assert card.mean_map(found) == pytest.approx(float(said[1]), abs=0.03)
    assert all(found.scores[direction] > 2 * found.chance[direction] for direction in found.scores)
    accuracies = re.search(r"^\| emoji \|(.*± .*)\|$", text, flags=re.MULTILINE)[1]
    for measured, printed in zip(found.accuracy.values(), re.findall(r"\((\S+)\)", accuracies), strict=True):
        assert measured == pytest.approx(float(printed), abs=0.03)


# --- made again


@pytest.fixture
def packages():
    if not PACKAGES.is_dir():
        pytest.skip("node packages are not installed (npm ci in datasets/build/emoji)")


@pytest.mark.parametrize("modality", PICTURES)
def test_drawings_give_the_stored_features(packages, rows, stored, modality):
    for library in ("skimage", "PIL", "resvg_py"):
        pytest.importorskip(library)
    files = drawings(modality)
    for i in range(7, len(rows), 260):
        features = PICTURES[modality](files[rows[i]["code"]])[stored[f"{modality}_columns"]]
        again = in_bytes(features, stored[f"{modality}_scale"])
        assert np.abs(again.astype(int) - stored[modality][i]).max() <= 1


def test_speech_gives_the_stored_features(packages, rows, stored):
    pytest.importorskip("python_speech_features")
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    made_with = json.loads(stored["made_with"].tobytes())["espeak-ng"]
    if speech.version() != made_with:
        pytest.skip(f"espeak-ng is {speech.version()}; the features were made with {made_with}")
    emoji, naming = read_emoji(), set(lines(stored["text_class_words"]))
    chosen = range(7, len(rows), 260)
    halves = []
    for voice in speech.VOICES:
        book = speech.Codebook(*(stored[f"audio_{voice}_{part}"] for part in ("mean", "deviation", "words")))
        spoken = speech.speak([utterance(emoji[rows[i]["code"]], naming) for i in chosen], voice)
        halves.append([book.count(frames) for frames in spoken])
    again = np.concatenate(halves, axis=1)[:, stored["audio_columns"]]
    wanted = stored["audio"][chosen].astype(int)
    assert np.abs(in_bytes(again, stored["audio_scale"]) - wanted).max() <= 1


def test_class_words_come_out_of_the_rule(packages, stored):
    from benchmark.datasets.build.emoji.items import read_table as read_rows

    assert sorted(class_words(read_rows(), read_emoji())) == lines(stored["text_class_words"])


def test_features_of_a_plain_red_square(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("skimage")
    file = tmp_path / "red.png"
    image.new("RGBA", (64, 64), (255, 0, 0, 255)).save(file)
    features = pictures.image(file)
    hog, colours, patterns, means = np.split(features, [1764, 1872, 1912])
    assert hog.max() == 0
    assert sorted(colours)[-2:] == [0, 1]
    assert patterns.sum() == pytest.approx(4)
    np.testing.assert_allclose(means.reshape(16, 3), np.tile([1.0, 0, 0], (16, 1)))
