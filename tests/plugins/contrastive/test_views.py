import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from polymodal import Teacher
from polymodal_contrastive import projectors as projecting
from polymodal_contrastive.moco import MoCo
from polymodal_contrastive.projectors import BatchNorm, projector
from polymodal_contrastive.simclr import SimCLR
from polymodal_evaluation.raw import Raw

LENGTHS = [2, 0, 1, 3, 1]


def views(toys, lengths=LENGTHS):
    """A batch with a second view of its stream."""
    image, again = (toys.value_tokens(lengths, seed=seed) for seed in (1, 2))
    return replace(toys.batch(image=image), streams={"image": image, "objective/again": again})


def model_of(toys, kind, **options):
    return toys.model(
        {"image": toys.VALUES}, objective=lambda info: kind(info, stream="image", **options)
    )


def loss_of(model, batch):
    return model(batch, number=10, total=100)["objective"]


def test_simclr_is_the_cross_entropy_over_all_other_views(toys):
    model, batch = model_of(toys, SimCLR, dim=5, temperature=0.3), views(toys)
    found = loss_of(model, batch)
    rows = [0, 2, 3, 4]
    encoder = model.encoder("image")
    pooled = [encoder(tokens).pooled_rows()[rows] for tokens in batch.streams.values()]
    vectors = model.objective("objective").projector(torch.cat(pooled))
    vectors = nn.functional.normalize(vectors.double(), dim=1)
    logits = vectors @ vectors.T / 0.3
    logits.fill_diagonal_(-math.inf)
    partner = torch.arange(8).roll(4)
    expected = nn.functional.cross_entropy(logits, partner, reduction="sum")
    torch.testing.assert_close(found.total.double(), expected, rtol=1e-5, atol=1e-5)
    assert found.count == 8


def test_both_losses_know_no_order_of_samples_and_refuse_to_be_cut(toys):
    for kind in (SimCLR, MoCo):
        model, batch = model_of(toys, kind, dim=4), views(toys)
        order = [3, 1, 4, 0, 2]
        mixed = replace(batch, streams={n: t.take(order) for n, t in batch.streams.items()})
        torch.testing.assert_close(loss_of(model, mixed).total, loss_of(model, batch).total)
        assert not kind.separable


def plain_moco(toys, vectors, temperature=0.2):
    """MoCo without projectors on an encoder that returns its input: queries and keys are given."""
    count, width = vectors.shape
    spec = replace(toys.VALUES, features=width)
    model = toys.model(
        {"image": spec},
        objective=lambda info: MoCo(info, stream="image", temperature=temperature),
        encoders={"image": Raw(spec)},
    )
    objective = model.objective("objective")
    objective.projector = objective.predictor = nn.Identity()
    objective.key_projector = Teacher(nn.Identity())
    tokens = toys.value_tokens([1] * count, features=width).with_rows(vectors)
    return loss_of(
        model,
        replace(toys.batch(image=tokens), streams={"image": tokens, "objective/again": tokens}),
    )


def test_moco_has_the_worked_values(toys):
    # Orthonormal pairs: ln(1 + exp(-1 / T)) a direction, times 2 T, two directions.
    found = plain_moco(toys, torch.eye(2))
    assert found.total.item() / found.count == pytest.approx(0.005372, abs=1e-6)
    # All alike: ln N a direction.
    found = plain_moco(toys, torch.ones(3, 2))
    assert found.total.item() / found.count == pytest.approx(2 * 0.439445, abs=1e-6)
    # A batch of one has no negative.
    assert plain_moco(toys, torch.eye(2)[:1]).total.item() == pytest.approx(0, abs=1e-6)


def test_moco_is_torchs_cross_entropy_with_keys_from_the_slow_copies(toys):
    model, batch = model_of(toys, MoCo, dim=6, temperature=0.2), views(toys)
    objective, encoder = model.objective("objective"), model.encoder("image")
    with torch.no_grad():  # part student and teacher
        for parameter in [*encoder.parameters(), *objective.projector.parameters()]:
            parameter += 0.1 * torch.randn(parameter.shape)
    found = loss_of(model, batch)
    rows, unit = [0, 2, 3, 4], lambda v: nn.functional.normalize(v, dim=1)
    both = list(batch.streams.values())
    queries = [
        unit(objective.predictor(objective.projector(encoder(t).pooled_rows()[rows]))) for t in both
    ]
    keys = [
        unit(objective.key_projector(objective.key_encoder(t).pooled_rows()[rows])) for t in both
    ]
    each = [
        2 * 0.2 * nn.functional.cross_entropy(q @ k.T / 0.2, torch.arange(4))
        for q, k in zip(queries, reversed(keys), strict=True)
    ]
    torch.testing.assert_close(found.total / found.count, sum(each))


