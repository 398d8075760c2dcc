"""Each rule of encoders and objectives, broken once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from polymodal import (
    NO_TAPS,
    Comparison,
    Encoded,
    Encoder,
    Layout,
    Loss,
    Need,
    Objective,
    Representing,
    Teacher,
    TokenSpec,
    View,
)
from polymodal.packed.tokens import segment_mean
from polymodal.testing import checks
from polymodal.testing.encoders import EncoderSubject
from polymodal.testing.objectives import ObjectiveSubject
from polymodal.testing.registry import Examination
from polymodal.testing.toys import LENGTHS, toy_tokens


class Mixer(Encoder):
    """Each token with the mean of its segment."""

    def __init__(self, spec):
        super().__init__()
        self.width = 16
        self.spec = spec
        self.stem = nn.Linear(spec.features, 16)
        self.trunk = nn.Linear(16, 16)

    def embed(self, tokens):
        return Encoded.mean_pooled(tokens.layout, self.stem(tokens.values))

    def mixed(self, vectors, layout):
        return torch.tanh(self.trunk(vectors) + segment_mean(vectors, layout)[layout.segment])

    def contextualize(self, encoded, *, taps=NO_TAPS):
        return Encoded.mean_pooled(encoded.layout, self.mixed(encoded.vectors, encoded.layout))


class Rebuild(Objective):
    """Replace half of a stream's values by a learned token and predict them."""

    def __init__(self, info):
        super().__init__()
        self.mask = nn.Parameter(torch.randn(info["patches"].spec.features))
        self.head = nn.Linear(info["patches"].width, info["patches"].spec.features)

    def needs(self):
        return {"patches": Need(values=True)}

    def hidden(self, step, tokens):
        return step.uniform("hidden", tokens) < 0.5

    def shown(self, tokens, hidden):
        return torch.where(hidden[:, None], self.mask, tokens.values)

    def seen(self, encoded):
        return encoded.vectors

    def errors(self, predicted, target, layout):
        return (predicted.float() - target).square().mean(dim=1)

    def forward(self, step):
        tokens = step.tokens("patches")
        hidden = self.hidden(step, tokens)
        encoded = step.encode_tokens("patches", tokens.with_rows(self.shown(tokens, hidden)))
        predicted = self.head(self.seen(encoded))
        errors = self.errors(predicted, tokens.values, tokens.layout)
        return Loss((errors * hidden).sum(), hidden.sum())


class Edges(Objective):
    """Hide edges and say of each whether it is there."""

    def __init__(self, info):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def needs(self):
        return {"graphs": Need(edges=True)}

    def forward(self, step):
        tokens = step.tokens("graphs")
        layout, edges = tokens.layout, tokens.layout.edges
        noise = step.uniform("edges", tokens)
        one_way = edges[0] < edges[1]
        hidden = one_way & (noise[edges[0]] + noise[edges[1]] < 1)
        kept = self.kept(edges, hidden)
        less = replace(layout, edges=edges[:, kept], edge_kinds=layout.edge_kinds[kept])
        vectors = step.encode_tokens("graphs", tokens.with_rows(tokens.rows, less)).vectors
        first, second = vectors[edges[:, hidden]].float()
        scores = (first * second).mean(dim=1) + self.bias
        return Loss(nn.functional.softplus(-scores).sum(), hidden.sum())

    def kept(self, edges, hidden):
        gone = edges[:, hidden]
        both = torch.cat([gone, gone.flip(0)], dim=1)
        return ~(edges[:, :, None] == both[:, None]).all(dim=0).any(dim=1)


class Following(Objective):
    """Predict each token's values from the vector `back` places before it."""

    def __init__(self, info, *, back=1):
        super().__init__()
        self.back = back
        self.head = nn.Linear(info["causal_patches"].width, 8)

    def needs(self):
        return {"causal_patches": Need(values=True, causal=True)}

    def forward(self, step):
        tokens = step.tokens("causal_patches")
        rows = (tokens.layout.within > 0).nonzero()[:, 0]
        vectors = step.encode("causal_patches").vectors[rows - self.back]
        return Loss((self.head(vectors) - tokens.values[rows]).square().sum(), len(rows))


