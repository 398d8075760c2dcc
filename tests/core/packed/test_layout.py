"""Layout, Tokens, Encoded and Batch against plain lists of samples."""

import pickle
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polymodal.packed.batch import Batch
from polymodal.packed.buffers import moved
from polymodal.packed.chaining import join_layouts
from polymodal.packed.layout import Layout, ranges
from polymodal.packed.tokens import Encoded, Tokens, segment_mean

quick = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])

lengths_of = st.lists(st.integers(0, 4), max_size=5)


@st.composite
def tokens_of(draw, lengths=lengths_of, *, owned=None, edges=True):
    """Random tokens whose ids are all different, so that each row can be followed."""
    sizes = draw(lengths)
    total = sum(sizes)
    start = draw(st.integers(0, 5)) * 1000
    options = {}
    if draw(st.booleans()) if owned is None else owned:
        samples = draw(st.integers(1, 4))
        options["owner"] = [draw(st.integers(0, samples - 1)) for _ in sizes]
        options["samples"] = samples
    if draw(st.booleans()):
        options["kinds"] = torch.arange(total) % 3
    if draw(st.booleans()):
        options["channels"] = {"row": torch.arange(total) + 7}
    if edges and draw(st.booleans()):
        pairs = []
        first = 0
        for size in sizes:
            if size:
                place = st.integers(first, first + size - 1)
                pairs += draw(st.lists(st.tuples(place, place), max_size=4))
            first += size
        pairs = draw(st.permutations(pairs))
        options["edges"] = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
        options["edge_kinds"] = torch.arange(len(pairs))
        options["edge_values"] = torch.arange(len(pairs), dtype=torch.float32)[:, None] / 2
    layout = Layout.of(sizes, torch.arange(2 * total).reshape(total, 2), **options)
    return Tokens(layout, ids=torch.arange(total) + start)


def described(tokens):
    """Each segment as a list of rows, and its edges by the ids they join, as plain values."""
    layout = tokens.layout.validate()
    segments = []
    for start, end in pairwise(layout.offsets.tolist()):
        rows = [
            (
                int(tokens.ids[row]),
                tuple(layout.positions[row].tolist()),
                0 if layout.kinds is None else int(layout.kinds[row]),
                {name: int(channel[row]) for name, channel in layout.channels.items()},
            )
            for row in range(start, end)
        ]
        edges = []
        if layout.edges is not None:
            for edge, (source, target) in enumerate(layout.edges.T.tolist()):
                if start <= source < end:
                    edges.append(
                        (
                            int(tokens.ids[source]),
                            int(tokens.ids[target]),
                            0 if layout.edge_kinds is None else int(layout.edge_kinds[edge]),
                            0.0
                            if layout.edge_values is None
                            else float(layout.edge_values[edge, 0]),
                        )
                    )
        segments.append((rows, sorted(edges)))
    return segments


@quick
@given(tokens_of(), st.data())
def test_selecting_segments_gives_them_in_that_order_with_their_edges(tokens, data):
    count = tokens.layout.segments
    chosen = data.draw(st.lists(st.integers(0, count - 1), max_size=6)) if count else []
    new = tokens.select(chosen)
    before = described(tokens)
    assert new.layout.owner is None
    assert new.layout.samples == len(chosen)
    after = described(new)
    assert [rows for rows, _ in after] == [before[s][0] for s in chosen]
    if len(set(chosen)) == len(chosen):  # ids tell the edges of repeated segments not apart
        assert [edges for _, edges in after] == [before[s][1] for s in chosen]
    elif tokens.layout.edges is not None:
        assert new.layout.edges.shape[1] == sum(len(before[s][1]) for s in chosen)


@quick
@given(tokens_of(owned=True), st.data())
def test_taking_samples_brings_every_segment_they_own(tokens, data):
    layout = tokens.layout
    chosen = data.draw(st.lists(st.integers(0, layout.samples - 1), unique=True, max_size=4))
    new = tokens.take(chosen)
    before, after = described(tokens), described(new)
    expected = [
        (row, before[s])
        for row, sample in enumerate(chosen)
        for s, owner in enumerate(layout.owners)
        if owner == sample
    ]
    assert list(zip(new.layout.owners, after, strict=True)) == expected
    assert new.layout.samples == len(chosen)


