"""A transformer that learns its tokens by merging bases (MergeDNA: Li et al., 2025)."""

from dataclasses import replace
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal import (
    NO_TAPS,
    Encoded,
    FromRun,
    Merger,
    MergingEncoder,
    Stem,
    Taps,
    Tokens,
    TokenSpec,
    Transformer,
    adjacent_pairs,
    bipartite_pairs,
    closest_pairs,
    planned,
    rejoined,
    unit,
    window_targets,
    windows,
)

PairChoice = Literal["adjacent", "window"]

SPREAD = 0.05  # of the share kept in training: the paper gives its bounds alone
SCALE = 4.0  # of cosines before the sigmoid that weighs a merge


class MergingTransformer(MergingEncoder):
    """A local encoder that merges bases into words, and a latent encoder that reads the words.

    `embed` is the local encoder (section 3.2): blocks of attention within windows, each followed by
    merging the most similar tokens of every window, compared by a learned projection. Its vectors
    are the words', and `source` says which bases went to which. `contextualize` is the latent
    encoder (section 3.3): blocks of full attention. With a `keep` below 1 it merges words as ToMe
    does, after each block some, compared by the vectors it puts out (ToMe: by its keys, which the
    transformer does not show).

    Blocks are LLaMA's (rotary positions, SwiGLU, normalised before), but with LayerNorm and biases.
    The position of a word is that of its first base, so that distances are those of bases.

    Args:
        spec: what the tokens are like.
        width: of vectors; 1024 in the paper.
        local_depth: blocks of the local encoder.
        depth: blocks of the latent encoder.
        heads: of attention; one for each 64 of width unless given.
        mlp_ratio: hidden width of the perceptrons, in widths, before SwiGLU's two thirds.
        window: tokens the local encoder sees at once, and merges among.
        keep: share of the tokens left after the local encoder.
        vary: in training the share is drawn anew in each pass, normally around `keep`, and kept
            within this of it; a batch has one share.
        pairs: "adjacent" merges neighbours alone, so that words are runs of bases; "window" any two
            tokens of a window.
        soft_merge: a word's parts are weighted by how alike they are, so that the projection learns
            what to merge; without, there is no projection and vectors are compared themselves.
        dropout: of attention weights and branches.
        drop_path: share of segments that skip a branch, at the last block of the latent encoder.
        gradient_checkpointing: work blocks out again in the backward pass, to save memory.

    Raises:
        ValueError: tokens with more than one position axis, a window or share out of range, or
            fewer local blocks than it takes to merge so many tokens, each by half at most.
    """

    def __init__(
        self,
        spec: FromRun[TokenSpec],
        *,
        width: int,
        local_depth: int = 4,
        depth: int = 20,
        heads: int | None = None,
        mlp_ratio: float = 4.0,
        window: int = 16,
        keep: float = 0.5,
        vary: float = 0.1,
        pairs: PairChoice = "adjacent",
        soft_merge: bool = True,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        if spec.axes != 1:
            raise ValueError(f"bases are merged along one axis, but positions have {spec.axes}")
        if pairs not in get_args(PairChoice):
            raise ValueError(f"pairs must be adjacent or window, got {pairs!r}")
        if window < 1:
            raise ValueError(f"window must be 1 or more, got {window}")
        if vary < 0 or not 0 < keep - vary <= keep + vary <= 1 + vary:
            raise ValueError(f"keep less vary must be above 0, and keep at most 1: {keep}, {vary}")
        if (keep - vary) * 2**local_depth < 1:
            raise ValueError(
                f"local_depth must allow for a share of {keep - vary:g}: a block merges half of "
                f"its tokens at most, so {local_depth} leave {0.5**local_depth:g}"
            )
        self.width = width
        self.window = window
        self.keep = keep
        self.vary = vary
        self.pairs = adjacent_pairs if pairs == "adjacent" else closest_pairs
        self.soft_merge = soft_merge
        self.stem = Stem(spec, width, "none")

        def transformer(depth: int, drop_path: float) -> Transformer:
            return Transformer(
                width=width,
                depth=depth,
                heads=heads or max(1, width // 64),
                mlp_ratio=mlp_ratio,
                activation="swiglu",
                rotary_axes=1,
                dropout=dropout,
                drop_path=drop_path,
                gradient_checkpointing=gradient_checkpointing,
            )

        self.local = transformer(local_depth, 0.0)
        self.latent = transformer(depth, drop_path)
        self.grouping = nn.ModuleList(
            nn.Linear(width, max(width // 4, 8), bias=False)
            for _ in range(local_depth if soft_merge else 0)
        )

    def _share(self) -> float:
        """The share of tokens to keep: in training another one each time (section 3.2)."""
        if not self.training or not self.vary:
            return self.keep
        drawn = float(torch.randn(())) * min(SPREAD, self.vary)
        return min(self.keep + min(max(drawn, -self.vary), self.vary), 1.0)

    def _features(self, number: int, vectors: Tensor) -> Float[Tensor, "token feature"]:
        return unit(self.grouping[number](vectors) if self.soft_merge else vectors)

    def embed(self, tokens: Tokens) -> Encoded:
        """Return the words' vectors, and in `source` the word each base went to."""
        cut = windows(tokens.layout, self.window)
        targets = window_targets(cut, self._share())
        merger = Merger(
            cut,
            planned(cut.lengths, targets, steps=len(self.local.blocks)),
            self._features,
            pairs=self.pairs,
            scale=SCALE if self.soft_merge else None,
        )
        seen = self.local(self.stem(tokens), cut, between=merger)
        layout = rejoined(seen.layout, tokens.layout)
        return replace(Encoded.mean_pooled(layout, seen.vectors), source=merger.source)

    def contextualize(
        self, encoded: Encoded, *, taps: Taps = NO_TAPS, keep: float = 1.0
    ) -> Encoded:
        """Return the latent encoder's vectors, pooled by their mean.

        Raises:
            ValueError: a tap this encoder does not have, or any with a `keep` below 1.
        """
        layout, source = encoded.layout, encoded.source
        if keep == 1:
            seen = self.latent(encoded.vectors, layout, taps=taps)
            found = Encoded.mean_pooled(layout, seen.vectors)
            return replace(found, source=source, hidden=seen.hidden, attention=seen.attention)
        if taps != NO_TAPS:
            raise ValueError("blocks that merge tokens have no rows in common to tap")
        targets = [max(int(keep * length + 0.5), 1) for length in layout.lengths]
        merger = Merger(
            layout,
            planned(layout.lengths, targets, steps=len(self.latent.blocks)),
            lambda _, vectors: unit(vectors),
            pairs=bipartite_pairs,
            sizes=None if source is None else torch.bincount(source, minlength=layout.tokens),
        )
        seen = self.latent(encoded.vectors, layout, between=merger)
        found = Encoded.mean_pooled(seen.layout, seen.vectors)
        return replace(found, source=merger.source if source is None else merger.source[source])

    def unembed(
        self, vectors: Float[Tensor, "row width"]
    ) -> Float[Tensor, "row vocabulary"] | None:
        """Return scores over the vocabulary by the table of ids; None for streams of values."""
        if isinstance(self.stem.tokens, nn.Embedding):
            return F.linear(vectors, self.stem.tokens.weight)
        return None

    def embedding(self, ids: Int[Tensor, " row"]) -> Float[Tensor, "row width"]:
        """Return the bare vectors of ids.

        Raises:
            ValueError: the stream has values, not ids.
        """
        if not isinstance(self.stem.tokens, nn.Embedding):
            return super().embedding(ids)
        return self.stem.tokens(ids)

    def layers(self) -> list[nn.Module]:
        """Return the stem and the blocks, local ones first."""
        return [self.stem, *self.local.blocks, *self.latent.blocks]