class Distilled(Rebuild):
    """Predict a teacher's vectors of the hidden tokens; the teacher sees all of them (data2vec)."""

    def __init__(self, info):
        super().__init__(info)
        self.head = nn.Linear(info["patches"].width, info["patches"].width)

    def attach(self, model):
        self.keep(Teacher(model.encoder("patches")))

    def keep(self, teacher):
        self.teacher = teacher

    def forward(self, step):
        tokens = step.tokens("patches")
        hidden = self.hidden(step, tokens)
        encoded = step.encode_tokens("patches", tokens.with_rows(self.shown(tokens, hidden)))
        target = self.teacher(tokens).vectors
        errors = (self.head(encoded.vectors).float() - target).square().mean(dim=1)
        return Loss((errors * hidden).sum(), hidden.sum())

    def after_update(self, step):
        self.teacher.follow(step.encoder("patches"), 0.9)


class Queue(Distilled):
    """Tell the teacher's vector of the same sample from those of earlier steps (MoCo)."""

    def __init__(self, info):
        super().__init__(info)
        self.register_buffer("queue", torch.randn(8, info["patches"].width))

    def keys(self, step):
        rows = self.teacher(step.tokens("patches")).pooled_rows()[step.rows_with("patches")]
        return nn.functional.normalize(rows.float(), dim=1)

    def forward(self, step):
        tokens = step.tokens("patches")
        shown = self.shown(tokens, self.hidden(step, tokens))
        seen = step.encode_tokens("patches", tokens.with_rows(shown)).pooled_rows()
        rows = seen[step.rows_with("patches")]
        queries = nn.functional.normalize(self.head(rows).float(), dim=1)
        right = (queries * self.keys(step)).sum(dim=1, keepdim=True)
        scores = torch.cat([right, queries @ self.queue.to(queries.dtype).T], dim=1)
        return Loss((scores.logsumexp(dim=1) - scores[:, 0]).sum(), len(rows))

    def after_update(self, step):
        super().after_update(step)
        self.queue.copy_(torch.cat([self.keys(step).to(self.queue.dtype), self.queue])[:8])


def failed(kind, subject):
    """Names of the checks that fail; those that come after them are skipped."""
    findings = Examination("test.component", kind, subject).findings()
    return [finding.check for finding in findings if finding.status == "failed"]


SPEC = TokenSpec(features=8)


class OverTheBatch(Mixer):
    def mixed(self, vectors, layout):
        return super().mixed(vectors - vectors.mean(), layout) if len(vectors) else (
            super().mixed(vectors, layout))  # fmt: skip


class BatchNormed(Mixer):
    def __init__(self, spec):
        super().__init__(spec)
        self.norm = nn.BatchNorm1d(16)

    def mixed(self, vectors, layout):
        return super().mixed(self.norm(vectors) if len(vectors) > 1 else (
            vectors * self.norm.weight + self.norm.bias), layout)  # fmt: skip


class Numbered(Mixer):
    def mixed(self, vectors, layout):
        return super().mixed(vectors, layout) + (layout.segment % 3)[:, None] * 0.01


class Counting(Mixer):
    def mixed(self, vectors, layout):
        return super().mixed(vectors, layout) * (1 + 1e-4 * layout.tokens)


class EmptyIsNan(Mixer):
    def contextualize(self, encoded, *, taps=NO_TAPS):
        found = super().contextualize(encoded)
        lengths = encoded.layout.offsets.diff()[:, None]
        return replace(found, pooled=found.pooled * lengths / lengths)


class NoPath(Mixer):
    def embed(self, tokens):
        if not tokens.layout.tokens:
            return Encoded.mean_pooled(tokens.layout, torch.zeros(0, 16, dtype=torch.float32))
        return super().embed(tokens)

    def contextualize(self, encoded, *, taps=NO_TAPS):
        return super().contextualize(encoded) if encoded.layout.tokens else encoded


class NoSamples(Mixer):
    def mixed(self, vectors, layout):
        torch.tensor(layout.lengths).max()
        return super().mixed(vectors, layout)


class Unused(Mixer):
    def __init__(self, spec):
        super().__init__(spec)
        self.spare = nn.Linear(2, 2)


class Drifting(Mixer):
    scale = 1.0

    def mixed(self, vectors, layout):
        if self.training:
            self.scale *= 1.1
        return super().mixed(vectors, layout) * self.scale


