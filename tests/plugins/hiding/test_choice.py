import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal import (
    Candidates,
    Layout,
    Tokens,
    TokenSpec,
    choose,
    hidden_counts,
    hideable,
    put_last,
)
from polymodal_hiding import (
    RandomTokens,
    Spans,
    WholeWords,
    block_scores,
    choose_units,
    span_scores,
    tube_units,
)


def noise(count, seed=0):
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


def candidates(tokens, allowed):
    spec = TokenSpec(vocabulary=1)
    return Candidates(
        None, "text", tokens, spec, allowed, lambda _: noise(tokens.layout.tokens), []
    )


def test_counts_follow_the_rounding_asked_for():
    assert hidden_counts([196], 0.9) == [176]  # CroCo
    assert hidden_counts([196], 0.75) == [147]  # MAE keeps 49
    assert hidden_counts([100], 0.29, rounding="down") == [29]  # 0.29 * 100 is 28.999...
    assert hidden_counts([100], 0.07, rounding="up") == [7]  # 0.07 * 100 is 7.000...01
    assert hidden_counts([5, 5], 0.5, rounding="up") == [3, 3]
    assert hidden_counts([0, 1, 2, 10], 0.15, at_least=1) == [0, 1, 1, 2]
    assert hidden_counts([0, 1, 2, 4], 0.9, leave=1) == [0, 0, 1, 3]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=6), st.floats(0.05, 0.95))
def test_a_choice_parts_every_segment_exactly(lengths, ratio):
    layout = Layout.of(lengths)
    counts = hidden_counts(lengths, ratio)
    choice = choose(noise(layout.tokens), layout, counts)
    both = torch.cat([choice.hidden, choice.visible])
    assert both.sort().values.tolist() == list(range(layout.tokens))
    assert choice.hidden.tolist() == sorted(choice.hidden.tolist())
    assert choice.visible.tolist() == sorted(choice.visible.tolist())
    hidden = torch.bincount(layout.segment[choice.hidden], minlength=len(lengths)).tolist()
    assert hidden == counts == list(choice.hidden_lengths)
    assert [h + v for h, v in zip(counts, choice.visible_lengths, strict=True)] == lengths


def test_every_token_is_hidden_equally_often():
    layout = Layout.of([8] * 2000)
    choice = choose(noise(16000), layout, [6] * 2000)
    share = torch.bincount(layout.within[choice.hidden], minlength=8) / 2000
    assert (share - 0.75).abs().max() < 0.04


def test_special_ids_and_kinds_are_not_hideable():
    spec = TokenSpec(
        vocabulary=9, kinds=("content", "special", "code"), special={"mask": 0, "begin": 1}
    )
    kinds = torch.tensor([1, 0, 2, 0, 0])
    tokens = Tokens(Layout.of([5], kinds=kinds), ids=torch.tensor([5, 1, 6, 0, 7]))
    assert hideable(tokens, spec).tolist() == [False, False, True, False, True]
    assert hideable(tokens, spec, ["code"]).tolist() == [False, False, True, False, False]
    assert hideable(Tokens(Layout.of([2]), values=torch.zeros(2, 1)), TokenSpec(features=1)) is None
    with pytest.raises(ValueError, match="words"):
        hideable(tokens, spec, ["words"])


def test_tokens_put_last_are_hidden_only_when_nothing_else_is_left():
    layout = Layout.of([4])
    allowed = torch.tensor([False, True, True, False])
    assert choose(put_last(noise(4), allowed), layout, [2]).hidden.tolist() == [1, 2]


def spans_of(rows):
    """Lengths of runs of neighbouring rows."""
    runs = []
    for place, row in enumerate(rows):
        if place and rows[place - 1] == row - 1:
            runs[-1] += 1
        else:
            runs.append(1)
    return runs


def test_spans_are_contiguous_and_the_count_is_exact():
    layout = Layout.of([400] * 20)
    scores = span_scores(noise(8000, 1), noise(8000, 2), layout, stop=0.2, longest=10)
    choice = choose(scores, layout, [60] * 20)
    assert choice.hidden_lengths == (60,) * 20
    runs = [n for s in range(20) for n in spans_of(
        choice.hidden[layout.segment[choice.hidden] == s].tolist())]  # fmt: skip
    # SpanBERT's mean is 3.8 with these settings; spans that touch look longer.
    assert 3.3 < sum(runs) / len(runs) < 5.0


