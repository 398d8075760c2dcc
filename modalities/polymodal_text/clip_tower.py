"""The text tower of an open_clip model over packed tokens."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polymodal import (
    NO_TAPS,
    DataError,
    Encoded,
    Encoder,
    FromRun,
    Layout,
    Taps,
    Tokens,
    TokenSpec,
    contained,
    nearest,
)
from polymodal_text.clip_tokenizer import model_config
from polymodal_text.hub import one_line

with contained("TOKENIZERS_PARALLELISM"):  # open_clip turns it off for every tokenizer
    import open_clip
    from open_clip.factory import load_state_dict
    from open_clip.transformer import TextTransformer


def _tower(model: str, pretrained: str | None) -> TextTransformer:
    """Build the tower alone, or take it out of a trained model."""
    config = model_config(model)
    text: dict[str, Any] = config.get("text_cfg", {})
    if text.get("hf_model_name"):
        raise ValueError(
            f"the text tower of {model!r} is the Hugging Face model {text['hf_model_name']!r}, "
            "not one of open_clip's own. Choose a model whose text_cfg has no hf_model_name"
        )
    tag: dict[str, Any] = {}
    if pretrained is not None and not Path(pretrained).is_file():
        tags = open_clip.list_pretrained_tags_by_model(model)
        if pretrained not in tags:
            raise ValueError(
                f"pretrained must be a file or a tag of {model}, got {pretrained!r}."
                f"{nearest(pretrained, tags)}"
            )
        tag = open_clip.get_pretrained_cfg(model, pretrained)
    # The towers' shared builder; create_model would build the visual tower as well. The activation
    # is the one the weights were trained with, where the tag and the name disagree.
    quick = config.get("quick_gelu", False) or tag.get("quick_gelu", False)
    tower: TextTransformer = open_clip.model._build_text_tower(config["embed_dim"], text, quick)
    if pretrained is not None:
        try:
            path = open_clip.download_pretrained(tag) if tag else pretrained
            tower.load_state_dict(_text_weights(load_state_dict(path)))
        except Exception as error:  # files of any kind, and the network
            raise DataError(
                f"the weights {pretrained!r} can't be loaded into {model}: {one_line(error)}"
            ) from error
    return tower


_TEXT_NAMES = (
    "text_projection", "positional_embedding", "token_embedding.", "transformer.", "ln_final.",
)  # fmt: skip


def _text_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the text tower's part of a whole model's weights, in either of their two forms."""
    custom = {
        name.removeprefix("text."): each
        for name, each in weights.items()
        if name.startswith("text.")
    }
    return custom or {k: each for k, each in weights.items() if k.startswith(_TEXT_NAMES)}


class _Stem(nn.Module):
    """A vector for each id, plus one for its place."""

    def __init__(self, tower: TextTransformer):
        super().__init__()
        self.table = tower.token_embedding
        self.places = tower.positional_embedding  # place width
        self.class_vector = tower.cls_emb  # CoCa's class token, or None

    def forward(self, ids: Int[Tensor, " token"], place: Int[Tensor, " token"]) -> Tensor:
        vectors: Tensor = self.table(ids) + self.places[place]
        return vectors


class _Head(nn.Module):
    """The last norm, and the projection into the space shared with images."""

    def __init__(self, tower: TextTransformer, *, project: bool):
        super().__init__()
        self.norm = tower.ln_final
        self.projection = tower.text_projection if project else None

    def forward(self, vectors: Float[Tensor, "row width"]) -> Float[Tensor, "row out"]:
        vectors = self.norm(vectors)
        if self.projection is None:
            return vectors
        if isinstance(self.projection, nn.Linear):
            projected: Tensor = self.projection(vectors)
            return projected
        return vectors @ self.projection


