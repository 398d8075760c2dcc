"""Attended masking against what VIOLET's rule works out."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from polymodal import Candidates, Encoded, Layout, Tokens, TransformerEncoder
from polymodal_hiding import Attended, EachToken, choose_each
from polymodal_hiding.attended import received


def among(toys, lengths, weights=None, allowed=None, seed=0):
    """Candidates of an encoder whose attention is given: the same weights for each query."""
    layout = Layout.of(lengths)
    tokens = Tokens(layout, values=torch.zeros(layout.tokens, 4))

    class Told(nn.Module):
        def encode_tokens(self, stream, tokens, *, taps):
            each = []
            for length, start in zip(lengths, layout.offsets.tolist()[:-1], strict=True):
                keys = weights[start : start + length]
                each.append((keys / keys.sum()).expand(2, length, length))
            return replace(
                Encoded.mean_pooled(layout, tokens.values),
                attention={block: tuple(each) for block in taps.attention},
            )

    noise = torch.rand(layout.tokens, generator=torch.Generator().manual_seed(seed))
    return Candidates(Told(), "image", tokens, toys.VALUES, allowed, lambda name: noise, [0])


def test_thirty_four_of_232_are_hidden_and_never_a_special_one(toys):
    allowed = torch.arange(232) % 50 != 0
    found = Attended(0.15).choose(among(toys, [232], torch.rand(232) + 0.1, allowed))
    assert len(found.rows) == int(232 * 0.15) == 34
    assert found.counted.all() and not (found.rows % 50 == 0).any()


def test_a_key_with_all_the_attention_is_always_hidden(toys):
    weights = torch.zeros(40)
    weights[17] = 1.0
    for seed in range(50):
        assert 17 in Attended(0.15).choose(among(toys, [40], weights, seed=seed)).rows.tolist()


def test_the_first_is_drawn_in_proportion_to_attention(toys):
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0]).repeat(4000)
    rows = Attended(0.3).choose(among(toys, [4] * 4000, weights)).rows
    share = torch.bincount(rows % 4, minlength=4).double() / 4000
    assert share.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.03)


def test_attention_received_is_summed_over_queries_and_blocks_the_mean_over_heads(toys):
    torch.manual_seed(0)
    encoder = TransformerEncoder(
        toys.VALUES, width=8, depth=3, heads=2, pool="class", registers=1
    ).eval()
    tokens = toys.value_tokens([3, 0, 2])
    from polymodal import Taps

    with torch.no_grad():
        encoded = encoder(tokens, taps=Taps(attention=(0, 2)))
        found = received(encoded)
    for segment, rows in ((0, slice(0, 3)), (2, slice(3, 5))):
        expected = sum(
            maps[segment].double().mean(dim=0).sum(dim=0)[2:] for maps in encoded.attention.values()
        )  # after the class token and the register
        torch.testing.assert_close(found[rows].double(), expected, atol=1e-6, rtol=1e-6)
    none = Encoded.mean_pooled(tokens.layout, encoded.vectors)
    with pytest.raises(ValueError, match="needs an encoder that can give its attention maps"):
        received(none)


def test_each_by_itself_hides_one_of_every_segment_that_may_be_hidden():
    layout = Layout.of([3, 2, 1])
    noise = torch.tensor([0.9, torch.inf, 0.8, torch.inf, torch.inf, 0.05])
    assert choose_each(noise, layout, 0.1).hidden.tolist() == [2, 5]
    assert choose_each(noise, layout, 0.95).hidden.tolist() == [0, 2, 5]
    assert choose_each(noise, layout, 0.95, leave=1).hidden.tolist() == [0, 2]
    with pytest.raises(ValueError, match="ratio"):
        EachToken(1.0)
