import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal import (
    DataError,
    Encoded,
    Layout,
    PretrainingModel,
    Tokens,
    TokenSpec,
    TransformerEncoder,
    total_loss,
)
from polymodal.model.model import stream_info
from polymodal_generation import Decoder, cut_out
from polymodal_generation.cutting import hidden_spans, hidden_units, sentinel_ids, span_chance
from polymodal_generation.decoder import shifted

BEGIN, END, MASK = 0, 1, 2
E = (3, 4, 5, 6)  # sentinels
DELETE, ADD, KEEP = 7, 8, 9
TAGS = (DELETE, ADD, KEEP)
SPECIAL = {"begin": BEGIN, "end": END, "mask": MASK, "delete": DELETE, "add": ADD, "keep": KEEP,
           **{f"sentinel_{k}": id_ for k, id_ in enumerate(E)}}  # fmt: skip
SPEC = TokenSpec(
    vocabulary=40, extent=(64,), max_tokens=64, kinds=("content", "special", "tag"),
    special=SPECIAL, structure=("line",),
)  # fmt: skip
W = range(10, 40)  # words


def tokens_of(*segments, lines=None):
    ids = torch.tensor([i for segment in segments for i in segment], dtype=torch.int64)
    kinds = (ids < 10).long() + torch.isin(ids, torch.tensor(TAGS))
    channels = {"line": torch.tensor(lines or [0] * len(ids), dtype=torch.int64)}
    layout = Layout.of([len(s) for s in segments], kinds=kinds, channels=channels)
    return Tokens(layout, ids=ids)


def parts(tokens):
    return [s.tolist() for s in tokens.ids.split(list(tokens.layout.lengths))]


def cut(tokens, hidden, units=None, sentinels=E):
    return cut_out(
        tokens, torch.tensor(hidden, dtype=torch.bool),
        sentinels=torch.tensor(sentinels, dtype=torch.int64), end=END, units=units, special_kind=1,
    )  # fmt: skip


def put_back(source, target):
    """The segment before it was cut: each sentinel gives way to what the target lists after it."""
    runs, current = {}, None
    for id_ in target:
        if id_ in E:
            current = runs.setdefault(id_, [])
        elif id_ != END:
            current.append(id_)
    return [id_ for each in source for id_ in runs.get(each, [each])]


def test_tokens_that_touch_share_a_sentinel_as_in_the_papers_code():
    source, target = cut(tokens_of([10, 11, 12, 13, 14]), [0, 0, 1, 1, 0])
    assert parts(source) == [[10, 11, E[0], 14]]
    assert parts(target) == [[E[0], 12, 13, END]]
    assert source.layout.kinds.tolist() == [0, 0, 1, 0]
    assert source.layout.positions[:, 0].tolist() == [0, 1, 2, 3]


# <begin> import os | a = 1 | b = 2 | b = 3 | c = 4 | d = 5 | print(a) <end>, tags before the five.
HUNK = [BEGIN, 10, 11, KEEP, 12, 13, 14, DELETE, 15, 13, 16, ADD, 15, 13, 17, ADD, 18, 13, 19,
        KEEP, 20, 13, 21, 22, END]  # fmt: skip
LINES = [-1, 0, 0, *(n for n in range(1, 6) for _ in range(4)), 6, -1]


def test_whole_lines_give_way_and_their_tags_stay():
    tokens = tokens_of(HUNK, lines=LINES)
    line = tokens.layout.channels["line"]
    content = ~torch.isin(tokens.ids, torch.tensor(list(SPECIAL.values())))
    hidden = (torch.isin(line, torch.tensor([2, 5]))) & content
    source, target = cut(tokens, hidden.tolist(), line)
    ((shown,), (written,)) = parts(source), parts(target)
    assert shown == [*HUNK[:8], E[0], *HUNK[11:20], E[1], 22, END]
    assert written == [E[0], 15, 13, 16, E[1], 20, 13, 21, END]
    assert put_back(shown, written) == HUNK


