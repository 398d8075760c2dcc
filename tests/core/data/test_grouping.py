from itertools import islice, repeat

import numpy as np
import pytest

from polymodal.data.grouping import Grouped
from polymodal.data.sampling import Mixture, batches

SIZES = {"a": 103, "b": 61}


def lengths(seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(1, 100, size) for size in SIZES.values()]


def grouped(*, weights=None, budget=None, batch_size=8, window=5):
    mixture = Mixture(SIZES, weights=weights or {}, seed=3)
    return Grouped(mixture, lengths(), batch_size=batch_size, window=window, budget=budget)


def rows(refs):
    return list(zip(refs.source.tolist(), refs.index.tolist(), refs.epoch.tolist(), strict=True))


def tokens(refs):
    return np.array([lengths()[s][i] for s, i in zip(refs.source, refs.index, strict=True)])


@pytest.mark.parametrize("weights", [{}, {"a": 1.0, "b": 3.0}])
@pytest.mark.parametrize("budget", [None, 300])
def test_an_epoch_of_the_largest_source_has_the_samples_it_had(weights, budget):
    sequence = grouped(weights=weights, budget=budget)
    first, last = sequence.mixture.epoch_around(0)
    for _ in range(3):
        seen, place = [], first
        while place < last:
            refs = sequence.draw(place, min(place + 8, last))
            seen += rows(refs)
            place = refs.stop
        assert place == last
        assert sorted(seen) == sorted(rows(sequence.mixture.draw(first, last)))
        assert {index for source, index, _ in seen if source == 0} == set(range(SIZES["a"]))
        first, last = sequence.mixture.epoch_around(last)
        assert first == place


def test_windows_keep_their_samples_and_batches_hold_like_lengths():
    sequence = grouped()
    inside = 0.0
    for start in range(0, 160, 40):
        stop = min(start + 40, 164)
        refs = sequence.draw(start, stop)
        assert sorted(rows(refs)) == sorted(rows(sequence.mixture.draw(start, stop)))
        spread = tokens(refs).std()
        inside += np.mean([tokens(refs.cut(p, p + 8)).std() for p in range(start, stop - 7, 8)])
    assert inside / 4 < 0.35 * spread


def test_batches_come_in_no_order_of_length():
    sequence = grouped()
    means = [tokens(sequence.draw(p, p + 8)).mean() for p in range(0, 40, 8)]
    assert means != sorted(means) and means != sorted(means, reverse=True)
    assert any(list(tokens(b)) != sorted(tokens(b)) for b in [sequence.draw(0, 8)])


@pytest.mark.parametrize("budget", [None, 300])
def test_a_run_goes_on_from_any_batch_as_if_it_had_not_stopped(budget):
    def run(start, count):
        steps = batches(
            grouped(budget=budget), batch_sizes=repeat(8), start=start,
            budget=budget, lengths=lengths(),
        )  # fmt: skip
        return list(islice(steps, count))

    whole = run(0, 60)
    for done in (1, 7, 20, 21, 41):
        rest = run(whole[done].start, 60 - done)
        assert [rows(refs) for refs in rest] == [rows(refs) for refs in whole[done:]]


def test_steps_of_other_sizes_take_the_same_sequence():
    whole = grouped().draw(0, 200)
    parts = [grouped().draw(start, start + 25) for start in range(0, 200, 25)]
    assert [row for part in parts for row in rows(part)] == rows(whole)


def test_a_budget_is_kept_and_well_used():
    steps = batches(
        grouped(budget=300, batch_size=32), batch_sizes=repeat(32), budget=300, lengths=lengths()
    )
    found = list(islice(steps, 40))
    sums = np.array([tokens(refs).sum() for refs in found])
    assert (sums <= 300).all() and sums.mean() > 0.8 * 300
    assert np.mean([tokens(refs).std() for refs in found]) < 10


def test_a_batch_of_two_epochs_has_the_shortest_of_both():
    sequence = grouped()
    assert sequence.mixture.epoch_around(0) == (0, 164)
    for start, stop, window in ((160, 164, (160, 164)), (164, 168, (164, 200))):
        shortest = np.sort(tokens(sequence.draw(*window)))[: stop - start]
        assert (np.sort(tokens(sequence.draw(start, stop))) == shortest).all()
