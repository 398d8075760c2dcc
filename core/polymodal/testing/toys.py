"""Toy streams: small made-up tokens for any spec, tiny real encoders, and whole toy models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polymodal.interfaces.component import Need, StreamInfo
from polymodal.interfaces.encoder import NO_TAPS, Encoder, Fusion, Taps
from polymodal.interfaces.objective import Loss, Objective
from polymodal.model.model import PretrainingModel, stream_info
from polymodal.nn.merging import (
    Merger,
    MergingEncoder,
    adjacent_pairs,
    bipartite_pairs,
    planned,
    rejoined,
    unit,
    window_targets,
    windows,
)
from polymodal.nn.stem import Stem
from polymodal.nn.transformer import EdgeMode, Transformer
from polymodal.nn.transformer_encoder import TransformerEncoder
from polymodal.packed.batch import Batch
from polymodal.packed.layout import Layout
from polymodal.packed.spec import TokenSpec
from polymodal.packed.tokens import Encoded, Tokens
from polymodal.testing.comparing import random_state_kept

Modules = Callable[[Mapping[str, StreamInfo]], Mapping[str, nn.Module]]
WIDTH = 32
LENGTHS = (7, 5, 8, 6, 9, 4)
OBJECTIVE = "checked"


@dataclass(frozen=True)
class ToyStream:
    """One of the kit's own streams."""

    spec: TokenSpec
    causal: bool = False
    merges: bool = False

    def encoder(self) -> Encoder:
        """Return a tiny real encoder."""
        if self.merges:
            return ToyMerging(self.spec)
        edges: EdgeMode = "bias" if self.spec.edges else "ignore"
        return TransformerEncoder(
            self.spec, width=WIDTH, depth=1, heads=2, causal=self.causal, edges=edges
        )


_WORDS = TokenSpec(
    vocabulary=24, extent=(64,), max_tokens=64, kinds=("content", "special"),
    special={"padding": 0, "mask": 1, "begin": 2, "end": 3, "unknown": 4}, structure=("word",),
)  # fmt: skip
_CUT_WORDS = replace(
    _WORDS, vocabulary=28, special={**_WORDS.special, **{f"sentinel_{k}": 24 + k for k in range(4)}}
)
_PATCHES = TokenSpec(features=8, axes=2, extent=(16, 4), max_tokens=64)
_CLIPS = TokenSpec(features=8, axes=3, extent=(16, 2, 2), max_tokens=64)

TOY_STREAMS: Mapping[str, ToyStream] = {
    "patches": ToyStream(_PATCHES),
    "words": ToyStream(_WORDS),
    "graphs": ToyStream(TokenSpec(features=8, edges=True, edge_kinds=2, extent=(64,))),
    "clips": ToyStream(_CLIPS),
    "causal_patches": ToyStream(_PATCHES, causal=True),
    "causal_clips": ToyStream(_CLIPS, causal=True),
    "causal_words": ToyStream(_WORDS, causal=True),
    "merged_words": ToyStream(_WORDS, merges=True),
    "cut_words": ToyStream(_CUT_WORDS),
}


def ordinary_ids(spec: TokenSpec) -> list[int]:
    """Return the ids that have no special role."""
    special = set(spec.special.values())
    return [i for i in range(spec.vocabulary) if i not in special] or [0]


def toy_tokens(spec: TokenSpec, lengths: Sequence[int], *, seed: int = 0) -> Tokens:
    """Return made-up tokens that keep to a spec; segment s depends on seed and s alone."""
    parts = [_segment(spec, length, seed * 1009 + s) for s, length in enumerate(lengths)]
    if not parts:
        return _segment(spec, 0, 0).take([])
    return Tokens.stack(parts)


