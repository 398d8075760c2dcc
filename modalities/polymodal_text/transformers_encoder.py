"""Any text model of Hugging Face transformers over packed tokens."""

import inspect
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, cast

import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

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
    segment_mean,
)
from polymodal_text.hub import one_line

Pool = Literal["mean", "first", "last", "pooler"]
ROLES = {
    "pad_token_id": "pad", "bos_token_id": "begin", "cls_token_id": "begin",
    "eos_token_id": "end", "sep_token_id": "end",
}  # fmt: skip
APPROXIMATE = ("nystromformer", "yoso", "reformer")  # kinds whose attention takes padding in
POSITION_TABLES = ("position_embeddings", "embed_positions", "wpe")


class TransformersEncoder(Encoder):
    """A text model of Hugging Face transformers: BERT, RoBERTa, ModernBERT, T5, GPT-2, Llama ...

    Of an encoder-decoder the encoder is taken; a decoder is a causal encoder. The stem is the
    table of ids, the trunk everything after it, positions included: they count from each segment's
    start. Inside the trunk segments are padded and masked, so that each has the vectors it has
    alone. Tapped hidden layers are the library's `hidden_states`; the last one comes after the
    final norm, where there is one.

    Args:
        spec: what its tokens are like.
        model: a kind of model such as "bert", a name on the hub, or a local folder.
        pretrained: load the weights of that name or folder; without, weights are random, and there
            are as many ids as the tokenizer has.
        config: settings of the model's config to change, such as `num_hidden_layers`.
        pool: the "mean" of a segment's vectors, its "first" or "last", or what the model's own
            "pooler" makes.
        attention: "eager" where attention maps are tapped; "auto" is quicker.
        gradient_checkpointing: trade a second forward pass for memory.

    Raises:
        ValueError: an unknown model or setting, a model that is no encoder of ids or would mix
            text with padding, tokens it has no vocabulary or places for.
        DataError: weights that can't be loaded, or not all of them.
    """

    def __init__(
        self,
        spec: FromRun[TokenSpec],
        *,
        model: str,
        pretrained: bool = False,
        config: dict[str, Any] | None = None,
        pool: Pool = "mean",
        attention: Literal["auto", "eager"] = "auto",
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        if not spec.vocabulary:
            raise ValueError(f"{model} needs tokens with ids, but the tokenizer makes values")
        settings = _settings(model, config or {}, None if pretrained else spec)
        with contained():  # the library imports its models, and what they need, on demand
            trunk = _built(
                model, settings, pretrained=pretrained, pooler=pool == "pooler", attention=attention
            )
        if settings.is_encoder_decoder:
            trunk = trunk.get_encoder()
        trunk.config.use_cache = False  # nothing is generated
        self.causal = any(getattr(part, "is_causal", False) for part in trunk.modules())
        _refuse_unfit(trunk, model, causal=self.causal, pool=pool)
        self.model = trunk
        self.spec = spec
        self.pool = pool
        self.maps = attention == "eager"
        self.width: int = settings.hidden_size
        self.depth: int = settings.num_hidden_layers
        if spec.vocabulary > self.table.num_embeddings:
            raise ValueError(
                f"{model} has {self.table.num_embeddings} token ids, but the tokenizer has "
                f"{spec.vocabulary}. Use the tokenizer text.transformers with "
                f"model: {model}"
            )
        places = _places(trunk)
        if places is not None and (spec.max_tokens is None or spec.max_tokens > places):
            raise ValueError(
                f"{model} takes {places} tokens, but the tokenizer gives up to "
                f"{spec.max_tokens or 'any number'}. Set its max_tokens"
            )
        if pool != "pooler" and getattr(trunk, "pooler", None) is not None:
            trunk.pooler.requires_grad_(False)  # some models can't be built without
        # No padding passes the table, so that the id it would have is an id like any other.
        self.table.padding_idx = None
        if gradient_checkpointing:
            trunk.gradient_checkpointing_enable({"use_reentrant": False})

    @property
    def table(self) -> nn.Embedding:
        """The model's table of ids."""
        return cast(nn.Embedding, self.model.get_input_embeddings())

    def embed(self, tokens: Tokens) -> Encoded:
        """Return the table's vectors, of its own width."""
        assert tokens.ids is not None
        return Encoded.mean_pooled(tokens.layout, self.table(tokens.ids))

    def contextualize(self, encoded: Encoded, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return the model's last hidden layer, pooled as the options say.

        Raises:
            ValueError: a block that is not there, or attention maps without `attention: eager`.
        """
        wanted = (*taps.hidden, *taps.attention)
        if any(not -self.depth <= tap < self.depth for tap in wanted):
            raise ValueError(f"taps must be among {self.depth} blocks, got {wanted}")
        if taps.attention and not self.maps:
            raise ValueError("to tap attention maps, build the encoder with attention: eager")
        # A segment without tokens would attend to nothing. With none left, one place of zeros runs
        # in their stead, so that every rank makes the same passes.
        layout = encoded.layout
        used = [s for s, length in enumerate(layout.lengths) if length]
        dense = Layout.of([layout.lengths[s] for s in used]).to(layout.device)
        rectangle, filled = dense.pad(encoded.vectors), dense.filled
        if not used:
            rectangle = encoded.vectors.new_zeros(1, 1, encoded.width) + encoded.vectors.sum()
            filled = torch.ones(1, 1, dtype=torch.bool, device=layout.device)
        seen = self.model(
            inputs_embeds=rectangle,
            attention_mask=filled.long(),
            output_hidden_states=bool(taps.hidden),
            output_attentions=bool(taps.attention),
        )

        def packed(rows: Float[Tensor, "used longest width"]) -> Float[Tensor, "token width"]:
            return dense.unpad(rows[: len(used)])

        vectors = packed(seen.last_hidden_state)
        return Encoded(
            layout,
            vectors,
            self._pooled(vectors, layout, used, seen),
            hidden={tap: packed(seen.hidden_states[tap % self.depth + 1]) for tap in taps.hidden},
            attention={tap: _maps(seen.attentions[tap], layout, used) for tap in taps.attention},
        )

    def _pooled(
        self, vectors: Float[Tensor, "token width"], layout: Layout, used: list[int], seen: Any
    ) -> Float[Tensor, "segment width"]:
        if self.pool == "mean":
            return segment_mean(vectors, layout)
        index = torch.tensor(used, dtype=torch.int64).to(layout.device, non_blocking=True)
        if self.pool == "pooler":
            rows = seen.pooler_output[: len(used)]
        elif self.pool == "first":
            rows = vectors[layout.offsets[index]]
        else:
            rows = vectors[layout.offsets[index + 1] - 1]
        return rows.new_zeros(layout.segments, self.width).index_copy(0, index, rows)

    def unembed(
        self, vectors: Float[Tensor, "row width"]
    ) -> Float[Tensor, "row vocabulary"] | None:
        """Return scores over the vocabulary by the table of ids; None where widths differ."""
        table = self.table.weight[: self.spec.vocabulary]  # a model may have more ids than are used
        return vectors @ table.T if table.shape[1] == self.width else None

    def embedding(self, ids: Int[Tensor, " row"]) -> Float[Tensor, "row width"]:
        """Return the table's vectors of ids."""
        vectors: Tensor = self.table(ids)
        return vectors

    def layers(self) -> list[nn.Module]:
        """Return what stands before the blocks, the blocks, and what stands after them."""
        blocks = next(
            (
                part
                for part in self.model.modules()
                if isinstance(part, nn.ModuleList) and len(part) == self.depth
            ),
            None,
        )
        if blocks is None:  # ALBERT's blocks are one, used again and again
            return [self.model]
        before, after = _around(self.model, blocks)
        ends = [nn.ModuleList(part) if part else None for part in (before, after)]
        return [layer for layer in (ends[0], *blocks, ends[1]) if layer is not None]


def _around(model: nn.Module, blocks: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return the largest parts of a model that stand before and after its blocks."""
    before: list[nn.Module] = []
    after: list[nn.Module] = []
    side = before
    for part in model.children():
        if part is blocks:
            side = after
        elif any(inner is blocks for inner in part.modules()):
            inner_before, inner_after = _around(part, blocks)
            before += inner_before
            after += inner_after
            side = after
        else:
            side.append(part)
    return before, after


def _maps(
    maps: Float[Tensor, "used head longest longest"], layout: Layout, used: list[int]
) -> tuple[Float[Tensor, "head query key"], ...]:
    """Return one map a segment, without padding."""
    row = {segment: place for place, segment in enumerate(used)}
    return tuple(
        maps[row.get(segment, 0), :, :length, :length]
        for segment, length in enumerate(layout.lengths)
    )


def _settings(model: str, changes: Mapping[str, Any], spec: TokenSpec | None) -> Any:
    """Return a model's config with these changes; with a spec, for random weights over its ids."""
    kinds = transformers.CONFIG_MAPPING
    # Trained weights have a name; some names, "gpt2" for one, are those of kinds as well.
    of_kind = model in kinds and spec is not None
    # A model's own code is never run: a name in a config, or in a stranger's run, is no consent.
    make = AutoConfig.for_model if of_kind else partial(
        AutoConfig.from_pretrained, trust_remote_code=False
    )  # fmt: skip
    try:
        plain = make(model)
        unknown = [key for key in changes if not hasattr(plain, key)]
        if unknown:
            hint = nearest(unknown[0], plain.to_dict())
            raise ValueError(f"the config of {model} has no setting {unknown[0]!r}.{hint}")
        if spec is not None:
            ids = {
                name: spec.special.get(role, 0 if role == "pad" else None)
                for name, role in ROLES.items()
                if (getattr(plain, name, None) or 0) >= spec.vocabulary
            }
            changes = {"vocab_size": spec.vocabulary, **ids, **changes}
        return make(model, **changes)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(f"{model!r} can't be used: {one_line(error)}") from error
    except Exception as error:  # the network, a file that is no config, a setting it refuses
        hint = "" if "/" in model else nearest(model, list(kinds))
        if model in kinds:
            hint = f" {model!r} is a kind of model: for random weights set pretrained: false."
        raise ValueError(
            f"the config of {model!r} can't be made: {one_line(error)}{hint}"
        ) from error


def _built(model: str, settings: Any, *, pretrained: bool, pooler: bool, attention: str) -> Any:
    """Return the library's model.

    Raises:
        ValueError: the config is of no such model.
        DataError: weights that can't be loaded, or not all of them.
    """
    try:
        kind = transformers.MODEL_MAPPING[type(settings)]
    except KeyError as error:
        raise ValueError(f"transformers has no bare model for the config of {model!r}") from error
    kind = kind[0] if isinstance(kind, tuple) else kind  # Funnel has a second form
    options: dict[str, Any] = {"dtype": torch.float32, "trust_remote_code": False}
    if "add_pooling_layer" in inspect.signature(kind).parameters:
        options["add_pooling_layer"] = pooler
    if attention != "auto":
        options["attn_implementation"] = attention
    if not pretrained or torch.get_default_device().type == "meta":  # a plan reads no weights
        try:
            return AutoModel.from_config(settings, **options)
        except Exception as error:  # of any kind, for settings that contradict each other
            raise ValueError(f"{model} can't be built as configured: {one_line(error)}") from error
    log = logging.getLogger("transformers")
    level = log.level
    try:
        log.setLevel(logging.ERROR)  # that the weights have a head more is no news
        found, report = AutoModel.from_pretrained(
            model, config=settings, output_loading_info=True, **options
        )
    except Exception as error:  # files of any kind, and the network
        raise DataError(f"the weights of {model!r} can't be loaded: {one_line(error)}") from error
    finally:
        log.setLevel(level)
    missing = sorted(report["missing_keys"])
    if missing:
        raise DataError(
            f"the weights of {model!r} lack {len(missing)} of the model's, the first "
            f"{missing[0]!r}: is its config of another size, or has it no pooler?"
        )
    return found


def _refuse_unfit(model: Any, name: str, *, causal: bool, pool: Pool) -> None:
    """Refuse a model that takes no vectors of ids, or whose padding would reach text.

    Raises:
        ValueError: why.
    """
    takes = inspect.signature(model.forward).parameters
    for need in ("inputs_embeds", "attention_mask"):
        if need not in takes:
            raise ValueError(f"{name} can't be used: its forward takes no {need}")
    try:
        table = model.get_input_embeddings()
    except NotImplementedError:
        table = None
    if not isinstance(table, nn.Embedding):
        raise ValueError(f"{name} has no table of ids: it is no encoder of text")
    config = model.config
    if config.model_type in APPROXIMATE or getattr(config, "attention_type", "") == "block_sparse":
        raise ValueError(
            f"{name} can't be used: its attention depends on how far a batch is padded"
        )
    mixing = [m for m in model.modules() if isinstance(m, nn.Conv1d) and m.kernel_size != (1,)]
    if mixing and not causal:
        raise ValueError(
            f"{name} can't be used: its convolutions reach from text into the padding beside it"
        )
    if pool == "pooler" and getattr(model, "pooler", None) is None:
        raise ValueError(f"{name} has no pooler: set pool to mean, first or last")


def _places(model: nn.Module) -> int | None:
    """Return how many places a learned table of positions has; None without one."""
    for name, table in model.named_modules():
        if isinstance(table, nn.Embedding) and name.endswith(POSITION_TABLES):
            # RoBERTa's kind counts from the padding's id on, BART's from a fixed offset.
            first = getattr(table, "offset", 0)
            return table.num_embeddings - (
                first if table.padding_idx is None else table.padding_idx + 1
            )
    return None
