import pytest

from polymodal import DataError
from polymodal_evaluation.held_out import HeldOut


class Losses:
    def __init__(self, sums):
        self.sums = sums

    def losses(self, objective, *, source, split):
        if objective != "words":
            raise KeyError(f"No objective is called {objective!r}.")
        return self.sums


def test_sums_become_means_with_their_counts():
    probe = Losses({"loss": (6.0, 4), "accuracy": (3.0, 4)})
    loss, accuracy = HeldOut("words", "rows").run(probe)
    assert (loss.metric, loss.value, loss.higher_is_better, loss.samples) == ("loss", 1.5, False, 4)
    assert (accuracy.value, accuracy.higher_is_better) == (0.75, True)
    (only,) = HeldOut("words", "rows", metrics=["accuracy"], chance=0.1).run(probe)
    assert (only.metric, only.chance) == ("accuracy", 0.1)


@pytest.mark.parametrize(
    ("options", "sums", "text"),
    [
        ({"objective": "wrds"}, {}, "No objective is called 'wrds'"),
        ({"metrics": ["accurcy"]}, {"loss": (1.0, 1)}, "no metric 'accurcy'; it has loss"),
        ({}, {"loss": (0.0, 0)}, "nothing to score in validation"),
    ],
)
def test_what_can_not_be_scored_is_refused(options, sums, text):
    evaluation = HeldOut(**{"objective": "words", "source": "rows", **options})
    with pytest.raises(DataError, match=text):
        evaluation.run(Losses(sums))