@quick
@given(tokens_of(), st.data())
def test_keeping_by_mask_and_by_index_agree_and_edges_lose_no_end(tokens, data):
    layout = tokens.layout
    keep = data.draw(st.lists(st.booleans(), min_size=layout.tokens, max_size=layout.tokens))
    mask = torch.tensor(keep, dtype=torch.bool)
    new = tokens.keep(mask)
    kept_ids = set(tokens.ids[mask].tolist())
    expected = [
        (
            [row for row in rows if row[0] in kept_ids],
            [edge for edge in edges if edge[0] in kept_ids and edge[1] in kept_ids],
        )
        for rows, edges in described(tokens)
    ]
    assert described(new) == expected
    assert new.layout.samples == layout.samples
    assert new.layout.owners == layout.owners
    again = tokens.keep(mask.nonzero()[:, 0], new.layout.lengths)
    assert described(again) == expected


@quick
@given(st.lists(tokens_of(), min_size=1, max_size=3))
def test_stacking_lays_samples_one_after_another(items):
    new = Tokens.stack(items)
    expected = [segment for item in items for segment in described(item)]
    names = {name for item in items for name in item.layout.channels}
    for rows, _ in expected:  # what one batch lacks is zero there
        for row in rows:
            row[3].update(dict.fromkeys(names - row[3].keys(), 0))
    assert described(new) == expected
    assert new.layout.samples == sum(item.layout.samples for item in items)
    shift, owners = 0, []
    for item in items:
        owners += [owner + shift for owner in item.layout.owners]
        shift += item.layout.samples
    assert list(new.layout.owners) == owners


@quick
@given(st.integers(0, 4), st.data())
def test_joining_chains_streams_within_each_sample(samples, data):
    sizes = st.lists(st.integers(0, 3), min_size=samples, max_size=samples)
    items = [data.draw(tokens_of(sizes, owned=False)) for _ in range(3)]
    items = [Tokens(item.layout, ids=item.ids + 10_000 * i) for i, item in enumerate(items)]
    new, places = Tokens.join(items)
    described(new)
    for sample in range(samples):
        start, end = new.layout.offsets[sample : sample + 2].tolist()
        expected = [
            int(each)
            for item in items
            for each in item.ids[item.layout.offsets[sample] : item.layout.offsets[sample + 1]]
        ]
        assert new.ids[start:end].tolist() == expected
    for part, (item, place) in enumerate(zip(items, places, strict=True)):
        assert torch.equal(new.ids[place], item.ids)
        assert torch.equal(new.layout.positions[place], item.layout.positions)
        assert (new.layout.channels["part"][place] == part).all()
    edges = {
        tuple(pair)
        for item in items
        if item.layout.edges is not None
        for pair in item.ids[item.layout.edges].T.tolist()
    }
    if new.layout.edges is not None:
        assert {tuple(pair) for pair in new.ids[new.layout.edges].T.tolist()} == edges


def test_joining_chains_all_segments_of_a_sample_in_order():
    listed = Layout.of([1, 2, 1], owner=[1, 0, 1], samples=2)
    first = Tokens(listed, ids=torch.tensor([10, 20, 21, 11]))
    second = Tokens(Layout.of([1, 1]), ids=torch.tensor([30, 31]))
    joined, places = Tokens.join([first, second])
    assert joined.ids.tolist() == [20, 21, 30, 10, 11, 31]
    assert joined.layout.lengths == (3, 3)
    assert places[0].tolist() == [3, 0, 1, 4]
    assert places[1].tolist() == [2, 5]


@quick
@given(tokens_of())
def test_padding_and_back_is_the_same(tokens):
    rectangle, filled = tokens.padded(fill=-1)
    assert rectangle.shape == filled.shape == (tokens.layout.segments, tokens.layout.longest)
    assert (rectangle[~filled] == -1).all()
    assert torch.equal(tokens.layout.unpad(rectangle), tokens.ids)
    back = Tokens.from_padded(rectangle, filled)
    assert torch.equal(back.ids, tokens.ids)
    assert back.layout.lengths == tokens.layout.lengths


def test_equal_lengths_are_padded_without_a_copy():
    rows = torch.arange(6.0).reshape(6, 1)
    layout = Layout.of([2, 2, 2])
    assert layout.pad(rows).data_ptr() == rows.data_ptr()
    assert layout.unpad(layout.pad(rows)).data_ptr() == rows.data_ptr()


