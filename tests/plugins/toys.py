"""Small encoders, batches and a model around them, so that objectives can be tested alone."""

import torch
from torch import nn

from polymodal import (
    NO_TAPS,
    Batch,
    Encoded,
    Encoder,
    Layout,
    PretrainingModel,
    Step,
    StreamInfo,
    Tokens,
    TokenSpec,
    segment_mean,
)
from polymodal.model.model import stream_info
from polymodal.plugins.discovery import installed
from polymodal.testing.building import Construction

MASK, BEGIN, END = 0, 1, 2
IDS = TokenSpec(
    vocabulary=12,
    kinds=("content", "special"),
    special={"mask": MASK, "begin": BEGIN, "end": END},
    structure=("word",),
)
VALUES = TokenSpec(features=4)
PLANE = TokenSpec(features=4, axes=2, extent=(4, 4))
GRAPH = TokenSpec(features=4, edges=True)


class Mixing(Encoder):
    """Each token's row, its position, and the mean of its segment (or of what came before)."""

    def __init__(self, spec, width=8, *, causal=False):
        super().__init__()
        self.width = width
        self.causal = causal
        self.table = nn.Embedding(spec.vocabulary, width) if spec.vocabulary else None
        self.line = nn.Linear(spec.features, width) if spec.features else None
        self.place = nn.Linear(spec.axes, width)
        self.mix = nn.Linear(2 * width, 2 * width)
        self.out = nn.Linear(2 * width, width)

    def embed(self, tokens):
        rows = self.table(tokens.ids) if self.table is not None else self.line(tokens.values)
        rows = rows + torch.sin(self.place(tokens.layout.positions.float()))
        return Encoded.mean_pooled(tokens.layout, rows)

    def contextualize(self, encoded, *, taps=NO_TAPS):
        layout, rows = encoded.layout, encoded.vectors
        if self.causal:
            total = torch.cat([rows.new_zeros(1, self.width), rows.cumsum(0)])
            start = layout.offsets[layout.segment]
            around = (total[1:] - total[start]) / (layout.within + 1)[:, None]
        else:
            around = segment_mean(rows, layout)[layout.segment]
        mixed = torch.cat([rows, around], dim=1)
        vectors = self.out(torch.relu(self.mix(mixed))) + rows
        return Encoded.mean_pooled(layout, vectors)

    def unembed(self, vectors):
        return None if self.table is None else vectors @ self.table.weight.T


class Convolving(Encoder):
    """One round of messages along edges, no other mixing."""

    def __init__(self, spec, width=8):
        super().__init__()
        self.width = width
        self.line = nn.Linear(spec.features, width)
        self.carry = nn.Linear(width, width)

    def embed(self, tokens):
        return Encoded.mean_pooled(tokens.layout, self.line(tokens.values))

    def contextualize(self, encoded, *, taps=NO_TAPS):
        rows, edges = encoded.vectors, encoded.layout.edges
        if edges is not None:
            rows = rows.index_add(0, edges[1], self.carry(rows)[edges[0]])
        return Encoded.mean_pooled(encoded.layout, rows)


def info(**widths):
    """Streams of VALUES with these widths."""
    return {name: StreamInfo(VALUES, width) for name, width in widths.items()}


def id_tokens(segments):
    """Tokens with these ids; the ids that are special have the special kind."""
    ids = torch.tensor([i for segment in segments for i in segment], dtype=torch.int64)
    layout = Layout.of([len(s) for s in segments], kinds=(ids <= END).long())
    return Tokens(layout, ids=ids)


def value_tokens(lengths, *, seed=0, features=4, layout=None):
    """Tokens with normal random values."""
    values = torch.randn(sum(lengths), features, generator=torch.Generator().manual_seed(seed))
    return Tokens(Layout.of(lengths) if layout is None else layout, values=values)


def plane_tokens(sides, *, seed=0):
    """Square images of these sides, with two-axis positions."""
    positions = [torch.cartesian_prod(torch.arange(s), torch.arange(s)) for s in sides]
    layout = Layout.of(
        [s * s for s in sides], torch.cat([torch.zeros(0, 2, dtype=torch.int64), *positions])
    )
    return value_tokens(layout.lengths, seed=seed, layout=layout)


def graph_tokens(lengths, edges, *, seed=0):
    """Graphs with these edges, given as (source, target) in packed rows; both ways."""
    pairs = torch.tensor([*edges, *((b, a) for a, b in edges)], dtype=torch.int64).reshape(-1, 2)
    layout = Layout.of(lengths, edges=pairs.T.contiguous())
    return value_tokens(lengths, seed=seed, layout=layout)


def batch(**streams):
    """A batch of these streams, its samples numbered."""
    samples = next(iter(streams.values())).layout.samples
    return Batch(streams, samples, torch.arange(samples) + 100)


def model(specs, *, objective=None, modules=None, width=8, causal=False, seed=0, encoders=None):
    """A model with a Mixing encoder for each stream and at most one objective, "objective"."""
    torch.manual_seed(seed)
    chosen = {name: Mixing(spec, width, causal=causal) for name, spec in specs.items()}
    chosen |= encoders or {}
    streams = {name: stream_info(spec, chosen[name]) for name, spec in specs.items()}
    fusions = {name: make(streams) for name, make in (modules or {}).items()}
    objectives = {} if objective is None else {"objective": objective(streams)}
    return PretrainingModel(
        {name: name for name in specs}, chosen, specs, modules=fusions, objectives=objectives
    )


def named(name, **options):
    """What makes the objective that a config names so, with these options, in any spelling."""
    build = Construction(installed().find(name, "objective"), options, installed())
    return lambda info: build(info=info)


def step(model, batch, **options):
    """A step over a batch."""
    return Step(model, batch, **options)


def loss(model, batch, **options):
    """The loss of a model's one objective over a batch."""
    return model.objective("objective")(Step(model, batch, **options))


def mean(found):
    """The mean loss."""
    return found.total / max(int(found.count), 1)


def train(model, batch, *, steps=60, rate=0.02):
    """Train on one batch with new noise each step; the mean of the first and last five losses."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    seen = []
    for number in range(steps):
        found = mean(loss(model, batch, number=number))
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        seen.append(found.item())
    return sum(seen[:5]) / 5, sum(seen[-5:]) / 5


def gradients_are_finite(model, found):
    """Whether a loss is finite and so are the gradients it gives; each trained part has some."""
    model.zero_grad()
    found.total.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return bool(torch.isfinite(found.total)) and all(torch.isfinite(g).all() for g in grads)