def test_mocos_slow_copies_get_no_gradient_and_follow_more_slowly_as_the_run_goes_on(toys):
    model, batch = model_of(toys, MoCo, dim=4, momentum=0.5), views(toys)
    objective = model.objective("objective")
    loss_of(model, batch).total.backward()
    copies = [*objective.key_encoder.parameters(), *objective.key_projector.parameters()]
    assert all(p.grad is None for p in copies)
    assert all(p.grad is not None for p in objective.predictor.parameters())
    student = next(model.encoder("image").parameters())
    slow = next(objective.key_encoder.parameters())
    with torch.no_grad():
        student += 1
    moved = []
    for number in (0, 50, 100):
        before = slow.clone()
        objective.after_update(toys.step(model, batch, number=number, total=100))
        moved.append(float(((slow - before) / (student.detach() - before)).mean()))
    assert moved == pytest.approx([0.5, 0.25, 0.0], abs=1e-5)


def test_batch_norm_is_torchs_and_any_number_of_rows_is_legal():
    ours, theirs = BatchNorm(3), nn.BatchNorm1d(3)
    rows = (torch.randn(6, 3) * 2 + 5).requires_grad_()
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    weights = torch.randn(6, 3)
    for mode in (True, False):
        ours.train(mode)
        theirs.train(mode)
        grads = []
        for norm in (ours, theirs):
            found = norm(rows)
            grads.append(torch.autograd.grad((found * weights).sum(), [rows, *norm.parameters()]))
        torch.testing.assert_close(ours(rows), theirs(rows))
        torch.testing.assert_close(grads[0], grads[1])
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    ours.train()
    before = ours.running_mean.clone()
    assert ours(rows[:0]).shape == (0, 3)
    torch.testing.assert_close(ours.running_mean, before)
    assert ours(rows[:1]).abs().max() == 0  # one row is its own mean


def test_statistics_are_those_of_all_ranks(monkeypatch):
    rows = torch.randn(7, 3)
    other = rows[4:]
    whole = BatchNorm(3)(rows)
    # What the other rank's sums would be, in the order they are asked for.
    mean = rows.mean(dim=0)
    theirs = iter([torch.tensor([3.0]), other.sum(dim=0), (other - mean).square().sum(dim=0)])
    monkeypatch.setattr(
        projecting, "gather_rows", lambda mine: torch.cat([mine, next(theirs)[None]])
    )
    torch.testing.assert_close(BatchNorm(3)(rows[:4]), whole[:4])


def test_a_projector_has_norm_and_relu_between_its_layers_alone():
    names = [type(layer).__name__ for layer in projector([4, 8, 8, 2], last_norm=False)]
    assert names == ["Linear", "BatchNorm", "ReLU", "Linear", "BatchNorm", "ReLU", "Linear"]
    last = projector([4, 2], last_norm=True)[-1]
    assert isinstance(last, BatchNorm) and last.weight is None


@pytest.mark.parametrize("kind", [SimCLR, MoCo])
def test_numbers_out_of_range_and_unknown_streams_are_refused(toys, kind):
    info = toys.info(image=8)
    for options, text in [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"dim": 0}, "must be 1 or more"),
        ({"stream": "imge"}, "Did you mean 'image'"),
    ]:
        with pytest.raises(ValueError, match=text):
            kind(info, **{"stream": "image", **options})


@pytest.mark.parametrize("kind", [SimCLR, MoCo])
def test_a_few_steps_tell_samples_apart(toys, kind):
    model = model_of(toys, kind, dim=6)
    image = toys.value_tokens([2] * 6, seed=1)
    again = image.with_rows(image.values + 0.1 * torch.randn(image.values.shape))
    batch = replace(toys.batch(image=image), streams={"image": image, "objective/again": again})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    means = []
    for number in range(30):
        loss = model(batch, number=number, total=100)["objective"]
        means.append(loss.total.item() / loss.count)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        model.objective("objective").after_update(toys.step(model, batch, number=number, total=100))
    assert means[-1] < 0.8 * means[0]