def test_neighbouring_lines_without_tags_have_sentinels_of_their_own():
    tokens = tokens_of([10, 11, 12, 13], lines=[0, 0, 1, 1])
    source, target = cut(tokens, [1, 1, 1, 0], tokens.layout.channels["line"])
    assert parts(source) == [[E[0], E[1], 13]] and parts(target) == [[E[0], 10, 11, E[1], 12, END]]


def test_runs_without_a_sentinel_left_stay_and_what_loses_nothing_has_no_target():
    tokens = tokens_of([10, 11, 12, 13, 14], [15, 16], [], [17])
    source, target = cut(tokens, [1, 0, 1, 0, 1, 0, 0, 1], sentinels=E[:2])
    assert parts(source) == [[E[0], 11, E[1], 13, 14], [15, 16], [], [E[0]]]
    assert parts(target) == [[E[0], 10, E[1], 12, END], [], [], [E[0], 17, END]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(W), st.booleans(), st.integers(0, 2)), max_size=7),
        max_size=4,
    ),
    st.booleans(),
)
def test_what_was_cut_out_can_always_be_put_back(segments, by_unit):
    tokens = tokens_of(*[[id_ for id_, _, _ in segment] for segment in segments])
    rows = [row for segment in segments for row in segment]
    units = torch.tensor([u for _, _, u in rows], dtype=torch.int64) if by_unit else None
    source, target = cut(tokens, [hidden for _, hidden, _ in rows], units)
    found = [put_back(*pair) for pair in zip(parts(source), parts(target), strict=True)]
    assert found == parts(tokens)
    for written in parts(target):
        assert (written == []) or (written[0] == E[0] and written[-1] == END)


