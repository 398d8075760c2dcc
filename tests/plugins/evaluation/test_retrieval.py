from itertools import permutations
from math import comb

import numpy as np
import pytest
from fake_probe import FakeProbe

from polymodal import DataError
from polymodal_evaluation.retrieval import (
    Retrieval,
    chance_mrr,
    chance_recall,
    group_numbers,
    hit_ranks,
    reciprocal,
)

WAYS = ("image>text", "text>image")


def probe_of(image, text, **fields):
    probe = FakeProbe().add("image", "validation", image, **fields)
    return probe.add("text", "validation", text, **fields)


def by_name(scores):
    return {score.metric: score for score in scores}


def test_recall_and_mrr_of_a_case_done_by_hand():
    image = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    text = [[2, 0, 0], [0, 0.6, 0.8], [0, 0.8, 0.6]]  # the last two are swapped
    evaluation = Retrieval(("image", "text"), "emoji", k=[1, 2], mrr=True)
    scores = by_name(evaluation.run(probe_of(image, text)))
    assert list(scores) == [f"{m} {way}" for way in WAYS for m in ("recall@1", "recall@2", "mrr")]
    for way in WAYS:
        assert scores[f"recall@1 {way}"].value == pytest.approx(1 / 3)
        assert scores[f"recall@2 {way}"].value == 1.0
        assert scores[f"mrr {way}"].value == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
        assert scores[f"recall@1 {way}"].chance == pytest.approx(1 / 3)
        assert scores[f"mrr {way}"].chance == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
        assert scores[f"mrr {way}"].samples == 3


def test_the_two_directions_differ():
    image = [[1.0, 0.0], [0.9, 0.1]]
    text = [[1.0, -0.1], [1.0, 0.0]]
    scores = by_name(Retrieval(("image", "text"), "emoji", k=[1]).run(probe_of(image, text)))
    assert scores["recall@1 image>text"].value == 0.5
    assert scores["recall@1 text>image"].value == 0.5
    text = [[1.0, 0.0], [1.0, 0.05]]
    scores = by_name(Retrieval(("image", "text"), "emoji", k=[1]).run(probe_of(image, text)))
    assert scores["recall@1 image>text"].value == 1.0
    assert scores["recall@1 text>image"].value == 0.5


def test_a_caption_that_repeats_fills_the_list_once():
    image = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]
    text = [[1.0, 0.1], [1.0, 0.1], [0.6, 0.8]]  # the first two are one caption
    probe = probe_of(image, text, caption=["a", "a", "b"])
    plain = by_name(Retrieval(("image", "text"), "emoji", k=[2], group="caption").run(probe))
    once = Retrieval(("image", "text"), "emoji", k=[1, 2], group="caption", once="text")
    scores = by_name(once.run(probe))
    assert scores["recall@1 image>text"].value == pytest.approx(2 / 3)  # the second is nearer b
    assert scores["recall@1 image>text"].chance == pytest.approx(1 / 2)
    assert scores["recall@2 image>text"].value == 1.0
    assert scores["recall@2 text>image"].chance == plain["recall@2 text>image"].chance
    with pytest.raises(ValueError, match="needs group"):
        Retrieval(("image", "text"), "emoji", once="text")


def test_an_encoder_that_maps_everything_to_one_point_gains_nothing():
    for vectors in (np.ones((20, 7)) / 3, np.zeros((20, 7))):
        for score in Retrieval(("image", "text"), "emoji").run(probe_of(vectors, vectors)):
            assert score.value == 0.0 < score.chance


def test_only_rows_with_both_streams_count():
    probe = FakeProbe().add("image", "validation", [[1, 0], [0, 1], [1, 1]], rows=[0, 2, 5])
    probe.add("text", "validation", [[9, 9], [0, 1], [1, 1]], rows=[1, 2, 5])
    for score in Retrieval(("image", "text"), "emoji", k=[1]).run(probe):
        assert (score.value, score.samples) == (1.0, 2)


def test_all_splits_are_searched_together():
    probe = FakeProbe()
    for split, vectors in {"train": [[1, 0], [0, 1]], "test": [[1, 1]]}.items():
        probe.add("image", split, vectors).add("text", split, vectors)
    scores = Retrieval(("image", "text"), "emoji", k=[1], split="all").run(probe)
    assert [(score.value, score.samples) for score in scores] == [(1.0, 3)] * 2


