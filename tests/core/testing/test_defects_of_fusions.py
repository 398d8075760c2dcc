"""Each rule of fusions and methods, broken once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from polymodal import NO_TAPS, Encoded, Fusion, Method, Need
from polymodal.testing import checks
from polymodal.testing.fusions import FusionSubject
from polymodal.testing.methods import MethodSubject
from polymodal.testing.registry import Examination


class Joiner(Fusion):
    """Each token with the mean of its sample over all streams."""

    def __init__(self, info):
        super().__init__()
        self.width = 32
        self.streams = ("patches", "words")
        self.linear = nn.Linear(32, 32)

    def needs(self):
        return {stream: Need() for stream in self.streams}

    def means(self, joint):
        return joint.pooled

    def fused(self, joint):
        return self.linear(joint.vectors + self.means(joint)[joint.layout.sample])

    def forward(self, parts, *, taps=NO_TAPS):
        joint, places = Encoded.join(list(parts.values()))
        vectors = self.fused(joint)
        return {
            stream: Encoded.mean_pooled(part.layout, vectors[place])
            for (stream, part), place in zip(parts.items(), places, strict=True)
        }


def failed(kind, subject):
    """Names of the checks that fail; those that come after them are skipped."""
    findings = Examination("test.component", kind, subject).findings()
    return [finding.check for finding in findings if finding.status == "failed"]


class AcrossSamples(Joiner):
    def means(self, joint):
        return joint.pooled + joint.vectors.mean(dim=0) if joint.layout.tokens else joint.pooled


class LackingNan(Joiner):
    def forward(self, parts, *, taps=NO_TAPS):
        found = super().forward(parts)
        words = found["words"]
        lengths = words.layout.offsets.diff()[:, None]
        return {**found, "words": replace(words, pooled=words.pooled * (lengths / lengths))}


class Dropping(Joiner):
    def forward(self, parts, *, taps=NO_TAPS):
        return {"patches": super().forward(parts)["patches"]}


class Needless(Joiner):
    def needs(self):
        return {}


class NoSamples(Joiner):
    def fused(self, joint):
        torch.tensor(joint.layout.lengths).max()
        return super().fused(joint)


class AlwaysDropping(Joiner):
    def fused(self, joint):
        return nn.functional.dropout(super().fused(joint), 0.5, training=True)


class NumpyNoise(Joiner):
    def fused(self, joint):
        noise = np.random.normal() if self.training else 0.0  # noqa: NPY002
        return super().fused(joint) + noise


class Numbered(Joiner):
    def fused(self, joint):
        return super().fused(joint) + (joint.layout.sample % 4)[:, None] * 0.01


class Counting(Joiner):
    def fused(self, joint):
        return super().fused(joint) * (1 + 1e-4 * joint.layout.tokens)


class Unused(Joiner):
    def __init__(self, info):
        super().__init__(info)
        self.spare = nn.Linear(2, 2)


class Drifting(Joiner):
    scale = 1.0

    def fused(self, joint):
        if self.training:
            self.scale *= 1.1
        return super().fused(joint) * self.scale


class Overflowing(Joiner):
    def fused(self, joint):
        return super().fused(joint) * 1e5 * 1e-5


FUSIONS = {
    AcrossSamples: "sample_leak", LackingNan: "absent", Dropping: "shapes", Needless: "fuses",
    NoSamples: "zero_tokens", AlwaysDropping: "randomness", NumpyNoise: "randomness",
    Numbered: "batch_order", Counting: "packing", Unused: "gradients", Drifting: "saved_state",
    Overflowing: "half_precision",
}  # fmt: skip


@pytest.mark.parametrize("defect", FUSIONS, ids=lambda d: d.__name__)
def test_each_defect_of_a_fusion_is_caught_by_its_check(defect):
    assert failed("fusion", FusionSubject(defect)) == [FUSIONS[defect]]


class Pushing(Method):
    """Adds a learned vector to nothing in particular, and follows the steps."""

    def __init__(self, info):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def attach(self, model):
        model.encoders["words"].register_forward_hook(self.push)

    def push(self, module, given, found):
        return replace(found, pooled=found.pooled + self.seen)

    def after_update(self, step):
        self.seen += 0.1


class Amnesia(Pushing):
    def __init__(self, info):
        super().__init__(info)
        self.register_buffer("seen", torch.zeros(()), persistent=False)


class Exploding(Pushing):
    def after_update(self, step):
        self.seen += torch.inf


class Drawing(Pushing):
    def after_update(self, step):
        self.seen += torch.rand(())


class Idle(Pushing):
    def __init__(self, info):
        super().__init__(info)
        self.prompt = nn.Parameter(torch.zeros(3))


METHODS = {Amnesia: "saved_state", Exploding: "trains", Drawing: "global_state",
           Idle: "gradients"}  # fmt: skip


@pytest.mark.parametrize("defect", METHODS, ids=lambda d: d.__name__)
def test_each_defect_of_a_method_is_caught_by_its_check(defect):
    assert failed("method", MethodSubject(defect)) == [METHODS[defect]]


def test_fusions_and_methods_that_keep_every_rule_pass():
    assert failed("fusion", FusionSubject(Joiner)) == []
    assert failed("method", MethodSubject(Pushing)) == []


def test_every_check_catches_a_defect():
    assert set(FUSIONS.values()) == set(checks("fusion"))
    assert set(METHODS.values()) == set(checks("method"))
