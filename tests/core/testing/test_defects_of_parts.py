"""Rules of parts, broken once each."""

import pytest
import torch
from torch import nn

from polymodal import Choice, Head, Hidden, Hiding, Need, Pooler, Replacing, Target
from polymodal.testing import checks
from polymodal.testing.parts import Half, PartSubject
from polymodal.testing.registry import Examination


def failed(kind, make):
    """Names of the checks that fail; those that come after them are skipped."""
    findings = Examination("test.part", kind, PartSubject(make, kind)).findings()
    return [finding.check for finding in findings if finding.status == "failed"]


class Words(Hiding):
    def need(self):
        return Need(ids=True)


class Specials(Words):
    """Hides special tokens, too."""

    def choose(self, among):
        noise = among.noise("choice")
        return Hidden(among.tokens, Choice.of_mask(noise < 0.9, among.tokens.layout))


class Twice(Words):
    def choose(self, among):
        rows = torch.arange(among.tokens.layout.tokens)
        return Hidden(among.tokens, Choice(rows, among.tokens.layout.lengths, rows, ()))


class GlobalNoise(Words):
    def choose(self, among):
        return among.lowest(torch.rand(among.tokens.layout.tokens), 0.5)


class OverTheBatch(Words):
    def choose(self, among):
        return among.lowest(among.noise("choice") - among.noise("choice").mean(), 0.5) if (
            among.tokens.layout.segments % 2
        ) else among.lowest(among.noise("other"), 0.5)  # fmt: skip


class First(Words):
    def choose(self, among):
        among.tokens.layout.lengths[0]
        return among.lowest(among.noise("choice"), 0.5)


class Drifting(Words):
    """Chooses by a number that nothing saves."""

    def __init__(self):
        super().__init__()
        self.noise = torch.rand(1)

    def choose(self, among):
        return among.lowest((among.noise("choice") + float(self.noise)) % 1, 0.5)


class Values(Replacing):
    def need(self):
        return Need(values=True)

    def bind(self, info):
        self.vector = nn.Parameter(torch.randn(info.spec.features))

    def at(self, hidden, among):
        return hidden.rows

    def replace(self, hidden, among):
        rows = self.at(hidden, among)
        fill = self.vector.expand(len(rows), -1)
        return among.tokens.with_rows(among.tokens.values.index_put((rows,), fill))


class OtherRows(Values):
    """Replaces a visible row."""

    def at(self, hidden, among):
        return torch.cat([hidden.rows, hidden.choice.visible[:1]])


class InPlace(Values):
    def replace(self, hidden, among):
        among.tokens.values[hidden.rows] = 0.5
        return super().replace(hidden, among)


class Kept(Values):
    """Leaves some as they were."""

    def at(self, hidden, among):
        return hidden.rows[hidden.drawn(among.noise("kept")) < 0.5]


class Beside(Values):
    """Puts in what depends on how many tokens there are."""

    def replace(self, hidden, among):
        found = super().replace(hidden, among)
        shift = 1e-3 * among.tokens.layout.tokens
        return found.with_rows(found.values.index_add(
            0, hidden.rows, torch.full((len(hidden.rows), found.values.shape[1]), shift)
        ))  # fmt: skip


class Unused(Values):
    def bind(self, info):
        super().bind(info)
        self.spare = nn.Parameter(torch.zeros(2))


class Sum(Target):
    def bind(self, info):
        self.outputs = 2

    def loss(self, predicted, corrupted, rows, counted):
        each = (predicted - 1).square().sum(dim=1)
        return (each if counted is None else each.masked_fill(~counted, 0)).sum(), {}


class MeanOfRows(Sum):
    def loss(self, predicted, corrupted, rows, counted):
        total, _ = super().loss(predicted, corrupted, rows, counted)
        return total / max(len(rows), 1), {}


class Uncounted(Sum):
    def loss(self, predicted, corrupted, rows, counted):
        return super().loss(predicted, corrupted, rows, None)


class Shapeless(Sum):
    def bind(self, info):
        self.outputs = 0


class Line(Head):
    def bind(self, width, outputs, info):
        self.linear = nn.Linear(width, outputs)

    def predict(self, vectors, unembed):
        return self.linear(vectors)


class RowsBeside(Line):
    """What it makes of a row depends on the others."""

    def predict(self, vectors, unembed):
        return self.linear(vectors - vectors.mean(dim=0)) if len(vectors) else self.linear(vectors)


class OneOutput(Line):
    def predict(self, vectors, unembed):
        return self.linear(vectors)[:, :1]


class Idle(Line):
    def bind(self, width, outputs, info):
        super().bind(width, outputs, info)
        self.spare = nn.Linear(2, 2)


class Mean(Pooler):
    def pool(self, encoded):
        layout = encoded.layout
        total = encoded.vectors.new_zeros(layout.samples, encoded.width)
        total = total.index_add(0, layout.sample, encoded.vectors)
        size = torch.bincount(layout.sample, minlength=layout.samples)
        return total / self.size(size)[:, None]

    def size(self, size):
        return size.clamp(min=1)


class NothingByNothing(Mean):
    def size(self, size):
        return size


class Batchwise(Mean):
    def pool(self, encoded):
        found = super().pool(encoded)
        here = found.abs().sum(dim=1, keepdim=True) > 0
        return torch.where(here, found - found.mean(dim=0), found) if len(found) else found


DEFECTS = [
    ("hiding", Specials, "allowed"), ("hiding", Twice, "chooses"),
    ("hiding", GlobalNoise, "hiding_alike"), ("hiding", OverTheBatch, "hiding_alike"),
    ("hiding", First, "hiding_few"), ("hiding", Drifting, "hiding_saved"),
    ("replacing", OtherRows, "replaces"), ("replacing", InPlace, "replaces"),
    ("replacing", Kept, "hides"), ("replacing", Beside, "replacing_alike"),
    ("replacing", Unused, "replacing_learns"),
    ("target", MeanOfRows, "costs_add_up"), ("target", Uncounted, "costs_of_rows"),
    ("target", Shapeless, "costs"),
    ("head", RowsBeside, "rows_apart"), ("head", OneOutput, "predicts"),
    ("head", Idle, "head_learns"),
    ("pooler", NothingByNothing, "pools"), ("pooler", Batchwise, "samples_apart"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "defect", "caught"), DEFECTS, ids=lambda d: getattr(d, "__name__", d)
)
def test_each_defect_of_a_part_is_caught(kind, defect, caught):
    assert caught in failed(kind, defect)


def test_parts_that_keep_every_rule_pass():
    for kind, part in (
        ("hiding", Half), ("replacing", Values), ("target", Sum), ("head", Line), ("pooler", Mean)
    ):  # fmt: skip
        assert failed(kind, part) == []
        assert checks(kind)
