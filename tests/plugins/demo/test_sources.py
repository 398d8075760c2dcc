"""Every source of the demo alike: the same rows each time, whole, balanced and readable."""

import pickle
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from polymodal import Source, installed
from polymodal_audio.mel import MelPatches
from polymodal_audio.sound import SoundReader
from polymodal_code.byte_pairs import CodeBytePairs
from polymodal_code.reader import CodeReader
from polymodal_demo.digits import Digits
from polymodal_demo.drawings import NUMBERS as WORDS
from polymodal_demo.drawings import drawings
from polymodal_demo.functions import FAMILIES, Functions
from polymodal_demo.genomes import MOTIFS as SEQUENCES
from polymodal_demo.genomes import Genomes
from polymodal_demo.graphs import GROUPS, Graphs
from polymodal_demo.moving_digits import DIRECTIONS, MovingDigits
from polymodal_demo.plain_digits import PlainDigits
from polymodal_demo.sounds import KINDS, Sounds
from polymodal_demo.texture_pairs import TexturePairs, texture
from polymodal_genome.kmers import Kmers
from polymodal_genome.sequence import SequenceReader
from polymodal_graph.nodes import GraphNodes
from polymodal_graph.reading import GraphReader
from polymodal_video.reader import ClipReader
from polymodal_video.tubelets import Tubelets
from polymodal_vision.image import ImageReader
from polymodal_vision.patches import Patches

DRAWN = {
    "digits": Digits,
    "moving_digits": MovingDigits,
    "sounds": Sounds,
    "graphs": Graphs,
    "genomes": Genomes,
}
LABELS = {
    "digits": WORDS,
    "moving_digits": DIRECTIONS,
    "sounds": KINDS,
    "graphs": GROUPS,
    "genomes": SEQUENCES,
}


def flat(value: object) -> bytes:
    return pickle.dumps(value)


@pytest.mark.parametrize("name", DRAWN)
def test_a_row_is_the_same_each_time_in_any_order_and_any_process(name):
    source = DRAWN[name](samples=6)
    forwards = [flat(source.row(n)) for n in range(6)]
    other = pickle.loads(pickle.dumps(DRAWN[name](samples=60)))
    assert [flat(other.row(n)) for n in reversed(range(6))] == forwards[::-1]
    assert all(first != second for first, second in pairwise(forwards))


@pytest.mark.parametrize("name", DRAWN)
def test_another_seed_draws_other_rows(name):
    first, second = DRAWN[name](samples=4), DRAWN[name](samples=4, seed=1)
    assert all(flat(first.row(n)) != flat(second.row(n)) for n in range(4))


@pytest.mark.parametrize("name", DRAWN)
def test_rows_have_the_fields_that_columns_names(name):
    source = DRAWN[name](samples=5)
    assert len(source) == 5
    for row in source.rows(range(5)):
        assert tuple(row) == source.columns()
        assert type(row["label"]) is str
        assert len(row["text"]) > 3


@pytest.mark.parametrize("name", DRAWN)
def test_every_label_occurs_about_as_often(name):
    source = DRAWN[name](samples=400)
    counts = Counter(source.column("label"))
    assert set(counts) == set(LABELS[name])
    even = 400 / len(LABELS[name])
    assert 0.5 * even < min(counts.values()) <= max(counts.values()) < 1.6 * even


