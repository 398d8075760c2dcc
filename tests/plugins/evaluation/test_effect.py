import numpy as np
import pytest
from fake_probe import FakeProbe

from polymodal import DataError
from polymodal_evaluation.effect import (
    Effect,
    concept_difference,
    mean_difference,
    probabilities,
)

ORIGINAL = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
BLIND = np.array([[0.7, 0.3], [0.6, 0.4], [0.5, 0.5]])


def test_the_estimate_is_the_mean_distance_between_probabilities():
    assert mean_difference(ORIGINAL, BLIND) == pytest.approx((0.4 + 0 + 0.6) / 3)
    assert mean_difference(ORIGINAL, ORIGINAL) == 0
    assert mean_difference(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])) == 2


def test_what_correlation_makes_of_it_compares_means_with_and_without_the_concept():
    found = concept_difference(ORIGINAL, ["f", "m", "f"])
    assert found == pytest.approx(2 * abs((0.9 + 0.2) / 2 - 0.6))
    three = concept_difference(ORIGINAL, ["a", "b", "c"])
    assert three == pytest.approx((0.6 + 1.4 + 0.8) / 3)
    with pytest.raises(ValueError, match="two values"):
        concept_difference(ORIGINAL, ["f"] * 3)


def test_probabilities_are_those_of_a_softmax_and_stay_finite():
    found = probabilities(np.array([[0.0, np.log(3)], [1000.0, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(found, [[0.25, 0.75], [1.0, 0.0]], atol=1e-7)


def probe():
    logits = np.log(ORIGINAL)
    other = {"she": np.log(BLIND[0]), "he": np.log(BLIND[2])}
    return FakeProbe(prompts=other).add(
        "text", "validation", logits, other=["she", None, "he"], gender=["f", "m", "f"]
    )


def test_texts_are_compared_with_their_counterfactuals_and_by_concept():
    effect = Effect("text", "reviews", "task", counterfactual="other", concept="gender")
    scores = {score.metric: score for score in effect.run(probe())}
    assert scores["ate"].value == pytest.approx((0.4 + 0.6) / 2)  # the second has none
    assert scores["conexp"].value == pytest.approx(0.1)
    assert not scores["ate"].higher_is_better


def test_two_runs_are_compared_on_the_same_rows_only(monkeypatch):
    class Other:
        def __init__(self, fields):
            self.fields = fields

        def probe(self):
            return FakeProbe().add("text", "validation", np.log(BLIND), **self.fields)

    effect = Effect("text", "reviews", "task", original="runs/o")
    here = probe()
    fields = here.splits["text", "validation"].fields
    monkeypatch.setattr("polymodal_evaluation.effect.load", lambda path: Other(fields))
    (score,) = effect.run(here)
    assert (score.metric, score.value) == ("treate", pytest.approx(1 / 3))
    monkeypatch.setattr(
        "polymodal_evaluation.effect.load", lambda path: Other({**fields, "gender": ["m"] * 3})
    )
    with pytest.raises(DataError, match="runs/o has other rows in source 'reviews'"):
        effect.run(here)


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="at least one of"):
        Effect("text", "reviews", "task")
    with pytest.raises(DataError, match="no field 'gendr'. Did you mean 'gender'"):
        Effect("text", "reviews", "task", concept="gendr").run(probe())
    empty = FakeProbe().add("text", "validation", np.log(ORIGINAL), other=[None] * 3)
    with pytest.raises(DataError, match="no row has a counterfactual"):
        Effect("text", "reviews", "task", counterfactual="other").run(empty)
