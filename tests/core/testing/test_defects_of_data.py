"""Each rule of readers, tokenizers, sources, evaluations and trackers, broken once."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from polymodal import (
    Evaluation,
    Layout,
    Need,
    Reader,
    Score,
    Source,
    Tokenizer,
    Tokens,
    TokenSpec,
    Tracker,
    UnreadableError,
)
from polymodal.testing import checks
from polymodal.testing.evaluations import EvaluationSubject
from polymodal.testing.readers import ReaderSubject
from polymodal.testing.registry import Examination
from polymodal.testing.sources import SourceSubject
from polymodal.testing.tokenizers import TokenizerSubject
from polymodal.testing.trackers import TrackerSubject

SIGNALS = [np.arange(size, dtype=np.float32) / size for size in (9, 4, 13)]


class Signal(Reader):
    def __call__(self, value):
        try:
            signal = np.array(value, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise UnreadableError(f"no signal: {error}") from error
        if signal.ndim != 1 or not len(signal) or not np.isfinite(signal).all():
            raise UnreadableError("no signal")
        return signal


class Windows(Tokenizer):
    """Learns the largest number of all signals, divides by it, jitters, cuts into fours."""

    def __init__(self):
        self.largest = None

    @property
    def spec(self):
        return TokenSpec(features=4, extent=(8,), max_tokens=8)

    @property
    def fitted(self):
        return self.largest is not None

    def fit(self, raws):
        self.largest = max(float(raw.max()) for raw in raws)

    def state(self):
        return {"largest": self.largest}

    def load_state(self, state):
        self.largest = state["largest"]

    def jitter(self, generator):
        return generator.normal() * 0.01

    def rows(self, raws, generators):
        cut = [None if raw is None else raw[: len(raw) // 4 * 4].reshape(-1, 4) for raw in raws]
        return [
            np.zeros((0, 4), np.float32) if rows is None
            else rows / self.largest + (0 if generators is None else self.jitter(generators[n]))
            for n, rows in enumerate(cut)
        ]  # fmt: skip

    def layout(self, lengths):
        return Layout.of(lengths)

    def encode(self, raws, *, generators=None):
        rows = self.rows(raws, generators)
        values = np.concatenate([np.zeros((0, 4)), *rows]).astype(np.float32)
        return Tokens(self.layout([len(each) for each in rows]), values=torch.from_numpy(values))


class Waves(Source):
    def __len__(self):
        return 5

    def columns(self):
        return ("wave", "label")

    def generator(self, index):
        return np.random.default_rng(index)

    def row(self, index):
        if index == 3:
            raise UnreadableError("the cable came off")
        return {"wave": self.generator(index).normal(size=4), "label": index % 2}


class Nearest(Evaluation):
    """Label each row like the nearest training row."""

    def needs(self):
        return {"patches": Need()}

    def read(self, probe, split):
        return probe.features("patches", source="toy", split=split)

    def score(self, share, count):
        return Score("accuracy", share, 1 / 3, samples=count)

    def run(self, probe):
        train, test = (self.read(probe, split) for split in ("train", "validation"))
        gaps = ((test.vectors[:, None] - train.vectors[None]) ** 2).sum(axis=2)
        told = np.array(train.fields["label"])[gaps.argmin(axis=1)]
        return [self.score(float((told == np.array(test.fields["label"])).mean()), len(told))]


class Notes(Tracker):
    def __init__(self):
        self.lines = []

    def log(self, step, values):
        self.lines.append((step, dict(values)))


def failed(kind, subject):
    """Names of the checks that fail; those that come after them are skipped."""
    findings = Examination("test.component", kind, subject).findings()
    return [finding.check for finding in findings if finding.status == "failed"]


class Anything(Signal):
    def __call__(self, value):
        return np.array(value, dtype=np.float32)  # numpy's own errors


class Noisy(Signal):
    def __call__(self, value):
        return super().__call__(value) + np.random.default_rng().normal()


class Scaling(Signal):
    def __call__(self, value):
        found = super().__call__(value)
        if isinstance(value, np.ndarray):
            value *= 2
        return found


class Unpicklable(Signal):
    def __init__(self):
        self.cast = lambda value: value


class Strict(Signal):
    def __call__(self, value):
        if not isinstance(value, np.ndarray):
            raise UnreadableError("no array")
        return super().__call__(value)


class Opening(Signal):
    def __call__(self, value):
        if isinstance(value, str):
            try:
                value = Path(value).read_bytes()
            except (OSError, ValueError) as error:
                raise UnreadableError(f"no file: {error}") from error
        if isinstance(value, bytes) and not len(value) % 4:
            value = np.frombuffer(value, np.float32)
        return super().__call__(value)


class Telling(Opening):
    strings_are_paths = True


def test_a_reader_that_opens_files_without_saying_so_is_caught():
    values = [np.arange(3, dtype=np.float32).tobytes()]
    assert failed("reader", ReaderSubject(Opening, values)) == ["paths"]
    assert failed("reader", ReaderSubject(Telling, values)) == []


READERS = {Strict: "reads", Anything: "refusals", Noisy: "repeats", Scaling: "leaves_values_alone",
           Unpicklable: "pickling"}  # fmt: skip


@pytest.mark.parametrize("defect", READERS, ids=lambda d: d.__name__)
def test_each_defect_of_a_reader_is_caught_by_its_check(defect):
    values = [np.arange(3.0) + 1, [1, 2]]
    assert failed("reader", ReaderSubject(Signal, values)) == []
    # Reading twice shows a value that the first reading changed, too.
    assert READERS[defect] in failed("reader", ReaderSubject(defect, values))


class Crashing(Windows):
    def encode(self, raws, *, generators=None):
        raise IndexError("list index out of range")


class OneSegment(Windows):
    def layout(self, lengths):
        return Layout.of([sum(lengths)])


class WrongOffsets(Windows):
    def layout(self, lengths):
        good = Layout.of(lengths)
        return Layout(good.lengths, good.offsets.flip(0), good.samples, good.positions)


class NoneCrashes(Windows):
    def rows(self, raws, generators):
        return super().rows([raw[:] for raw in raws], generators)


class EmptyCrashes(Windows):
    def rows(self, raws, generators):
        for raw in raws:
            if raw is not None:
                raw[0]  # no signal is this short
        return super().rows(raws, generators)


class OwnEntropy(Windows):
    def jitter(self, generator):
        return np.random.default_rng().normal() * 0.01


class FixedSeed(Windows):
    def jitter(self, generator):
        return np.random.default_rng(0).normal() * 0.01


class GlobalNoise(Windows):
    def jitter(self, generator):
        return float(torch.rand(()))


class GlobalSeed(Windows):
    def jitter(self, generator):
        np.random.seed(0)  # noqa: NPY002
        return 0.01


class OverTheBatch(Windows):
    def rows(self, raws, generators):
        found = super().rows(raws, generators)
        largest = max((float(rows.max()) for rows in found if len(rows)), default=1.0)
        return [rows / largest for rows in found]


class SharedGenerator(Windows):
    def rows(self, raws, generators):
        shared = None if generators is None or not len(raws) else [generators[0]] * len(raws)
        return super().rows(raws, shared)


class Forgetful(Windows):
    def state(self):
        return {"largest": 2.0}


class NotJson(Windows):
    def state(self):
        return {"largest": np.float32(self.largest)}


class Lambda(Windows):
    def fit(self, raws):
        super().fit(raws)
        self.cut = lambda raw: raw


class Miscounting(Windows):
    def count(self, raws):
        return [0 if raw is None else len(raw) for raw in raws]


class InPlace(Windows):
    def rows(self, raws, generators):
        for raw in raws:
            if raw is not None:
                raw *= 2
        return super().rows(raws, generators)


class DrawnTwice(Windows):
    def shrink(self, raw, *, generator=None):
        return raw if generator is None else raw * np.float32(1 + generator.random())


class HalfDecoding(Windows):
    def decode(self, tokens):
        return [tokens.values]


class NotANumber(Windows):
    def rows(self, raws, generators):
        return [rows * np.float32("nan") for rows in super().rows(raws, generators)]


class Lying(Windows):
    def __init__(self, **lies):
        super().__init__()
        self.lies = lies

    @property
    def spec(self):
        return replace(super().spec, **self.lies)


def lying(**lies):
    return partial(Lying, **lies)


class Growing(Windows):
    @property
    def spec(self):
        return TokenSpec(features=4, extent=(8,), max_tokens=8 if self.fitted else 7)


TOKENIZERS = {
    "crashing": (Crashing, "encodes"),
    "one segment": (OneSegment, "shapes"),
    "wrong offsets": (WrongOffsets, "shapes"),
    "absent value": (NoneCrashes, "absent"),
    "empty value": (EmptyCrashes, "empty"),
    "own entropy": (OwnEntropy, "generators"),
    "fixed seed": (FixedSeed, "augmentation"),
    "global noise": (GlobalNoise, "global_state"),
    "global seed": (GlobalSeed, "global_state"),
    "over the batch": (OverTheBatch, "packing"),
    "one generator for all": (SharedGenerator, "packing"),
    "state left out": (Forgetful, "saving"),
    "state no JSON": (NotJson, "saving"),
    "unpicklable": (Lambda, "pickling"),
    "miscounting": (Miscounting, "counts"),
    "raws changed": (InPlace, "leaves_raws_alone"),
    "shrinking": (DrawnTwice, "shrinking"),
    "decoding": (HalfDecoding, "decoding"),
    "NaN": (NotANumber, "spec"),
    "spec: features": (lying(features=5), "spec"),
    "spec: ids": (lying(features=0, vocabulary=4), "spec"),
    "spec: extent": (lying(extent=(2,)), "spec"),
    "spec: axes": (lying(axes=2, extent=(8, 8)), "spec"),
    "spec: length": (lying(max_tokens=2), "spec"),
    "spec: channel": (lying(channels={"side": 2}), "spec"),
    "spec: structure": (lying(structure=("word",)), "spec"),
    "spec: edges": (lying(edges=True), "spec"),
    "spec: after fitting": (Growing, "spec"),
}


def test_the_tokenizer_that_keeps_every_rule_passes():
    assert failed("tokenizer", TokenizerSubject(Windows, SIGNALS)) == []


@pytest.mark.parametrize("name", TOKENIZERS)
def test_each_defect_of_a_tokenizer_is_caught_by_its_check(name):
    defect, check = TOKENIZERS[name]
    found = failed("tokenizer", TokenizerSubject(defect, SIGNALS))
    assert found == [check]


class Escaping(Waves):
    def row(self, index):
        if index == 3:
            raise ValueError("the cable came off")
        return super().row(index)


class Drifting(Waves):
    def generator(self, index):
        return np.random.default_rng()


class Reseeding(Waves):
    def generator(self, index):
        np.random.seed(index)  # noqa: NPY002
        return super().generator(index)


class Hiding(Waves):
    def columns(self):
        return ("wave",)


class Reordered(Waves):
    def rows(self, indices):
        return super().rows(sorted(indices))


class Shifted(Waves):
    def column(self, name):
        return [value for value in super().column(name) if value is not None]


class Handle(Waves):
    def __init__(self):
        self.open = lambda: None


class Listing(Waves):
    def context(self):
        return ["road"]


class Changing(Waves):
    def fingerprint(self):
        return str(np.random.default_rng().random())


SOURCES = {Escaping: "reads", Drifting: "repeats", Reseeding: "global_state", Hiding: "columns",
           Reordered: "rows_agree", Shifted: "rows_agree", Handle: "pickling",
           Listing: "context", Changing: "fingerprint"}  # fmt: skip


@pytest.mark.parametrize("defect", SOURCES, ids=lambda d: d.__name__)
def test_each_defect_of_a_source_is_caught_by_its_check(defect):
    assert failed("source", SourceSubject(Waves)) == []
    assert failed("source", SourceSubject(defect)) == [SOURCES[defect]]


class Guessing(Nearest):
    def score(self, share, count):
        return super().score(share * float(np.random.default_rng().uniform(0.9, 1)), count)


class Upsidedown(Nearest):
    def score(self, share, count):
        return Score("accuracy", share, 1 / 3, higher_is_better=False, samples=count)


class Uncounted(Nearest):
    def score(self, share, count):
        return Score("accuracy", share, 1 / 3)


class Hopeful(Nearest):
    def read(self, probe, split):
        if not probe.size("toy", split):
            raise KeyError(split)
        return super().read(probe, split)


class Unmet(Nearest):
    def needs(self):
        return {"patches": Need(ids=True)}


EVALUATIONS = {Guessing: "randomness", Upsidedown: "beats_chance", Uncounted: "shapes",
               Hopeful: "refusals", Unmet: "runs"}  # fmt: skip


@pytest.mark.parametrize("defect", EVALUATIONS, ids=lambda d: d.__name__)
def test_each_defect_of_an_evaluation_is_caught_by_its_check(defect):
    assert failed("evaluation", EvaluationSubject(Nearest)) == []
    assert failed("evaluation", EvaluationSubject(defect)) == [EVALUATIONS[defect]]


class Stranger:
    """Looks like a tracker, but is none."""


class Impatient(Notes):
    def log(self, step, values):
        self.lines.append(values["loss"])


TRACKERS = {Stranger: "builds", Impatient: "tracks"}


@pytest.mark.parametrize("defect", TRACKERS, ids=lambda d: d.__name__)
def test_each_defect_of_a_tracker_is_caught_by_its_check(defect):
    assert failed("tracker", TrackerSubject(Notes)) == []
    assert failed("tracker", TrackerSubject(defect)) == [TRACKERS[defect]]


@pytest.mark.parametrize(
    ("kind", "caught"),
    [
        ("reader", [*READERS.values(), "paths"]),
        ("tokenizer", [check for _, check in TOKENIZERS.values()]),
        ("source", SOURCES.values()),
        ("evaluation", EVALUATIONS.values()),
        ("tracker", TRACKERS.values()),
    ],
)
def test_every_check_catches_a_defect(kind, caught):
    assert set(caught) == set(checks(kind))
