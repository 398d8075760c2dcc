"""An encoder of your own and one objective of ours in a bare PyTorch loop: no config, no run.

    python examples/embedding/bare_loop.py

Your code base has a network over padded batches. Fifteen lines make it an `Encoder`; every
objective then works with it. Here it learns to fill in hidden digits of sequences that count up
in steps, each with a start and a step of its own.
"""

import torch
from torch import Tensor, nn

from polymodal import (
    NO_TAPS,
    Batch,
    Encoded,
    Encoder,
    Layout,
    PretrainingModel,
    StreamInfo,
    Taps,
    Tokens,
    TokenSpec,
)
from polymodal_hiding import RandomTokens
from polymodal_masking import MaskedTokens

MASK, WIDTH, LONGEST = 10, 64, 12  # ids 0 to 9 are the digits
SPEC = TokenSpec(vocabulary=11, extent=(LONGEST,), max_tokens=LONGEST, special={"mask": MASK})


class YourNetwork(nn.Module):
    """What was there before: a transformer over padded batches."""

    def __init__(self):
        super().__init__()
        self.digits = nn.Embedding(SPEC.vocabulary, WIDTH)
        self.places = nn.Embedding(LONGEST, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2)


class YourEncoder(Encoder):
    """The network as a polymodal encoder: packed tokens in, packed vectors out."""

    width = WIDTH

    def __init__(self, network: YourNetwork):
        super().__init__()
        self.network = network

    def embed(self, tokens: Tokens) -> Encoded:
        place = tokens.layout.positions[:, 0]
        vectors = self.network.digits(tokens.ids) + self.network.places(place)
        return Encoded.mean_pooled(tokens.layout, vectors)

    def contextualize(self, encoded: Encoded, *, taps: Taps = NO_TAPS) -> Encoded:
        rectangle, filled = encoded.padded()
        seen = self.network.blocks(rectangle, src_key_padding_mask=~filled)
        return Encoded.from_padded(encoded.layout, seen)

    def unembed(self, vectors: Tensor) -> Tensor:
        return vectors @ self.network.digits.weight.T


def sequences(count: int, generator: torch.Generator) -> Batch:
    """Return sequences of different lengths, end to end: nothing is padded."""

    def draw(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (count,), generator=generator)

    layout = Layout.of(draw(5, LONGEST + 1))
    start, step = draw(0, 10)[layout.segment], draw(1, 10)[layout.segment]
    tokens = Tokens(layout, ids=(start + step * layout.within) % 10)
    # A key tells a sample from all others: what is hidden of it follows from key and step.
    keys = torch.randint(2**40, (count,), generator=generator)
    return Batch({"digits": tokens}, count, keys)


def main(steps: int = 200) -> None:
    torch.manual_seed(0)
    encoder = YourEncoder(YourNetwork())
    info = {"digits": StreamInfo(SPEC, WIDTH)}
    objective = MaskedTokens(info, stream="digits", hide=RandomTokens(0.25))
    model = PretrainingModel(
        {"digits": "yours"}, {"yours": encoder}, {"digits": SPEC}, objectives={"fill": objective}
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    generator = torch.Generator().manual_seed(0)
    for number in range(steps):
        loss = model(sequences(64, generator), number=number)["fill"]
        # A loss is a sum and how many targets it has: divide once, whatever the batch held.
        (loss.total / loss.count).backward()
        optimizer.step()
        optimizer.zero_grad()
        if number % 50 == 0 or number == steps - 1:
            right, of = loss.metrics["accuracy"]
            print(f"step {number}: {right / of:.0%} of {of} hidden digits right (chance 10%)")


if __name__ == "__main__":
    main()
