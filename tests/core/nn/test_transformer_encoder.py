"""The encoder of most modalities: stem, class token and registers, pooling."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from polymodal.interfaces.encoder import Taps
from polymodal.nn.prefix import Prefixed
from polymodal.nn.sizes import SIZES
from polymodal.nn.transformer_encoder import TransformerEncoder
from polymodal.packed.layout import Layout
from polymodal.packed.spec import TokenSpec
from polymodal.packed.tokens import Tokens

IDS = TokenSpec(vocabulary=11, extent=(9,))
VALUES = TokenSpec(features=5, axes=2)


def made(spec=IDS, **options):
    torch.manual_seed(0)
    return TransformerEncoder(spec, **({"width": 16, "depth": 2, "heads": 2} | options))


def ids_of(lengths, *, seed=0, **structure):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 11, (sum(lengths),), generator=generator)
    return Tokens(Layout.of(lengths, **structure), ids=ids)


def alone(tokens, encoder):
    """Pooled vectors and token vectors of the segments encoded one at a time."""
    parts = [encoder(tokens.select([s])) for s in range(tokens.layout.segments)]
    return torch.cat([p.pooled for p in parts]), torch.cat([p.vectors for p in parts])


@pytest.mark.parametrize("pool", ["mean", "class", "first", "last"])
@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary", "none"])
def test_a_batch_is_its_segments_one_by_one(pool, registers, positions):
    encoder = made(pool=pool, registers=registers, positions=positions).eval()
    tokens = ids_of([3, 0, 1, 5, 5])
    found = encoder(tokens)
    pooled, vectors = alone(tokens, encoder)
    assert torch.allclose(found.pooled, pooled, atol=1e-5)
    assert torch.allclose(found.vectors, vectors, atol=1e-5)
    assert (found.pooled[1] == 0).all()
    assert found.layout is tokens.layout


def test_pooling_takes_the_rows_it_names():
    tokens = ids_of([3, 0, 2])
    rows = {"first": [0, 3], "last": [2, 4]}
    for pool, wanted in rows.items():
        found = made(pool=pool)(tokens)
        assert torch.equal(found.pooled[[0, 2]], found.vectors[wanted])
    found = made(pool="mean")(tokens)
    assert torch.allclose(found.pooled[0], found.vectors[:3].mean(dim=0), atol=1e-6)


def test_the_mean_is_over_content_unless_there_is_none():
    spec = TokenSpec(vocabulary=11, kinds=("content", "special"))
    tokens = ids_of([3, 2, 0], kinds=torch.tensor([1, 0, 0, 1, 1]))
    found = made(spec)(tokens)
    assert torch.allclose(found.pooled[0], found.vectors[1:3].mean(dim=0), atol=1e-6)
    assert torch.allclose(found.pooled[1], found.vectors[3:].mean(dim=0), atol=1e-6)
    assert (found.pooled[2] == 0).all()


def test_the_class_token_is_what_a_plain_transformer_gives_for_a_token_put_first():
    encoder = made(pool="class", registers=1, positions="none")
    tokens = ids_of([3])
    stem = encoder.embed(tokens).vectors
    inside = torch.cat([encoder.prefix, stem])
    plain = encoder.trunk(inside, Layout.of([5])).vectors
    found = encoder(tokens)
    assert torch.allclose(found.pooled[0], plain[0], atol=1e-6)
    assert torch.allclose(found.vectors, plain[2:], atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(lengths=st.lists(st.integers(0, 4), max_size=5), extra=st.integers(1, 3))
def test_rows_put_in_front_leave_positions_kinds_and_edges_right(lengths, extra):
    total = sum(lengths)
    loops = torch.arange(total).repeat(2, 1)
    old = Layout.of(
        lengths,
        torch.arange(total)[:, None] + 1,
        kinds=torch.arange(total) + 1,
        channels={"row": torch.arange(total) + 1},
        edges=loops,
        edge_kinds=torch.zeros(total, dtype=torch.int64),
        edge_values=torch.ones(total, 1),
    )
    inside = Prefixed.of(old, extra, edge_kind=5)
    new = inside.layout.validate()
    vectors = torch.arange(1.0, total + 1)[:, None]
    prefix = -torch.arange(1.0, extra + 1)[:, None]
    rows = inside.insert(vectors, prefix)
    expected, places = [], []
    for part in vectors[:, 0].split(lengths) if lengths else ():
        if len(part):
            expected += (*prefix[:, 0].tolist(), *part.tolist())
            places += (*[0] * extra, *part.tolist())
    assert rows[:, 0].tolist() == expected
    assert torch.equal(inside.remove(rows), vectors)
    for structure in (new.positions[:, 0], new.kinds, new.channels["row"]):
        assert structure.tolist() == places
    assert rows[new.edges[:, :total], 0].tolist() == vectors[loops, 0].tolist()
    wanted = set()
    for segment, length in enumerate(new.lengths):
        first = int(new.offsets[segment])
        for hub in range(first, first + min(extra, length)):
            others = set(range(first, first + length)) - {hub}
            wanted |= {(hub, other) for other in others} | {(other, hub) for other in others}
    added = {tuple(pair) for pair in new.edges[:, total:].T.tolist()}
    assert added == wanted
    assert new.edge_kinds[total:].eq(5).all()
    assert new.edge_values[total:].eq(0).all()


@pytest.mark.parametrize("edges", ["restrict", "bias"])
@pytest.mark.parametrize("pool", ["mean", "class"])
def test_edges_follow_when_tokens_are_put_in_front(edges, pool):
    spec = TokenSpec(vocabulary=11, edges=True, edge_kinds=2)
    encoder = made(spec, edges=edges, pool=pool, registers=1).eval()
    pairs = torch.tensor([[0, 1, 3], [1, 2, 4]])
    tokens = ids_of([3, 0, 2], edges=pairs, edge_kinds=torch.tensor([0, 1, 1]))
    found = encoder(tokens)
    pooled, vectors = alone(tokens, encoder)
    assert torch.allclose(found.vectors, vectors, atol=1e-5)
    assert torch.allclose(found.pooled, pooled, atol=1e-5)


def test_a_class_token_sees_tokens_that_no_edge_joins():
    spec = TokenSpec(vocabulary=11, edges=True)
    encoder = made(spec, depth=1, edges="restrict", pool="class")
    tokens = ids_of([3], edges=torch.zeros(2, 0, dtype=torch.int64))
    stem = encoder.embed(tokens)
    stem.vectors.retain_grad()
    (encoder.contextualize(stem).pooled @ torch.randn(16)).sum().backward()
    assert (stem.vectors.grad.abs().sum(dim=1) > 0).all()


SPEC = TokenSpec(
    vocabulary=11, axes=2, extent=(4, 4), kinds=("content", "special"), channels={"row": 3},
    edges=True, edge_kinds=2, edge_features=2,
)  # fmt: skip


@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.parametrize("pool", ["mean", "class", "first", "last"])
@pytest.mark.parametrize("edges", ["ignore", "restrict", "bias"])
def test_with_no_tokens_every_parameter_gets_a_finite_gradient(samples, pool, edges):
    encoder = made(SPEC, pool=pool, registers=1, edges=edges, positions="learned", drop_path=0.5)
    tokens = Tokens(Layout.empty(samples, axes=2), ids=torch.zeros(0, dtype=torch.int64))
    found = encoder(tokens)
    assert found.pooled.shape == (samples, 16)
    (found.pooled.sum() + found.vectors.sum()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad == 0).all(), name


def test_values_kinds_channels_and_positions_add_up_in_the_stem():
    encoder = made(SPEC)
    layout = Layout.of(
        [2], torch.tensor([[0, 1], [3, 2]]), kinds=torch.tensor([0, 1]),
        channels={"row": torch.tensor([2, 0])},
    )  # fmt: skip
    tokens = Tokens(layout, ids=torch.tensor([4, 7]))
    stem = encoder.stem
    expected = (
        encoder.embedding(tokens.ids)
        + 4 * stem.kinds.weight  # sqrt(16)
        + 4 * stem.channels["row"].weight[[2, 0]]
        + stem.positions(layout.positions)
    )
    assert torch.allclose(encoder.embed(tokens).vectors, expected, atol=1e-6)
    values = torch.randn(3, 5)
    encoder = made(VALUES, positions="none")
    layout = Layout.of([3], torch.zeros(3, 2))
    found = encoder.embed(Tokens(layout, values=values)).vectors
    assert torch.allclose(found, encoder.stem.tokens(values))


@pytest.mark.parametrize("width", [48, 768])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_ids_and_their_positions_start_alike_in_size_at_any_width(width, positions):
    spec = replace(SPEC, vocabulary=500, extent=(50, 50))
    encoder = made(spec, width=width, heads=4, positions=positions)
    stem = encoder.stem
    ids = stem.tokens(torch.arange(500)).square().mean().sqrt()
    places = stem.positions(torch.randint(50, (500, 2))).square().mean().sqrt()
    assert 0.5 < ids < 0.6  # what 0.02 at width 768 makes, times sqrt(768)
    assert 0.8 < places / ids < 1.6
    scores = encoder.unembed(torch.randn(200, width)).std()
    assert 0.5 < scores < 0.6


def test_scores_over_the_vocabulary_use_the_table_of_ids():
    encoder = made()
    vectors = torch.randn(3, 16)
    assert torch.equal(encoder.unembed(vectors), vectors @ encoder.stem.tokens.weight.T)
    assert made(VALUES).unembed(vectors) is None
    with pytest.raises(ValueError, match="no table of ids"):
        made(VALUES).embedding(torch.tensor([1]))


def test_taps_leave_out_what_was_put_in_front():
    encoder = made(pool="class", registers=2)
    tokens = ids_of([2, 0, 3])
    found = encoder(tokens, taps=Taps(hidden=(0, -1), attention=(-1,)))
    assert found.hidden[0].shape == found.hidden[-1].shape == (5, 16)
    assert torch.allclose(encoder.trunk.norm(found.hidden[-1]), found.vectors, atol=1e-6)
    assert [len(each[0]) for each in found.attention[-1]] == [5, 0, 6]


def test_rotary_encoders_see_differences_of_positions_alone():
    encoder = made(VALUES, positions="rotary").eval()
    for block in encoder.trunk.blocks:  # attention starts out even, whatever the places
        nn.init.normal_(block.attention.qkv.weight, std=0.3)
    values, places = torch.randn(4, 5), torch.randint(0, 5, (4, 2))

    def encode(places):
        return encoder(Tokens(Layout.of([4], places), values=values)).vectors

    assert torch.allclose(encode(places), encode(places + 3), atol=1e-3)
    assert not torch.allclose(encode(places), encode(places * 2), atol=1e-2)


def test_causal_encoders_do_not_look_ahead():
    encoder = made(causal=True, registers=1, pool="last")
    tokens = ids_of([5])
    changed = tokens.with_rows(torch.cat([tokens.ids[:3], (tokens.ids[3:] + 1) % 11]))
    before, after = encoder(tokens).vectors, encoder(changed).vectors
    assert torch.equal(before[:3], after[:3])
    assert not torch.equal(before[3:], after[3:])


def test_soft_prompts_fit_between_stem_and_trunk():
    encoder = made()
    stem = encoder.embed(ids_of([2, 1]))
    longer = Layout.of([3, 2])
    vectors = torch.cat([torch.zeros(1, 16), stem.vectors[:2], torch.zeros(1, 16),
                         stem.vectors[2:]])  # fmt: skip
    from polymodal.packed.tokens import Encoded

    found = encoder.contextualize(Encoded.mean_pooled(longer, vectors))
    assert found.vectors.shape == (5, 16)


def test_sizes_by_name_and_by_number():
    for name, size in list(SIZES.items())[:3]:
        width, depth, heads = size["width"], size["depth"], size["heads"]
        encoder = TransformerEncoder(IDS, size=name)
        assert encoder.width == width
        assert len(encoder.trunk.blocks) == depth
        assert encoder.trunk.blocks[0].attention.heads == heads
    assert tuple(SIZES["base"].values()) == (768, 12, 12)
    assert tuple(SIZES["huge"].values()) == (1280, 32, 16)
    encoder = TransformerEncoder(IDS, size="nano", depth=1)
    assert encoder.width == 128
    assert len(encoder.trunk.blocks) == 1


def test_layers_are_the_stem_and_the_blocks():
    encoder = made()
    assert encoder.layers() == [encoder.stem, *encoder.trunk.blocks]


def test_a_copy_is_independent_and_equal():
    encoder = made(pool="class").eval()
    tokens = ids_of([3, 2])
    other = copy.deepcopy(encoder)
    assert torch.equal(encoder(tokens).pooled, other(tokens).pooled)
    nn.init.zeros_(other.prefix)
    assert not torch.equal(encoder(tokens).pooled, other(tokens).pooled)


def test_it_learns_to_tell_sequences_by_order():
    encoder = made(width=32, pool="class")
    head = nn.Linear(32, 2)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)
    tokens = Tokens(Layout.of([3] * 4), ids=torch.tensor([1, 2, 3, 3, 2, 1, 4, 5, 6, 6, 5, 4]))
    labels = torch.tensor([0, 1, 0, 1])
    for _ in range(60):
        loss = nn.functional.cross_entropy(head(encoder(tokens).pooled), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1


@pytest.mark.skipif(
    hasattr(TransformerEncoder.embed, "__wrapped__"), reason="shape checks refuse first"
)
def test_what_can_not_work_is_refused():
    wrong = {
        "give a size .pico, nano": {"width": None},
        "size must be one of pico": {"size": "giant"},
        'use pool "last"': {"causal": True, "pool": "class"},
        "makes no edges": {"edges": "bias"},
        "registers must be": {"registers": -1},
        "heads must divide": {"heads": 3},
        "pool must be": {"pool": "max"},
        "positions must be": {"positions": "relative"},
    }
    for message, options in wrong.items():
        with pytest.raises(ValueError, match=message):
            made(**options)
    with pytest.raises(ValueError, match="use sinusoidal or rotary"):
        made(VALUES, positions="learned")
    with pytest.raises(ValueError, match="no block 7"):
        made()(ids_of([1]), taps=Taps(hidden=(7,)))


CODE = TokenSpec(vocabulary=11, extent=(8,), kinds=("content", "node"), edges=True)


def code_of(lengths, nodes, edges):
    """Random ids of which `nodes` are rows of the second kind."""
    tokens = ids_of(lengths, kinds=torch.zeros(sum(lengths), dtype=torch.int64))
    kinds = tokens.layout.kinds.index_fill(0, torch.tensor(nodes, dtype=torch.int64), 1)
    edges = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T
    return tokens.with_rows(tokens.ids, replace(tokens.layout, kinds=kinds, edges=edges))


def guided(**options):
    options = {"edges": "guide", "guided": ["node"], "averaged": ["node"], **options}
    return made(CODE, **options).eval()


def test_averaged_tokens_start_from_the_mean_of_their_edges_sources():
    edges = [(0, 2), (1, 2), (2, 0), (3, 2), (2, 3)]
    tokens = code_of([4, 0, 2], nodes=[2, 3, 5], edges=edges)
    encoder = guided(positions="none")
    # Rows count sqrt(16) times.
    table, kinds = 4 * encoder.stem.tokens.weight, 4 * encoder.stem.kinds.weight
    found = encoder.embed(tokens).vectors
    own = table[tokens.ids]
    assert torch.allclose(found[2], (own[0] + own[1]) / 2 + kinds[1], atol=1e-6)
    assert torch.allclose(found[[3, 5]], kinds[[1, 1]], atol=1e-6)  # nothing leads to them
    assert torch.allclose(found[[0, 1, 4]], own[[0, 1, 4]] + kinds[0], atol=1e-6)


def test_without_guided_tokens_a_guided_encoder_is_the_plain_one():
    tokens = code_of([4, 0, 2], nodes=[], edges=[])
    encoder, plain = guided(), made(CODE).eval()
    plain.load_state_dict(encoder.state_dict())
    assert torch.allclose(encoder(tokens).vectors, plain(tokens).vectors, atol=1e-6)


def test_the_order_of_guided_tokens_does_not_matter():
    positions = torch.tensor([1, 2, 3, 0, 0, 0])[:, None]
    edges = [(0, 3), (3, 0), (2, 4), (4, 2), (3, 5), (4, 5), (5, 1)]
    tokens = code_of([6], nodes=[3, 4, 5], edges=edges)
    order = torch.tensor([0, 1, 2, 5, 3, 4])  # the new row i is the old order[i]
    place = order.argsort()
    first = replace(tokens.layout, positions=positions)
    second = replace(first, edges=place[first.edges])
    encoder = guided()
    one = encoder(tokens.with_rows(tokens.ids, first)).vectors
    other = encoder(tokens.with_rows(tokens.ids[order], second)).vectors
    assert torch.allclose(one[order], other, atol=1e-5)


def test_guided_options_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="no kind 'nodes'. Did you mean 'node'"):
        made(CODE, edges="guide", guided=["nodes"])
    with pytest.raises(ValueError, match="go together"):
        made(CODE, edges="guide")
    with pytest.raises(ValueError, match="averaged needs edges"):
        made(TokenSpec(vocabulary=11), averaged=["content"])


def test_the_stem_ends_in_a_norm_where_one_is_asked_for():
    plain, normed = made(width=32), made(width=32, stem_norm=True)
    names = set(normed.state_dict()) - set(plain.state_dict())
    assert names == {"stem.norm.weight", "stem.norm.bias"}  # runs without it load as before
    tokens = ids_of([4, 3])
    normed.load_state_dict(plain.state_dict(), strict=False)
    wanted = nn.functional.layer_norm(plain.embed(tokens).vectors, (32,))
    assert torch.allclose(normed.embed(tokens).vectors, wanted, atol=1e-6)