def test_equal_values_of_the_group_field_are_hits_with_their_exact_chance():
    vectors = np.eye(5)
    shuffled = vectors[[1, 0, 2, 3, 4]]  # the first two are swapped, but say the same
    probe = probe_of(vectors, shuffled, caption=["cat", "cat", "dog", None, None])
    plain = by_name(Retrieval(("image", "text"), "emoji", k=[1]).run(probe))
    group = by_name(Retrieval(("image", "text"), "emoji", k=[1], group="caption").run(probe))
    assert plain["recall@1 image>text"].value == pytest.approx(3 / 5)
    assert group["recall@1 image>text"].value == 1.0
    assert group["recall@1 image>text"].chance == pytest.approx((2 / 5 * 2 + 1 / 5 * 3) / 5)


@pytest.mark.parametrize(("candidates", "hits"), [(6, 1), (6, 2), (5, 5), (1, 1)])
def test_chance_is_the_mean_over_all_orders(candidates, hits):
    first = [
        1 + next(place for place, item in enumerate(order) if item < hits)
        for order in permutations(range(candidates))
    ]
    sizes = np.full(3, hits)
    for k in (1, 2, 4, 10):
        wanted = np.mean([rank <= k for rank in first])
        assert chance_recall(candidates, sizes, k) == pytest.approx(wanted)
        missed = comb(candidates - hits, k) / comb(candidates, k) if k <= candidates else 0
        assert chance_recall(candidates, sizes, k) == pytest.approx(1 - missed)
    assert chance_mrr(candidates, sizes) == pytest.approx(np.mean([1 / rank for rank in first]))


def test_random_vectors_score_about_chance():
    rng = np.random.default_rng(0)
    probe = probe_of(rng.normal(size=(400, 8)), rng.normal(size=(400, 8)))
    for score in Retrieval(("image", "text"), "emoji", k=[40], mrr=True).run(probe):
        assert score.value == pytest.approx(score.chance, abs=0.05)


def test_k_beyond_the_candidates_finds_all_as_chance_does():
    scores = Retrieval(("image", "text"), "emoji", k=[10]).run(probe_of([[1]], [[-1]]))
    assert [(s.metric, s.value, s.chance) for s in scores] == [
        (f"recall@10 {way}", 1.0, 1.0) for way in WAYS
    ]


def test_ranks_do_not_depend_on_how_many_queries_are_taken_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 30, 4))
    hits = group_numbers([row // 3 for row in range(30)])
    whole = hit_ranks(one, other, hits, hits)
    monkeypatch.setattr("polymodal_evaluation.retrieval._CELLS", 70)
    assert (hit_ranks(one, other, hits, hits) == whole).all()
    assert whole.min() >= 1
    assert whole.max() <= 28  # three hits: the first is 28th at worst


def test_no_pairs_and_spaces_that_differ_are_one_clear_line():
    probe = FakeProbe().add("image", "validation", [[1, 0]], rows=[0])
    probe.add("text", "validation", [[1, 0]], rows=[1])
    with pytest.raises(DataError, match="no row of source 'emoji' in validation has both"):
        Retrieval(("image", "text"), "emoji").run(probe)
    with pytest.raises(DataError, match="widths 2 and 1: name the objective"):
        Retrieval(("image", "text"), "emoji").run(probe_of([[1, 0]], [[1]]))
    with pytest.raises(DataError, match="no field 'caption'"):
        Retrieval(("image", "text"), "emoji", group="caption").run(probe_of([[1]], [[1]]))


@pytest.mark.parametrize(
    "options",
    [{"streams": ("image", "image")}, {"k": [0]}, {"k": [1, 1]}, {"k": []}],
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match="must|nothing to measure"):
        Retrieval(**{"streams": ("image", "text"), "source": "emoji", **options})


def test_a_rank_past_the_last_that_counts_scores_nothing():
    assert reciprocal(np.array([1, 2, 3]), 2).tolist() == [1, 0.5, 0]
    assert reciprocal(np.array([1, 2, 4]), None).tolist() == [1, 0.5, 0.25]
    # of 3 candidates with one hit each rank is as likely
    assert chance_mrr(3, np.array([1]), last=2) == pytest.approx((1 + 1 / 2) / 3)
    with pytest.raises(ValueError, match="mrr must be true, false or a rank"):
        Retrieval(("image", "text"), "emoji", mrr=-1)
