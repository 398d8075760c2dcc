"""Rebuilding merged tokens, and masking what merges least (MergeDNA: Li et al., 2025)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from polymodal import (
    Encoded,
    FromRun,
    Layout,
    Loss,
    MergingEncoder,
    Model,
    Need,
    Objective,
    Step,
    StreamInfo,
    StreamName,
    Tokens,
    Transformer,
    choose,
    hideable,
    windows,
)

Normalization = Literal["bases", "tokens"]


def token_chances(group: Int[Tensor, " token"], layout: Layout) -> Float[Tensor, " token"]:
    """Return the chance of each token to be hidden first: 1 / g^2 in a group of g (eq. 7).

    Groups are numbered over the whole batch and lie within a segment, whose chances sum to 1.
    """
    size = torch.bincount(group)[group].float()
    chance = 1 / size.square()
    total = chance.new_zeros(layout.segments).index_add(0, layout.segment, chance)
    return chance / total[layout.segment]


class MergedDecoder(nn.Module):
    """Rebuilds ids from the vectors of merged tokens: the latent decoder, then the local one.

    Every token's vector goes back to all the bases it is made of. A learned vector tells how far
    a base is from the first of its token: the vectors of its bases are the same otherwise, and in a
    repeat those of their neighbours too.

    Args:
        width: of the vectors.
        vocabulary: ids to score.
        latent_depth: blocks over the merged tokens.
        local_depth: blocks over bases, in windows.
        heads: of attention.
        window: bases the local decoder sees at once.
    """

    def __init__(
        self,
        width: int,
        vocabulary: int,
        *,
        latent_depth: int,
        local_depth: int,
        heads: int,
        window: int,
    ):
        super().__init__()

        def transformer(depth: int) -> Transformer:
            return Transformer(
                width=width, depth=depth, heads=heads, activation="swiglu", rotary_axes=1
            )

        self.window = window
        self.latent = transformer(latent_depth)
        self.place = nn.Embedding(window, width)
        nn.init.trunc_normal_(self.place.weight, std=0.02)
        self.local = transformer(local_depth)
        self.exit = nn.Linear(width, vocabulary)
        nn.init.trunc_normal_(self.exit.weight, std=0.02)
        nn.init.zeros_(self.exit.bias)

    def forward(
        self, merged: Encoded, bases: Layout, rows: Int[Tensor, " scored"] | None = None
    ) -> Float[Tensor, "scored vocabulary"]:
        """Return scores over ids for these bases, all of them unless given."""
        assert merged.source is not None
        decoded = self.latent(merged.vectors, merged.layout).vectors
        first = merged.layout.positions[merged.source]
        place = (bases.positions - first)[:, 0].long().clamp(0, self.window - 1)
        vectors = decoded.index_select(0, merged.source) + self.place(place)
        vectors = self.local(vectors, windows(bases, self.window)).vectors
        return self.exit(vectors if rows is None else vectors[rows])


class MergedReconstruction(Objective):
    """Rebuild ids from merged tokens, in three passes of one encoder and decoder (section 3.4).

    1. Reconstruction: the encoder merges the tokens, and every id is rebuilt (eq. 6).
    2. Latent reconstruction: the same merged tokens, detached, are merged further in the trunk, and
       every id is rebuilt, so that the trunk learns and not what merged the tokens.
    3. Masking: as many merged tokens as pass 2 left are hidden, drawn without replacement, those of
       small groups first (`token_chances`): what merges least tells most. All their ids become the
       mask, the whole model runs without merging in the trunk, and the hidden ids are predicted
       (eq. 7). The encoder merges what it sees now anew: pass 1 says what is hidden, not how the
       corrupted tokens merge.

    A pass of weight 0 is not made. For streams with ids whose encoder merges tokens
    (`genome.merging`). Each token that is not special is one count; the masked loss is its
    segment's mean over hidden ids, which counts for all of the segment, so that the total is that
    of equation 8 for sequences of one length.

    Args:
        info: the streams.
        stream: whose ids are rebuilt.
        reconstruction: weight of pass 1.
        latent: weight of pass 2.
        masked: weight of pass 3.
        keep: share of the merged tokens left in pass 2, and hidden in pass 3.
        masked_over: "bases" takes the mean over hidden ids, "tokens" divides their sum by the
            number of hidden tokens, as equation 7 is written.
        window: tokens the local decoder sees at once.
        latent_depth: blocks of the decoder over merged tokens.
        local_depth: blocks of the decoder over all tokens.
        heads: of the decoder; one for each 64 of width unless given.

    Raises:
        ValueError: a stream without ids or mask, a negative weight or none above 0, a share out of
            range, or an encoder that does not merge tokens.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        reconstruction: float = 1.0,
        latent: float = 0.25,
        masked: float = 1.0,
        keep: float = 0.5,
        masked_over: Normalization = "bases",
        window: int = 16,
        latent_depth: int = 4,
        local_depth: int = 2,
        heads: int | None = None,
    ):
        super().__init__()
        self.weights = {"reconstruction": reconstruction, "latent": latent, "masked": masked}
        self._need().check(info, stream)
        if min(self.weights.values()) < 0 or not any(self.weights.values()):
            raise ValueError(
                f"reconstruction, latent and masked are weights, one above 0, got {self.weights}"
            )
        if not 0 < keep < 1:
            raise ValueError(f"keep must lie between 0 and 1, got {keep}")
        if window < 1:
            raise ValueError(f"window must be 1 or more, got {window}")
        self.stream = stream
        self.keep = keep
        self.masked_over = masked_over
        self.spec = info[stream].spec
        width = info[stream].width
        self.decoder = MergedDecoder(
            width,
            self.spec.vocabulary,
            latent_depth=latent_depth,
            local_depth=local_depth,
            heads=heads or max(1, width // 64),
            window=window,
        )

    def _need(self) -> Need:
        return Need(ids=True, axes=1, special=("mask",) if self.weights["masked"] else ())

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with ids on one axis and a mask."""
        return {self.stream: self._need()}

    def attach(self, model: Model) -> None:
        """Refuse an encoder that does not merge tokens."""
        self._encoder(model)

    def _encoder(self, model: Model) -> MergingEncoder:
        encoder = model.encoder(self.stream)
        if not isinstance(encoder, MergingEncoder):
            raise ValueError(
                f"stream {self.stream!r} needs an encoder that merges tokens, such as "
                f"genome.merging; {type(encoder).__name__} does not"
            )
        return encoder

    def forward(self, step: Step) -> Loss:
        """Return the loss of all passes over tokens that are not special."""
        tokens = step.tokens(self.stream)
        encoder = self._encoder(step.model)
        assert tokens.ids is not None
        counted = self._counted(tokens)
        count = counted.sum()
        terms: dict[str, Tensor] = {}
        metrics: dict[str, tuple[Tensor, Tensor]] = {}

        words = encoder.embed(tokens)
        if self.weights["reconstruction"]:
            scores = self.decoder(encoder.contextualize(words), tokens.layout)
            terms["reconstruction"] = _errors(scores, tokens.ids, counted).sum()
            right = (scores.argmax(dim=1) == tokens.ids) & counted
            metrics["rebuilt"] = (right.sum(), count)
        if self.weights["latent"] or self.weights["masked"]:
            given = replace(words, vectors=words.vectors.detach(), pooled=words.pooled.detach())
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.weights["latent"] > 0):
                groups = encoder.contextualize(given, keep=self.keep)
        if self.weights["latent"]:
            # U(Z'_K, S'): merged words get their group's vector.
            group = self.groups(words, groups)
            spread = replace(words, vectors=groups.vectors.index_select(0, group))
            terms["latent"] = _errors(
                self.decoder(spread, tokens.layout), tokens.ids, counted
            ).sum()
        if self.weights["masked"]:
            hidden, tokens_hidden = self.hidden(step, words, groups)
            rows = (hidden & counted).nonzero()[:, 0]
            scores = self.predict(encoder, tokens, rows)
            errors = _errors(scores, tokens.ids[rows])
            terms["masked"] = self._by_segment(errors, rows, tokens.layout, counted, tokens_hidden)
            right = scores.argmax(dim=1) == tokens.ids[rows]
            metrics["accuracy"] = (right.sum(), torch.tensor(len(rows)))
            metrics["hidden"] = (torch.tensor(len(rows)), count)
        total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        metrics |= {name: (term.detach(), count) for name, term in terms.items()}
        return Loss(total, count, metrics)

    def groups(self, words: Encoded, groups: Encoded) -> Int[Tensor, " word"]:
        """Return the group each word went to: S', from the maps of the tokens to both."""
        assert words.source is not None and groups.source is not None
        group = words.source.new_zeros(words.layout.tokens)
        return group.index_copy(0, words.source, groups.source)

    def hidden(
        self, step: Step, words: Encoded, groups: Encoded
    ) -> tuple[Bool[Tensor, " token"], Int[Tensor, " segment"]]:
        """Return which tokens to hide, all of a word's or none, and how many words of each segment.

        As many words as there are groups, drawn one after another by `token_chances`: those with
        the shortest waiting times at these rates.
        """
        assert words.source is not None
        chances = token_chances(self.groups(words, groups), words.layout)
        noise = step.uniform(f"merged/{self.stream}", Tokens(words.layout, values=words.vectors))
        waits = -torch.log1p(-noise) / chances
        choice = choose(waits, words.layout, groups.layout.lengths)
        chosen = torch.zeros(words.layout.tokens, dtype=torch.bool, device=noise.device)
        chosen[choice.hidden] = True
        return chosen[words.source], groups.layout.offsets.diff()

    def predict(
        self, encoder: MergingEncoder, tokens: Tokens, rows: Int[Tensor, " hidden"]
    ) -> Float[Tensor, "hidden vocabulary"]:
        """Return scores over ids for these rows, from tokens in which they are masked."""
        assert tokens.ids is not None
        ids = tokens.ids.index_fill(0, rows, self.spec.special["mask"])
        return self.decoder(encoder(tokens.with_rows(ids)), tokens.layout, rows)

    def count(self, step: Step) -> Tensor:
        """Return how many tokens are not special."""
        return self._counted(step.tokens(self.stream)).sum()

    def _counted(self, tokens: Tokens) -> Bool[Tensor, " token"]:
        allowed = hideable(tokens, self.spec)
        if allowed is None:
            return torch.ones(tokens.layout.tokens, dtype=torch.bool, device=tokens.layout.device)
        return allowed

    def _by_segment(
        self,
        errors: Float[Tensor, " hidden"],
        rows: Int[Tensor, " hidden"],
        layout: Layout,
        counted: Bool[Tensor, " token"],
        words: Int[Tensor, " segment"],
    ) -> Float[Tensor, ""]:
        """Return each segment's mean error, as many times as it has tokens that count."""
        segment = layout.segment[rows]
        if self.masked_over == "bases":
            words = torch.bincount(segment, minlength=layout.segments)
        size = torch.bincount(layout.segment[counted], minlength=layout.segments)
        return (errors * (size / words.clamp(min=1))[segment]).sum()


def _errors(
    scores: Float[Tensor, "row vocabulary"],
    ids: Int[Tensor, " row"],
    counted: Bool[Tensor, " row"] | None = None,
) -> Float[Tensor, " row"]:
    """Return each row's cross-entropy in float32, 0 where it does not count."""
    each = F.cross_entropy(scores.float(), ids, reduction="none")
    return each if counted is None else each.masked_fill(~counted, 0)