@quick
@given(tokens_of())
def test_what_is_derived_from_lengths_agrees_with_a_loop(tokens):
    layout = tokens.layout
    rows = [(s, i) for s, length in enumerate(layout.lengths) for i in range(length)]
    assert [tuple(pair) for pair in zip(layout.segment.tolist(), layout.within.tolist())] == rows
    assert layout.sample.tolist() == [layout.owners[s] for s, _ in rows]
    present = [False] * layout.samples
    for s, _ in rows:
        present[layout.owners[s]] = True
    assert list(layout.present) == present
    assert layout.longest == max(layout.lengths, default=0)


@quick
@given(tokens_of(), st.integers(1, 3))
def test_pooling_is_the_mean_and_zero_where_empty(tokens, width):
    layout = tokens.layout
    vectors = torch.randn(layout.tokens, width, requires_grad=True)
    pooled = segment_mean(vectors, layout)
    for s, part in enumerate(vectors.split(layout.lengths) if layout.lengths else ()):
        expected = part.mean(dim=0) if len(part) else torch.zeros(width)
        assert torch.allclose(pooled[s], expected, atol=1e-6)
    pooled.sum().backward()
    assert vectors.grad is not None
    assert vectors.grad.isfinite().all()


@quick
@given(tokens_of(), st.sampled_from(["mean", "sum", "max", "first"]))
def test_pooled_rows_go_from_segments_that_are_not_empty_to_samples(tokens, reduce):
    layout = tokens.layout
    encoded = Encoded.mean_pooled(layout, torch.randn(layout.tokens, 2))
    rows = encoded.pooled_rows(reduce)
    assert rows.shape == (layout.samples, 2)
    work = {"mean": lambda x: x.mean(0), "sum": lambda x: x.sum(0), "max": lambda x: x.amax(0),
            "first": lambda x: x[0]}[reduce]  # fmt: skip
    for sample in range(layout.samples):
        mine = [
            encoded.pooled[s]
            for s, owner in enumerate(layout.owners)
            if owner == sample and layout.lengths[s]
        ]
        expected = work(torch.stack(mine)) if mine else torch.zeros(2)
        assert torch.allclose(rows[sample], expected, atol=1e-6)


@quick
@given(tokens_of(), st.data())
def test_encoded_rows_follow_as_tokens_do(tokens, data):
    layout = tokens.layout
    encoded = Encoded.mean_pooled(layout, tokens.ids[:, None].float())
    count = layout.segments
    chosen = data.draw(st.lists(st.integers(0, count - 1), max_size=4)) if count else []
    assert encoded.select(chosen).vectors[:, 0].tolist() == tokens.select(chosen).ids.tolist()
    assert torch.equal(encoded.select(chosen).pooled, encoded.pooled[chosen])
    mask = torch.arange(layout.tokens) % 2 == 0
    assert encoded.keep(mask).vectors[:, 0].tolist() == tokens.ids[mask].tolist()
    both = Encoded.stack([encoded, encoded])
    assert torch.equal(both.vectors, torch.cat([encoded.vectors] * 2))
    assert both.layout.samples == 2 * layout.samples


@quick
@given(lengths_of, st.data())
def test_the_map_back_follows_the_rows(lengths, data):
    """Each row's number is its value, and each input token knows the row it went to."""
    layout = Layout.of(lengths)
    each = {"min_size": layout.tokens, "max_size": layout.tokens}
    times = torch.tensor(data.draw(st.lists(st.integers(1, 3), **each)), dtype=torch.int64)
    # Rows of a segment in another order than its input, as after merging tokens far apart.
    source = torch.arange(layout.tokens).repeat_interleave(times)
    order = (layout.segment[source].double() + torch.rand(len(source)).double()).argsort()
    source = source[order]
    values = torch.arange(layout.tokens)[:, None].float()
    encoded = Encoded(layout, values, torch.zeros(len(lengths), 1), source)
    wanted = [values[source][layout.segment[source] == s] for s in range(len(lengths))]

    chosen = data.draw(st.lists(st.integers(0, max(len(lengths) - 1, 0)), max_size=5)
                       if lengths else st.just([]))  # fmt: skip
    for found in (encoded.select(chosen), encoded.take(chosen)):
        assert torch.equal(
            found.vectors[found.source], torch.cat([values[:0], *(wanted[s] for s in chosen)])
        )
    both = Encoded.stack([encoded, replace(encoded, source=None), encoded.to("cpu")])
    assert torch.equal(
        both.vectors[both.source], torch.cat([values[source], values, values[source]])
    )
    mask = torch.tensor(data.draw(st.lists(st.booleans(), **each)), dtype=torch.bool)
    kept = encoded.keep(mask)
    assert torch.equal(kept.vectors[kept.source], values[source][mask[source]])
    assert kept.select(range(len(lengths))).source.equal(kept.source)