def test_a_span_of_known_lengths_lies_where_its_start_says():
    layout = Layout.of([6])
    start = torch.tensor([0.5, 0.1, 0.6, 0.9, 0.2, 0.8])
    reach = 1 - 0.5**10
    length = torch.tensor([0.0, (1 - 0.3) / reach, 0.0, 0.0, 0.0, 0.0])  # two tokens from row 1
    scores = span_scores(start, length, layout, stop=0.5, longest=10)
    assert torch.allclose(scores, torch.tensor([0.5, 0.1, 0.1, 0.9, 0.2, 0.8]))


def test_a_span_stops_at_a_token_that_stays():
    layout = Layout.of([5])
    allowed = torch.tensor([True, True, False, True, True])
    start = torch.tensor([0.1, 0.9, 0.0, 0.8, 0.7])
    longest = torch.full((5,), 0.999999)
    scores = span_scores(start, longest, layout, stop=0.2, longest=10, allowed=allowed)
    assert scores.tolist() == pytest.approx([0.1, 0.1, float("inf"), 0.8, 0.7])


def test_spans_do_not_cross_segments():
    layout = Layout.of([2, 2])
    start = torch.tensor([0.9, 0.1, 0.5, 0.6])
    scores = span_scores(start, torch.full((4,), 0.999), layout, stop=0.2, longest=10)
    assert scores.tolist() == pytest.approx([0.9, 0.1, 0.5, 0.5])


def test_whole_words_are_hidden_in_the_order_of_their_noise():
    layout = Layout.of([6, 3])
    word = torch.tensor([0, 1, 1, 2, 2, 2, 0, 0, 0])
    drawn = torch.tensor([0.5, 0.1, 0.0, 0.3, 0.0, 0.0, 0.7, 0.0, 0.0])
    # word 1 (two tokens) fills the count; of the second segment's three, half fit a count of 2
    assert choose_units(drawn, word, layout, [2, 2]).hidden.tolist() == [1, 2, 6, 7, 8]
    # the next word (three tokens) is taken when at least half of it fits
    assert choose_units(drawn, word, layout, [4, 0]).hidden.tolist() == [1, 2, 3, 4, 5]
    assert choose_units(drawn, word, layout, [3, 0]).hidden.tolist() == [1, 2]
    # the first word always
    assert choose_units(drawn, word, layout, [0, 1]).hidden.tolist() == [6, 7, 8]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(-1, 3), max_size=7), max_size=4), st.floats(0.1, 0.9))
def test_units_are_never_split(segments, ratio):
    layout = Layout.of([len(s) for s in segments])
    unit = torch.tensor([u for s in segments for u in sorted(s)], dtype=torch.int64)
    allowed = noise(layout.tokens, 3) < 0.8
    counts = hidden_counts(layout.lengths, ratio)
    choice = choose_units(noise(layout.tokens), unit, layout, counts, allowed=allowed)
    hidden = torch.zeros(layout.tokens, dtype=torch.bool)
    hidden[choice.hidden] = True
    assert not (hidden & ~allowed).any()
    for segment in range(len(segments)):
        for number in range(4):
            members = (layout.segment == segment) & (unit == number) & allowed
            assert hidden[members].all() or not hidden[members].any()


def test_tubes_hide_a_place_at_all_times():
    grid = torch.cartesian_prod(torch.arange(3), torch.arange(4), torch.arange(4))
    short = torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(4))
    layout = Layout.of([48, 0, 32], torch.cat([grid, short]))
    counts = hidden_counts(layout.lengths, 0.75)
    choice = choose_units(noise(80), tube_units(layout), layout, counts)
    assert choice.hidden_lengths == (36, 0, 24)
    hidden = torch.zeros(80, dtype=torch.bool)
    hidden[choice.hidden] = True
    first = hidden[:48].reshape(3, 16)
    assert (first == first[0]).all()
    assert first[0].sum() == 12
    assert (hidden[48:].reshape(2, 16)[0] == hidden[48:].reshape(2, 16)[1]).all()