def _segment(spec: TokenSpec, length: int, seed: int) -> Tokens:
    generator = np.random.default_rng(seed)
    length = min(length, spec.max_tokens or length)
    positions = _positions(spec, length)
    structure: dict[str, Any] = {
        "channels": {
            **{
                name: torch.from_numpy(generator.integers(0, count, length))
                for name, count in spec.channels.items()
            },
            **{name: torch.arange(length) // 2 for name in spec.structure},
        }
    }
    role = next((r for r in ("begin", "class") if r in spec.special), None)
    if len(spec.kinds) > 1:
        kinds = torch.zeros(length, dtype=torch.int64)
        if role and "special" in spec.kinds:
            kinds[:1] = spec.kinds.index("special")
        structure["kinds"] = kinds
    if spec.edges:
        structure.update(_ring(spec, length, generator))
    layout = Layout.of([length], positions, **structure)
    if spec.vocabulary:
        ids = torch.from_numpy(generator.choice(ordinary_ids(spec), length))
        if role:
            ids[:1] = spec.special[role]
        return Tokens(layout, ids=ids)
    values = generator.standard_normal((length, spec.features)).astype(np.float32)
    return Tokens(layout, values=torch.from_numpy(values))


def _positions(spec: TokenSpec, length: int) -> Tensor:
    """Count up the last axis fastest, within the extent."""
    number = torch.arange(length)
    columns: list[Tensor] = []
    for axis in reversed(range(1, spec.axes)):
        size = min(spec.extent[axis] if spec.extent else 2, 4)
        columns.insert(0, number % size)
        number = number // size
    if spec.axes and spec.extent:
        number = number.clamp(max=max(spec.extent[0] - 1, 0))
    columns.insert(0, number)
    return torch.stack(columns[: spec.axes], dim=1) if spec.axes else number.new_zeros(length, 0)


def _ring(spec: TokenSpec, length: int, generator: np.random.Generator) -> dict[str, Any]:
    """Join each token to the next, the last to the first, both ways."""
    near = torch.arange(length if length > 2 else max(length - 1, 0))
    far = (near + 1) % max(length, 1)
    edges = torch.stack([torch.cat([near, far]), torch.cat([far, near])])
    found: dict[str, Any] = {"edges": edges}
    if spec.edge_kinds:
        kinds = torch.from_numpy(generator.integers(0, spec.edge_kinds, len(near)))
        found["edge_kinds"] = kinds.repeat(2)
    if spec.edge_features:
        values = generator.standard_normal((len(near), spec.edge_features)).astype(np.float32)
        found["edge_values"] = torch.from_numpy(values).repeat(2, 1)
    return found


class ToyMerging(MergingEncoder):
    """A tiny encoder that merges half of the tokens of each window, and more when asked."""

    def __init__(self, spec: TokenSpec):
        super().__init__()
        self.width = WIDTH
        self.stem = Stem(spec, WIDTH, "sinusoidal")
        self.local = Transformer(width=WIDTH, depth=1, heads=2)
        self.trunk = Transformer(width=WIDTH, depth=1, heads=2)

    def embed(self, tokens: Tokens) -> Encoded:
        """Return the vectors of merged neighbours."""
        cut = windows(tokens.layout, 4)
        plan = planned(cut.lengths, window_targets(cut, 0.5), steps=1)
        merger = Merger(cut, plan, lambda _, vectors: unit(vectors), pairs=adjacent_pairs)
        seen = self.local(self.stem(tokens), cut, between=merger)
        layout = rejoined(seen.layout, tokens.layout)
        return replace(Encoded.mean_pooled(layout, seen.vectors), source=merger.source)

    def contextualize(
        self, encoded: Encoded, *, taps: Taps = NO_TAPS, keep: float = 1.0
    ) -> Encoded:
        """Return the trunk's vectors."""
        layout, source = encoded.layout, encoded.source
        assert source is not None
        targets = [round(keep * length) for length in layout.lengths]
        plan = planned(layout.lengths, targets, steps=1)
        merger = Merger(layout, plan, lambda _, vectors: unit(vectors), pairs=bipartite_pairs)
        seen = self.trunk(encoded.vectors, layout, taps=taps, between=merger)
        found = Encoded.mean_pooled(seen.layout, seen.vectors)
        return replace(found, source=merger.source[source], hidden=seen.hidden)

    def unembed(self, vectors: Tensor) -> Tensor:
        """Return scores over the vocabulary by the table of ids."""
        return nn.functional.linear(vectors, self.stem.tokens.weight)


class ToyFusion(Fusion):
    """A tiny fusion: one block over the tokens of all streams, chained by sample.

    It is causal if the encoders of all its streams are.
    """

    def __init__(self, info: Mapping[str, StreamInfo]):
        super().__init__()
        self.width = WIDTH
        self.streams = tuple(info)
        self.types = nn.Parameter(torch.randn(len(info), WIDTH) * 0.1)
        self.causal = all(each.causal for each in info.values())
        self.transformer = Transformer(width=WIDTH, depth=1, heads=2, causal=self.causal)

    def needs(self) -> Mapping[str, Need]:
        """Return the streams; any tokens will do."""
        return {stream: Need() for stream in self.streams}

    def forward(
        self, parts: Mapping[str, Encoded], *, taps: Taps = NO_TAPS
    ) -> Mapping[str, Encoded]:
        """Return each stream's vectors after one block over all of them."""
        entering = []
        for stream, part in parts.items():
            vectors = part.vectors + self.types[self.streams.index(stream)]
            layout = replace(part.layout, edges=None, edge_kinds=None, edge_values=None)
            entering.append(Encoded(layout, vectors, part.pooled))
        joint, places = Encoded.join(entering)
        out = self.transformer(joint.vectors, joint.layout, taps=taps).vectors
        return {
            stream: Encoded.mean_pooled(part.layout, out[place])
            for (stream, part), place in zip(parts.items(), places, strict=True)
        }


def toy_info(streams: Sequence[str] | None = None) -> dict[str, StreamInfo]:
    """Return what is known of the kit's own streams."""
    return {
        name: StreamInfo(TOY_STREAMS[name].spec, WIDTH, TOY_STREAMS[name].causal)
        for name in (TOY_STREAMS if streams is None else streams)
    }


def toy_batch(
    streams: Sequence[str],
    *,
    lengths: Sequence[int] = LENGTHS,
    absent: Mapping[str, Sequence[int]] | None = None,
    fields: Sequence[str] = (),
    views: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Batch:
    """Return a batch of the kit's own streams.

    Args:
        streams: by name.
        lengths: of each sample's segment.
        absent: for a stream, the samples without it.
        fields: further fields; "number" holds numbers, "map" arrays [length, 1], "tags" a class
            for each token, any other three classes in turn.
        views: further copies, by name, with the stream they are of.
        seed: of the content.
    """
    made = {}
    named = {**{name: name for name in streams}, **(views or {})}
    for number, (name, stream) in enumerate(named.items()):
        without = set((absent or {}).get(stream, ()))
        sizes = [0 if s in without else length for s, length in enumerate(lengths)]
        made[name] = toy_tokens(TOY_STREAMS[stream].spec, sizes, seed=seed * 31 + number)
    keys = torch.arange(1, len(lengths) + 1) * 6364136223846793005
    values = {
        name: tuple(_label(name, s % 3, length) for s, length in enumerate(lengths))
        for name in fields
    }
    return Batch(made, len(lengths), keys, ("toy",) * len(lengths), values)


def _label(field: str, number: int, length: int) -> Any:
    if field == "map":
        return np.full((length, 1), number, dtype=np.float32)
    if field == "tags":
        return [f"class {(number + place) % 3}" for place in range(length)]
    return float(number) if field == "number" else f"class {number}"


def take(batch: Batch, samples: Sequence[int]) -> Batch:
    """Return some samples of a batch, in any order, repeats allowed."""
    return Batch(
        {name: tokens.take(samples) for name, tokens in batch.streams.items()},
        len(samples),
        batch.keys[list(samples)],
        tuple(batch.sources[s] for s in samples),
        {name: tuple(values[s] for s in samples) for name, values in batch.fields.items()},
        dealt={name: tuple(own[s] for s in samples) for name, own in batch.dealt.items()},
    )


def toy_model(
    objective: Objective | None,
    streams: Sequence[str],
    *,
    modules: Modules | None = None,
    seed: int = 0,
) -> PretrainingModel:
    """Return a model of tiny encoders for these streams, an objective and what it shares.

    Modules that the objective uses are toy fusions unless something makes others.
    """
    with random_state_kept(seed):
        encoders: dict[str, Encoder] = {s: TOY_STREAMS[s].encoder() for s in streams}
        info = {s: stream_info(TOY_STREAMS[s].spec, encoders[s]) for s in streams}
        used = objective.uses() if objective else ()
        shared = modules(info) if modules else {name: ToyFusion(info) for name in used}
    return PretrainingModel(
        {s: s for s in streams},
        encoders,
        {s: TOY_STREAMS[s].spec for s in streams},
        shared,
        {} if objective is None else {OBJECTIVE: objective},
    )


def loss_of(model: PretrainingModel, batch: Batch, *, number: int = 0, seed: int = 0) -> Loss:
    """Return the checked objective's loss, dropout off and everything else in training mode."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    return model(batch, number=number, total=100, seed=seed)[OBJECTIVE]
