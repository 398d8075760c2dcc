import numpy as np
import pytest
from fake_probe import FakeProbe, blobs
from sklearn.metrics import adjusted_rand_score, v_measure_score

from polymodal import DataError
from polymodal_evaluation.clustering import Clustering


def test_groups_that_are_the_classes_score_one_and_noise_about_nothing():
    vectors, labels = blobs(90, spread=0.01)
    probe = FakeProbe().add("image", "train", vectors, label=labels)
    nmi, ari = Clustering("image", "digits", "label").run(probe)
    assert (nmi.metric, ari.metric) == ("nmi", "ari")
    assert nmi.value == pytest.approx(1) and ari.value == pytest.approx(1)
    assert nmi.chance < 0.1 and abs(ari.chance) < 0.1
    noise = FakeProbe().add("image", "train", np.random.default_rng(0).normal(size=(90, 5)),
                            label=labels)  # fmt: skip
    for score in Clustering("image", "digits", "label").run(noise):
        assert score.value < 0.15


def test_scores_are_scikit_learns_over_all_splits_and_rows_without_label_do_not_count():
    # Three places far apart, of which two classes share one.
    vectors = np.array([[0, 0], [0, 0.1], [9, 0], [9, 0.1], [9, 0.2], [0, 9], [5, 5]])
    labels = ["a", "a", "a", "b", "b", "c", None]
    probe = FakeProbe().add("image", "train", vectors[:4], label=labels[:4])
    probe.add("image", "test", vectors[4:], label=labels[4:])
    nmi, ari = Clustering("image", "digits", "label").run(probe)
    truth, found = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 2]
    assert nmi.value == pytest.approx(v_measure_score(truth, found))
    assert ari.value == pytest.approx(adjusted_rand_score(truth, found))
    assert nmi.samples == 6
    few = Clustering("image", "digits", "label", clusters=5, split="train")
    with pytest.raises(DataError, match="4 rows can't be cut into 5 clusters"):
        few.run(probe)
    with pytest.raises(ValueError, match="restarts"):
        Clustering("image", "digits", "label", restarts=0)
