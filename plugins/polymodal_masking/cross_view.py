"""Cross-view completion: fill in a view of a scene from another (Weinzaepfel et al., 2022)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal import (
    EPSILON,
    NO_TAPS,
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
    Taps,
    Tokens,
    Transformed,
    Transformer,
    join_layouts,
    nearest,
)
from polymodal_hiding import RandomTokens
from polymodal_masking.context import Context
from polymodal_targets import Distance, normalized, patch_loss

DecoderPositions = Literal["sinusoidal", "rotary"]
Scored = Literal["hidden", "all"]


class CrossDecoder(nn.Module):
    """Blocks over one view's tokens that read another view of each sample by cross-attention.

    The view read is the same in every block (CroCo, section 3.1).

    Args:
        source_width: of the encoder's vectors, for both views.
        width: of the decoder's own.
        depth: how many blocks.
        heads: of attention.
        axes: columns of `Layout.positions`, of both views.
        positions: "sinusoidal", added to the tokens of both views, or "rotary", which turns
            queries and keys of both kinds of attention (CroCo v2).
    """

    def __init__(
        self,
        source_width: int,
        *,
        width: int,
        depth: int,
        heads: int,
        axes: int,
        positions: DecoderPositions = "sinusoidal",
    ):
        super().__init__()
        rotary = positions == "rotary"
        self.width = width
        self.entry = nn.Linear(source_width, width)
        self.positions = Positions(width, axes, kind="none" if rotary else "sinusoidal")
        # The paper has one in each block, but its gain and bias are part of what the block's own
        # keys and values can be: one serves all.
        self.reference_norm = nn.LayerNorm(width, eps=EPSILON)
        self.transformer = Transformer(
            width=width, depth=depth, heads=heads, cross_width=width,
            rotary_axes=axes if rotary else 0, cross_rotary=rotary,
        )  # fmt: skip

    def forward(
        self,
        vectors: Float[Tensor, "token width"],
        layout: Layout,
        reference: Encoded,
        *,
        taps: Taps = NO_TAPS,
    ) -> Transformed:
        """Return vectors for the view's tokens, and what was tapped.

        Args:
            vectors: the view's tokens, brought to the decoder's width by `entry`.
            layout: of these, a segment a sample.
            reference: the other view as the encoder gives it; all segments of a sample are read.
            taps: blocks of the decoder.
        """
        if reference.layout.owner is not None:
            reference = Encoded.join([reference])[0]
        read = self._placed(self.entry(reference.vectors), reference.layout)
        memory = Encoded.mean_pooled(reference.layout, self.reference_norm(read))
        return self.transformer(self._placed(vectors, layout), layout, memory=memory, taps=taps)

    def _placed(self, vectors: Tensor, layout: Layout) -> Tensor:
        if self.positions.kind == "none":
            return vectors
        return vectors + self.positions(layout.positions)


def cross_decoder(
    info: Mapping[str, StreamInfo],
    view: str,
    reference: str,
    *,
    width: int | None = None,
    depth: int = 2,
    heads: int | None = None,
    positions: DecoderPositions = "sinusoidal",
) -> CrossDecoder:
    """Return a decoder of one stream that reads another.

    Args:
        info: the streams.
        view: the stream decoded.
        reference: the stream read.
        width: half the encoder's unless given.
        depth: how many blocks.
        heads: one for each 32 of width unless given.
        positions: see `CrossDecoder`.

    Raises:
        ValueError: a stream that does not exist or is the other, or views of other widths or axes.
    """
    for name in (view, reference):
        if name not in info:
            raise ValueError(f"no stream is called {name!r}.{nearest(name, info)}")
    if view == reference:
        raise ValueError(f"reference must be another stream than {view!r}")
    one, other = info[view], info[reference]
    if (one.width, one.spec.axes) != (other.width, other.spec.axes):
        raise ValueError(
            f"reference must be a stream with vectors and positions as those of {view!r}; let them "
            "share an encoder"
        )
    width = max(one.width // 2, 32) if width is None else width
    if heads is None:
        heads = max(width // 32, 1) if width % 32 == 0 else 1
    return CrossDecoder(
        one.width, width=width, depth=depth, heads=heads, axes=one.spec.axes, positions=positions
    )


@dataclass(frozen=True, eq=False)
class Completed:
    """What the scored tokens of a view are predicted to be."""

    tokens: Tokens  # the view's, of samples with both views
    rows: Int[Tensor, " scored"]  # of these tokens, those scored: hidden ones first
    values: Float[Tensor, "scored feature"]


class CrossView(Objective):
    """Hide most of one view of a scene and fill it in from what is left and from another view.

    The visible tokens go through the encoder alone, those of the other view all of them, as a rule
    through the same encoder. A decoder puts a learned token at each hidden position and reads the
    other view by cross-attention. The loss of a scored token is the mean over its values, and each
    scored token is one count; samples that lack a view cost nothing. What is learned in the decoder
    serves `supervised.binocular`, too (`initialize`).

    Args:
        info: the streams.
        stream: the view whose values are hidden.
        reference: the other view, which stays whole.
        hide: which tokens, 90 % of them at random, rounded down, unless given; one always stays
            visible.
        score: "hidden" tokens, or "all", the visible ones too.
        symmetric: complete the other view from this one as well.
        normalize_targets: rebuild each token's values less their mean, over their deviation.
        distance: between predicted and true values.
        decoder_width: half the encoder's unless given; 512 in the paper.
        decoder_depth: how many blocks; 8 in the paper.
        decoder_heads: of attention; one for each 32 of width unless given, 16 in the paper.
        decoder_positions: "sinusoidal", or "rotary" (CroCo v2).

    Raises:
        ValueError: a share out of range, a stream without values, views that are not alike, or a
            shape their positions can't take.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        reference: StreamName,
        hide: Hiding | None = None,
        score: Scored = "hidden",
        symmetric: bool = False,
        normalize_targets: bool = True,
        distance: Distance = "mse",
        decoder_width: int | None = None,
        decoder_depth: int = 2,
        decoder_heads: int | None = None,
        decoder_positions: DecoderPositions = "sinusoidal",
    ):
        super().__init__()
        self.decoder = cross_decoder(
            info, stream, reference,
            width=decoder_width, depth=decoder_depth, heads=decoder_heads,
            positions=decoder_positions,
        )  # fmt: skip
        self.pairs = {stream: reference, **({reference: stream} if symmetric else {})}
        features = info[stream].spec.features
        for name in self.pairs:
            Need(values=True).check(info, name)
            if info[name].spec.features != features:
                raise ValueError("symmetric needs views whose tokens have equally many values")
        if normalize_targets and features < 2:
            raise ValueError("normalize_targets needs two values a token or more; set it to false")
        self.contexts = {
            name: Context.of(info, "masking.cross_view", name, [], None, None)
            for name in self.pairs
        }
        self.stream = stream
        self.reference = reference
        self.hide = hide or RandomTokens(0.9, rounding="down")
        self.hide.need().check(info, stream)
        self.hide.bind(info[stream])
        self.specs = {name: info[name].spec for name in self.pairs}
        self.score: Scored = score
        self.normalize_targets = normalize_targets
        self.distance: Distance = distance
        self.mask = nn.Parameter(torch.randn(self.decoder.width) * 0.02)
        self.exit = nn.Linear(self.decoder.width, features)

    def needs(self) -> Mapping[str, Need]:
        """Return both views; those completed with values."""
        return {name: Need(values=name in self.pairs) for name in (self.stream, self.reference)}

    def forward(self, step: Step) -> Loss:
        """Return the loss over scored tokens."""
        losses = [self._losses(self.complete(step, view)) for view in self.pairs]
        return Loss(torch.cat(losses).sum(), sum(len(each) for each in losses))

    def _losses(self, found: Completed) -> Float[Tensor, " scored"]:
        target = found.tokens.rows[found.rows]
        if self.normalize_targets:
            target = normalized(target)
        return patch_loss(found.values, target, self.distance)

    def complete(self, step: Step, view: str) -> Completed:
        """Hide most of a view and return what its scored tokens are predicted to be.

        With `normalize_targets` predictions are of each token's values less their mean, over their
        deviation.
        """
        samples = self._samples(step)
        tokens = self.contexts[view].tokens(step, samples)
        choice = self._choose(step, view, samples)
        seen = step.encode_tokens(view, tokens.keep(choice.visible, choice.visible_lengths))
        hidden = tokens.layout.kept(choice.hidden, choice.hidden_lengths)[0]
        reference = step.encode(self.pairs[view])
        if samples is not None:
            reference = reference.take(samples)

        layout, order, (visible_at, hidden_at) = join_layouts([seen.layout, hidden])
        masks = self.mask.expand(hidden.tokens, -1)
        vectors = torch.cat([self.decoder.entry(seen.vectors), masks])[order]
        decoded = self.decoder(vectors, layout, reference).vectors
        at, rows = hidden_at, choice.hidden
        if self.score == "all":
            at = torch.cat([at, visible_at])
            rows = torch.cat([rows, choice.visible])
        return Completed(tokens, rows, self.exit(decoded[at]))

    def _samples(self, step: Step) -> list[int] | None:
        """Return the samples with both views; None for every sample."""
        rows = step.rows_with(self.stream, self.reference)
        return None if len(rows) == step.batch.samples else rows

    def _choose(self, step: Step, view: str, samples: list[int] | None) -> Choice:
        context = self.contexts[view]
        found = context.hidden(step, self.hide, samples, spec=self.specs[view], leave=1)
        return found.settled().choice

    def count(self, step: Step) -> int:
        """Return how many tokens will be scored."""
        samples = self._samples(step)
        total = 0
        for view in self.pairs:
            tokens = self.contexts[view].tokens(step, samples)
            if self.score == "all":
                total += tokens.layout.tokens
            else:
                total += len(self._choose(step, view, samples).hidden)
        return total
