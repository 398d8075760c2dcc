import pytest
import torch

from polymodal import NO_TAPS, Encoded, Taps, TokenSpec, Transformer, windows
from polymodal_genome.bases import Bases
from polymodal_genome.merging import MergingTransformer

TOKENIZER = Bases()


def dna(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randint(4, (length,), generator=generator) for length in lengths]
    return ["".join("ACGT"[i] for i in draw) for draw in draws]


def small(**options):
    torch.manual_seed(0)
    return MergingTransformer(
        TOKENIZER.spec, **({"width": 16, "local_depth": 2, "depth": 2, "heads": 2} | options)
    )


@pytest.mark.parametrize("pairs", ["adjacent", "window"])
def test_every_base_is_in_one_word_of_its_window(pairs):
    tokens = TOKENIZER.encode([*dna(64, 23, 1), None])
    found = small(pairs=pairs).eval()(tokens)
    assert found.layout.lengths == (32, 12, 1, 0)
    sizes = torch.bincount(found.source)
    assert sizes.min() >= 1 and sizes.sum() == tokens.layout.tokens
    assert torch.equal(found.layout.segment[found.source], tokens.layout.segment)
    window = tokens.layout.within // 16
    for word in range(found.layout.tokens):
        members = (found.source == word).nonzero()[:, 0]
        assert len(window[members].unique()) == 1
        if pairs == "adjacent":
            assert (members.diff() == 1).all()
        assert found.layout.positions[word] == tokens.layout.positions[members[0]]


def test_with_nothing_merged_it_is_a_plain_stack():
    tokens = TOKENIZER.encode(dna(40, 9))
    encoder = small(keep=1.0, vary=0.0).train()
    found = encoder(tokens)
    assert torch.equal(found.source, torch.arange(49))

    def stack(transformer):
        plain = Transformer(width=16, depth=2, heads=2, activation="swiglu", rotary_axes=1)
        plain.load_state_dict(transformer.state_dict())
        return plain

    words = stack(encoder.local)(encoder.stem(tokens), windows(tokens.layout, 16))
    wanted = stack(encoder.latent)(words.vectors, tokens.layout).vectors
    torch.testing.assert_close(found.vectors, wanted)


def test_shifting_by_a_window_shifts_the_words_by_a_window():
    sequence = dna(80)[0]
    encoder = small().eval()
    whole = encoder.embed(TOKENIZER.encode([sequence]))
    later = encoder.embed(TOKENIZER.encode([dna(16, seed=1)[0] + sequence]))
    assert torch.equal(later.source[16:] - 8, whole.source)
    torch.testing.assert_close(later.vectors[8:], whole.vectors, atol=1e-5, rtol=1e-5)


def test_the_share_kept_varies_in_training_alone():
    encoder = small().train()
    drawn = torch.tensor([encoder._share() for _ in range(1000)])
    assert drawn.min() >= 0.4 - 1e-9 and drawn.max() <= 0.6 + 1e-9
    assert abs(drawn.mean() - 0.5) < 0.01
    tokens = TOKENIZER.encode(dna(80, 80))
    lengths = {encoder.embed(tokens).layout.lengths for _ in range(8)}
    assert len(lengths) > 1 and all(one == other for one, other in lengths)
    encoder.eval()
    assert {encoder.embed(tokens).layout.lengths for _ in range(3)} == {(40, 40)}


def test_the_trunk_merges_when_asked_and_the_map_is_that_of_the_bases():
    tokens = TOKENIZER.encode([*dna(64, 23, 1), None])
    encoder = small().eval()
    words = encoder.embed(tokens)
    groups = encoder.contextualize(words, keep=0.5)
    assert groups.layout.lengths == (16, 6, 1, 0)
    assert len(groups.source) == tokens.layout.tokens
    # Bases of one word are in one group.
    for word in range(words.layout.tokens):
        assert len(groups.source[words.source == word].unique()) == 1
    alone = Encoded(words.layout, words.vectors, words.pooled)  # of no known bases
    assert len(encoder.contextualize(alone, keep=0.5).source) == words.layout.tokens
    with pytest.raises(ValueError, match="no rows in common to tap"):
        encoder.contextualize(words, taps=Taps(hidden=(0,)), keep=0.5)
    seen = encoder(tokens, taps=Taps(hidden=(-1,), attention=(0,)))
    assert seen.hidden[-1].shape == seen.vectors.shape and len(seen.attention[0]) == 4
    assert encoder(tokens, taps=NO_TAPS).hidden == {}


def test_the_projection_learns_what_to_merge():
    tokens = TOKENIZER.encode(dna(32, 20))
    encoder = small()
    encoder(tokens).vectors.square().sum().backward()
    assert all(line.weight.grad.abs().sum() > 0 for line in encoder.grouping)
    assert len(small(soft_merge=False).grouping) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"local_depth": 1}, "1 leave 0.5"),
        ({"window": 0}, "window must be 1 or more"),
        ({"keep": 0.1}, "keep less vary must be above 0"),
        ({"pairs": "nearest"}, "adjacent or window"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_only_tokens_along_one_axis_merge():
    with pytest.raises(ValueError, match="one axis"):
        MergingTransformer(TokenSpec(features=4, axes=2), width=16)


def test_scores_over_the_vocabulary_use_the_table_of_ids():
    encoder = small()
    rows = encoder.embedding(torch.tensor([5, 6]))
    assert torch.equal(encoder.unembed(rows), rows @ encoder.stem.tokens.weight.T)
    assert len(encoder.layers()) == 5
    values = MergingTransformer(TokenSpec(features=4), width=16, local_depth=2, depth=1)
    assert values.unembed(rows) is None
    with pytest.raises(ValueError, match="no table"):
        values.embedding(torch.tensor([1]))
