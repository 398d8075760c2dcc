"""Virtual adversarial training and contrast of disturbed views, on small encoders."""

import math

import pytest
import torch
from torch import nn

from polymodal import Encoded, PretrainingModel
from polymodal.model.model import stream_info
from polymodal_adversarial import symmetric_divergence
from polymodal_adversarial.contrastive import AdversarialContrastive
from polymodal_adversarial.virtual import VirtualAdversarial
from polymodal_masking import MaskedTokens
from polymodal_supervised.classification import Classification
from polymodal_supervised.regression import Regression

SEGMENTS = [[1, 5, 6, 2], [1, 7, 2], [], [1, 8, 9, 10, 2], [1, 3, 2]]


def model_of(toys, kind, *, head=None, encoder=None, **options):
    """The objective "objective" on a stream of ids, and what predicts, "head"."""
    torch.manual_seed(0)
    encoder = (toys.Mixing if encoder is None else encoder)(toys.IDS)
    info = {"url": stream_info(toys.IDS, encoder)}
    objectives = {} if head is None else {"head": head(info)}
    if head is not None:
        options["objective"] = "head"
    objectives["objective"] = kind(info, stream="url", **options)
    return PretrainingModel({"url": "url"}, {"url": encoder}, {"url": toys.IDS},
                            objectives=objectives)  # fmt: skip


def masked(info):
    return MaskedTokens(info, stream="url")


def classes(info):
    return Classification(info, stream="url", label="kind", classes=3)


def batch(toys, segments=SEGMENTS):
    return toys.batch(url=toys.id_tokens(segments))


def loss_of(model, batch, **options):
    return model(batch, objectives=["objective"], **options)["objective"]


KINDS = [VirtualAdversarial, AdversarialContrastive]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", [None, masked, classes])
def test_inner_gradients_leave_nothing_in_the_parameters(toys, kind, head):
    model = model_of(toys, kind, head=head)
    loss = loss_of(model, batch(toys))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert toys.gradients_are_finite(model, loss)
    assert any(p.grad is not None and p.grad.any() for p in model.encoder("url").parameters())


def test_the_disturbed_embeddings_are_held_fixed(toys):
    # Seen from the table alone, which predicts nothing here: the head is a classifier.
    contrast = model_of(toys, AdversarialContrastive, head=classes)
    loss_of(contrast, batch(toys)).total.backward()
    assert not contrast.encoder("url").table.weight.grad.any()  # zero, as with several ranks
    assert contrast.encoder("url").mix.weight.grad.any()
    near = contrast.objective("objective").near
    step = toys.step(contrast, batch(toys))
    stem = near.embed(step)
    there = near.contextualize(step, stem, torch.ones_like(stem.vectors))
    assert not torch.autograd.grad(there.vectors.sum(), stem.vectors)[0].any()


def test_the_loss_is_the_divergence_at_the_disturbed_embeddings(toys):
    model = model_of(toys, VirtualAdversarial, head=masked, rate=0.5, start=0.3, radius=2.0)
    found = loss_of(model, batch(toys), number=3)
    encoder, tokens = model.encoder("url"), batch(toys).streams["url"]
    head = model.objective("head")
    step = toys.step(model, batch(toys), number=3)
    step.objective = "objective"
    stem = encoder.embed(tokens)
    size = stem.vectors.square().mean(dim=1, keepdim=True).sqrt()

    def scores(disturbance):
        moved = Encoded.mean_pooled(tokens.layout, (stem.vectors + size * disturbance).detach())
        if disturbance.requires_grad:
            moved = Encoded.mean_pooled(tokens.layout, stem.vectors.detach() + size * disturbance)
        return head.logits(step, "url", encoder.contextualize(moved))

    here = scores(torch.zeros_like(stem.vectors)).detach()
    d = (0.3 * step.normal("disturbance", tokens, stem.width)).requires_grad_()
    apart = nn.functional.kl_div(scores(d).log_softmax(-1), here.softmax(-1), reduction="sum")
    (slope,) = torch.autograd.grad(apart, [d])
    d = d.detach() + 0.5 * slope
    d = 2.0 * d / d.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found.total, symmetric_divergence(here, scores(d)).sum())
    assert found.count == 15


def test_predictions_by_sample_count_samples_that_have_the_stream(toys):
    model = model_of(toys, VirtualAdversarial, head=classes)
    assert loss_of(model, batch(toys)).count == 4
    for head, tokens in ((masked, 15), (None, 15)):
        assert loss_of(model_of(toys, VirtualAdversarial, head=head), batch(toys)).count == tokens


def test_reduction_by_sample_is_the_same_sum_over_the_number_of_samples(toys):
    by_token, by_sample = (
        loss_of(model_of(toys, VirtualAdversarial, head=masked, reduction=each), batch(toys))
        for each in ("token", "sample")
    )
    assert torch.equal(by_token.total, by_sample.total)
    assert (by_token.count, by_sample.count) == (15, 4)


