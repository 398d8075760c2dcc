from itertools import repeat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymodal.data.sampling import Mixture, batches, permute, shares_of
from polymodal.ground.errors import DataError


@given(st.integers(1, 5000), st.integers(-(2**63), 2**63 - 1))
def test_permute_is_a_permutation_of_any_size(size, key):
    assert sorted(permute(np.arange(size), size, key)) == list(range(size))


def test_another_key_gives_another_order():
    ranks = np.arange(1000)
    assert (permute(ranks, 1000, 1) == permute(ranks, 1000, 2)).mean() < 0.02


def test_without_weights_an_epoch_sees_every_row_of_every_source_once():
    mixture = Mixture({"a": 10, "b": 30, "c": 7}, weights={}, seed=0)
    refs = mixture.draw(0, 47)
    for number, size in enumerate((10, 30, 7)):
        assert sorted(refs.index[refs.source == number]) == list(range(size))
    assert not refs.epoch.any() and mixture.draw(47, 94).epoch.all()


def test_weights_hold_for_every_stretch_to_within_one_sample():
    mixture = Mixture({"a": 10, "b": 1000}, weights={"a": 3.0, "b": 1.0}, seed=0)
    for start in (0, 5, 1_000_003):
        count = (mixture.draw(start, start + 40).source == 0).sum()
        assert abs(count - 30) <= 1


def test_any_stretch_is_the_same_however_it_is_cut():
    mixture = Mixture({"a": 10, "b": 30}, weights={"a": 1.0, "b": 2.0}, seed=3)
    whole = mixture.draw(100, 200)
    parts = [mixture.draw(start, start + 20) for start in range(100, 200, 20)]
    for name in ("source", "index", "epoch"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert (joined == getattr(whole, name)).all()


def test_epochs_of_a_source_have_different_orders():
    mixture = Mixture({"a": 100}, weights={}, seed=0)
    assert (mixture.draw(0, 100).index != mixture.draw(100, 200).index).any()


def test_parts_cover_a_batch_without_overlap():
    refs = Mixture({"a": 100}, weights={}, seed=0).draw(0, 10)
    joined = np.concatenate([refs.part(number, 4).index for number in range(4)])
    assert (joined == refs.index).all()


def test_a_token_budget_fills_each_batch_as_far_as_it_fits():
    mixture = Mixture({"a": 50}, weights={}, seed=0)
    lengths = [np.arange(50) + 1]
    steps = batches(mixture, batch_sizes=repeat(16), budget=100, lengths=lengths)
    first, second = next(steps), next(steps)
    assert second.start == first.stop
    tokens = lengths[0][first.index].sum()
    assert tokens <= 100 and (len(first) == 16 or tokens + lengths[0][second.index[0]] > 100)


def test_a_sample_longer_than_the_budget_still_makes_a_batch():
    mixture = Mixture({"a": 5}, weights={}, seed=0)
    steps = batches(mixture, batch_sizes=repeat(4), budget=3, lengths=[np.full(5, 9)])
    assert len(next(steps)) == 1


def test_an_empty_source_with_a_weight_is_refused():
    with pytest.raises(DataError, match="'b' has no rows"):
        Mixture({"a": 3, "b": 0}, weights={"a": 1.0, "b": 1.0}, seed=0)


def test_an_epoch_lasts_until_the_largest_source_is_seen():
    mixture = Mixture({"a": 10, "b": 30, "c": 7}, weights={"a": 1.0, "b": 1.0, "c": 2.0}, seed=0)
    refs = mixture.draw(0, mixture.epoch_length())
    assert set(refs.index[refs.source == 1]) == set(range(30))


def test_shares_are_rows_to_a_power():
    def shares(exponent, *rows):
        sizes = {str(number): size for number, size in enumerate(rows)}
        return shares_of(sizes, {}, exponent=exponent).tolist()

    assert shares(0.7, 90, 10) == pytest.approx([0.823182, 0.176818], abs=1e-6)
    assert shares(0.7, 70, 20, 10) == pytest.approx([0.598026, 0.248812, 0.153162], abs=1e-6)
    assert shares(1, 70, 20, 10) == pytest.approx([0.7, 0.2, 0.1])
    assert shares(0, 70, 20, 10) == pytest.approx([1 / 3] * 3)
    mixture = Mixture({"a": 90, "b": 10}, weights={}, seed=0, exponent=0.7)
    assert (mixture.draw(0, 100_000).source == 0).mean() == pytest.approx(0.823182, abs=1e-4)


def test_a_block_is_of_one_source_and_shares_hold_over_blocks():
    mixture = Mixture({"a": 40, "b": 70}, weights={"a": 1.0, "b": 3.0}, seed=0, block=8)
    refs = mixture.draw(0, 8 * 100)
    blocks = refs.source.reshape(100, 8)
    assert (blocks == blocks[:, :1]).all()
    assert (blocks[:, 0] == 0).sum() == 25
    rows = refs.index[(refs.source == 0) & (refs.epoch == 0)]
    assert sorted(rows) == list(range(40))  # nothing is left out or seen twice
    part = mixture.draw(203, 333)
    for name in ("source", "index", "epoch"):
        assert (getattr(part, name) == getattr(refs, name)[203:333]).all()


def test_batches_end_with_their_block():
    mixture = Mixture({"a": 40, "b": 70}, weights={}, seed=0, block=8)
    found = batches(mixture, batch_sizes=[8, 6, 6, 8, 100], start=0)
    assert [(refs.start, refs.stop) for refs in found] == [
        (0, 8), (8, 14), (14, 16), (16, 24), (24, 32)]  # fmt: skip
    again = next(batches(mixture, batch_sizes=[6], start=14))  # resumed from its position
    assert (again.start, again.stop) == (14, 16)
    assert len(set(again.source)) == 1


def test_an_epoch_of_blocks_sees_all_of_the_largest_source():
    mixture = Mixture({"a": 10, "b": 33}, weights={"a": 1.0, "b": 1.0}, seed=0, block=4)
    refs = mixture.draw(0, mixture.epoch_length())
    assert set(refs.index[refs.source == 1]) == set(range(33))
