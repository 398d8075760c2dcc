"""The evaluations behind a real probe, an identity encoder and a small source."""

import numpy as np
import pytest
import torch

from polymodal import (
    NO_TAPS,
    DataError,
    Encoded,
    Encoder,
    Layout,
    Loss,
    Need,
    PretrainingModel,
    Representing,
    Source,
    Tokenizer,
    Tokens,
    TokenSpec,
)
from polymodal.config.shape import SplitConfig
from polymodal.data.reading import StreamReading
from polymodal.data.splits import SplitSource
from polymodal.model.probing import ModelProbe, run_evaluations
from polymodal_evaluation.knn import NearestNeighbors
from polymodal_evaluation.linear_probe import LinearProbe
from polymodal_evaluation.linear_regression import LinearRegression
from polymodal_evaluation.retrieval import Retrieval
from polymodal_evaluation.zero_shot import ZeroShot

WORDS = {"red": [1.0, 0.0], "blue": [0.0, 1.0]}


class Points(Tokenizer):
    """One token a point; a word stands for its point."""

    @property
    def spec(self):
        return TokenSpec(features=2)

    def encode(self, raws, *, generators=None):
        rows = [WORDS.get(raw, raw) if isinstance(raw, str) else raw for raw in raws]
        values = torch.tensor([row for row in rows if row is not None]).reshape(-1, 2).float()
        return Tokens(Layout.of([int(row is not None) for row in rows]), values=values)


class Identity(Encoder):
    width = 2

    def embed(self, tokens):
        return Encoded.mean_pooled(tokens.layout, tokens.values)

    def contextualize(self, encoded, *, taps=NO_TAPS):
        return encoded


class Colours(Source):
    """Points near the one of their colour's word; every tenth has no text."""

    def __len__(self):
        return 60

    def columns(self):
        return ("point", "word", "mass")

    def row(self, index):
        word = "red" if index % 2 else "blue"
        point = np.array(WORDS[word]) + 0.05 * np.random.default_rng(index).normal(size=2)
        text = None if index % 10 == 0 else point.tolist()
        return {"point": point.tolist(), "copy": text, "word": word, "mass": float(point.sum())}


class Together(Representing):
    """Represents a stream by its vector less the other stream's, which may be absent."""

    def needs(self):
        return {"image": Need(), "text": Need()}

    def forward(self, step):
        return Loss(step.encode("image").vectors.sum(), step.batch.samples)

    def beside(self, stream):
        return ("text",) if stream == "image" else ("image",)

    def represent(self, step, stream):
        other = self.beside(stream)[0]
        return step.encode(stream).pooled_rows() - step.encode(other).pooled_rows()


def test_an_objective_represents_samples_by_several_streams():
    encoders = {"image": Identity(), "text": Identity()}
    specs = {name: Points().spec for name in encoders}
    names = {name: name for name in encoders}
    model = PretrainingModel(names, encoders, specs, objectives={"both": Together()})
    readings = {
        "image": StreamReading("point", Points()),
        "text": StreamReading("copy", Points()),
    }
    source = SplitSource("colours", Colours(), split=SplitConfig())
    probe = ModelProbe(model, readings, {"colours": source}, batch_size=7)
    for stream, absent in (("image", 6), ("text", 0)):  # every tenth has no text
        found = probe.features(stream, source="colours", split="train", objective="both")
        assert len(found.rows) == (60 if stream == "image" else 54)
        assert (np.abs(found.vectors).sum(axis=1) > 0).sum() == absent
    # A value alone: what it is fused with is absent.
    assert probe.encode("text", ["red"], objective="both").tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("batch_size", [4, 64])
def test_every_evaluation_scores_what_an_encoder_that_keeps_everything_deserves(batch_size):
    encoders = {"image": Identity(), "text": Identity()}
    specs = {name: Points().spec for name in encoders}
    model = PretrainingModel({name: name for name in encoders}, encoders, specs)
    readings = {
        "image": StreamReading("point", Points()),
        "text": StreamReading("copy", Points()),
    }
    source = SplitSource("colours", Colours(), split=SplitConfig(validation=0.4))
    probe = ModelProbe(model, readings, {"colours": source}, batch_size=batch_size)
    found, _ = run_evaluations(
        {
            "probe": LinearProbe("image", "colours", "word"),
            "folds": LinearProbe("image", "colours", "word", folds=3, metric="auc"),
            "mass": LinearRegression("image", "colours", "mass"),
            "knn": NearestNeighbors("image", "colours", "word"),
            "find": Retrieval(("image", "text"), "colours", k=[1], split="all"),
            "words": ZeroShot("image", "colours", "word"),
        },
        probe,
    )
    values = {name: [score.value for score in scores] for name, scores in found.items()}
    assert values.pop("mass") == pytest.approx([1.0], abs=1e-3)
    assert values.pop("folds") == pytest.approx([1.0])
    assert values == {"probe": [1.0], "knn": [1.0], "find": [1.0, 1.0], "words": [1.0]}
    assert [score.samples for score in found["find"]] == [54, 54]
    assert [score.samples for score in found["probe"]] == [24]


class Paths(Points):
    """As many tokens as a path has points."""

    def encode(self, raws, *, generators=None):
        values = torch.tensor([point for raw in raws for point in raw or []]).reshape(-1, 2)
        return Tokens(Layout.of([len(raw or []) for raw in raws]), values=values.float())


class Walks(Source):
    def __len__(self):
        return 5

    def columns(self):
        return ("path", "names", "walk")

    def row(self, index):
        path = [[float(index), float(place)] for place in range(index)]
        return {"path": path, "names": [f"{index}.{p}" for p in range(index)], "walk": [index]}


@pytest.mark.parametrize("batch_size", [2, 64])
def test_tokens_have_vectors_with_their_own_entries_of_fields(batch_size):
    model = PretrainingModel({"path": "path"}, {"path": Identity()}, {"path": Points().spec},
                             objectives={"sum": Together()})  # fmt: skip
    source = SplitSource("walks", Walks(), split=SplitConfig())
    probe = ModelProbe(
        model, {"path": StreamReading("path", Paths())}, {"walks": source}, batch_size=batch_size
    )
    found = probe.features("path", source="walks", split="train", each="token")
    assert found.rows.tolist() == [1, 2, 2, 3, 3, 3, 4, 4, 4, 4]
    assert found.fields["names"] == [f"{int(walk)}.{int(place)}" for walk, place in found.vectors]
    # One entry for several tokens is the sample's own; a single token takes it apart.
    assert found.fields["walk"] == [1] + [[2]] * 2 + [[3]] * 3 + [[4]] * 4
    assert len(probe.features("path", source="walks", split="train").vectors) == 4
    with pytest.raises(DataError, match="represents samples, not their tokens"):
        probe.features("path", source="walks", split="train", objective="sum", each="token")