def test_a_map_back_that_leaves_rows_without_tokens_is_refused():
    with pytest.raises(ValueError, match="maps 1 tokens, too few for 2 rows"):
        Encoded(Layout.of([2]), torch.zeros(2, 1), torch.zeros(1, 1), torch.zeros(1).long())


@quick
@given(tokens_of())
def test_moving_and_pickling_keep_everything(tokens):
    tokens.layout.cached("closure", lambda: lambda: None)  # must not be pickled
    assert described(pickle.loads(pickle.dumps(tokens))) == described(tokens)
    there = moved(tokens, torch.Tensor.clone)
    assert described(there) == described(tokens)
    assert there.layout.owners == tokens.layout.owners


def test_ranges_are_stretches_of_rows():
    assert ranges(torch.tensor([5, 0, 2]), torch.tensor([2, 0, 3]), 5).tolist() == [5, 6, 2, 3, 4]


def test_a_batch_whose_samples_all_lack_a_stream_is_legal():
    layout = Layout.empty(3, axes=2)
    assert layout.tokens == 0
    assert layout.samples == 3
    assert layout.present == (False,) * 3
    tokens = Tokens(layout, values=torch.zeros(0, 5))
    assert tokens.select([2, 0]).layout.samples == 2
    assert tokens.padded()[0].shape == (3, 0, 5)
    assert Tokens.join([tokens, tokens])[0].layout.lengths == (0, 0, 0)
    assert Encoded.mean_pooled(layout, torch.zeros(0, 4)).pooled.tolist() == [[0.0] * 4] * 3


def test_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="2 rows for 3 tokens"):
        Layout.of([1, 2], torch.zeros(2, 1))
    with pytest.raises(ValueError, match="must not be negative"):
        Layout.of([2, -1])
    with pytest.raises(ValueError, match="how many samples"):
        Layout.of([1], owner=[0])
    with pytest.raises(ValueError, match="no owner"):
        Layout.of([1, 1], samples=3)
    with pytest.raises(ValueError, match="need edges"):
        Layout.of([1], edge_kinds=torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="either ids or values"):
        Tokens(Layout.of([1]))
    with pytest.raises(ValueError, match="2 rows for 1 tokens"):
        Tokens(Layout.of([1]), ids=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="need the new length"):
        Tokens(Layout.of([1]), ids=torch.zeros(1, dtype=torch.int64)).keep(torch.tensor([0]))
    with pytest.raises(ValueError, match="can't join"):
        join_layouts([Layout.of([1]), Layout.of([1, 1])])


def test_wrong_values_are_found_by_validate():
    with pytest.raises(ValueError, match="joins two segments"):
        Layout.of([1, 1], edges=torch.tensor([[0], [1]])).validate()
    with pytest.raises(ValueError, match="points outside"):
        Layout.of([1, 1], edges=torch.tensor([[0], [2]])).validate()
    with pytest.raises(ValueError, match="owner lies outside"):
        Layout.of([1], owner=[3], samples=2).validate()


def test_edge_arrays_must_have_a_row_for_each_edge():
    edges = torch.tensor([[0], [0]])
    with pytest.raises(ValueError, match="2 edge_kinds for 1 edges"):
        Layout.of([1], edges=edges, edge_kinds=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="0 edge_values for 1 edges"):
        Layout.of([1], edges=edges, edge_values=torch.zeros(0, 2))
    with pytest.raises(ValueError, match="2 by edge"):
        Layout.of([1], edges=torch.tensor([0, 0, 0]))


def test_a_batch_refuses_a_stream_with_another_number_of_samples():
    tokens = Tokens(Layout.of([1, 1]), ids=torch.zeros(2, dtype=torch.int64))
    batch = Batch({"a": tokens}, 2, torch.arange(2))
    assert batch.to("cpu").streams["a"].layout.lengths == (1, 1)
    with pytest.raises(ValueError, match="stream 'a' has 2 samples, the batch 3"):
        Batch({"a": tokens}, 3, torch.arange(3))