class AlwaysDropping(Mixer):
    def mixed(self, vectors, layout):
        return nn.functional.dropout(super().mixed(vectors, layout), 0.5, training=True)


class Overflowing(Mixer):
    def mixed(self, vectors, layout):
        return super().mixed(self.trunk(vectors) * 1e5 * 1e-5, layout)


class Crashing(Mixer):
    def embed(self, tokens):
        raise IndexError("list index out of range")


class NumpyNoise(Mixer):
    def mixed(self, vectors, layout):
        noise = np.random.normal() if self.training else 0.0  # noqa: NPY002
        return super().mixed(vectors, layout) + noise


class Backwards(Mixer):
    def contextualize(self, encoded, *, taps=NO_TAPS):
        vectors = super().contextualize(encoded).vectors
        return Encoded.mean_pooled(Layout.of(encoded.layout.lengths[::-1]), vectors)


class PooledBySample(Mixer):
    def contextualize(self, encoded, *, taps=NO_TAPS):
        found, layout = super().contextualize(encoded), encoded.layout
        total = found.vectors.new_zeros(layout.samples, 16)
        total = total.index_add(0, layout.sample, found.vectors)
        count = torch.bincount(layout.sample, minlength=layout.samples).clamp(min=1)
        return replace(found, pooled=total / count[:, None])


class Narrower(Mixer):
    def __init__(self, spec):
        super().__init__(spec)
        self.width = 8


class Bypassing(Mixer):
    def forward(self, tokens, *, taps=NO_TAPS):
        return self.embed(tokens)


class NotCausal(Mixer):
    causal = True


class StrangeLayers(Mixer):
    def layers(self):
        return [nn.Linear(2, 2)]


class Astray(Mixer):
    """Halves the rows of each segment, and says that all of its tokens went to the first."""

    def contextualize(self, encoded, *, taps=NO_TAPS):
        found, layout = super().contextualize(encoded), encoded.layout
        first = layout.offsets[:-1][layout.segment]
        kept = found.keep(layout.within % 2 == 0)
        return replace(kept, source=torch.searchsorted(first.unique(), first))


ENCODERS = {
    OverTheBatch: "sample_leak", BatchNormed: "sample_leak", Numbered: "batch_order",
    Counting: "packing", EmptyIsNan: "absent", NoPath: "zero_tokens", NoSamples: "zero_tokens",
    Unused: "gradients", Drifting: "saved_state", AlwaysDropping: "randomness",
    Overflowing: "half_precision", Narrower: "shapes", Bypassing: "stem_and_trunk",
    NotCausal: "causality", StrangeLayers: "parts", Crashing: "encodes", NumpyNoise: "randomness",
    Backwards: "shapes", Astray: "shapes", PooledBySample: "owners",
}  # fmt: skip


@pytest.mark.parametrize("defect", ENCODERS, ids=lambda d: d.__name__)
def test_each_defect_of_an_encoder_is_caught_by_its_check(defect):
    found = failed("encoder", EncoderSubject(defect, SPEC, toy_tokens(SPEC, LENGTHS)))
    # A trunk left out of forward gets no gradient either; a wrong width shows in unembed's input.
    also = {Bypassing: ["gradients"]}.get(defect, [])
    assert sorted(found) == sorted([ENCODERS[defect], *also])


class Visible(Rebuild):
    def shown(self, tokens, hidden):
        return tokens.values + 0 * self.mask + self.mask * hidden[:, None]


class HiddenInOthers(Rebuild):
    """The hidden values are added to the segment's first token."""

    def shown(self, tokens, hidden):
        found = super().shown(tokens, hidden)
        if not tokens.layout.tokens:
            return found
        total = segment_mean(tokens.values * hidden[:, None], tokens.layout)
        return found + total[tokens.layout.segment] * (tokens.layout.within == 0)[:, None]


class Mean(Rebuild):
    def forward(self, step):
        loss = super().forward(step)
        return Loss(loss.total / loss.count.clamp(min=1), loss.count)


class CountsSamples(Rebuild):
    def forward(self, step):
        loss = super().forward(step)
        return Loss(loss.total, min(int(loss.count), 1))


