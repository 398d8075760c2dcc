import numpy as np
import pytest
from fake_probe import FakeProbe, blobs

from polymodal import DataError
from polymodal_evaluation.knn import NearestNeighbors


def test_neighbours_are_by_angle_and_vote():
    probe = FakeProbe().add(
        "image", "train", [[1, 0], [2, 0.1], [9, 0.3], [0, 1]], label=["a", "b", "b", "c"]
    )
    probe.add("image", "validation", [[5, 0], [0, 0.1]], label=["b", "c"])
    (three,) = NearestNeighbors("image", "digits", "label", neighbors=3).run(probe)
    (one,) = NearestNeighbors("image", "digits", "label", neighbors=1).run(probe)
    assert three.value == 0.5  # b by two votes to one, and for c too: a and b share its vote
    assert one.value == 0.5  # a is nearest to the first, c to the second
    assert (one.metric, one.chance, one.samples) == ("accuracy", 0.5, 2)


def test_it_agrees_with_a_loop():
    train, labels = blobs(50, seed=1)
    held, truth = blobs(20, seed=2)
    probe = FakeProbe().add("image", "train", train, label=labels)
    probe.add("image", "validation", held, label=truth)
    right = 0
    for vector, label in zip(held, truth, strict=True):
        cosine = train @ vector / np.linalg.norm(train, axis=1)
        votes = np.bincount(np.array(labels)[np.argsort(-cosine)[:5]])
        right += votes.argmax() == label
    (score,) = NearestNeighbors("image", "digits", "label").run(probe)
    assert score.value == pytest.approx(right / 20)


def test_a_collapsed_encoder_scores_no_more_than_chance():
    probe = FakeProbe().add("image", "train", np.ones((9, 4)), label=[0, 1, 2] * 3)
    probe.add("image", "validation", np.ones((7, 4)), label=[0, 0, 0, 1, 1, 2, 2])
    (score,) = NearestNeighbors("image", "digits", "label").run(probe)
    assert score.value <= score.chance == pytest.approx(3 / 7)


def test_fewer_training_rows_than_neighbours_all_vote_and_none_is_an_error():
    probe = FakeProbe().add("image", "train", [[1, 0], [1, 0.1]], label=["a", "a"])
    probe.add("image", "validation", [[1, 0]], label=["a"])
    (score,) = NearestNeighbors("image", "digits", "label", neighbors=20).run(probe)
    assert score.value == 1.0
    probe.add("image", "train", np.zeros((0, 2)), label=[])
    with pytest.raises(DataError, match="no train row"):
        NearestNeighbors("image", "digits", "label").run(probe)


def test_scoring_the_rows_that_vote_is_refused():
    with pytest.raises(ValueError, match="would find itself"):
        NearestNeighbors("image", "digits", "label", split="train")


def test_votes_by_cosine_agree_with_a_loop_over_dinos_weights():
    train, labels = blobs(50, seed=1)
    held, truth = blobs(20, seed=2)
    probe = FakeProbe().add("image", "train", train, label=labels)
    probe.add("image", "validation", held, label=truth)
    right = 0
    for vector, label in zip(held, truth, strict=True):
        cosine = train @ vector / np.linalg.norm(train, axis=1) / np.linalg.norm(vector)
        nearest = np.argsort(-cosine)[:20]
        votes = np.bincount(np.array(labels)[nearest], weights=np.exp(cosine[nearest] / 0.07))
        right += votes.argmax() == label
    options = {"neighbors": 20, "temperature": 0.07}
    (score,) = NearestNeighbors("image", "digits", "label", **options).run(probe)
    assert score.value == pytest.approx(right / 20)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        NearestNeighbors("image", "digits", "label", temperature=0.0)


def test_the_nearest_neighbour_of_a_row_that_is_known_is_itself():
    vectors, labels = blobs(30, seed=4)
    probe = FakeProbe().add("image", "train", vectors, label=labels)
    probe.add("image", "validation", vectors, label=labels)
    (score,) = NearestNeighbors("image", "digits", "label", neighbors=1).run(probe)
    assert score.value == 1.0
