"""Token merging against loops over samples, and the numbers of the papers' arithmetic."""

from itertools import combinations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polymodal.nn.merging import (
    LEVELS,
    Merger,
    Merging,
    adjacent_pairs,
    bipartite_pairs,
    closest_pairs,
    planned,
    rejoined,
    unit,
    window_targets,
    windows,
)
from polymodal.nn.transformer import Transformer
from polymodal.packed.layout import Layout

quick = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
lengths_of = st.lists(st.integers(0, 9), max_size=5)
ALL = [adjacent_pairs, closest_pairs, bipartite_pairs]


def greedy(features, lost, neighbours):
    """The pairs of one segment, by the plainest of loops."""
    cosines = (features @ features.T * LEVELS).round()
    found = [(i, j) for i, j in combinations(range(len(features)), 2)
             if j == i + 1 or not neighbours]  # fmt: skip
    into, free = list(range(len(features))), set(range(len(features)))

    def room(left):
        """How many pairs can still be made of these tokens."""
        if not neighbours:
            return len(left) // 2
        runs = [[]]
        for token in sorted(left):
            if runs[-1] and runs[-1][-1] != token - 1:
                runs.append([])
            runs[-1].append(token)
        return sum(len(run) // 2 for run in runs)

    for number in range(lost):
        able = [(i, j) for i, j in found
                if {i, j} <= free and room(free - {i, j}) >= lost - number - 1]  # fmt: skip
        i, j = max(able, key=lambda pair: (cosines[pair], -pair[0], -pair[1]))
        into[j] = i
        free -= {i, j}
    return into


@quick
@given(lengths_of, st.integers(0, 1000), st.booleans(), st.data())
def test_pairs_are_the_greedy_ones_of_each_segment(lengths, seed, neighbours, data):
    layout = Layout.of(lengths)
    generator = torch.Generator().manual_seed(seed)
    # Few different vectors, so that there are ties.
    table = unit(torch.randn(3, 4, generator=generator))
    features = table[torch.randint(3, (layout.tokens,), generator=generator)]
    lost = [data.draw(st.integers(0, n // 2)) for n in lengths]
    pairs = adjacent_pairs if neighbours else closest_pairs
    found = pairs(features, layout, lost)
    wanted = []
    for start, length, less in zip(layout.offsets.tolist(), lengths, lost, strict=False):
        into = greedy(features[start : start + length], less, neighbours)
        wanted += [start + i for i in into]
    assert found.tolist() == wanted


@quick
@given(lengths_of, st.integers(0, 1000), st.data())
def test_bipartite_merging_is_tomes_of_each_segment(lengths, seed, data):
    layout = Layout.of(lengths)
    features = unit(torch.randn(layout.tokens, 4, generator=torch.Generator().manual_seed(seed)))
    lost = [data.draw(st.integers(0, n // 2)) for n in lengths]
    found = bipartite_pairs(features, layout, lost)
    wanted = []
    for start, length, less in zip(layout.offsets.tolist(), lengths, lost, strict=False):
        own = features[start : start + length]
        into = list(range(length))
        if less:
            best = (own[::2] @ own[1::2].T * LEVELS).round().max(dim=1)
            order = sorted(range(len(best.values)), key=lambda a: (-best.values[a], a))
            for a in order[:less]:
                into[2 * a] = 2 * int(best.indices[a]) + 1
        wanted += [start + i for i in into]
    assert found.tolist() == wanted


@pytest.mark.parametrize("pairs", ALL)
def test_merging_is_a_partition_and_packing_does_not_matter(pairs):
    lengths, lost = [5, 0, 1, 16, 7], [2, 0, 0, 8, 3]
    layout = Layout.of(lengths)
    features = unit(torch.randn(layout.tokens, 4))
    whole = Merging.of(layout, pairs(features, layout, lost), lost)
    assert whole.layout.lengths == (3, 0, 1, 8, 4)
    sizes = whole.sum(torch.ones(layout.tokens, dtype=torch.int64))
    assert sizes.min() >= 1 and sizes.sum() == layout.tokens
    assert torch.equal(whole.layout.segment[whole.source], layout.segment)
    for segment, less in enumerate(lost):
        alone, rows = layout.selected([segment])
        part = Merging.of(alone, pairs(features[rows], alone, [less]), [less])
        start = whole.layout.offsets[segment]
        assert torch.equal(part.source + start, whole.source[rows])
    if pairs is adjacent_pairs:  # every token is a run
        assert (whole.source.diff() >= 0).all()


def test_a_pair_that_would_leave_too_few_is_passed_over():
    """The middle pair of four is the closest, and with it gone no second pair is left."""
    features = unit(torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 1.1], [0.0, 1.0]]))
    layout = Layout.of([4])
    assert adjacent_pairs(features, layout, [1]).tolist() == [0, 1, 1, 3]
    assert adjacent_pairs(features, layout, [2]).tolist() == [0, 0, 2, 2]


def test_merged_vectors_are_size_weighted_means_and_go_back():
    layout, sizes = Layout.of([4]), torch.ones(4)
    first = Merging.of(layout, torch.tensor([0, 0, 2, 3]), [1])
    z = first.mean(torch.tensor([[1.0], [3.0], [5.0], [7.0]]), sizes)
    assert z.flatten().tolist() == [2, 5, 7]
    sizes = first.sum(sizes)
    assert sizes.tolist() == [2, 1, 1]
    second = Merging.of(first.layout, torch.tensor([0, 0, 2]), [1])
    z = second.mean(z, sizes)
    assert z.flatten().tolist() == [3, 7]
    assert second.sum(sizes).tolist() == [3, 1]
    assert first.unmerge(second.unmerge(z)).flatten().tolist() == [3, 3, 3, 7]
    assert second.layout.positions.flatten().tolist() == [0, 3]


def test_tokens_merge_within_their_cluster():
    """Two clusters of near vectors in turn: ToMe joins only what is alike."""
    kind = torch.tensor([0, 1, 1, 0, 0, 1, 1, 0, 0, 1])
    features = unit(torch.eye(2)[kind] + 0.05 * torch.randn(10, 2))
    layout = Layout.of([10])
    for pairs, lost in ((bipartite_pairs, [4]), (closest_pairs, [4]), (adjacent_pairs, [4])):
        into = pairs(features, layout, lost)
        assert (kind[into] == kind).all()
        assert (into != torch.arange(10)).sum() == 4


@quick
@given(st.lists(st.integers(0, 40), max_size=6), st.integers(1, 7))
def test_windows_are_cut_and_joined_again(lengths, size):
    layout = Layout.of(lengths, owner=[0] * len(lengths), samples=2)
    cut = windows(layout, size)
    wanted = [
        (min(size, length - start), segment)
        for segment, length in enumerate(lengths)
        for start in range(0, length, size)
    ]
    assert list(zip(cut.lengths, cut.owners, strict=True)) == wanted
    assert cut.validate().samples == len(lengths)
    whole = rejoined(cut, layout)
    assert whole.lengths == layout.lengths and whole.owners == layout.owners
    assert whole.samples == 2 and torch.equal(whole.positions, layout.positions)
    assert windows(layout, size) is cut


@quick
@given(st.lists(st.integers(0, 70), max_size=4), st.floats(0.4, 0.6), st.integers(2, 4))
def test_plans_reach_their_targets_by_halves_at_most(lengths, share, steps):
    cut = windows(Layout.of(lengths), 16)
    targets = window_targets(cut, share)
    plan = planned(cut.lengths, targets, steps=steps)
    left = list(cut.lengths)
    for lost in plan:
        assert all(0 <= less <= n // 2 for less, n in zip(lost, left, strict=True))
        left = [n - less for less, n in zip(lost, left, strict=True)]
    assert left == targets
    for segment, length in enumerate(lengths):
        kept = sum(n for n, owner in zip(left, cut.owners, strict=True) if owner == segment)
        assert abs(kept - share * length) <= 0.5 + 1e-6 or 0 < length % 16 <= 2


def test_a_target_too_low_for_so_few_steps_is_not_reached():
    assert planned([16, 3, 0], [1, 1, 0], steps=1) == [(8, 1, 0)]
    assert planned([16], [1], steps=3) == [(8,), (4,), (2,)]
    assert planned([16], [8], steps=4) == [(2,), (2,), (2,), (2,)]


def test_a_merger_between_blocks_keeps_count():
    torch.manual_seed(0)
    layout = Layout.of([16, 0, 9])
    transformer = Transformer(width=8, depth=2, heads=2, rotary_axes=1)
    plan = planned(layout.lengths, [8, 0, 5], steps=2)
    merger = Merger(layout, plan, lambda _, vectors: unit(vectors), pairs=adjacent_pairs)
    seen = transformer(torch.randn(25, 8), layout, between=merger)
    assert seen.layout.lengths == (8, 0, 5)
    assert torch.equal(merger.sizes, torch.bincount(merger.source))
    assert torch.equal(seen.layout.segment[merger.source], layout.segment)


def test_weighing_by_likeness_teaches_the_features_what_to_merge():
    layout, z = Layout.of([4]), torch.randn(4, 3)
    features = torch.nn.Parameter(torch.randn(4, 3))
    for scale, learns in ((None, False), (4.0, True)):
        merger = Merger(
            layout, [(1,)], lambda _, __: unit(features), pairs=adjacent_pairs, scale=scale
        )
        merged, _ = merger(0, z, layout)
        assert merged.requires_grad == learns
    merged.square().sum().backward()
    assert features.grad.abs().sum() > 0
    pair = merger.source.bincount().argmax()
    a, b = (merger.source == pair).nonzero()[:, 0].tolist()
    s = torch.sigmoid(4 * torch.cosine_similarity(features[a], features[b], dim=0))
    assert torch.allclose(merged[pair], (z[a] + s * z[b]) / (1 + s))


def test_ties_fall_to_the_first_whatever_the_rounding():
    features = unit(torch.ones(6, 3, dtype=torch.float64) * (1 + torch.rand(6, 1).double()))
    for pairs in (adjacent_pairs, closest_pairs):
        assert pairs(features, Layout.of([6]), [2]).tolist() == [0, 0, 2, 2, 4, 5]