def noise(layout, seed):
    return torch.rand(layout.tokens, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mean", [1.0, 3.0])
def test_spans_hide_their_share_of_tokens(mean):
    layout = Layout.of([200] * 100)
    allowed = torch.ones(layout.tokens, dtype=torch.bool)
    hidden = hidden_spans(
        noise(layout, 0), noise(layout, 1), layout, allowed=allowed, ratio=0.15, mean=mean
    )
    assert hidden.float().mean() == pytest.approx(0.15, abs=0.01)
    starts = hidden & ~hidden.roll(1)
    assert (starts.sum() < 0.6 * hidden.sum()) == (mean > 1)


def test_spans_stay_in_their_segment_and_spare_no_segment_that_has_anything():
    layout = Layout.of([1, 4, 0, 2] * 50)
    allowed = torch.ones(layout.tokens, dtype=torch.bool)
    allowed[layout.segment == 3] = False  # nothing but special tokens
    hidden = hidden_spans(
        noise(layout, 0), noise(layout, 1), layout, allowed=allowed, ratio=0.05, mean=2.0
    )
    per_segment = torch.zeros(layout.segments).index_add(0, layout.segment, hidden.float())
    expected = [length > 0 and number != 3 for number, length in enumerate(layout.lengths)]
    assert ((per_segment > 0).tolist()) == expected
    with_long = hidden_spans(
        torch.tensor([0.0, 0.9, 0.9, 0.9]), torch.full((4,), 0.999), Layout.of([2, 2]),
        allowed=torch.ones(4, dtype=torch.bool), ratio=0.2, mean=3.0,
    )  # fmt: skip
    assert with_long.tolist()[:2] == [True, True]
    assert with_long[2:].sum() >= 1  # of its own draw, not of the span before


def test_a_span_of_one_token_begins_as_often_as_tokens_are_hidden():
    assert span_chance(0.2, 1.0) == pytest.approx(0.2, abs=1e-6)
    assert 0.15 / 3 < span_chance(0.15, 3.0) < -math.log(0.85) / 3


def test_lines_are_drawn_with_replacement_and_one_at_least():
    lines = 20
    layout = Layout.of([lines * 2] * 300)
    unit = layout.within // 2
    allowed = torch.ones(layout.tokens, dtype=torch.bool)
    hidden = hidden_units(noise(layout, 0), unit, layout, allowed=allowed, ratio=0.15)
    by_line = hidden.reshape(300, lines, 2)
    assert (by_line[..., 0] == by_line[..., 1]).all()  # whole lines
    counts = by_line[..., 0].sum(dim=1)
    # int(20 x 0.15) = 3 draws: three lines, or fewer where a line was drawn again
    assert counts.max() == 3 and 0.05 < (counts < 3).float().mean() < 0.25
    short = Layout.of([6])
    few = hidden_units(
        noise(short, 2), short.within, short, allowed=torch.ones(6, dtype=torch.bool), ratio=0.15
    )
    assert few.sum() == 1


def test_a_drawn_unit_with_nothing_to_hide_gives_way_to_another():
    layout = Layout.of([4] * 40)
    allowed = layout.within == 3
    hidden = hidden_units(noise(layout, 0), layout.within, layout, allowed=allowed, ratio=0.15)
    assert torch.equal(hidden, allowed)


def test_sentinels_are_counted_until_one_is_missing():
    assert sentinel_ids({"sentinel_0": 5, "sentinel_1": 9, "sentinel_3": 4}) == [5, 9]


OBJECTIVES = {
    "tags": ("masking.kind", {"stream": "diff"}),
    "lines": ("generation.denoising", {"stream": "diff", "decoder": "writer", "units": "line"}),
    "words": (
        "generation.denoising",
        {"stream": "text", "decoder": "writer", "ratio": 0.2, "mean_span": 1.0},
    ),
    "text": (
        "generation.sequence_to_sequence",
        {"source": "diff", "target": "text", "decoder": "writer"},
    ),
}


@pytest.fixture
def made(toys):
    """A model of one encoder for diffs and texts, a decoder, and the task asked for."""

    def make(name, width=16, **options):
        torch.manual_seed(0)
        use, given = OBJECTIVES[name]
        encoder = TransformerEncoder(SPEC, width=width, depth=1, heads=2)
        return toys.model(
            {"diff": SPEC, "text": SPEC},
            objective=toys.named(use, **{**given, **options}),
            modules={"writer": partial(Decoder, streams=["diff", "text"], depth=1, heads=2)},
            encoders={"diff": encoder, "text": encoder},
        )

    return make


def hunks(*lengths):
    segments = [[BEGIN, *[TAGS[n % 3], 10 + n, 11 + n] * length, END] for n, length in
                enumerate(lengths)]  # fmt: skip
    lines = [n for length in lengths for n in (-1, *(i // 3 for i in range(3 * length)), -1)]
    return tokens_of(*segments, lines=lines)


def texts(*lengths):
    return tokens_of(*[[BEGIN, *W[:n], END] if n else [] for n in lengths])


def test_the_decoder_starts_anew_in_every_segment():
    found = shifted(tokens_of([10, 11, END], [], [12, END]), BEGIN)
    assert parts(found) == [[BEGIN, 10, 11], [], [BEGIN, 12]] and found.layout.kinds is None


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_task_at_random_starts_near_the_log_of_the_whole_vocabulary(made, toys, name):
    model = made(name, width=64)
    found = toys.loss(model, toys.batch(diff=hunks(3, 2, 4), text=texts(4, 3, 5)))
    assert toys.mean(found).item() == pytest.approx(math.log(SPEC.vocabulary), rel=0.12)


def test_each_tag_is_hidden_and_is_one_count(made, toys):
    model = made("tags")
    batch = toys.batch(diff=hunks(3, 0, 2), text=texts(0, 0, 0))
    seen = []
    encoder = model.encoder("diff")
    stem = encoder.stem.forward
    encoder.stem.forward = lambda tokens: (seen.append(tokens), stem(tokens))[1]
    found = toys.loss(model, batch)
    assert found.count == 5 == model.objective("objective").count(toys.step(model, batch))
    ids = seen[0].ids
    assert (ids == MASK).sum() == 5 and not torch.isin(ids, torch.tensor(TAGS)).any()
    with torch.no_grad():
        rows = (ids == MASK).nonzero()[:, 0]
        scores = encoder.unembed(encoder(seen[0]).vectors[rows]).double().log_softmax(dim=1)
    expected = -scores[range(5), batch.streams["diff"].ids[rows]].sum()
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-5)


def touched(model, found):
    model.zero_grad()
    found.total.backward()
    return {
        part
        for part in ("encoders.diff", "shared.writer")
        for name, p in model.named_parameters()
        if name.startswith(part) and p.grad is not None and p.grad.abs().max() > 0
    }


@pytest.mark.parametrize("name", OBJECTIVES)
def test_only_tasks_that_write_reach_the_decoder(made, toys, name):
    model = made(name)
    found = toys.loss(model, toys.batch(diff=hunks(2, 3), text=texts(3, 4)))
    both = {"encoders.diff", "shared.writer"}
    assert touched(model, found) == ({"encoders.diff"} if name == "tags" else both)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("lengths", [(), (0,), (0, 0), (1, 0), (2, 0, 1)])
def test_samples_without_a_target_cost_nothing(made, toys, name, lengths):
    model = made(name)
    diff = hunks(*[max(n, 1) for n in lengths]).only([n > 0 for n in lengths])
    for text in (texts(*lengths), texts(*[0] * len(lengths))):
        batch = toys.batch(diff=diff, text=text)
        found = toys.loss(model, batch)
        assert found.count == model.objective("objective").count(toys.step(model, batch))
        assert toys.gradients_are_finite(model, found)
        if not any(text.layout.lengths) and name in ("words", "text"):
            assert found.total == 0 and found.count == 0


def test_a_batch_dealt_to_all_four_tasks_costs_what_its_parts_cost(made, toys):
    parts_of = {name: made(name) for name in OBJECTIVES}
    first = parts_of["tags"]
    model = PretrainingModel(
        first.streams, first.encoders, first.specs, first.shared,
        {name: part.objective("objective") for name, part in parts_of.items()},
    )  # fmt: skip
    batch = toys.batch(diff=hunks(2, 1, 3, 2, 1), text=texts(3, 2, 4, 2, 1))
    dealt = {
        name: tuple(row == number for row in range(5)) for number, name in enumerate(OBJECTIVES)
    }
    found = model(replace(batch, dealt=dealt))
    total_loss(found, model.weights).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    for number, (name, loss) in enumerate(found.items()):
        step = toys.step(model, replace(batch, dealt={}))
        step.objective = name  # the noise is the sample's, wherever it lies
        whole = model.objective(name)
        alone = {s: tokens.only([row == number for row in range(5)])
                 for s, tokens in batch.streams.items()}  # fmt: skip
        step.batch = replace(batch, streams=alone)
        expected = whole(step)
        assert loss.count == expected.count > 0
        torch.testing.assert_close(loss.total, expected.total)


def test_the_loss_is_that_of_a_padded_decoder_fed_one_sample_at_a_time(made, toys):
    model = made("text", start="keep")
    diff, text = hunks(2, 3, 1), texts(3, 1, 4)
    found = toys.loss(model, toys.batch(diff=diff, text=text))
    encoder, decoder = model.encoder("text"), model.module("writer")
    total = 0.0
    for row in range(3):
        memory = encoder(diff.select([row]))
        content = text.select([row]).ids.tolist()[1:]  # without begin
        for place, id_ in enumerate(content):  # a pass for every token, the last row alone
            prefix = torch.tensor([KEEP, *content[:place]])
            plain = Tokens(Layout.of([len(prefix)]), ids=prefix)
            vectors = decoder.write(encoder.embed(plain), {"diff": memory})
            scores = encoder.unembed(vectors[-1:]).double().log_softmax(dim=1)
            total -= float(scores[0, id_].detach())
    assert found.total.item() == pytest.approx(total, rel=1e-5)
    assert found.count == 3 + 1 + 4 + 3


def test_a_decoder_reads_all_streams_and_all_their_segments(toys):
    torch.manual_seed(0)
    info = {"text": stream_info(SPEC, TransformerEncoder(SPEC, width=16, depth=0))}
    info |= {name: replace(info["text"], width=width) for name, width in (("a", 8), ("b", 16))}
    decoder = Decoder(info, streams=["a", "b", "text"], depth=1, heads=2)
    assert set(decoder.entries) == {"a"}
    layouts = {"a": Layout.of([1, 2, 2], owner=[0, 0, 1], samples=2), "b": Layout.of([0, 3])}
    read = {
        name: Encoded.mean_pooled(layout, torch.randn(layout.tokens, info[name].width))
        for name, layout in layouts.items()
    }
    start = Encoded.mean_pooled(Layout.of([1, 1]), torch.randn(2, 16))
    before = decoder.write(start, read)
    for name, row in (("a", 0), ("a", 2), ("b", 0)):  # each is of one sample alone
        vectors = read[name].vectors.clone()
        vectors[row] += 1
        moved = {**read, name: Encoded.mean_pooled(layouts[name], vectors)}
        changed = (decoder.write(start, moved) - before).abs().amax(dim=1) > 1e-6
        assert changed.tolist() == ([True, False] if name == "a" else [False, True])


def test_a_few_steps_learn_to_write_and_the_search_writes_it(made, toys):
    model = made("text", beams=3, max_tokens=8)
    batch = toys.batch(diff=hunks(1, 2, 3), text=tokens_of(*[[BEGIN, *[20 + n] * n, END] for n in
                                                             (1, 2, 3)]))  # fmt: skip
    first, last = toys.train(model, batch, steps=80, rate=0.01)
    assert last < 0.1 * first
    step = toys.step(model.eval(), batch)
    with torch.no_grad():
        found = model.objective("objective").predictions(step)
    assert found.rows == [0, 1, 2] and found.stream == "text"
    assert parts(found.values) == [[21], [22, 22], [23, 23, 23]]


def test_a_few_steps_learn_to_fill_in_lines(made, toys):
    model = made("lines", ratio=0.3)
    first, last = toys.train(model, toys.batch(diff=hunks(4, 3, 5), text=texts(0, 0, 0)),
                             steps=120, rate=0.01)  # fmt: skip
    assert last < 0.5 * first


def test_segments_of_one_sample_are_denoised_each_by_itself(made, toys):
    model = made("words")
    text = texts(3, 4, 2)
    owned = text.with_rows(text.ids, replace(text.layout, owner=torch.tensor([0, 0, 1]), samples=2))
    batch = toys.batch(diff=hunks(1, 1), text=owned)
    source, target = model.objective("objective").cut(toys.step(model, batch))
    assert [put_back(*p) for p in zip(parts(source), parts(target), strict=True)] == parts(text)
    assert toys.gradients_are_finite(model, toys.loss(model, batch))
    with pytest.raises(DataError, match="one text a sample"):
        toys.loss(made("text"), batch)


def test_bad_options_are_refused(made, toys):
    for name, options, message in [
        ("words", {"ratio": 1.0}, "ratio must lie between 0 and 1"),
        ("words", {"mean_span": 0.5}, "mean_span must be 1 or more"),
        ("lines", {"units": "word"}, "needs the channel 'word'"),
        ("lines", {"decoder": "objective"}, "No module is called 'objective'"),
        ("text", {"start": "message"}, "needs a special token 'message'"),
        ("text", {"beams": 0}, "must be 1 or more"),
        ("tags", {"kind": "line"}, "kind must be one of the stream's kinds"),
    ]:
        with pytest.raises((ValueError, KeyError), match=message):
            made(name, **options)
    info = {"text": stream_info(SPEC, TransformerEncoder(SPEC, width=16, depth=0))}
    decoder = Decoder(info, streams=["text"], width=8)
    with pytest.raises(ValueError, match="width is 8, but its table is that of 'text'"):
        decoder.check(read="text", written="text")
    with pytest.raises(ValueError, match="the decoder has no stream 'diff'"):
        decoder.check(read="diff", written="text")
