import pytest
import torch

from polymodal import Layout, Taps, Tokens, TokenSpec
from polymodal_evaluation.raw import Raw


def test_a_lone_token_is_the_sample_as_it_is():
    values = torch.randn(3, 5)
    encoder = Raw(TokenSpec(features=5))
    encoded = encoder(Tokens(Layout.of([1, 0, 2]), values=values))
    assert encoder.width == 5
    assert torch.equal(encoded.vectors, values)
    torch.testing.assert_close(
        encoded.pooled, torch.stack([values[0], torch.zeros(5), values[1:].mean(dim=0)])
    )


def test_ids_and_taps_are_refused():
    with pytest.raises(ValueError, match="tokens with values"):
        Raw(TokenSpec(vocabulary=4))
    tokens = Tokens(Layout.of([1]), values=torch.zeros(1, 2))
    with pytest.raises(ValueError, match="no blocks to tap"):
        Raw(TokenSpec(features=2))(tokens, taps=Taps(hidden=(0,)))