def test_blocks_hide_an_exact_share_in_connected_places():
    side, images = 14, 8
    grid = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    layout = Layout.of([side * side] * images, grid.repeat(images, 1))
    many = layout.tokens
    scores = block_scores(noise(many, 1), noise(many, 2), noise(many, 3), layout)
    choice = choose(scores, layout, [78] * images)
    assert choice.hidden_lengths == (78,) * images

    def neighbours(rows):
        hidden = torch.zeros(many)
        hidden[rows] = 1
        plane = hidden.reshape(images, side, side)
        return float(
            (plane[:, 1:] * plane[:, :-1]).sum() + (plane[:, :, 1:] * plane[:, :, :-1]).sum()
        )

    scattered = choose(noise(many, 4), layout, [78] * images)
    assert neighbours(choice.hidden) > 1.6 * neighbours(scattered.hidden)


def test_a_block_covers_the_same_places_of_every_frame():
    grid = torch.cartesian_prod(torch.arange(2), torch.arange(5), torch.arange(5))
    layout = Layout.of([50], grid)
    scores = block_scores(noise(50, 1), noise(50, 2), noise(50, 3), layout, most=1)
    covered = (scores == 0).reshape(2, 25)
    assert covered.any()
    assert (covered[0] == covered[1]).all()


def test_shapes_of_no_tokens_are_empty():
    layout = Layout.of([0, 0], torch.zeros(0, 3, dtype=torch.int64))
    none = torch.zeros(0)
    assert choose_units(none, tube_units(layout), layout, [0, 0]).hidden_lengths == (0, 0)
    assert block_scores(none, none, none, layout).shape == (0,)
    assert choose(
        span_scores(none, none, layout, stop=0.2, longest=3), layout, [0, 0]
    ).hidden.shape == (0,)


def drawn_by_hand(scores, allowed, layout, ratio, at_least, rounding="nearest"):
    """The share of each segment's allowed tokens with the lowest scores, by a loop."""
    rows = []
    for first, length in zip(layout.offsets.tolist(), layout.lengths, strict=False):
        may = [row for row in range(first, first + length) if allowed[row]]
        share = np.float64(ratio) * len(may)
        whole = {"nearest": np.floor(share + 0.5), "down": np.floor(share), "up": np.ceil(share)}
        number = min(max(int(whole[rounding]), at_least), len(may))
        rows += sorted(may, key=lambda row: float(scores[row]))[:number]
    return sorted(rows)


@pytest.mark.parametrize("rounding", ["nearest", "down", "up"])
@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=5), st.sampled_from([0.15, 0.2, 0.4, 0.6]),
       st.floats(0, 1), st.integers(0, 3))  # fmt: skip
def test_the_share_is_of_what_may_be_hidden(rounding, lengths, ratio, share, at_least):
    layout = Layout.of(lengths)
    allowed = noise(layout.tokens, 5) < share
    among = candidates(Tokens(layout, ids=torch.zeros(layout.tokens, dtype=torch.int64)), allowed)
    scores = among.noise("choice")
    found = among.lowest(scores, ratio, rounding=rounding, at_least=at_least)
    right = drawn_by_hand(scores, allowed, layout, ratio, at_least, rounding)
    assert found.rows[found.counted].tolist() == right
    assert found.settled().rows.tolist() == right
    numbers = torch.bincount(layout.segment[right], minlength=len(lengths)).tolist()
    assert among.counts(ratio, rounding=rounding, at_least=at_least) == numbers


def test_without_tokens_that_must_stay_the_choice_is_that_of_all_tokens():
    layout = Layout.of([40, 0, 7])
    among = candidates(Tokens(layout, ids=torch.zeros(47, dtype=torch.int64)), None)
    found = among.lowest(among.noise("choice"), 0.15)
    assert found.counted is None
    assert torch.equal(found.rows, choose(noise(47), layout, [6, 0, 1]).hidden)


def test_as_many_words_of_a_text_are_hidden_however_many_tokens_must_stay():
    # 100 words between 2 and 60 others: 15 are hidden, by tokens, by spans and by whole words.
    for others in (2, 60):
        layout = Layout.of([100 + others], channels={"word": torch.arange(100 + others)})
        allowed = torch.arange(100 + others) >= others
        ids = torch.zeros(100 + others, dtype=torch.int64)
        among = candidates(Tokens(layout, ids=ids), allowed)
        for hide in (RandomTokens(0.15), Spans(0.15), WholeWords(0.15)):
            found = hide.choose(among).settled()
            assert len(found.rows) == 15
            assert allowed[found.rows].all()