@pytest.mark.parametrize("head", [masked, classes])
def test_the_loss_of_a_batch_is_the_sum_over_its_samples(toys, head):
    model = model_of(toys, VirtualAdversarial, head=head, rate=0.01)
    whole = loss_of(model, batch(toys))
    keys = batch(toys).keys
    parts = []
    for number, segment in enumerate(SEGMENTS):
        one = batch(toys, [segment])
        one.keys[0] = keys[number]
        parts.append(loss_of(model, one).total)
    torch.testing.assert_close(whole.total, torch.stack(parts).sum(), rtol=1e-4, atol=1e-5)


class Deaf(nn.Module):
    """An encoder that hears nothing of its embeddings."""

    def __new__(cls, spec):
        from polymodal import Encoder

        class Constant(Encoder):
            width = 8

            def __init__(self):
                super().__init__()
                self.table = nn.Embedding(spec.vocabulary, 8)
                self.say = nn.Parameter(torch.randn(8))

            def embed(self, tokens):
                return Encoded.mean_pooled(tokens.layout, self.table(tokens.ids))

            def contextualize(self, encoded, *, taps=None):
                said = self.say.expand(encoded.layout.tokens, 8) + 0 * encoded.vectors
                return Encoded.mean_pooled(encoded.layout, said)

            def unembed(self, vectors):
                return vectors @ self.table.weight.T

        return Constant()


def test_predictions_that_do_not_depend_on_the_embeddings_cost_nothing(toys):
    model = model_of(toys, VirtualAdversarial, encoder=Deaf)
    assert float(loss_of(model, batch(toys)).total.detach()) == 0


def contrast_of(toys, vectors, temperature=0.1):
    """The contrastive loss where both views have these pooled vectors."""
    model = model_of(toys, AdversarialContrastive, temperature=temperature)
    encoder = model.encoder("url")
    tokens = toys.id_tokens([[5]] * len(vectors))

    def contextualize(encoded, *, taps=None):
        rows = torch.tensor(vectors) + 0 * encoded.vectors[:, :2].sum()
        wide = torch.cat([rows, rows.new_zeros(len(rows), 6)], dim=1)
        return Encoded.mean_pooled(encoded.layout, wide)

    object.__setattr__(encoder, "contextualize", contextualize)
    return loss_of(model, toys.batch(url=tokens))


def test_contrast_has_the_values_on_paper(toys):
    apart = contrast_of(toys, [[1.0, 0.0], [0.0, 1.0]])
    assert float(apart.total.detach()) / apart.count == pytest.approx(
        math.log1p(2 * math.exp(-10)), rel=5e-3
    )
    scaled = contrast_of(toys, [[5.0, 0.0], [0.0, 5.0]])
    assert float(scaled.total.detach()) == pytest.approx(float(apart.total.detach()))
    for temperature in (0.1, 1.0):
        alike = contrast_of(toys, [[1.0, 1.0]] * 4, temperature)
        assert float(alike.total.detach()) / alike.count == pytest.approx(math.log(7), abs=1e-5)
    alone = contrast_of(toys, [[1.0, 2.0]])
    assert float(alone.total.detach()) == pytest.approx(0, abs=1e-6)


def test_views_differ_by_their_disturbance_where_there_is_no_dropout(toys):
    # At a vanishing radius both views are one: no batch can have a lower loss at these angles.
    model = model_of(toys, AdversarialContrastive, head=masked, radius=1e-6)
    near = loss_of(model, batch(toys)).total
    rows = model.encoder("url")(batch(toys).streams["url"]).pooled_rows()[[0, 1, 3, 4]]
    rows = nn.functional.normalize(rows, dim=1).repeat(2, 1)
    logits = (rows @ rows.T / 0.1).fill_diagonal_(-math.inf)
    expected = nn.functional.cross_entropy(logits, torch.arange(8).roll(4), reduction="sum")
    torch.testing.assert_close(near, expected, rtol=1e-3, atol=1e-3)


def test_training_makes_predictions_steadier(toys):
    model = model_of(toys, VirtualAdversarial, head=classes, radius=3.0)
    data = batch(toys)
    for parameter in model.parameters():  # sure of its classes, so that there is much to lose
        parameter.data *= 2
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    seen = []
    for number in range(30):
        loss = loss_of(model, data, number=number).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(float(loss.detach()))
    assert sum(seen[-5:]) < 0.5 * sum(seen[:5])


def test_the_head_moves_with_what_it_is_asked(toys):
    model = model_of(toys, VirtualAdversarial, head=masked)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    model.forget_absent(["url"], ["objective"])
    assert all(p.grad is not None for p in model.objective("head").parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_what_can_not_be_asked_is_refused(toys, kind):
    with pytest.raises(ValueError, match="objective: 'head' does not predict classes"):
        model_of(toys, kind, head=lambda info: Regression(info, stream="url", label="size"))
    for option in ("radius", "start"):
        with pytest.raises(ValueError, match=f"{option} must be above 0, got 0"):
            model_of(toys, kind, **{option: 0.0})


def test_rates_are_two_and_the_temperature_is_above_zero(toys):
    with pytest.raises(ValueError, match="rates must be two"):
        model_of(toys, AdversarialContrastive, rates=[0.1])
    with pytest.raises(ValueError, match="temperature must be above 0"):
        model_of(toys, AdversarialContrastive, temperature=0.0)
