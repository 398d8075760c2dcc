"""Masked autoencoding: encode what is visible, rebuild the rest (He et al., 2022)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from polymodal import (
    Choice,
    Encoded,
    FromRun,
    Hiding,
    Layout,
    Loss,
    Need,
    Objective,
    Positions,
    Step,
    StreamInfo,
    StreamName,
    Transformer,
    choose,
    join_layouts,
)
from polymodal_hiding import RandomTokens
from polymodal_masking.context import Context
from polymodal_targets import Distance, normalized, patch_loss


class Decoder(nn.Module):
    """Places a learned token at hidden positions and fills them in, seeing the visible tokens.

    Args:
        source_width: of the encoder's vectors.
        width: of the decoder's own.
        depth: how many blocks.
        heads: of attention.
        features: values to predict for each token.
        axes: columns of `Layout.positions`.
    """

    def __init__(
        self, source_width: int, *, width: int, depth: int, heads: int, features: int, axes: int
    ):
        super().__init__()
        self.entry = nn.Linear(source_width, width)
        self.mask = nn.Parameter(torch.randn(width) * 0.02)
        self.positions = Positions(width, axes)
        self.transformer = Transformer(width=width, depth=depth, heads=heads)
        self.exit = nn.Linear(width, features)

    def forward(self, visible: Encoded, hidden: Layout) -> Tensor:
        """Return values [hidden, feature] for the hidden places of each segment."""
        chained, order, (_, places) = join_layouts([_alone(visible.layout), _alone(hidden)])
        entering = torch.cat([self.entry(visible.vectors), self.mask.expand(hidden.tokens, -1)])
        vectors = entering[order] + self.positions(chained.positions)
        return self.exit(self.transformer(vectors, chained).vectors[places])


def _alone(layout: Layout) -> Layout:
    """The layout with every segment a sample, and nothing but positions: all the decoder reads."""
    return Layout(layout.lengths, layout.offsets, layout.segments, layout.positions)


class MaskedAutoencoder(Objective):
    """Hide a large share of a stream's tokens and rebuild their values (MAE; VideoMAE with tubes).

    The visible tokens alone go through the encoder, stem included, so that nothing hidden can leak
    whatever the stem looks at. A light decoder puts a learned token at each hidden position. The
    loss of a hidden token is the mean over its values, and each hidden token is one count. For any
    stream with values: patches, tubelets, spectrogram frames, node features.

    Args:
        info: the streams.
        stream: whose values are hidden.
        hide: which tokens, 75 % of them at random unless given; one always stays visible.
        normalize_targets: rebuild each token's values less their mean, over their deviation.
        distance: between predicted and true values.
        decode: share of the hidden tokens that are rebuilt; below 1 the decoder costs less.
        decoder_width: half the encoder's unless given; 512 in the paper.
        decoder_depth: how many blocks; 8 in the paper.
        decoder_heads: of attention; one for each 32 of width unless given.

    Raises:
        ValueError: a share out of range, or a stream without values or that can't be hidden so.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        hide: Hiding | None = None,
        normalize_targets: bool = True,
        distance: Distance = "mse",
        decode: float = 1.0,
        decoder_width: int | None = None,
        decoder_depth: int = 2,
        decoder_heads: int | None = None,
    ):
        super().__init__()
        self.context = Context.of(info, "masking.mae", stream, [], None, None)
        spec = info[stream].spec
        Need(values=True).check(info, stream)
        if normalize_targets and spec.features < 2:
            raise ValueError("normalize_targets needs two values a token or more; set it to false")
        if not 0 < decode <= 1:
            raise ValueError(f"decode must be above 0 and at most 1, got {decode}")
        self.stream = stream
        self.spec = spec
        self.hide = hide or RandomTokens(0.75)
        self.hide.need().check(info, stream)
        self.hide.bind(info[stream])
        self.normalize_targets = normalize_targets
        self.distance: Distance = distance
        self.decode = decode
        width = max(info[stream].width // 2, 32) if decoder_width is None else decoder_width
        if decoder_heads is None:
            decoder_heads = max(width // 32, 1) if width % 32 == 0 else 1
        self.decoder = Decoder(
            info[stream].width,
            width=width,
            depth=decoder_depth,
            heads=decoder_heads,
            features=spec.features,
            axes=spec.axes,
        )

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with values."""
        return {self.stream: Need(values=True)}

    def fields(self) -> tuple[str, ...]:
        """Return the fields by which tokens are chosen."""
        return self.hide.fields()

    def _choose(self, step: Step) -> Choice:
        hidden = self.context.hidden(step, self.hide, None, spec=self.spec, leave=1)
        # What is chosen but does not count stays as it is: the encoder sees it.
        return hidden.settled().choice

    def _decoded(self, counts: tuple[int, ...]) -> list[int]:
        return [min(max(round(self.decode * count), 1), count) for count in counts]

    def forward(self, step: Step) -> Loss:
        """Return the loss over hidden tokens."""
        tokens = step.tokens(self.stream)
        choice = self._choose(step)
        seen = step.encode_tokens(self.stream, tokens.keep(choice.visible, choice.visible_lengths))
        hidden = tokens.keep(choice.hidden, choice.hidden_lengths)
        if self.decode < 1:
            noise = self.context.noise(step, "decode", None)[choice.hidden]
            some = choose(noise, hidden.layout, self._decoded(choice.hidden_lengths))
            hidden = hidden.keep(some.hidden, some.hidden_lengths)
        assert hidden.values is not None
        target = normalized(hidden.values) if self.normalize_targets else hidden.values
        predicted = self.decoder(seen, hidden.layout)
        total = patch_loss(predicted, target, self.distance).sum()
        return Loss(total, hidden.layout.tokens)

    def count(self, step: Step) -> int:
        """Return how many hidden tokens will be rebuilt."""
        return sum(self._decoded(self._choose(step).hidden_lengths))
