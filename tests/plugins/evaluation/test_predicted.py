from dataclasses import dataclass, field

import numpy as np
import pytest

from polymodal import DataError, Predictions
from polymodal_evaluation.classes import Classes

texts = pytest.importorskip("polymodal_evaluation.texts")


@dataclass
class Told:
    """A probe whose one objective predicts these values."""

    values: list
    truth: list
    seed: int = 0
    asked: list = field(default_factory=list)

    def predictions(self, objective, *, source, split):
        if objective != "task":
            raise KeyError(f"No objective is called {objective!r}.")
        self.asked.append((source, split))
        return Predictions(self.values, np.arange(len(self.values)), {"true": self.truth})


def figures(evaluation, values, truth):
    found = evaluation.run(Told(values, truth))
    return {score.metric: (score.value, score.chance, score.samples) for score in found}


def test_f1_is_the_mean_over_classes_whatever_their_size():
    truth = ["a", "a", "a", "b", "c", None]
    found = figures(Classes("task", "rows", "true"), ["a", "a", "b", "b", "b", "a"], truth)
    # a: precision 1, recall 2/3; b: precision 1/3, recall 1; c: never named
    expected = (2 * (2 / 3) / (5 / 3) + 2 * (1 / 3) / (4 / 3) + 0) / 3
    assert found["f1"][0] == pytest.approx(expected)
    assert found["accuracy"] == (pytest.approx(3 / 5), pytest.approx(3 / 5), 5)
    assert found["f1"][1] == pytest.approx((2 * 0.6 / 1.6) / 3)  # always a


def test_texts_match_up_to_blanks_and_bleu_is_sacrebleus():
    from sacrebleu import corpus_bleu

    truth = ["rename the old name to new", "why not  3 ?", "check that it is there"]
    written = ["rename the old name to it", "why not 3 ?", "check it is there"]
    found = figures(texts.Texts("task", "rows", "true", split="test"), written, truth)
    assert found["exact_match"] == (pytest.approx(1 / 3), pytest.approx(1 / 3), 3)
    plain = [" ".join(text.split()) for text in truth]
    assert found["bleu"][0] == pytest.approx(corpus_bleu(written, [plain]).score)
    commonest = [sorted(plain)[0]] * 3
    assert found["bleu"][1] == pytest.approx(corpus_bleu(commonest, [plain]).score)


def test_short_texts_and_case_have_a_score_too():
    lower = texts.Texts("task", "rows", "true", lower_case=True)
    found = figures(lower, ["Delete it", "keep it"], ["delete it", "keep"])
    assert found["exact_match"][0] == 0.5 and found["bleu"][0] > 30


@pytest.mark.parametrize("make", [Classes, texts.Texts])
def test_nothing_to_score_is_an_error_that_says_so(make):
    with pytest.raises(DataError, match="no validation row of source 'rows'"):
        make("task", "rows", "true").run(Told(["a"], [None]))
    with pytest.raises(DataError, match="has no field 'tru'"):
        make("task", "rows", "tru").run(Told(["a"], ["a"]))
    with pytest.raises(DataError, match="No objective is called 'tsk'"):
        make("tsk", "rows", "true").run(Told(["a"], ["a"]))