class Mixing(Rebuild):
    def seen(self, encoded):
        vectors = encoded.vectors
        return vectors - vectors.mean(dim=0) if len(vectors) else vectors


class Positional(Rebuild):
    def errors(self, predicted, target, layout):
        return super().errors(predicted, target, layout) * (1 + layout.sample % 2)


class NoDefense(Rebuild):
    def errors(self, predicted, target, layout):
        share = 1 / layout.offsets.diff()
        return super().errors(predicted, target, layout) * (1 + 0 * (share * 0).sum())


class Detached(Rebuild):
    def forward(self, step):
        if not step.tokens("patches").layout.tokens:
            return Loss(torch.zeros(()), 0)
        return super().forward(step)


class Spare(Rebuild):
    def __init__(self, info):
        super().__init__(info)
        self.spare = nn.Parameter(torch.zeros(3))


class Forgetting(Rebuild):
    scale = 1.0

    def errors(self, predicted, target, layout):
        return super().errors(predicted, target, layout) * self.scale

    def after_update(self, step):
        self.scale *= 1.5


class TornDown(Rebuild):
    def errors(self, predicted, target, layout):
        return (predicted - target.to(predicted.dtype)).square().mean(dim=1)


class GlobalNoise(Rebuild):
    def hidden(self, step, tokens):
        return torch.rand(tokens.layout.tokens) < 0.5


class Reseeding(Rebuild):
    def hidden(self, step, tokens):
        torch.manual_seed(0)
        return super().hidden(step, tokens)


class Miscounting(Rebuild):
    def count(self, step):
        return step.tokens("patches").layout.tokens


class NanProjection(Rebuild, Representing):
    def project(self, stream, encoded):
        rows = super().project(stream, encoded)
        return rows / rows.norm(dim=1, keepdim=True)


class LivingMetric(Rebuild):
    def forward(self, step):
        loss = super().forward(step)
        return Loss(loss.total, loss.count, {"error": (loss.total, loss.count)})


class Unmet(Rebuild):
    def needs(self):
        return {"patches": Need(ids=True)}


class OneDirection(Edges):
    def kept(self, edges, hidden):
        return ~hidden


class OffByOne(Following):
    def __init__(self, info):
        super().__init__(info, back=0)


class CountingInForward(Rebuild):
    def __init__(self, info):
        super().__init__(info)
        self.register_buffer("scored", torch.zeros(()))

    def forward(self, step):
        loss = super().forward(step)
        self.scored += loss.count
        return loss


class OnTheGraph(CountingInForward):
    forward = Rebuild.forward

    def after_update(self, step):
        self.scored = self.mask.sum()


class NanCentre(Distilled):
    def __init__(self, info):
        super().__init__(info)
        self.register_buffer("centre", torch.zeros(8))

    def after_update(self, step):
        super().after_update(step)
        self.centre.lerp_(step.tokens("patches").values.mean(dim=0), 0.1)


class MeanMetric(Rebuild):
    def forward(self, step):
        loss = super().forward(step)
        mean = loss.total.detach() / max(int(loss.count), 1)
        return Loss(loss.total, loss.count, {"error": (mean, 1)})


class HalfCount(Rebuild):
    def forward(self, step):
        loss = super().forward(step)
        rows = self.head(step.encode("patches").vectors)
        return Loss(loss.total, torch.ones_like(rows).sum(dtype=rows.dtype) / 8 * 0 + loss.count)


class LambdaView(Rebuild):
    def views(self):
        return {"copy": View("patches", lambda raw, sample, generator: raw)}


class SeesAll(Distilled):
    def shown(self, tokens, hidden):
        return tokens.values + self.mask * hidden[:, None]


class TeacherOutOfState(Distilled):
    def keep(self, teacher):
        object.__setattr__(self, "teacher", teacher)


class TeacherToTrain(Distilled):
    def keep(self, teacher):
        self.teacher = teacher.requires_grad_(True)


class QueueOutOfState(Queue):
    def __init__(self, info):
        super().__init__(info)
        self.register_buffer("queue", self.queue, persistent=False)