@pytest.mark.parametrize("name", DRAWN)
def test_captions_vary_in_wording_and_tell_labels_apart(name):
    source = DRAWN[name](samples=300)
    rows = source.rows(range(300))
    told = [row["label"] in row["text"] for row in rows]
    assert all(told)
    by_label: dict[str, set[str]] = {}
    for row in rows:
        by_label.setdefault(row["label"], set()).add(row["text"])
    assert min(map(len, by_label.values())) >= 5


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("options", [{"samples": -1}, {"seed": -1}])
def test_negative_samples_and_seeds_are_refused(name, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        DRAWN[name](**options)


@pytest.mark.parametrize("name", DRAWN)
def test_rows_out_of_range_are_refused(name):
    for index in (-1, 3):
        with pytest.raises(IndexError):
            DRAWN[name](samples=3).row(index)


def encoded(source: Source, field: str, reader, tokenizer, rows: int = 12):
    raws = [reader(source.row(n)[field]) for n in range(min(rows, len(source)))]
    for raw in raws:
        tokenizer.check(raw)
    return tokenizer.finish(tokenizer.encode(raws)).layout


def test_readers_and_tokenizers_take_every_row():
    patches = encoded(Digits(), "image", ImageReader(), Patches(size=32, patch=8))
    assert list(patches.lengths) == [16] * 12
    clips = encoded(
        MovingDigits(), "video", ClipReader(), Tubelets(size=32, frames=8, tube=2, patch=8)
    )
    assert list(clips.lengths) == [64] * 12
    tokenizer = MelPatches(rate=8000, n_fft=256, hop=80, n_mels=32, patch=(4, 32))
    assert min(encoded(Sounds(), "audio", SoundReader(rate=8000), tokenizer).lengths) > 10
    nodes = GraphNodes(vocabulary=6, edge_kinds=3)
    assert min(encoded(Graphs(), "graph", GraphReader(), nodes, rows=100).lengths) >= 7
    words = encoded(Genomes(), "genome", SequenceReader(), Kmers(k=6, stride=1))
    assert min(words.lengths) >= 70


def test_the_plugin_names_its_sources():
    for name in (*DRAWN, "functions"):
        assert installed().find(f"demo.{name}", "source").load()


def test_functions_are_the_same_each_time_without_their_docstrings_in_every_family():
    source, again = Functions(samples=900), pickle.loads(pickle.dumps(Functions(samples=900)))
    rows = source.rows(range(len(source)))
    assert len(source) == 900
    assert rows == again.rows(range(900))
    assert all(tuple(row) == source.columns() for row in rows)
    counts = Counter(row["label"] for row in rows)
    assert set(counts) == set(FAMILIES)
    assert min(counts.values()) >= 20
    copied = [row for row in rows if row["text"] in row["code"]]
    assert len(copied) < 9
    tokenizer = CodeBytePairs(vocabulary_size=300)
    tokenizer.fit([CodeReader()(row["code"]) for row in rows[:20]])
    assert min(encoded(source, "code", CodeReader(), tokenizer).lengths) > 5


def test_a_masked_name_does_not_stand_in_the_code():
    plain, masked = Functions(samples=20), Functions(samples=20, mask_name=True)
    for first, second in zip(plain.rows(range(20)), masked.rows(range(20)), strict=True):
        name = first["name"].rpartition(".")[2]
        assert f"def {name}(" in first["code"]
        assert "def f(" in second["code"]


def test_each_drawing_occurs_once_before_one_comes_again():
    rows = Digits(samples=1799, seed=3).rows(range(1799))
    assert sorted(row["drawing"] for row in rows[:1797]) == list(range(1797))
    assert np.any(rows[1797]["image"] != rows[1798]["image"])


def test_plain_digits_have_a_training_part_with_a_few_of_each_digit_in_it():
    source = PlainDigits(training=1400, shots=10, seed=3)
    rows = [source.row(index) for index in range(len(source))]
    assert sum(row["split"] == "train" for row in rows) == 1400
    assert all(row["few"] == "validation" for row in rows if row["split"] == "validation")
    few = [row["label"] for row in rows if row["few"] == "train"]
    assert len(few) == 100 and {few.count(name) for name in set(few)} == {10}
    assert all(row["split"] == "train" for row in rows if row["few"] == "train")
    selection = [row["selection"] for row in rows]
    assert [selection.count(name) for name in ("train", "validation", "")] == [100, 1300, 397]
    assert all(row["few"] == "train" for row in rows if row["selection"] == "train")
    assert all(row["split"] == "train" for row in rows if row["selection"] == "validation")
    other = PlainDigits(seed=4)
    assert [source.row(i)["few"] for i in range(90)] != [other.row(i)["few"] for i in range(90)]
    images, digits = drawings()
    assert (rows[5]["image"][..., 0] == (images[5] * 255).round()).all()
    assert rows[5]["label"] == WORDS[digits[5]]
    with pytest.raises(ValueError, match="training must be"):
        PlainDigits(training=1797)


@pytest.mark.parametrize("stride", [1, 4])
def test_one_view_of_a_texture_is_the_other_shifted(stride):
    source = TexturePairs(samples=30, size=16, reach=2, stride=stride)
    shifts = set()
    for row in source.rows(range(30)):
        down, right = row["shift"]
        shifts |= {down, right}
        one, other = row["view_1"], row["view_2"]
        # pixel (y, x) of view 2 shows what is at (y + down, x + right) of view 1
        top, left = max(down, 0), max(right, 0)
        bottom, end = min(16 + down, 16), min(16 + right, 16)
        part = other[top - down : bottom - down, left - right : end - right]
        assert np.array_equal(one[top:bottom, left:end], part)
    assert shifts == {stride * step for step in range(-2, 3)}


def test_an_unrelated_view_is_of_another_texture():
    rows = TexturePairs(samples=20, reach=0, unrelated=True).rows(range(20))
    pairs = [np.corrcoef(r["view_1"].ravel(), r["view_2"].ravel())[0, 1] for r in rows]
    assert np.abs(pairs).max() < 0.4 and abs(np.mean(pairs)) < 0.05


def test_every_pixel_of_a_texture_has_unit_variance_and_is_smooth():
    generator = np.random.default_rng(0)
    made = np.stack([texture(12, 1.0, generator) for _ in range(10_000)])
    assert np.abs(made.std(axis=0) - 1).max() < 0.04
    near = (made[:, 5:7, 5:7] * made[:, 5:7, 6:8]).mean()
    assert near == pytest.approx(np.exp(-1 / 4), abs=0.03)  # of Gaussians: exp(-d^2 / 4 sigma^2)