class ClipTextTower(Encoder):
    """The text tower of any open_clip model with a transformer of open_clip's own.

    Use it with the tokenizer `text.open_clip` of the same model. `pooled` is the library's
    `encode_text` (not normalised): the end token's vector, the first, the last place of the context
    or a class token, as the model was trained. A segment's end token is taken to be its last.

    Args:
        spec: what its tokens are like.
        model: the name of an open_clip model, or `local-dir:FOLDER`.
        pretrained: a tag that open_clip knows for the model (fetched from the hub), or a file.
        project: map tokens and pooled into the space shared with images; without, vectors keep
            the tower's own width, as under the library's `output_tokens`.
        gradient_checkpointing: trade a second forward pass for memory.

    Raises:
        ValueError: an unknown model or tag, a tower that is not open_clip's, tokens it has no
            vocabulary or place for.
        DataError: weights that can't be loaded.
    """

    def __init__(
        self,
        spec: FromRun[TokenSpec],
        *,
        model: str = "ViT-B-32",
        pretrained: str | None = None,
        project: bool = True,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        tower = _tower(model, pretrained)
        if not 0 < spec.vocabulary <= tower.vocab_size:
            raise ValueError(
                f"{model} has {tower.vocab_size} token ids, but the tokenizer has "
                f"{spec.vocabulary or 'none'}. Use the tokenizer text.open_clip with "
                f"model: {model}"
            )
        if spec.max_tokens is None or spec.max_tokens > tower.context_length:
            raise ValueError(
                f"{model} takes {tower.context_length} tokens, but the tokenizer gives up to "
                f"{spec.max_tokens or 'any number'}. Set its max_tokens"
            )
        self.stem = _Stem(tower)
        self.blocks = tower.transformer.resblocks
        self.head = _Head(tower, project=project)
        projected = project and tower.text_projection is not None
        self.width = tower.output_dim if projected else tower.width
        self.pool = "class" if tower.cls_emb is not None else tower.pool_type
        self.heads = tower.heads
        self.context_length = tower.context_length
        self.causal = tower.attn_mask is not None
        self.class_mask_is_right = tower.correct_cls_mask
        self.pad = spec.special.get("pad", 0)
        self.gradient_checkpointing = gradient_checkpointing

    def embed(self, tokens: Tokens) -> Encoded:
        """Return the vectors of ids and places, of the tower's own width."""
        assert tokens.ids is not None
        vectors = self.stem(tokens.ids, tokens.layout.positions[:, 0])
        return Encoded.mean_pooled(tokens.layout, vectors)

    def contextualize(self, encoded: Encoded, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return the tower's vectors, and its text features as `pooled`.

        Raises:
            ValueError: attention maps are asked for, or a block that is not there.
        """
        if taps.attention:
            raise ValueError("an open_clip tower gives no attention maps")
        wanted = {tap: tap % len(self.blocks) for tap in taps.hidden}
        if any(not -len(self.blocks) <= tap < len(self.blocks) for tap in wanted):
            raise ValueError(f"taps must be among {len(self.blocks)} blocks, got {taps.hidden}")
        # Empty segments would attend to nothing. With none left, one row of zeros runs instead, so
        # that every rank makes the same passes.
        layout = encoded.layout
        used = [s for s, length in enumerate(layout.lengths) if length]
        short = Layout.of([layout.lengths[s] for s in used] or [0]).to(layout.device)
        rectangle, mask = self._rectangle(encoded.vectors, short)
        hidden: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks):
            if self.gradient_checkpointing and self.training:
                rectangle = checkpoint(block, rectangle, None, None, mask, use_reentrant=False)
            else:
                rectangle = block(rectangle, attn_mask=mask)
            if number in wanted.values():
                hidden[number] = self._packed(rectangle, short)
        features = self._features(rectangle, short)[: len(used)]
        index = torch.tensor(used, dtype=torch.int64, device=layout.device)
        pooled = features.new_zeros(layout.segments, self.width).index_copy(0, index, features)
        return Encoded(
            layout,
            self.head(self._packed(rectangle, short)),
            pooled,
            hidden={tap: hidden[number] for tap, number in wanted.items()},
        )

    def _rectangle(self, vectors: Tensor, layout: Layout) -> tuple[Tensor, Tensor | None]:
        """Pad as the library does, as far as it matters, and return the mask to add."""
        mask = None
        rectangle = _widened(layout.pad(vectors), max(layout.longest, 1))
        # Behind causal attention no token sees the padding; else it is part of what was trained.
        if not self.causal or self.pool in ("last", "class"):
            places = self.context_length
            filled = _widened(layout.filled, places)
            place = torch.arange(places, device=vectors.device)
            padding = self.stem(torch.full_like(place, self.pad), place)
            content = _widened(rectangle, places)
            rectangle = torch.where(filled[..., None], content, padding.to(content.dtype))
        if self.stem.class_vector is not None:
            one = self.stem.class_vector + self.stem.places[places]
            rows = one.to(rectangle.dtype).expand(len(rectangle), 1, -1)
            rectangle = torch.cat([rectangle, rows], dim=1)
            seen = filled.new_ones(len(filled), 1)
            # Published CoCa weights were trained with the mask shifted by one.
            order = [filled, seen] if self.class_mask_is_right else [seen, filled]
            hidden = ~torch.cat(order, dim=1)[:, None].expand(-1, places + 1, -1)
            mask = rectangle.new_zeros(hidden.shape).masked_fill(hidden, float("-inf"))
            mask = mask.repeat_interleave(self.heads, dim=0)
        if self.causal:
            size = rectangle.shape[1]
            future = torch.full((size, size), float("-inf"), device=vectors.device).triu(1)
            future = future.to(rectangle.dtype)
            mask = future if mask is None else mask + future
        return rectangle, mask

    def _packed(self, rectangle: Tensor, layout: Layout) -> Tensor:
        return layout.unpad(rectangle[:, : layout.longest])

    def _features(self, rectangle: Tensor, layout: Layout) -> Tensor:
        if self.pool in ("last", "class"):
            rows = rectangle[:, -1]
        elif self.pool == "first":
            rows = rectangle[:, 0]
        else:
            last = (layout.offsets.diff() - 1).clamp(min=0)
            rows = rectangle[torch.arange(len(rectangle), device=last.device), last]
        features: Tensor = self.head(rows)
        return features

    def unembed(
        self, vectors: Float[Tensor, "row width"]
    ) -> Float[Tensor, "row vocabulary"] | None:
        """Return scores over the vocabulary by the stem's table; None where widths differ."""
        table = self.stem.table.weight
        return vectors @ table.T if table.shape[1] == self.width else None

    def embedding(self, ids: Int[Tensor, " row"]) -> Float[Tensor, "row width"]:
        """Return the stem's bare vectors of ids, without place."""
        vectors: Tensor = self.stem.table(ids)
        return vectors

    def no_weight_decay(self) -> frozenset[str]:
        """Return positions and class vector, which open_clip's `no_weight_decay` names.

        Its training script heeds that with timm's optimizers; its own AdamW lets positions decay.
        """
        return frozenset({"stem.places", "stem.class_vector"})

    def layers(self) -> list[nn.Module]:
        """Return stem, blocks and head."""
        return [self.stem, *self.blocks, self.head]


def _widened(rectangle: Shaped[Tensor, "segment longest *rest"], places: int) -> Tensor:
    missing = places - rectangle.shape[1]
    if not missing:
        return rectangle
    room = rectangle.new_zeros(rectangle.shape[0], missing, *rectangle.shape[2:])
    return torch.cat([rectangle, room], dim=1)