class Spread(Comparison):
    """How far the samples' vectors lie from each other's mean."""

    def __init__(self, info):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def needs(self):
        return {"patches": Need()}

    def vectors(self, step):
        rows = step.encode("patches").pooled_rows()
        return (rows[torch.tensor(step.rows_with("patches"), dtype=torch.int64)],)

    def compare(self, step, vectors):
        (rows,) = vectors
        middle = rows.sum(dim=0) / max(len(rows), 1)
        return Loss(self.scale * (rows - middle).square().sum(), len(rows))


class SpreadOfParts(Spread):
    """Its vectors are centred in the batch they were made in."""

    def vectors(self, step):
        (rows,) = super().vectors(step)
        return (rows - rows.sum(dim=0) / max(len(rows), 1),)


class Bounded(Rebuild):
    """Its errors count by a scale that is kept below 2 after updates."""

    def __init__(self, info):
        super().__init__(info)
        self.scale = nn.Parameter(torch.ones(1))

    def errors(self, predicted, target, layout):
        return super().errors(predicted, target, layout) * self.scale

    def after_update(self, step):
        with torch.no_grad():
            self.scale.clamp_(max=2.0)


class StuckAtItsBound(Bounded):
    def errors(self, predicted, target, layout):
        kept = torch.where(self.scale < 2, self.scale, 2.0)
        return Rebuild.errors(self, predicted, target, layout) * kept


OBJECTIVES = {
    Visible: "target_leak", HiddenInOthers: "target_leak", OneDirection: "target_leak",
    OffByOne: "target_leak", Mean: "loss_is_a_sum", CountsSamples: "loss_is_a_sum",
    Mixing: "sample_leak", Positional: "batch_order", NoDefense: "absent",
    Detached: "zero_tokens", Spare: "gradients", Forgetting: "saved_state",
    TornDown: "half_precision", GlobalNoise: "randomness", Reseeding: "global_state",
    Miscounting: "counts", NanProjection: "projection", LivingMetric: "shapes", Unmet: "computes",
    CountingInForward: "state", OnTheGraph: "state", NanCentre: "absent", MeanMetric: "metrics",
    HalfCount: "half_precision", LambdaView: "views", SeesAll: "target_leak",
    TeacherOutOfState: "saved_state", TeacherToTrain: "gradients", QueueOutOfState: "saved_state",
    SpreadOfParts: "sample_leak", StuckAtItsBound: "bounds",
}  # fmt: skip


@pytest.mark.parametrize("defect", OBJECTIVES, ids=lambda d: d.__name__)
def test_each_defect_of_an_objective_is_caught_by_its_check(defect):
    found = failed("objective", ObjectiveSubject(defect))
    # A teacher that is no part of the module stays in float32 and is no teacher to the leak check.
    also = {TeacherOutOfState: ["loss_is_a_sum", "target_leak"]}.get(defect, [])
    assert sorted(found) == sorted([OBJECTIVES[defect], *also])


def test_components_that_keep_every_rule_pass():
    assert failed("encoder", EncoderSubject(Mixer, SPEC, toy_tokens(SPEC, LENGTHS))) == []
    for objective in (Rebuild, Edges, Following, Distilled, Queue, Spread, Bounded):
        assert failed("objective", ObjectiveSubject(objective)) == []


def test_every_check_catches_a_defect():
    assert set(ENCODERS.values()) == set(checks("encoder"))
    assert set(OBJECTIVES.values()) == set(checks("objective"))


def jittered(raw, sample, generator):
    return raw + generator.normal(size=raw.shape)


def jittered_anyhow(raw, sample, generator):
    return raw + np.random.default_rng().normal(size=raw.shape)


def jittered_in_place(raw, sample, generator):
    raw += 1
    return raw


def jittered_globally(raw, sample, generator):
    return raw + np.random.normal()  # noqa: NPY002


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (jittered, None),
        (jittered_anyhow, "draw from the generator given alone"),
        (jittered_in_place, "work on a copy"),
        (jittered_globally, "changes the global random state of numpy"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_view_draws_from_its_generator_alone_and_leaves_the_raw_value(make, told):
    class Viewing(Rebuild):
        def views(self):
            return {"copy": View("patches", make)}

    subject = ObjectiveSubject(Viewing, raws=[np.zeros(4)])
    finding = Examination("test.component", "objective", subject).finding("views")
    assert finding.status == ("failed" if told else "passed")
    assert (told or "") in finding.message
