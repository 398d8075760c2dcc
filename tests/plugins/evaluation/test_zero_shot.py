import numpy as np
import pytest
from fake_probe import FakeProbe

from polymodal import DataError, Need, UnreadableError
from polymodal_evaluation.zero_shot import ZeroShot

PROMPTS = {"a picture of cat": [1, 0], "a picture of dog": [0, 3]}


def probe_of(vectors, labels, prompts=PROMPTS):
    probe = FakeProbe(prompts=prompts).add("image", "validation", vectors, label=labels)
    return probe.add("image", "train", [[1, 1]] * 3, label=["dog", "cat", None])


def test_the_nearest_prompt_by_angle_wins_and_classes_come_from_train():
    probe = probe_of([[5, 1], [0.1, 0.2], [1, 0], [9, 9]], ["cat", "dog", "dog", None])
    evaluation = ZeroShot("image", "pets", "label", objective="clip", template="a picture of {}")
    (score,) = evaluation.run(probe)
    assert score.value == pytest.approx(2 / 3)
    assert score.chance == pytest.approx(2 / 3)
    assert (score.metric, score.samples) == ("accuracy", 3)
    assert ("text", tuple(PROMPTS), "clip") in probe.asked
    assert ("image", "pets", "validation", "clip") in probe.asked
    assert evaluation.needs() == {"image": Need(), "text": Need()}


def test_templates_are_averaged_as_unit_vectors():
    prompts = {"cat": [1, 0], "a cat": [0, 100], "dog": [0, 1], "a dog": [0, 1]}
    probe = probe_of([[1, 0.9], [0.1, 1], [0.5, 1]], ["cat", "dog", "cat"], prompts)
    evaluation = ZeroShot("image", "pets", "label", classes=["cat", "dog"], template=["{}", "a {}"])
    (score,) = evaluation.run(probe)
    # cat lies at 45 degrees, dog at 90: the rows lie at 42, 84 and 63
    assert score.value == 1.0


def test_words_stand_for_labels_and_rows_of_other_classes_are_left_out():
    probe = probe_of([[1, 0], [0, 1], [1, 1]], [0, 1, 2], {"zero": [1, 0], "one": [0, 1]})
    classes = {"0": "zero", "1": "one"}
    (score,) = ZeroShot("image", "digits", "label", classes=classes).run(probe)
    assert (score.value, score.samples) == (1.0, 2)


def test_an_encoder_that_maps_everything_to_one_point_gains_nothing():
    prompts = {"cat": [1 / 3, 1 / 3], "dog": [1 / 3, 1 / 3]}
    probe = probe_of(np.ones((4, 2)), ["cat", "cat", "dog", "cat"], prompts)
    (score,) = ZeroShot("image", "pets", "label").run(probe)
    assert score.value == 0.0


def test_what_cannot_be_scored_is_one_clear_line():
    probe = probe_of([[1, 0]], ["fox"], {"cat": [1, 0, 0], "dog": [0, 1, 0]})
    with pytest.raises(DataError, match="its first label is 'fox', the first class 'cat'"):
        ZeroShot("image", "pets", "label").run(probe)
    with pytest.raises(DataError, match="widths 2 and 3"):
        ZeroShot("image", "pets", "label").run(
            probe_of([[1, 0]], ["cat"], {"cat": [1, 0, 0], "dog": [0, 1, 0]})
        )
    with pytest.raises(DataError, match="has only 'cat' in train"):
        ZeroShot("image", "pets", "label").run(probe.add("image", "train", [[1, 0]], label=["cat"]))


def test_a_prompt_that_cannot_be_read_is_told():
    probe = probe_of([[1, 0]], ["cat"])

    def refuse(stream, raws, *, objective=None):
        raise UnreadableError("empty text")

    probe.encode = refuse
    with pytest.raises(DataError, match="'text' can't read a prompt: empty text"):
        ZeroShot("image", "pets", "label").run(probe)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": "a picture"}, "must have {} where"),
        ({"template": []}, "one prompt or more"),
        ({"classes": ["cat"]}, "two or more that differ"),
        ({"classes": {"0": "cat", "1": "cat"}}, "two or more that differ"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ZeroShot("image", "pets", "label", **options)
